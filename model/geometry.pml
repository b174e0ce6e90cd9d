/* A CIDR that people move between two pools whose block lengths differ: block 0 and block 1 overlap and have different names, so creating
 * one is no lock against the other. Two operators, each with its own old caches.
 * What a transition is called in the code stands beside it (-> FILE NAME).
 *
 * Safety: never are both blocks in NodeCIDRs. Leaving, and claims left behind, are one step here: block.pml has their rules.
 * As there, a generation or resourceVersion is only ever asked whether it is still the present one: a bit, cleared by the write.
 *
 * Bounds: OLD and NEW (rounds of each operator), MOVES (CIDRs added or removed: 4 is there and back).
 * Guards removed by -D:
 *   NO_READ        a block enters without a read of the pools after its creation
 *   OWN_POOL       only the block's own pool is read then
 *   NO_LIST_AGAIN  a block enters although the pools are not what they were when the ledger was listed, without another list
 *   GENERATION     then only their generations are compared, not whether the CIDR is accepted
 *   LIST_FIRST     the ledger is listed before the pools that it is listed for
 * LAZY lets a round not see that it has to list: what enters must be safe all the same, and errors are found sooner.
 * Not needed for safety, and shown not to be: ANY_VERSION, a pool's status is written without its resourceVersion, and not read back.
 * WITNESS asserts that the space never changes hands; it must fail.
 */
#ifndef OLD
#define OLD 1
#endif
#ifndef NEW
#define NEW 2
#endif
#ifndef MOVES
#define MOVES 4
#endif
bool has[2], acc[2];                   /* IPPool: spec has the CIDR; status accepts it */
bool block[2], entered[2];             /* IPBlock; it is in a NodeCIDR */
bool g_ok[4], r_ok[4];                 /* by operator and pool: the cached generation, resourceVersion is the present one */
bool q_ok[4], q_acc[4];                /* by operator and pool: of the generation that the ledger was listed for; accepted then */
bool k_ok[2], own[2]; bit k_pool[2];   /* by operator, its claim: its pool is still of that generation; not fenced off; of which pool */
#ifdef WITNESS
bool seen[2];
#endif
byte i;
#define AT(me, p) ((me) * 2 + (p))

proctype Person() {
  bit p; byte moves = MOVES;
end:
  do
  :: atomic { moves > 0 -> moves--; has[p] = !has[p]; g_ok[AT(0, p)] = false; g_ok[AT(1, p)] = false; r_ok[AT(0, p)] = false; r_ok[AT(1, p)] = false;
       q_ok[AT(0, p)] = false; q_ok[AT(1, p)] = false;
       do :: i < 2 -> if :: k_pool[i] == p -> k_ok[i] = false :: else fi; i++ :: else -> break od; i = 0 }
  :: p = 1 - p
  od
}

inline see_pool(p) {                   /* -> kube/reflector.py Reflector.observe */
  if :: !g_ok[AT(me, p)] -> c_new[p] = true :: else fi;
  c_has[p] = has[p]; c_acc[p] = acc[p]; g_ok[AT(me, p)] = true; r_ok[AT(me, p)] = true
}

inline list_blocks() { d_step { c_block[0] = block[0]; c_block[1] = block[1] } }

inline watch() {                       /* -> kube/reflector.py Reflector._follow */
  if :: see_pool(0) :: true fi;
  if :: see_pool(1) :: true fi;
  if :: c_block[0] = block[0]; c_block[1] = block[1] :: true fi
}

inline list_pools() {
  d_step {
    see_pool(0); see_pool(1); c_new[0] = false; c_new[1] = false;
    q_ok[AT(me, 0)] = true; q_ok[AT(me, 1)] = true; q_acc[AT(me, 0)] = acc[0]; q_acc[AT(me, 1)] = acc[1] }
}

inline prepare() {                     /* -> reconcile/rounds.py Rounds._prepare */
  if
  :: c_new[0] || c_new[1] || c_acc[0] != q_acc[AT(me, 0)] || c_acc[1] != q_acc[AT(me, 1)] ->
#ifdef LIST_FIRST
     list_blocks(); list_pools()
#else
     list_pools();                     /* -> reconcile/observed.py Observed.relist */
     list_blocks()
#endif
#ifdef LAZY
  :: true
#endif
  :: else
  fi
}

