/* The life of a block: Claim, Drain, Undrain, Leave, Adopt, Free, and NodeCIDRs that are created, between operators with old views,
 * two nodes and their agents. What a transition is called in the code stands beside it (-> FILE NAME).
 *
 * Safety: no block is in the allocation files of two nodes, nor in one while a pod on the other still has an address of it,
 * nor in the lists of two NodeCIDRs. Quarantine lasts no time and a Lease is worth nothing. A look and a write are one step each, and any
 * number of others may come between: a delayed request, a hung leader, an old cache and a lost answer at once.
 *
 * Versions are never used twice, and all that is ever asked of one is whether it is still the present one. So no number is kept: a bit
 * beside each version that somebody holds says so, and every write clears it. Rounds, syncs, deletions are therefore without bound.
 *
 * Worlds: OPERATORS (2), and by -D
 *   LATE        a report may land after later ones, whatever the agent did since
 *   AGAIN       NodeCIDRs are deleted by hand at any moment, finalizer or not
 *   LOST        machines end with their pods, their Nodes are deleted, they come back empty; time enough has always passed
 *   TWO_AGENTS  two agents on node 0 at once: the lock of the state directory is gone
 *   PROMPT      node 1 obeys and reports in the step of the patch, nothing happens to it: the larger worlds fit into memory
 * Guards removed by -D:
 *   NO_LOCK        a claim enters although CREATE said that the IPBlock exists
 *   ENTER_LEFT     a claim that another attempt left behind enters
 *   NO_FENCE       Leave of a claim that no list has, without the patch that only raises the epoch
 *   BLOCK_FIRST    Leave writes the IPBlock before the NodeCIDR
 *   REREAD_BLOCK   Leave quarantines the IPBlock at the version it has by now
 *   NO_EPOCH_TEST  patches do not test the epoch          NO_UID_TEST   patches do not test the uid
 *   NO_RAISE       patches do not raise the epoch
 *   ANY_REPORT     a report proves a block empty whatever epoch it was counted at
 *   FREE_ANY       Free deletes without a precondition
 *   COUNT_FIRST    the agent counts before it publishes
 *   FILE_BACK      an agent puts an older epoch over a newer file
 *   NO_TOUCH       Adopt of a claim does not write its IPBlock
 *   NO_ADOPT       a claim for an earlier NodeCIDR is treated as one for this
 *   NO_NODE_READ   a lost node's block leaves by the cached absence of the Node alone
 *   REPORT_ANY_UID a report counts whatever NodeCIDR bears the name
 * WITNESS asserts that what the model is about never happens; it must fail.
 */
#ifndef OPERATORS
#define OPERATORS 2
#endif
#ifdef TWO_AGENTS
#define AGENTS 3
#else
#define AGENTS 2
#endif
#define NODE_OF(a) ((a) & 1)           /* agent 2 is on node 0 too */

#define ABSENT 0                       /* IPBlock */
#define CLAIMED 1
#define QUARANTINED 2
#define NONE 0                         /* its entry in NodeCIDR.spec */
#define ACTIVE 1
#define DRAINING 2
#define IDLE 0
#define NOTHING 9                      /* -> core/actions.py RaiseEpoch, SetPools */
#define ENTER 10                       /* the second write of Claim */
#define ADOPT_MISSING 11
#define TAKE 12                        /* the second write of Adopt */
#define CLAIM 1                        /* -> core/actions.py Claim */
#define DRAIN 2                        /* -> core/actions.py Drain */
#define UNDRAIN 3                      /* -> core/actions.py Undrain */
#define LEAVE 4                        /* -> core/actions.py Leave */
#define LEAVE_LOST 5                   /* -> core/life.py is_lost */
#define ADOPT 6                        /* -> core/actions.py Adopt */
#define FREE 7                         /* -> core/actions.py Free */
#define LEAVE_BARE 13                  /* Leave where there is no NodeCIDR */
#define CREATE 8                       /* -> core/actions.py CreateNodeCIDR */

byte ib_state; bit ib_node, ib_uid;    /* IPBlock; its nodeCIDRUID is that of the NodeCIDR there is now */
bool nc_there[2]; byte nc_has[2];      /* NodeCIDR.spec */
bool st_used[2], st_empty[2];          /* NodeCIDR.status: reported in use; reported empty at the present epoch */
bool node[2];                          /* the Node, and the machine */
bool file_has[2], used[2];             /* allocation.json offers it; a pod has an address of it */

