/* The life of a block: Claim, Drain, Undrain, Leave, Free, RaiseEpoch, between two operators with old views, two nodes and their agents.
 * True to reconcile/apply.py and edits.py: what a round does to one node is one patch, of several blocks at once if there are several.
 *
 * Safety: no block is in the allocation files of two nodes, nor in one while a pod on the other still has an address of it.
 * Quarantine lasts no time and a lease is worth nothing. A write is one step, and any number of others may come between a decision and its
 * write: a delayed request, a hung leader, an old cache and a lost answer at once. An operator that makes no further step has crashed.
 *
 * Bounds: BLOCKS, OLD and NEW (rounds of each operator), SYNCS (of each agent). A guard is removed by -D:
 *   NO_LOCK        a claim enters although the CREATE said that the block exists
 *   ENTER_LEFT     a claim that another attempt left behind enters, without a write on its IPBlock
 *   NO_FENCE       Leave of a claim that no list has, without the patch that only raises the epoch
 *   BLOCK_FIRST    Leave writes the IPBlock before the NodeCIDR
 *   REREAD_BLOCK   Leave quarantines the IPBlock at the version that it has now, not at the one decided on
 *   NO_EPOCH_TEST  patches do not test the epoch
 *   NO_RAISE       patches do not raise the epoch
 *   ANY_REPORT     a report of emptiness counts whatever epoch it was made at
 *   FREE_ANY       Free deletes without a precondition
 */
#ifndef BLOCKS
#define BLOCKS 1
#endif
#ifndef OLD
#define OLD 1
#endif
#ifndef NEW
#define NEW 3
#endif
#ifndef SYNCS
#define SYNCS 2
#endif
#define ABSENT 0
#define CLAIMED 1
#define QUARANTINED 2
#define NONE 0
#define ACTIVE 1
#define DRAINING 2
#define NOTHING 0
#define CLAIM 1
#define DRAIN 2
#define UNDRAIN 3
#define LEAVE 4
#define ENTER 5
#define AT(node, block) ((node) * BLOCKS + (block))
#define EACH(b) for (b : 0 .. BLOCKS - 1)

byte ib_state[BLOCKS], ib_node[BLOCKS], ib_rv[BLOCKS];     /* IPBlock: state, node, resourceVersion (never used twice) */
byte nc_has[2 * BLOCKS], nc_epoch[2] = 1;                  /* NodeCIDR.spec */
byte st_epoch[2]; bool st_used[2 * BLOCKS];                /* NodeCIDR.status */
byte file_epoch[2]; bool file_has[2 * BLOCKS];             /* allocation.json */
bool used[2 * BLOCKS];                                     /* a pod has an address of the block */

#ifdef ANY_REPORT
#define EMPTY(n, b) (!v_sused[AT(n, b)] && v_sepoch[n] > 0)
#else
#define EMPTY(n, b) (!v_sused[AT(n, b)] && v_sepoch[n] == v_epoch[n])
#endif

inline look_blocks() { d_step { EACH(b) { v_state[b] = ib_state[b]; v_node[b] = ib_node[b]; v_rv[b] = ib_rv[b] }; b = 0 } }
inline look_node(n) {
  d_step { v_epoch[n] = nc_epoch[n]; v_sepoch[n] = st_epoch[n]; EACH(b) { v_has[AT(n, b)] = nc_has[AT(n, b)]; v_sused[AT(n, b)] = st_used[AT(n, b)] }; b = 0 }
}

inline plan(n, b) {                                        /* what may be done to block b of node n, by the view */
  if
  :: act[b] = NOTHING
  :: v_state[b] == ABSENT && v_has[AT(n, b)] == NONE -> act[b] = CLAIM
  :: v_has[AT(n, b)] == ACTIVE -> act[b] = DRAIN
  :: v_has[AT(n, b)] == DRAINING -> act[b] = UNDRAIN
  :: v_state[b] == CLAIMED && v_node[b] == n && (v_has[AT(n, b)] == NONE || (v_has[AT(n, b)] == DRAINING && EMPTY(n, b))) -> act[b] = LEAVE
#ifdef ENTER_LEFT
  :: v_state[b] == CLAIMED && v_node[b] == n && v_has[AT(n, b)] == NONE -> act[b] = ENTER
#endif
  fi
}

