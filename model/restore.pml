/* Etcd is put back to an earlier state under a running cluster: the life of one block between two nodes, with epochs as numbers,
 * for those of two histories may be the same. What a transition is called in the code stands beside it (-> FILE NAME).
 *
 * Safety: no block is in the allocation files of two nodes, nor in one while a pod on the other still has an address of it.
 * The backup is of any moment, and so is the restore. NodeCIDRs and the IPBlock are then as they were; what operators and agents hold, what is
 * under way, files and pods are not. An agent may go on by what it has seen for as long as it likes, and report by it.
 *
 * Assumed: whoever looks at the API after the restore knows of it (-> reconcile/ledger.py LedgerWatch.suspect says by what); a version
 * of an IPBlock is not used in both histories; both agents answer in the end (a silent one is not covered). Pods keep their addresses. Of
 * several operators, what one had under way ends at the restore (API servers are down for it, and the Lease's fence); of one it goes on.
 *
 * Bounds, by -D: OPERATORS (1), RESTORES (1), EPOCHS (6): no write goes above. PROMPT: node 1 obeys and reports in the step of the patch.
 * Guards removed by -D:
 *   NO_QUESTION   a report is told from one of the lost history by its epoch alone
 *   AHEAD_TELLS   a report above the epoch counts as an answer
 *   NOT_STILL     a node's list is written before it has answered
 *   NO_DRAIN      a list goes above what its node has seen with its blocks Active
 *   CLAIM_AT_ONCE claims, blocks taken back into use and freed before all have answered
 *   EQUAL_BACK    an agent puts a file over one of the same epoch, though it answers another question
 *   FILE_BACK     an agent puts an older epoch over a newer file
 * WITNESS asserts that what the model is about never happens; it must fail.
 */
#ifndef OPERATORS
#define OPERATORS 1
#endif
#ifndef RESTORES
#define RESTORES 1
#endif
#ifndef EPOCHS
#define EPOCHS 6
#endif

#define ABSENT 0                       /* IPBlock */
#define CLAIMED 1
#define QUARANTINED 2
#define NONE 0                         /* its entry in NodeCIDR.spec */
#define ACTIVE 1
#define DRAINING 2
#define IDLE 0
#define CLAIM 1                        /* -> core/actions.py */
#define DRAIN 2
#define UNDRAIN 3
#define LEAVE 4
#define ADOPT 5
#define FREE 6
#define NOTHING 7                      /* SetPools */
#define RAISE 8                        /* RaiseEpoch: a question */
#define ENTER 9                        /* the second write of Claim */
#define TAKE 10                        /* the second write of Adopt */

typedef Spec { byte epoch, has, question };
typedef Told { byte epoch, question; bool used };       /* NodeCIDR.status */
typedef Row { byte state; bit node };                   /* IPBlock */

Spec spec[2]; Told told[2]; Row row;
Spec spec_then[2]; Told told_then[2]; Row row_then;     /* the backup */
bool backup; byte restores;
bool row_kept;                         /* the IPBlock is as in the backup */
#if OPERATORS > 1
#define ENDED o_ended[me]
bool o_ended[OPERATORS], busy[OPERATORS];               /* its attempt was under way when etcd was put back */
#else
#define ENDED false
#endif
bool o_now[OPERATORS], o_then[OPERATORS];              /* the IPBlock's version that an operator looked at is the present one; that of the backup */
bool doubt; byte asked[2];             /* -> reconcile/ledger.py LedgerWatch; asked: at which epoch, 0 if not yet */
byte file_epoch[2], file_question[2]; bool file_has[2], used[2];
#ifdef WITNESS
bool seen[2];
#endif
byte i;                                /* 0 outside of steps */

#define MAX(a, b) ((a) > (b) -> (a) : (b))
#ifdef NO_QUESTION
#define FITS(n) true
#else
#define FITS(n) (told[n].question == spec[n].question)
#endif
#define AHEAD(n) (told[n].epoch > spec[n].epoch || (told[n].epoch == spec[n].epoch && !FITS(n)))   /* -> core/life.py live */
#define CURRENT(n) (told[n].epoch == spec[n].epoch && FITS(n))  /* -> core/model.py NodeCIDR.current */
#ifdef AHEAD_TELLS
#define ANSWERED(n) (asked[n] && told[n].epoch >= asked[n] && (AHEAD(n) || FITS(n)))
#else
#define ANSWERED(n) (asked[n] && told[n].epoch >= asked[n] && !AHEAD(n) && FITS(n))
#endif
#ifdef CLAIM_AT_ONCE
#define HELD false
#else
#define HELD doubt
#endif
#ifdef NOT_STILL
#define STILL(n) false
#else
#define STILL(n) (doubt && !ANSWERED(n) && !AHEAD(n))
#endif

inline suspect() { doubt = true; asked[0] = 0; asked[1] = 0 }