inline write_status(p, value) {        /* -> reconcile/pools.py PoolKeeper._write_status */
  d_step { /* one write */
    if
    :: c_acc[p] == (value)
#ifdef ANY_VERSION
    :: c_acc[p] != (value) -> acc[p] = (value); c_acc[p] = (value); r_ok[p] = false; r_ok[2 + p] = false
#else
    :: c_acc[p] != (value) && r_ok[AT(me, p)] ->
       acc[p] = (value); c_acc[p] = (value); r_ok[p] = false; r_ok[2 + p] = false; r_ok[AT(me, p)] = true
    :: else -> see_pool(p)             /* -> reconcile/pools.py PoolKeeper._reread */
#endif
    fi }
}

inline keep() {                        /* -> core/acceptance.py accept */
  atomic {
    watch();
    v[0] = c_has[0] && c_acc[0];
    v[1] = c_has[1] && c_acc[1] && !v[0];
    if :: c_has[0] && !v[1] -> v[0] = true :: else fi;
    if :: c_has[1] && !v[0] -> v[1] = true :: else fi;
    write_status(0, v[0]); v[0] = false };
  write_status(1, v[1])
}

inline create_block(p) {               /* -> reconcile/apply.py Applier._create_block */
  atomic { if :: !block[p] -> block[p] = true; c_block[p] = true; own[me] = true :: else -> c_block[p] = true fi }
}

#define AS_LISTED(p) (q_ok[AT(me, p)] && AS_ACCEPTED(p))
#ifdef GENERATION
#define AS_ACCEPTED(p) true
#else
#define AS_ACCEPTED(p) (q_acc[AT(me, p)] == acc[p])
#endif

inline read_pools(p) {                 /* -> reconcile/apply.py Applier._drop_what_may_not_enter, core/acceptance.py may_enter */
  atomic {
#ifndef NO_READ
    if
    :: !k_ok[me] || !has[p] || !acc[p] -> own[me] = false
#ifndef OWN_POOL
    :: has[1 - p] && acc[1 - p] -> own[me] = false
#endif
    :: else
    fi;
#endif
#ifndef NO_LIST_AGAIN
    again = own[me] && !(AS_LISTED(0) && AS_LISTED(1));
#endif
    see_pool(0); see_pool(1)
  };
  if
  :: atomic { again -> again = false; c_block[0] = block[0]; c_block[1] = block[1]; if :: block[1 - p] -> own[me] = false :: else fi }
  :: else
  fi
}

inline enter(p) {                      /* -> reconcile/apply.py Applier._patch */
  atomic {
    if
    :: own[me] -> entered[p] = true; assert(!entered[1 - p]); own[me] = false;
#ifdef WITNESS
       seen[p] = true; assert(!(seen[0] && seen[1]));
#endif
    :: else
    fi }
}

proctype Operator(byte me; byte rounds) {           /* -> reconcile/rounds.py Rounds._round */
  bool c_has[2], c_acc[2], c_new[2], c_block[2], v[2], claims, again;
  c_new[0] = true;
end:
  do
  :: atomic { rounds > 0 -> rounds--; watch() };
     prepare();
     keep();
     atomic {
       v[1] = false;
       if :: k_pool[me] = 0 :: k_pool[me] = 1 fi;
       claims = c_has[k_pool[me]] && c_acc[k_pool[me]] && !c_block[0] && !c_block[1];
       k_ok[me] = claims && g_ok[AT(me, k_pool[me])]
     };
     if
     :: claims ->
        create_block(k_pool[me]);
        if
        :: own[me] -> read_pools(k_pool[me]); enter(k_pool[me])
        :: else
        fi
     :: else
     fi;
     d_step { k_ok[me] = false; own[me] = false; k_pool[me] = 0; claims = false }
  :: rounds == 0 -> break
  od
}

proctype Others() {                    /* -> core/life.py _may_leave, core/life.py _unlisted */
  bit p;
end:
  do
  :: d_step { entered[p] -> entered[p] = false; block[p] = false }
  :: d_step { block[p] && !entered[p] -> block[p] = false;
       do :: i < 2 -> if :: k_pool[i] == p -> own[i] = false :: else fi; i++ :: else -> break od; i = 0 }
  :: p = 1 - p
  od
}

init { atomic { has[0] = true; run Person(); run Operator(0, OLD); run Operator(1, NEW); run Others() } }