inline create_block(n, b) {                                /* the lock; without an answer, or if may_enter refuses, the claim is left */
  if
  :: atomic { act[b] == CLAIM ->
     if
     :: ib_state[b] == ABSENT -> ib_state[b] = CLAIMED; ib_node[b] = n; ib_rv[b]++; if :: act[b] = ENTER :: act[b] = NOTHING fi
#ifdef NO_LOCK
     :: ib_state[b] != ABSENT -> act[b] = ENTER
#else
     :: else -> act[b] = NOTHING
#endif
     fi }
  :: else
  fi
}

inline write_list(n) {
  EACH(b) {
    if
    :: act[b] == ENTER -> nc_has[AT(n, b)] = ACTIVE
    :: act[b] == UNDRAIN -> nc_has[AT(n, b)] = ACTIVE
    :: act[b] == DRAIN -> nc_has[AT(n, b)] = DRAINING
    :: act[b] == LEAVE -> nc_has[AT(n, b)] = NONE
    :: else -> nc_has[AT(n, b)] = v_has[AT(n, b)]          /* the patch replaces the list by the one decided on */
    fi };
  b = 0
}

inline patch(n) {                                          /* NodeEdit.operations: test the epoch, all of the round, epoch + 1 */
  d_step {
    if
#ifdef NO_EPOCH_TEST
    :: true ->
#else
    :: nc_epoch[n] == v_epoch[n] ->
#endif
       write_list(n); ok = true;
#ifndef NO_RAISE
       nc_epoch[n]++
#endif
    :: else -> ok = false
    fi }
}

inline quarantine(b) {                                     /* at the version decided on */
  d_step {
    if
#ifdef REREAD_BLOCK
    :: act[b] == LEAVE && ok && ib_state[b] != ABSENT ->
#else
    :: act[b] == LEAVE && ok && ib_state[b] != ABSENT && ib_rv[b] == v_rv[b] ->
#endif
       ib_state[b] = QUARANTINED; ib_rv[b]++
    :: else
    fi }
}

#if BLOCKS == 2
#define BOTH(step) step(0); step(1)
#define CREATES(n) create_block(n, 0); create_block(n, 1)
#define PLANS(n) plan(n, 0); plan(n, 1)
#define ANY(a) (act[0] == a || act[1] == a)
#else
#define BOTH(step) step(0)
#define CREATES(n) create_block(n, 0)
#define PLANS(n) plan(n, 0)
#define ANY(a) (act[0] == a)
#endif

proctype Operator(byte rounds) {
  byte v_state[BLOCKS], v_node[BLOCKS], v_rv[BLOCKS], v_has[2 * BLOCKS], v_epoch[2] = 1, v_sepoch[2]; bool v_sused[2 * BLOCKS];
  byte act[BLOCKS], n, b; bool ok;
  do
  :: rounds > 0 ->
     atomic {                                              /* any part of the view may stay old */
       rounds--;
       if :: look_blocks() :: true fi;
       if :: look_node(0) :: true fi;
       if :: look_node(1) :: true fi;
       if :: n = 0 :: n = 1 fi };
     if
     :: atomic { true -> PLANS(n) };
        CREATES(n);
#ifdef BLOCK_FIRST
        ok = true; BOTH(quarantine);
        patch(n)
#else
        if
#ifdef NO_FENCE
        :: atomic { ANY(LEAVE) && v_has[AT(n, 0)] == NONE -> ok = true }
        :: atomic { !(ANY(LEAVE) && v_has[AT(n, 0)] == NONE) -> patch(n) }
#else
        :: patch(n)                                        /* with nothing to do it is RaiseEpoch or SetPools */
        :: !(ANY(CLAIM) || ANY(DRAIN) || ANY(UNDRAIN) || ANY(LEAVE) || ANY(ENTER))
#endif
        fi;
        if :: ok && ANY(LEAVE) -> BOTH(quarantine) :: else fi
#endif
     :: d_step { v_state[0] == QUARANTINED ->              /* Free, on uid and resourceVersion */
        if
#ifdef FREE_ANY
        :: ib_state[0] != ABSENT ->
#else
        :: ib_state[0] != ABSENT && ib_rv[0] == v_rv[0] ->
#endif
           ib_state[0] = ABSENT; ib_rv[0]++
        :: else
        fi }
     fi;
     d_step { ok = false; n = 0; EACH(b) { act[b] = NOTHING }; b = 0 }
  :: rounds == 0 -> break
  od
}