inline judge_ledger() {                /* -> reconcile/rounds.py Rounds._judge_ledger */
  if :: !doubt && (AHEAD(0) || AHEAD(1)) -> suspect() :: else fi;
  if :: doubt && ANSWERED(0) && ANSWERED(1) -> doubt = false; asked[0] = 0; asked[1] = 0 :: else fi
}

inline look() {                        /* -> core/plan.py plan: what may be done for node n */
  s_epoch = spec[n].epoch; s_has = spec[n].has; s_seen = told[n].epoch; s_ahead = AHEAD(n); o_now[me] = true; o_then[me] = backup && row_kept;
  if
  :: doubt && !asked[n] -> act = RAISE                  /* -> reconcile/rounds.py Rounds._questions */
  :: AHEAD(n) -> act = RAISE                            /* -> core/life.py live */
  :: !STILL(n) -> act = NOTHING
  :: !STILL(n) && s_has == ACTIVE -> act = DRAIN
  :: !STILL(n) && !HELD && s_has == DRAINING && !told[1 - n].used && spec[1 - n].has == NONE && row.state == CLAIMED && row.node == n -> act = UNDRAIN
  :: !STILL(n) && s_has == DRAINING && CURRENT(n) && !told[n].used -> act = LEAVE
  :: !STILL(n) && s_has != NONE && row.state == ABSENT -> act = ADOPT
  :: !STILL(n) && s_has == NONE && row.state == CLAIMED && row.node == n && !told[n].used -> act = LEAVE
  :: !STILL(n) && s_has == NONE && told[n].used && (row.state == ABSENT || row.node == n) -> act = ADOPT
  :: !STILL(n) && !HELD && s_has == NONE && spec[1 - n].has == NONE && row.state == ABSENT && !told[0].used && !told[1].used -> act = CLAIM
  :: !HELD && row.state == QUARANTINED && row.node == n && spec[0].has == NONE && spec[1].has == NONE && !told[0].used && !told[1].used -> act = FREE
  :: else -> act = IDLE
  fi;
  b_there = (row.state != ABSENT); b_mine = (b_there && row.node == n)
}

inline write_row(state_) {
  o_now[0] = false;
#if OPERATORS > 1
  o_now[1] = false;
#endif
  row_kept = false; row.state = state_
}

inline create_block() {                /* -> reconcile/apply.py Applier._create_block, _secure_adopted */
  if
  :: row.state == ABSENT && !ENDED -> write_row(CLAIMED); row.node = n; if :: act == CLAIM -> act = ENTER :: else -> act = TAKE fi
  :: else -> act = IDLE
  fi
}

inline touch_block() {
  if :: row.state != ABSENT && o_now[me] && !ENDED -> write_row(CLAIMED); act = TAKE :: else -> act = IDLE fi
}

inline pods_come_and_go() {            /* -> plugin/internal/ipam/add.go claim */
  if :: file_has[n] -> used[n] = true :: used[n] = false :: true fi
}

inline publish(v_epoch, v_has, v_question) {            /* -> agent/statedir.py StateDir.publish */
  pods_come_and_go();                  /* until now; from here on by the file that stands */
  if
#ifndef FILE_BACK
#ifdef EQUAL_BACK
  :: file_epoch[n] > v_epoch
#else
  :: file_epoch[n] > v_epoch || (file_epoch[n] == v_epoch && file_question[n] != v_question)
#endif
#endif
  :: else -> file_epoch[n] = v_epoch; file_question[n] = v_question; file_has[n] = (v_has == ACTIVE)
  fi;
  assert(!(file_has[0] && file_has[1])); assert(!(file_has[n] && used[1 - n]));
#ifdef WITNESS
  if :: file_has[n] && restores -> seen[n] = true :: else fi;
  assert(!(seen[0] && seen[1]));
#endif
  pods_come_and_go()
}

#ifdef PROMPT
#define OBEY_AND_REPORT(n) if :: n == 1 -> publish(spec[1].epoch, spec[1].has, spec[1].question); told[1].epoch = file_epoch[1]; told[1].question = file_question[1]; told[1].used = used[1] :: else fi
#else
#define OBEY_AND_REPORT(n) skip
#endif

inline patch(entry) {                  /* -> reconcile/edits.py NodeEdit.operations */
  if
  :: spec[n].epoch == s_epoch && !ENDED && MAX(s_epoch, s_seen) < EPOCHS ->
     spec[n].epoch = MAX(s_epoch, s_seen) + 1; spec[n].has = entry;
#ifndef NO_DRAIN
     if :: s_ahead && entry == ACTIVE -> spec[n].has = DRAINING :: else fi;
#endif
     if :: act == RAISE -> spec[n].question = restores; if :: doubt -> asked[n] = spec[n].epoch :: else fi :: else fi;
     OBEY_AND_REPORT(n)
  :: else -> act = IDLE
  fi
}

inline quarantine() {                  /* -> reconcile/apply.py Applier._quarantine */
  if :: act != IDLE && b_mine && row.state != ABSENT && o_now[me] && !ENDED -> write_row(QUARANTINED) :: else fi
}

