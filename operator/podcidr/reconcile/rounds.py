"""The leader's loop: observe → snapshot → plan → actions → apply, a round at a time, by one task.

Level-triggered: a change only says *look again*. Between snapshot and plan nothing is awaited, so a plan is never made
from a torn view; the watch goes on while a round is applied, and whatever it brings makes another round.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field, replace

import structlog

from podcidr.core.actions import RaiseEpoch
from podcidr.core.model import Geometry, Snapshot
from podcidr.core.plan import Plan, is_still, plan
from podcidr.kube.client import KubeClient
from podcidr.kube.clock import Clock
from podcidr.kube.errors import Fenced, KubeError
from podcidr.kube.events import EventRecorder
from podcidr.kube.lease import LeaseHistory
from podcidr.metrics import OperatorMetrics
from podcidr.reconcile.apply import Applier, Doubt, Outcome
from podcidr.reconcile.history import History
from podcidr.reconcile.ledger import LedgerWatch
from podcidr.reconcile.memory import LeaderMemory
from podcidr.reconcile.observed import Observed
from podcidr.reconcile.pools import PoolKeeper
from podcidr.reconcile.tell import Teller
from podcidr.reconcile.writes import Writes

SETTLE_SECONDS = 0.01
"""Changes that come together are planned together."""
BUSY_SHARE = 3
"""At most one third of a core goes into planning when changes never cease."""
TIMED_SHARE = 20
"""At most one twentieth when only time passes."""
TIMED_SECONDS = (0.25, 30.0)
FIRST_BACKOFF_SECONDS, LAST_BACKOFF_SECONDS = 0.2, 15.0
KEEP_SECONDS = 1.0

_log = structlog.get_logger("podcidr.reconcile")


@dataclass
class Settings:
    """What the loop was told."""

    lost_node_seconds: float = 600.0
    resync_seconds: float = 300.0
    after_restore: bool = False
    history_namespace: str | None = None
    """Where the record of who held which block is kept; None: nowhere."""


@dataclass
class Rounds:
    """Everything one leader needs. `run` ends when the process may not write any more."""

    client: KubeClient
    clock: Clock
    observed: Observed
    events: EventRecorder
    metrics: OperatorMetrics
    settings: Settings
    dirty: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.memory = LeaderMemory(self.clock, self.clock.monotonic())
        self.ledger = LedgerWatch()
        self.keeper = PoolKeeper(self.client, self.clock, self.observed, self.events, self.metrics)
        self.teller = Teller(self.events, self.metrics, self.clock)
        self._applier = Applier(Writes(self.client, self.clock, self.observed))
        self.history = History(self.client, self.clock, self.settings.history_namespace)
        self._listed_for: set[Geometry] = set()
        self._kept_at = float("-inf")
        self._keep_due = False
        self._failures = 0
        self._plan_seconds = 0.0
        self._waits_for_time = True
        self._relist = True
        self._listed_at = float("-inf")
        self._halted = False

    async def run(self, previous: LeaseHistory | None) -> None:
        """Lead: judge the ledger, then round after round until fenced or cancelled."""
        self.memory = LeaderMemory(self.clock, self.clock.monotonic())
        self.ledger.judge_lease(previous, self.clock.monotonic())
        if self.settings.after_restore:
            self.ledger.suspect("the operator was started with --after-restore", self.clock.monotonic())
        while not self._halted:
            self.dirty.clear()
            try:
                await self._round()
            except Fenced:
                _log.error("not the leader any more: nothing more is written")
                return
            except (KubeError, Doubt) as error:
                self._failures += 1
                self._relist = True
                self.metrics.planner_rounds.labels("failed").inc()
                _log.warning("round failed; it begins again from fresh lists", error=str(error))
            await self._rest()
        with suppress(KubeError):
            await self.history.keep(self._snapshot(), at_once=True)

    def halt(self) -> None:
        """Stop after the round under way."""
        self._halted = True
        self.dirty.set()

    def begun_anew(self) -> None:
        """Etcd was restored while we lead: what we hold is of before, and the next round begins with lists."""
        self._relist = True
        self.ledger.suspect("the Lease went back to how it was before", self.clock.monotonic())
        self.dirty.set()

    async def _round(self) -> None:
        """One look at everything, one plan, carried out."""
        await self._prepare()
        if not self.observed.nodes.items:
            self._judge_ledger()  # a new cluster: who joins once its first pool is accepted has nothing to tell
        await self._keep_pools()
        snapshot = self._snapshot()
        started = self.clock.monotonic()
        decided = plan(snapshot, started)
        self._plan_seconds = self.clock.monotonic() - started
        self.metrics.planner_seconds.observe(self._plan_seconds)
        if decided.suspects:
            snapshot, decided = await self._confirm(snapshot)
        self.memory.confirmed = frozenset(p for violation in decided.violations for p in violation.prefixes)
        if decided.idle_because:
            self._failures = 0
            self.metrics.planner_rounds.labels("waiting").inc()
            return
        self.memory.remember(decided)
        self.teller.planned(snapshot, decided)
        outcome = await self._applier.apply((*decided.actions, *self._questions(snapshot)), snapshot, self._listed_for)
        self._settle(snapshot, decided, outcome)
        await self.history.keep(snapshot)

    def _settle(self, snapshot: Snapshot, decided: Plan, outcome: Outcome) -> None:
        self.memory.unused |= outcome.unused
        self.memory.refused(outcome.refusing)
        self.memory.written(outcome.written)
        for action in outcome.done:
            if isinstance(action, RaiseEpoch) and action.question and (nodecidr := self.observed.nodecidrs.items.get(action.node)):
                self.ledger.asked(nodecidr)
        # What is refused every time is not tried at full speed.
        self._failures = self._failures + 1 if outcome.refused and not outcome.done else 0
        self.teller.applied(snapshot, outcome)
        self.history.done(outcome.done, snapshot)
        self._waits_for_time = self.memory.waits_for_time(snapshot, decided)
        self.metrics.planner_rounds.labels("planned").inc()
        if decided.actions:
            self.dirty.set()  # look at what came of it

    def _snapshot(self) -> Snapshot:
        observed = self.observed
        self.memory.look(observed.nodes.items, observed.nodecidrs.items, observed.blocks.items)
        self._judge_ledger()
        memory = replace(self.memory.value(observed.pools.items), silent=self.ledger.silent_now(observed.nodecidrs.items))
        return observed.snapshot(memory, self.ledger.why, self.settings.lost_node_seconds)

    def _judge_ledger(self) -> None:
        now = self.clock.monotonic()
        if self.observed.regressed:
            self.observed.clear_regressed()
            self.ledger.suspect("a list came with an older version than one seen before", now)
        ahead = [n.name for n in self.observed.nodecidrs.items.values() if n.overtaken]
        if ahead and self.ledger.why is None:
            self.ledger.suspect(f"node {ahead[0]} has seen a later epoch than the API has", now)
        was = self.ledger.why
        self.ledger.update(dict(self.observed.nodes.items), dict(self.observed.nodecidrs.items), now, self._listed_at)
        self.teller.ledger(was, self.ledger)

    def _questions(self, snapshot: Snapshot) -> list[RaiseEpoch]:
        """While the ledger is suspected: a new epoch makes each node report."""
        asked = self.ledger.to_ask(dict(self.observed.nodes.items), dict(self.observed.nodecidrs.items))
        return [
            RaiseEpoch(nodecidr.name, f"tell what you use: {self.ledger.why}", f"{int(self.clock.random() * 2**48):012x}")
            for nodecidr in asked
            if not is_still(nodecidr.name, snapshot)
        ]

    async def _prepare(self) -> None:
        """Consistent reads for pools that the ledger was not listed for (geometry rule); a new leader, a doubt: the same.

        Once a round: pools that never rest must not keep the others waiting. What is claimed nevertheless is checked before it enters.
        """
        due = self._relist or self.ledger.needs_list(self.clock.monotonic(), self._listed_at)
        if due or self.observed.geometries != self._listed_for:
            began = self.clock.monotonic()
            self._listed_for = await self.observed.relist()
            self._relist, self._listed_at = False, began

    async def _keep_pools(self) -> None:
        """Before planning if some pool needs it to be used, else now and then for its counts."""
        unready = any(
            cidr not in pool.accepted
            for pool in self.observed.pools.items.values()
            for space in pool.spaces.values()
            for cidr in space.cidrs
        )
        now = self.clock.monotonic()
        if unready or now - self._kept_at >= KEEP_SECONDS:
            self._kept_at = now
            self._keep_due = await self.keeper.keep()
        else:
            self._keep_due = True

    async def _confirm(self, snapshot: Snapshot) -> tuple[Snapshot, Plan]:
        """Watches of two kinds are never in step: only what consistent reads still show is a violation."""
        self._relist = True
        await self._prepare()
        fresh = self._snapshot()
        found = plan(fresh, self.clock.monotonic())
        confirmed = frozenset(p for v in (*found.suspects, *found.violations) for p in v.prefixes)
        fresh = replace(fresh, memory=replace(fresh.memory, confirmed=confirmed))
        return fresh, plan(fresh, self.clock.monotonic())

    async def _rest(self) -> None:
        """Until something changes, something may be due, or the resync."""
        if self._failures:
            longest = min(LAST_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2**self._failures)
            await self.clock.sleep(longest * (0.5 + self.clock.random() / 2))
            return
        seconds = self.settings.resync_seconds
        if self._waits_for_time:
            seconds = min(max(self._plan_seconds * TIMED_SHARE, TIMED_SECONDS[0]), TIMED_SECONDS[1], seconds)
        if self._keep_due:
            seconds = min(seconds, max(KEEP_SECONDS, self._plan_seconds * TIMED_SHARE))
        seconds = min(seconds, self.history.due_seconds)
        if not await self._changed_within(seconds) and seconds >= self.settings.resync_seconds:
            self._relist = True
        await self.clock.sleep(max(SETTLE_SECONDS, self._plan_seconds * (BUSY_SHARE - 1)))

    async def _changed_within(self, seconds: float) -> bool:
        waiter = asyncio.ensure_future(self.dirty.wait())
        sleeper = asyncio.ensure_future(self.clock.sleep(seconds))
        try:
            await asyncio.wait({waiter, sleeper}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiter.cancel()
            sleeper.cancel()
        return self.dirty.is_set()