bit o_node[OPERATORS];                 /* whose round it is */
bool o_block[OPERATORS], o_epoch[OPERATORS], o_uid[OPERATORS];  /* what the operator looked at is still the present one */
bool o_same[OPERATORS];                /* the IPBlock that it looked at is of the present NodeCIDR's uid */
bool a_has[AGENTS], a_used[AGENTS], a_there[AGENTS], a_alive[AGENTS];
bool a_current[AGENTS], a_uid[AGENTS]; /* what the agent looked at is still the present epoch, uid */
#ifdef TWO_AGENTS
bool file_current[2], file_uid[2], a_ahead[AGENTS], a_behind[AGENTS];                     /* of the other's look; of the file */
#endif
#ifdef LATE
bool l_there[2], l_used[2], l_current[2], l_uid[2];         /* a report under way */
#endif
#ifdef WITNESS
bool seen[2];
#endif
#ifdef ANY_REPORT
#define EMPTY(n) !st_used[n]
#else
#define EMPTY(n) st_empty[n]
#endif
byte i;                                /* 0 outside of steps */

inline block_written() { i = 0; do :: i < OPERATORS -> o_block[i] = false; i++ :: else -> break od; i = 0 }

inline epoch_ends(n) {
  skip;
#ifndef NO_RAISE
  do :: i < OPERATORS -> if :: o_node[i] == n -> o_epoch[i] = false :: else fi; i++ :: else -> break od; i = 0;
  do :: i < AGENTS -> if :: NODE_OF(i) == n -> a_current[i] = false :: else fi; i++ :: else -> break od; i = 0;
  st_empty[n] = false;
#ifdef TWO_AGENTS
  file_current[n] = false;
#endif
#ifdef LATE
  l_current[n] = false
#endif
#endif
}

inline uid_ends(n) {
  do :: i < OPERATORS -> if :: o_node[i] == n -> o_uid[i] = false; o_epoch[i] = false; o_same[i] = false :: else fi; i++ :: else -> break od; i = 0;
  do :: i < AGENTS -> if :: NODE_OF(i) == n -> a_uid[i] = false; a_current[i] = false :: else fi; i++ :: else -> break od; i = 0;
#ifdef TWO_AGENTS
  file_uid[n] = false; file_current[n] = false;
#endif
  if :: ib_node == n -> ib_uid = 0 :: else fi;
#ifdef LATE
  l_uid[n] = false; l_current[n] = false
#endif
}

/* ---- the operator ---- */

inline look_block() {                  /* -> reconcile/observed.py Observed.snapshot */
  v_state = ib_state; v_mine = (ib_node == o_node[me]); o_same[me] = (ib_uid && v_mine); o_block[me] = true
}

inline look_nodecidr() {               /* -> reconcile/observed.py Observed.snapshot */
  v_there = nc_there[o_node[me]]; v_has = nc_has[o_node[me]];
  v_used = st_used[o_node[me]]; v_empty = EMPTY(o_node[me]);
  o_uid[me] = v_there; o_epoch[me] = v_there
}

inline look_node() { v_node = node[o_node[me]] }

inline live() {                        /* -> core/life.py live */
  if
  :: o_uid[me] -> v_same = o_same[me]
  :: !o_uid[me] -> v_same = true       /* of a uid that is gone, both: no patch will fit */
  :: !o_uid[me]
  fi;
  if
  :: v_there -> act = NOTHING
  :: !v_there && v_node -> act = CREATE
  :: !v_there && !v_node && v_state == CLAIMED && v_mine -> act = LEAVE_BARE   /* -> core/life.py _without_nodecidr */
  :: v_there && v_has == ACTIVE -> act = DRAIN                        /* -> core/life.py must_go */
  :: v_there && v_has == DRAINING && v_node -> act = UNDRAIN          /* -> core/grow.py Growth.grow */
  :: v_there && v_has == DRAINING && v_empty -> act = LEAVE           /* -> core/life.py _may_leave */
  :: v_there && v_has == DRAINING && !v_node -> act = LEAVE_LOST
  :: v_there && v_has != NONE && v_state == ABSENT -> act = ADOPT     /* -> core/life.py _listed */
#ifdef NO_ADOPT
  :: v_there && v_has == NONE && v_state == CLAIMED && v_mine && !v_used -> act = LEAVE
#else
  :: v_there && v_has == NONE && v_state == CLAIMED && v_mine && v_same && !v_used -> act = LEAVE      /* -> core/life.py _unlisted */
#endif
  :: v_there && v_has == NONE && v_state == CLAIMED && v_mine && (!v_same || v_used) -> act = ADOPT    /* -> core/life.py _adopt */
  :: v_there && v_has == NONE && v_state == CLAIMED && v_mine && (!v_same || v_used) && !v_node -> act = LEAVE_LOST
  :: v_there && v_has == NONE && v_used && (v_state == ABSENT || (v_state == QUARANTINED && v_mine)) -> act = ADOPT
  :: v_there && v_has == NONE && v_state == ABSENT && v_node -> act = CLAIM
#ifdef ENTER_LEFT
  :: v_there && v_has == NONE && v_state == CLAIMED && v_mine -> act = ENTER
#endif
  :: v_state == QUARANTINED && v_has == NONE && !v_used -> act = FREE /* -> core/life.py free */
  :: else -> act = IDLE
  fi;
  forget()
}