#if OPERATORS > 1
#define NEXT o_ended[me] = false; busy[me] = false
#define BUSY busy[me] = true
#else
#define NEXT skip
#define BUSY skip
#endif
inline done() { NEXT; act = IDLE; s_epoch = 0; s_has = 0; s_seen = 0; o_now[me] = false; o_then[me] = false; b_there = false; b_mine = false; s_ahead = false; n = 0 }

proctype Operator(bit me) {            /* -> reconcile/rounds.py Rounds._round */
  byte act, s_epoch, s_has, s_seen; bit n; bool b_there, b_mine, s_ahead;
end:
  do
  :: atomic { if :: n = 0 :: n = 1 fi; BUSY; judge_ledger(); look(); if :: act == IDLE -> done() :: else fi };
     if
     :: act == IDLE
     :: act == CLAIM -> atomic { create_block(); if :: act == ENTER :: else -> done() fi }; if :: act == ENTER -> atomic { patch(ACTIVE); done() } :: atomic { true -> done() } fi
     :: act == ADOPT ->
        atomic { if :: b_there -> touch_block() :: else -> create_block() fi; if :: act == TAKE :: else -> done() fi };
        if :: act == TAKE -> atomic { patch(DRAINING); done() } :: atomic { true -> done() } fi
     :: act == LEAVE -> atomic { patch(NONE); if :: act == LEAVE && b_mine :: else -> done() fi }; if :: act == LEAVE -> atomic { quarantine(); done() } :: atomic { true -> done() } fi
     :: act == FREE -> atomic { if :: row.state == QUARANTINED && o_now[me] && !ENDED -> write_row(ABSENT); row.node = 0 :: else fi; done() }
     :: act == UNDRAIN -> atomic { patch(ACTIVE); done() }
     :: act == DRAIN -> atomic { patch(DRAINING); done() }
     :: act == NOTHING || act == RAISE -> atomic { patch(s_has); done() }
     fi
  od
}

/* ---- the node ---- */

proctype Agent(bit n) {                /* -> agent/service.py Agent._round */
  byte l_epoch, l_has, l_question; bool r_there, r_used;
end:
  do
  :: d_step { !r_there && l_epoch == 0 -> l_epoch = spec[n].epoch; l_has = spec[n].has; l_question = spec[n].question }
  :: atomic { l_epoch != 0 -> publish(l_epoch, l_has, l_question); l_epoch = 0; l_has = 0; l_question = 0; r_there = true; r_used = used[n] }
  :: atomic { !r_there && l_epoch == 0 -> pods_come_and_go(); r_there = true; r_used = used[n] }       /* nothing was heard for a while */
  :: d_step { r_there -> told[n].epoch = file_epoch[n]; told[n].question = file_question[n]; told[n].used = r_used; r_there = false; r_used = false }
  od
}

#define COPY_SPEC(to, from) to.epoch = from.epoch; to.has = from.has; to.question = from.question
#define COPY_TOLD(to, from) to.epoch = from.epoch; to.question = from.question; to.used = from.used
#define COPY_ROW(to, from) to.state = from.state; to.node = from.node

#if OPERATORS > 1
#define END(k) o_ended[k] = busy[k]
#else
#define END(k) skip
#endif

inline keep_versions(back) {
  i = 0;
  do
  :: i < OPERATORS ->
     if :: back -> END(i); o_now[i] = o_then[i]; o_then[i] = false :: else -> o_then[i] = o_now[i] fi;
     i++
  :: else -> break
  od;
  i = 0
}

proctype Etcd() {
end:
  do
  :: d_step { !backup && restores < RESTORES ->
       backup = true; row_kept = true; keep_versions(false);
       COPY_SPEC(spec_then[0], spec[0]); COPY_SPEC(spec_then[1], spec[1]); COPY_TOLD(told_then[0], told[0]); COPY_TOLD(told_then[1], told[1]); COPY_ROW(row_then, row) }
  :: atomic { backup ->
       backup = false; restores++;
       COPY_SPEC(spec[0], spec_then[0]); COPY_SPEC(spec[1], spec_then[1]); COPY_TOLD(told[0], told_then[0]); COPY_TOLD(told[1], told_then[1]); COPY_ROW(row, row_then);
       spec_then[0].epoch = 0; spec_then[0].has = 0; spec_then[0].question = 0; spec_then[1].epoch = 0; spec_then[1].has = 0; spec_then[1].question = 0;
       told_then[0].epoch = 0; told_then[0].question = 0; told_then[0].used = 0; told_then[1].epoch = 0; told_then[1].question = 0; told_then[1].used = 0;
       row_then.state = 0; row_then.node = 0; row_kept = false; keep_versions(true);
       suspect() }
  od
}

init {
  atomic {
    spec[0].epoch = 1; spec[1].epoch = 1;
    run Operator(0);
#if OPERATORS > 1
    run Operator(1);
#endif
    run Agent(0);
#ifndef PROMPT
    run Agent(1);
#endif
    run Etcd();
  }
}
