"""What the operator would do now, from one reading: pure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from podcidr.cli.reading import Reading
from podcidr.core.acceptance import accept
from podcidr.core.actions import Action, Adopt, BlockAction, Claim, CreateNodeCIDR, SetPools
from podcidr.core.model import Block, Memory, Pool, Snapshot
from podcidr.core.plan import Plan, plan
from podcidr.core.prefix import Prefix, block_name

FRESH = "a leader that has just begun: nothing shrinks before a stabilization window has passed, no node that is gone counts as lost yet"
SETTLED = "a leader that has waited long enough: stabilization windows, last-block delays and waits for lost nodes have run out"


@dataclass(frozen=True, slots=True)
class PlannedRow:
    """One action, for people and programs."""

    action: str
    node: str
    block: str
    pool: str
    reason: str


@dataclass(frozen=True)
class Forecast:
    """The plan of one round, and what it assumes."""

    rows: tuple[PlannedRow, ...]
    idle_because: str
    violations: tuple[str, ...]
    assumes: str


def suspects(reading: Reading) -> frozenset[Prefix]:
    """Blocks that look as if they broke an invariant; the operator reads again before it believes it."""
    return frozenset(p for violation in plan(reading.snapshot, 0.0).suspects for p in violation.prefixes)


def forecast(reading: Reading, *, has_pods: bool, settled: bool, confirmed: frozenset[Prefix] = frozenset()) -> Forecast:
    """The next round of the operator."""
    snapshot, rows = assume(reading, has_pods=has_pods, settled=settled, confirmed=confirmed)
    decided = plan(snapshot, reading.at.timestamp())
    return Forecast(
        rows=(*rows, *(_row(action, snapshot) for action in decided.actions)),
        idle_because=decided.idle_because or "",
        violations=_words(decided),
        assumes=SETTLED if settled else FRESH,
    )


def assume(
    reading: Reading, *, has_pods: bool, settled: bool, confirmed: frozenset[Prefix] = frozenset()
) -> tuple[Snapshot, list[PlannedRow]]:
    """What the operator plans on: CIDRs accepted, and the memory of a leader. With what it says of CIDRs first."""
    accepted, rows = _accept(reading.snapshot, has_pods=has_pods)
    snapshot = replace(reading.snapshot, pools=accepted)
    return replace(snapshot, memory=memory_of(snapshot, reading.at.timestamp(), settled=settled, confirmed=confirmed)), rows


def _words(decided: Plan) -> tuple[str, ...]:
    return tuple(violation.words for violation in (*decided.violations, *decided.suspects))


def _accept(snapshot: Snapshot, *, has_pods: bool) -> tuple[Mapping[str, Pool], list[PlannedRow]]:
    """The operator accepts CIDRs before it plans, unless pods may use them and Ready nodes have not told."""
    told = {name for name, nodecidr in snapshot.nodecidrs.items() if nodecidr.known}
    silent = any(node.ready and name not in told for name, node in snapshot.nodes.items())
    found = accept(snapshot.pools, import_pending=silent and has_pods)
    rows = []
    for name, pool in sorted(snapshot.pools.items()):
        new = [cidr for cidr in found.accepted[name] if cidr not in pool.accepted]
        rows += [PlannedRow("Accept", "", str(cidr), name, "the CIDR is new, and no other pool has it") for cidr in new]
        waits = "the CIDR waits until every Ready node has reported, for pods may use its addresses"
        rows += [PlannedRow("Wait", "", str(cidr), name, waits) for cidr in found.waiting[name]]
        rows += [PlannedRow("Refuse", "", str(refusal.cidr), name, str(refusal)) for refusal in found.refused[name]]
    return {name: replace(pool, accepted=frozenset(found.accepted[name])) for name, pool in snapshot.pools.items()}, rows


def memory_of(snapshot: Snapshot, now: float, *, settled: bool, confirmed: frozenset[Prefix]) -> Memory:
    """As much of a leader's memory as the objects tell."""
    since = -math.inf if settled else now
    gone = {*snapshot.nodecidrs, *(block.node for block in snapshot.blocks.values())} - snapshot.nodes.keys()
    return Memory(
        watching_since=since,
        quarantined_since={b.uid: _released(b, now) for b in snapshot.blocks.values() if b.quarantined},
        gone_since={name: -math.inf if (n := snapshot.nodecidrs.get(name)) and n.said_gone else since for name in gone},
        confirmed=confirmed,
    )


def _released(block: Block, now: float) -> float:
    """By the operator's own stamp; where there is none the quarantine begins with whoever sees it first."""
    return datetime.fromisoformat(block.released_at).timestamp() if block.released_at else now


def _row(action: Action, snapshot: Snapshot) -> PlannedRow:
    block = str(action.prefix) if isinstance(action, BlockAction) else ""
    return PlannedRow(type(action).__name__, action.node, block, _pool(action, snapshot), action.reason)


def _pool(action: Action, snapshot: Snapshot) -> str:
    if isinstance(action, (Claim, Adopt)):
        return action.pool
    if isinstance(action, (CreateNodeCIDR, SetPools)):
        return ",".join(action.pools)
    if isinstance(action, BlockAction):
        if row := snapshot.blocks.get(block_name(action.prefix)):
            return row.pool
        nodecidr = snapshot.nodecidrs.get(action.node)
        return next((e.pool for e in nodecidr.entries if e.prefix == action.prefix), "") if nodecidr else ""
    return ""