proctype Agent(byte n) {
  byte a_has[BLOCKS], a_epoch, syncs, b; bool a_used[BLOCKS], news;
  do
  :: syncs < SYNCS ->
     d_step { syncs++; a_epoch = nc_epoch[n]; EACH(b) { a_has[b] = nc_has[AT(n, b)] }; b = 0 };  /* may be old when it is acted on */
     atomic {                                              /* under the plugin's lock */
       b = 0;
       do
       :: b < BLOCKS ->
          if :: file_has[AT(n, b)] -> used[AT(n, b)] = true :: used[AT(n, b)] = false :: true fi;   /* pods came and went until now */
          b++
       :: else -> break
       od;
       if
       :: a_epoch < file_epoch[n] -> a_epoch = file_epoch[n]
       :: else -> file_epoch[n] = a_epoch; EACH(b) { file_has[AT(n, b)] = (a_has[b] == ACTIVE) }
       fi;
       EACH(b) {
         assert(!(file_has[AT(0, b)] && file_has[AT(1, b)]));
         assert(!(file_has[AT(n, b)] && used[AT(1 - n, b)]));
         a_used[b] = used[AT(n, b)]; a_has[b] = 0 };
       b = 0 };
     d_step { st_epoch[n] = a_epoch; EACH(b) { st_used[AT(n, b)] = a_used[b]; a_used[b] = false }; b = 0; a_epoch = 0 }
  :: syncs == SYNCS -> break
  od
}

/* Any point of block 0's life on node 0 may be where we come in; the operators may still hold the empty view of long ago. */
init {
  atomic {
    if
    :: true
    :: ib_state[0] = CLAIMED; ib_rv[0] = 1                 /* crashed before it entered */
    :: ib_state[0] = CLAIMED; ib_rv[0] = 1; nc_has[0] = ACTIVE; nc_epoch[0] = 2
    :: ib_state[0] = CLAIMED; ib_rv[0] = 1; nc_has[0] = ACTIVE; nc_epoch[0] = 2; st_epoch[0] = 2; st_used[0] = true; file_epoch[0] = 2; file_has[0] = true; used[0] = true
    :: ib_state[0] = CLAIMED; ib_rv[0] = 1; nc_has[0] = DRAINING; nc_epoch[0] = 3; st_epoch[0] = 2; file_epoch[0] = 2; file_has[0] = true
    :: ib_state[0] = CLAIMED; ib_rv[0] = 1; nc_has[0] = DRAINING; nc_epoch[0] = 3; st_epoch[0] = 3; file_epoch[0] = 3
    :: ib_state[0] = CLAIMED; ib_rv[0] = 1; nc_epoch[0] = 4; st_epoch[0] = 3; file_epoch[0] = 3   /* crashed before it was quarantined */
    :: ib_state[0] = QUARANTINED; ib_rv[0] = 2; nc_epoch[0] = 4; st_epoch[0] = 3; file_epoch[0] = 3
    fi;
    run Operator(OLD); run Operator(NEW); run Agent(0); run Agent(1)
  }
}