inline forget() {                      /* what the rest of the round does not need: fewer states */
  listed = (v_has != NONE);
  if
  :: (act == LEAVE || act == LEAVE_LOST || act == LEAVE_BARE) && v_state != ABSENT && v_mine
  :: act == FREE -> o_uid[me] = false; o_epoch[me] = false
  :: act == ADOPT && v_state != ABSENT
  :: act == ADOPT && v_state == ABSENT -> act = ADOPT_MISSING; o_block[me] = false
  :: act == CREATE || act == IDLE -> o_block[me] = false; o_uid[me] = false; o_epoch[me] = false
  :: else -> o_block[me] = false
  fi;
#ifdef REREAD_BLOCK
  mine = (v_state == CLAIMED && v_mine);
#endif
  v_state = ABSENT; v_has = NONE; v_mine = false; v_used = false; v_empty = false; v_same = false; v_there = false; v_node = false; o_same[me] = false
}

inline create() { block_written(); ib_state = CLAIMED; ib_node = o_node[me]; ib_uid = o_uid[me] }

inline create_block() {                /* -> reconcile/apply.py Applier._create_block */
  atomic {
    if
    :: ib_state == ABSENT -> create(); act = ENTER
    :: ib_state == ABSENT -> create(); act = IDLE          /* no answer, or may_enter says no: it is left */
#ifdef NO_LOCK
    :: ib_state != ABSENT -> act = ENTER
#else
    :: ib_state != ABSENT -> act = IDLE
#endif
    fi }
}

inline secure_adopted() {              /* -> reconcile/apply.py Applier._secure_adopted */
  atomic {
    if
    :: act == ADOPT_MISSING && ib_state == ABSENT -> create(); act = TAKE
#ifdef NO_TOUCH
    :: act == ADOPT -> act = TAKE
#else
    :: act == ADOPT && ib_state != ABSENT && o_block[me] -> block_written(); ib_state = CLAIMED; act = TAKE
#endif
    :: else -> act = IDLE
    fi }
}

#ifdef NO_EPOCH_TEST
#define SAME_EPOCH(k) true
#else
#define SAME_EPOCH(k) o_epoch[k]
#endif
#ifdef NO_UID_TEST                     /* one made again begins at epoch 1: it may be at the epoch that the old one was at */
#define SAME(k) (nc_there[o_node[k]] && (SAME_EPOCH(k) || !o_uid[k]))
#else
#define SAME(k) (nc_there[o_node[k]] && o_uid[k] && SAME_EPOCH(k))
#endif

inline patch(entry) {                  /* -> reconcile/edits.py NodeEdit.operations */
  d_step {
    if
    :: SAME(me) -> nc_has[o_node[me]] = entry; epoch_ends(o_node[me]); assert(nc_has[0] == NONE || nc_has[1] == NONE);
#ifdef PROMPT
       if :: o_node[me] == 1 -> file_has[1] = (entry == ACTIVE); assert(!(file_has[1] && (file_has[0] || used[0]))); st_empty[1] = true :: else fi;
#ifdef WITNESS
       if :: file_has[1] -> seen[1] = true; assert(!(seen[0] && seen[1])) :: else fi
#endif
#endif
    :: else -> act = IDLE              /* refused: the attempt ends */
    fi }
}

