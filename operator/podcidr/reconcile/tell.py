"""What people see of a round: log lines, Events, metrics. Decides nothing."""

import structlog

from podcidr.api import names
from podcidr.core.actions import Action, Adopt, BlockAction, Claim, Drain, Leave
from podcidr.core.invariants import Violation
from podcidr.core.model import Key, Snapshot
from podcidr.core.plan import Plan
from podcidr.kube.clock import Clock
from podcidr.kube.events import EventRecorder, ObjectRef
from podcidr.kube.resources import NODECIDRS, NODES
from podcidr.metrics import OperatorMetrics
from podcidr.reconcile.apply import Outcome
from podcidr.reconcile.ledger import LedgerWatch

EVENT_REASONS: dict[type[Action], str] = {
    Claim: names.EVENT_BLOCK_CLAIMED,
    Drain: names.EVENT_BLOCK_DRAINING,
    Leave: names.EVENT_BLOCK_RELEASED,
    Adopt: names.EVENT_BLOCK_ADOPTED,
}
WARNINGS = (Adopt,)
CHANGED_SECONDS, REPEAT_SECONDS = 60.0, 600.0
"""A shortage is told when it begins, when its cause is another, and again while it lasts: never faster than this."""

_log = structlog.get_logger("podcidr.reconcile")


class Teller:
    """Remembers only what it needs to tell a thing once, and how long a demand waited."""

    def __init__(self, events: EventRecorder, metrics: OperatorMetrics, clock: Clock) -> None:
        self._events, self._metrics, self._clock = events, metrics, clock
        self._waiting_since: dict[Key, float] = {}
        self._told: frozenset[Violation] = frozenset()
        self._shortages: dict[Key, tuple[str, float]] = {}
        self._refusals: dict[tuple[str, str, str], float] = {}

    def planned(self, snapshot: Snapshot, decided: Plan) -> None:
        """Demand seen, violations confirmed."""
        now = self._clock.monotonic()
        short = {Key(a.node, "", a.prefix.family) for a in decided.actions if isinstance(a, Claim)} | set(decided.pending)
        self._waiting_since = {key: self._waiting_since.get(key, now) for key in short}
        violations = frozenset(decided.violations)
        for violation in sorted(violations - self._told, key=lambda v: v.words):
            _log.error("invariant violated", invariant=violation.invariant, words=violation.words)
            for node in violation.nodes:
                self._post(node, snapshot, "Warning", names.EVENT_BLOCK_CONFLICT, f"{violation.words}; it drains, nobody else gets it")
        self._told = violations
        self._tell_shortages(decided, now)
        self._metrics.frozen_blocks.set(len({p for v in (*decided.violations, *decided.suspects) for p in v.prefixes}))
        self._metrics.double_claims.set(len({p for v in decided.violations if v.invariant == 2 for p in v.prefixes}))
        self._metrics.nodes.labels("reporting").set(sum(n.known is not None for n in snapshot.nodecidrs.values()))
        self._metrics.nodes.labels("waiting").set(len({key.node for key in decided.pending}))
        self._metrics.nodes.labels("gone").set(len(snapshot.nodecidrs.keys() - snapshot.nodes.keys()))

    def _tell_shortages(self, decided: Plan, now: float) -> None:
        """On the Node, where people look who wonder why its pods don't start."""
        for key, why in decided.unserved.items():
            told, at = self._shortages.get(key, ("", float("-inf")))
            if now - at >= (REPEAT_SECONDS if told == why else CHANGED_SECONDS):
                self._shortages[key] = why, now
                _log.warning("pods wait for an address", node=key.node, family=str(key.family), reason=why)
                text = f"pods wait for an {key.family} address; {why}"
                self._events.post(ObjectRef(NODES, key.node, key.node), "Warning", names.EVENT_NODE_SHORT, text)  # uid as kubelet's Events
        self._shortages = {
            key: (told, at) for key, (told, at) in self._shortages.items() if key in decided.unserved or now - at < REPEAT_SECONDS
        }

    def applied(self, snapshot: Snapshot, outcome: Outcome) -> None:
        """Each action's end; Events for those that concern blocks, but a node's first one."""
        for action in outcome.done:
            self._metrics.actions.labels(type(action).__name__, "done").inc()
            _log.info("done", action=type(action).__name__, node=action.node, block=_block(action), reason=action.reason)
            self._count(action)
            nodecidr = snapshot.nodecidrs.get(action.node)
            if nodecidr and nodecidr.entries and (reason := EVENT_REASONS.get(type(action))):
                kind = "Warning" if isinstance(action, WARNINGS) else "Normal"
                text = f"block {_block(action)}: {action.reason}"
                self._events.post(ObjectRef(NODECIDRS, action.node, nodecidr.uid), kind, reason, text)
        for action, why in outcome.refused:
            self._metrics.actions.labels(type(action).__name__, "conflict").inc()
            self._metrics.conflicts.labels(type(action).__name__).inc()
            self._tell_refusal(action, why)

    def _tell_refusal(self, action: Action, why: str) -> None:
        """One that comes back each round is one line a minute."""
        now = self._clock.monotonic()
        self._refusals = {key: at for key, at in self._refusals.items() if now - at < CHANGED_SECONDS}
        key = (action.node, type(action).__name__, why)
        if key not in self._refusals:
            self._refusals[key] = now
            _log.info("refused", action=type(action).__name__, node=action.node, block=_block(action), error=why)

    def ledger(self, was: str | None, watch: LedgerWatch) -> None:
        """A suspicion begins or ends."""
        if watch.why and not was:
            _log.warning("claims are held back until the nodes have reported", reason=watch.why)
        elif was and not watch.why:
            _log.warning("claims go on", silent_nodes=list(watch.silent))
            for node in watch.silent:
                text = f"no report after {was}: what this node uses is not known; start its agent"
                self._events.post(ObjectRef(NODECIDRS, node), "Warning", names.EVENT_AGENT_SILENT, text)

    def _count(self, action: Action) -> None:
        if isinstance(action, Claim):
            self._metrics.grants.labels(action.pool, action.prefix.family).inc()
            key = Key(action.node, "", action.prefix.family)
            if key in self._waiting_since:
                self._metrics.grant_seconds.observe(self._clock.monotonic() - self._waiting_since[key])
        if isinstance(action, Leave):
            self._metrics.releases.labels("", action.prefix.family).inc()

    def _post(self, node: str, snapshot: Snapshot, kind: str, reason: str, text: str) -> None:
        nodecidr = snapshot.nodecidrs.get(node)
        self._events.post(ObjectRef(NODECIDRS, node, nodecidr.uid if nodecidr else ""), kind, reason, text)


def _block(action: Action) -> str | None:
    return str(action.prefix) if isinstance(action, BlockAction) else None