inline quarantine() {                  /* -> reconcile/apply.py Applier._quarantine */
  d_step {
    if
#ifdef REREAD_BLOCK
    :: act != IDLE && mine && ib_state != ABSENT && ib_node == o_node[me] ->
#else
    :: act != IDLE && o_block[me] && ib_state != ABSENT ->
#endif
       block_written(); ib_state = QUARANTINED
    :: else
    fi }
}

inline leave() {                       /* -> reconcile/apply.py Applier._patch */
#ifdef BLOCK_FIRST
  quarantine(); patch(NONE)
#else
#ifdef NO_FENCE
  if :: listed -> patch(NONE) :: else fi;
#else
  patch(NONE);
#endif
  if :: act != IDLE -> quarantine() :: true fi            /* or a crash */
#endif
}

inline read_node() {                   /* -> reconcile/apply.py Applier._is_back */
#ifdef NO_NODE_READ
  skip
#else
  if :: node[o_node[me]] -> act = IDLE :: else fi
#endif
}

proctype Operator(byte me) {           /* -> reconcile/rounds.py Rounds._round */
  byte v_state, v_has, act; bool v_mine, v_same, v_there, v_used, v_empty, v_node, listed, mine;
end:
  do
  :: true ->
     if
     :: atomic { true -> if :: o_node[me] = 0 :: o_node[me] = 1 fi; look_block(); look_node() };
        atomic { look_nodecidr(); live() }
     :: atomic { true -> if :: o_node[me] = 0 :: o_node[me] = 1 fi; look_nodecidr(); look_node() };
        atomic { look_block(); live() }
     fi;
     if
     :: act == CLAIM -> create_block(); if :: act == ENTER -> patch(ACTIVE) :: else fi
     :: act == ADOPT || act == ADOPT_MISSING -> secure_adopted(); if :: act == TAKE -> patch(DRAINING) :: else fi
     :: act == LEAVE -> leave()
     :: act == LEAVE_LOST ->
        read_node();
        if
        :: act != IDLE -> leave()
        :: else
        fi
     :: act == LEAVE_BARE ->           /* -> reconcile/apply.py Applier._leave_without_node */
        if                             /* first the NodeCIDR, then the Node: what is listed later needs a write on the IPBlock */
        :: !nc_there[o_node[me]] -> read_node(); if :: act != IDLE -> quarantine() :: else fi
        :: else
        fi
     :: act == FREE ->                 /* -> reconcile/apply.py Applier._free */
        d_step {
          if
#ifdef FREE_ANY
          :: ib_state != ABSENT ->
#else
          :: ib_state != ABSENT && o_block[me] ->
#endif
             block_written(); ib_state = ABSENT; ib_node = 0; ib_uid = 0
          :: else
          fi }
     :: act == CREATE -> nc_there[o_node[me]] = true      /* -> reconcile/apply.py Applier._create_nodecidr */
     :: act == ENTER || act == UNDRAIN -> patch(ACTIVE)
     :: act == DRAIN -> patch(DRAINING)
     :: act == NOTHING -> patch(nc_has[o_node[me]])
     :: act == IDLE
     fi;
     d_step { act = IDLE; listed = false; mine = false; o_block[me] = false; o_epoch[me] = false; o_uid[me] = false; o_node[me] = 0 }
  od
}

/* ---- the node ---- */

inline look(a, n) {                    /* -> agent/service.py Agent._current */
  d_step {
    node[n] && nc_there[n] ->          /* without a NodeCIDR the files stay, and nothing is reported */
    a_there[a] = nc_there[n]; a_has[a] = (nc_has[n] == ACTIVE); a_uid[a] = nc_there[n]; a_current[a] = nc_there[n]; a_alive[a] = true;
#ifdef TWO_AGENTS
    a_behind[a] = false; if :: n == 0 -> a_ahead[a] = !a_current[2 - a]; a_ahead[2 - a] = false :: else fi
#endif
  }
}

inline pods_come_and_go(n) {           /* -> plugin/internal/ipam/add.go claim */
  if :: file_has[n] -> used[n] = true :: used[n] = false :: true fi;
#ifdef WITNESS
  if :: used[n] -> seen[n] = true :: else fi;
  assert(!(seen[0] && seen[1]))
#endif
}

inline publish(a, n) {                 /* -> agent/statedir.py StateDir.publish */
#ifdef COUNT_FIRST
  a_used[a] = used[n];
#endif
  pods_come_and_go(n);                 /* until now; from here on by the file that stands */
  if
#ifdef TWO_AGENTS
#ifndef FILE_BACK
  :: a_behind[a] && file_uid[n] == a_uid[a] -> a_current[a] = file_current[n]
  :: !(a_behind[a] && file_uid[n] == a_uid[a]) ->
#else
  :: true ->
#endif
     if :: n == 0 && a_ahead[a] -> a_behind[2 - a] = true :: else fi;
     file_current[n] = a_current[a]; file_uid[n] = a_uid[a];
     file_has[n] = a_has[a]
#else
  :: file_has[n] = a_has[a]
#endif
  fi;
  a_has[a] = false;
  assert(!(file_has[0] && file_has[1]));
  assert(!(file_has[n] && used[1 - n]));
#ifndef COUNT_FIRST
  a_used[a] = used[n]                  /* -> agent/report.py count */
#endif
}

inline land(n, r_uid, r_used, r_current) {
  if
  :: r_uid -> st_used[n] = r_used; st_empty[n] = r_current && !r_used
#ifdef REPORT_ANY_UID                  /* the epochs of two NodeCIDRs of one name may be the same */
  :: !r_uid && nc_there[n] -> st_used[n] = r_used; if :: st_empty[n] = !r_used :: st_empty[n] = false fi
#endif
  :: else
  fi
}

inline send(a, n) {                    /* -> agent/reporter.py Reporter._send */
  atomic {
    if
    :: land(n, a_uid[a], a_used[a], a_current[a])
#ifdef LATE
    :: !l_there[n] -> l_there[n] = true; l_used[n] = a_used[a]; l_current[n] = a_current[a]; l_uid[n] = a_uid[a]
#endif
    :: true                            /* the agent died before */
    fi;
    forget_look(a) }
}

inline forget_look(a) {
  a_there[a] = false; a_has[a] = false; a_used[a] = false; a_alive[a] = false;
#ifndef TWO_AGENTS
  a_current[a] = false; a_uid[a] = false
#endif
}

proctype Agent(byte a) {               /* -> agent/service.py Agent._round */
end:
  do
  :: look(a, NODE_OF(a));
     atomic { if :: a_alive[a] -> publish(a, NODE_OF(a)) :: else -> forget_look(a) fi };
     if :: a_there[a] -> send(a, NODE_OF(a)) :: else fi
  od
}

#ifdef LATE
proctype Network() {
end:
  do
  :: atomic { l_there[0] -> land(0, l_uid[0], l_used[0], l_current[0]); l_there[0] = false; l_used[0] = false; l_current[0] = false; l_uid[0] = false }
  :: atomic { l_there[1] -> land(1, l_uid[1], l_used[1], l_current[1]); l_there[1] = false; l_used[1] = false; l_current[1] = false; l_uid[1] = false }
  od
}
#endif

#ifdef AGAIN
inline delete_nodecidr(n) {            /* -> reconcile/writes.py Writes.delete_nodecidr */
  d_step { nc_there[n] -> nc_there[n] = false; nc_has[n] = NONE; st_used[n] = false; st_empty[n] = false; uid_ends(n) }
}

proctype Person() {
end:
  do
  :: delete_nodecidr(0)
#ifndef PROMPT
  :: delete_nodecidr(1)
#endif
  od
}
#endif

#ifdef LOST
proctype Machines() {
  byte m;
end:
  do
  :: atomic { node[m] -> node[m] = false; file_has[m] = false; used[m] = false; a_alive[m] = false }
  :: atomic { !node[m] -> node[m] = true }
#ifndef PROMPT
  :: m = 1 - m
#endif
  od
}
#endif

init {
  atomic {
    nc_there[0] = true; nc_there[1] = true; node[0] = true; node[1] = true;
    run Operator(0);
#if OPERATORS > 1
    run Operator(1);
#endif
#if OPERATORS == 3
    run Operator(2);
#endif
    run Agent(0);
#ifdef PROMPT
    st_empty[1] = true;
#else
    run Agent(1);
#endif
#ifdef TWO_AGENTS
    run Agent(2);
#endif
#ifdef LATE
    run Network();
#endif
#ifdef AGAIN
    run Person();
#endif
#ifdef LOST
    run Machines();
#endif
  }
}
