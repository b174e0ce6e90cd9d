"""What `show` shows, as values: a row a pool and family, a node, a block. Pure; JSON has the same fields as the tables."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from podcidr.api import names
from podcidr.cli.notes import orphans
from podcidr.cli.reading import Reading
from podcidr.core.invariants import listings, violations
from podcidr.core.model import IDLE, Entry, NodeCIDR, Pool, Snapshot, Usage
from podcidr.core.prefix import Family, Prefix, block_name
from podcidr.core.usage import PoolUsage, saturated, usages


@dataclass(frozen=True, slots=True)
class PoolRow:
    """One family of a pool."""

    name: str
    family: Family
    cidrs: tuple[Prefix, ...]
    state: str
    allocation: str
    utilization_percent: int
    in_use: int
    cooling: int
    free: int
    capacity: int
    blocks_claimed: int
    blocks_quarantined: int
    blocks_free: int
    blocks_total: int
    blocks_orphaned: int


@dataclass(frozen=True, slots=True)
class NodeRow:
    """A node: what it may use, what it reports."""

    name: str
    state: str
    blocks_active: int
    blocks_draining: int
    utilization_percent: int
    in_use: int
    cooling: int
    capacity: int
    pending: int
    epoch: int
    observed_epoch: int
    reported_at: datetime | None
    conflicts: int


@dataclass(frozen=True, slots=True)
class BlockRow:
    """A block: of the ledger, of a list, or only of a report."""

    cidr: Prefix
    name: str
    pool: str
    nodes: tuple[str, ...]
    state: str
    utilization_percent: int
    in_use: int
    cooling: int
    capacity: int
    released_at: str
    orphan: str
    """Why it is one; empty where it is none."""
    conflict: str
    """What invariant it breaks, in words."""


def pool_rows(reading: Reading) -> list[PoolRow]:
    """By name and family."""
    snapshot = reading.snapshot
    found = usages(snapshot.pools, snapshot.nodecidrs, snapshot.blocks)
    return [
        _pool_row(reading, pool, family, found[name, family]) for name, pool in sorted(snapshot.pools.items()) for family in pool.spaces
    ]


def _pool_row(reading: Reading, pool: Pool, family: Family, usage: PoolUsage) -> PoolRow:
    return PoolRow(
        name=pool.name,
        family=family,
        cidrs=pool.spaces[family].cidrs,
        state=_pool_state(reading, pool),
        allocation=names.ALLOCATION_PINNED if pool.pinned else names.ALLOCATION_AUTOMATIC,
        utilization_percent=usage.utilization_percent,
        in_use=usage.in_use,
        cooling=usage.cooling,
        free=saturated(usage.free),
        capacity=saturated(usage.capacity),
        blocks_claimed=usage.blocks_claimed,
        blocks_quarantined=usage.blocks_quarantined,
        blocks_free=saturated(usage.blocks_free),
        blocks_total=saturated(usage.blocks_total),
        blocks_orphaned=usage.blocks_outside,
    )


def _pool_state(reading: Reading, pool: Pool) -> str:
    conditions = reading.conditions.get(pool.name, {})
    accepted = conditions.get(names.CONDITION_ACCEPTED)
    if pool.deleting:
        return "Deleting"
    if accepted is None:
        return "New"
    if not accepted.holds:
        return accepted.reason
    if pool.disabled:
        drained = conditions.get(names.CONDITION_DRAINED)
        return "Drained" if drained and drained.holds else "Disabled"
    for kind in (names.CONDITION_EXHAUSTED, names.CONDITION_NEAR_EXHAUSTION):
        if kind in conditions and conditions[kind].holds:
            return kind
    return names.CONDITION_ACCEPTED


def node_rows(reading: Reading) -> list[NodeRow]:
    """Of every Node, and of NodeCIDRs whose Node is gone, by name."""
    snapshot = reading.snapshot
    conflicts = Counter(node for violation in violations(snapshot) for node in violation.nodes)
    return [_node_row(reading, name, conflicts[name]) for name in sorted({*snapshot.nodes, *snapshot.nodecidrs})]


def _node_row(reading: Reading, name: str, conflicts: int) -> NodeRow:
    snapshot, nodecidr = reading.snapshot, reading.snapshot.nodecidrs.get(name)
    entries = nodecidr.entries if nodecidr else ()
    known = nodecidr.known if nodecidr else None
    in_use = sum(usage.in_use for usage in known.blocks.values()) if known else 0
    cooling = sum(usage.cooling for usage in known.blocks.values()) if known else 0
    capacity = sum(_addresses(snapshot, entry) for entry in entries)
    return NodeRow(
        name=name,
        state=_node_state(snapshot, name, nodecidr),
        blocks_active=sum(not entry.draining for entry in entries),
        blocks_draining=sum(entry.draining for entry in entries),
        utilization_percent=_percent(in_use + cooling, capacity),
        in_use=in_use,
        cooling=cooling,
        capacity=saturated(capacity),
        pending=reading.pending.get(name, 0),
        epoch=nodecidr.epoch if nodecidr else 0,
        observed_epoch=known.epoch if known else 0,
        reported_at=reading.reported_at.get(name) if known else None,
        conflicts=conflicts,
    )


def _node_state(snapshot: Snapshot, name: str, nodecidr: NodeCIDR | None) -> str:
    node = snapshot.nodes.get(name)
    if node is None:
        return "Gone"
    if nodecidr is None:
        return "No NodeCIDR"
    if nodecidr.known is None:
        return "Silent"
    return "Ready" if node.ready else "Not ready"


def _addresses(snapshot: Snapshot, entry: Entry) -> int:
    pool = snapshot.pools.get(entry.pool)
    return pool.addresses(entry.prefix) if pool else entry.prefix.size


def _percent(part: int, whole: int) -> int:
    """Rounded up, and 100 only when it is all."""
    return 0 if not whole else min(99 if part < whole else 100, -(-part * 100 // whole))


def block_rows(reading: Reading) -> list[BlockRow]:
    """By family and address: what the ledger has, what lists have, what nodes report in use."""
    snapshot = reading.snapshot
    lone = orphans(reading)
    conflicts = {prefix: violation.words for violation in violations(snapshot) for prefix in violation.prefixes}
    listed = listings(snapshot.nodecidrs.values())
    entries = {entry.prefix: entry for nodecidr in snapshot.nodecidrs.values() for entry in nodecidr.entries}
    used = _used(snapshot.nodecidrs.values())
    found = sorted({*listed, *(block.prefix for block in snapshot.blocks.values()), *(p for p, u in used.items() if any(u))})
    return [
        _block_row(snapshot, prefix, entries.get(prefix), listed.get(prefix, []), used.get(prefix, IDLE), lone, conflicts)
        for prefix in found
    ]


def _used(nodecidrs: Iterable[NodeCIDR]) -> dict[Prefix, Usage]:
    used: dict[Prefix, Usage] = {}
    for nodecidr in nodecidrs:
        for prefix, usage in nodecidr.known.blocks.items() if nodecidr.known else ():
            before = used.get(prefix, IDLE)
            used[prefix] = Usage(before.in_use + usage.in_use, before.cooling + usage.cooling)
    return used


def _block_row(
    snapshot: Snapshot, prefix: Prefix, entry: Entry | None, nodes: list[str], usage: Usage,
    lone: dict[Prefix, str], conflicts: dict[Prefix, str],
) -> BlockRow:  # fmt: skip
    block = snapshot.blocks.get(block_name(prefix))
    pool_name = entry.pool if entry else block.pool if block else ""
    pool = snapshot.pools.get(pool_name)
    capacity = pool.addresses(prefix) if pool else prefix.size
    holders = {*nodes, *([block.node] if block else [])}
    return BlockRow(
        cidr=prefix,
        name=block.name if block else "",
        pool=pool_name,
        nodes=tuple(sorted(holders or {n.name for n in snapshot.nodecidrs.values() if n.known and prefix in n.known.blocks})),
        state=_block_state(entry, quarantined=block is not None and block.quarantined, in_ledger=block is not None),
        utilization_percent=_percent(usage.in_use + usage.cooling, capacity),
        in_use=usage.in_use,
        cooling=usage.cooling,
        capacity=saturated(capacity),
        released_at=block.released_at if block else "",
        orphan=lone.get(prefix, ""),
        conflict=conflicts.get(prefix, ""),
    )


def _block_state(entry: Entry | None, *, quarantined: bool, in_ledger: bool) -> str:
    if entry:
        return names.STATE_DRAINING if entry.draining else names.STATE_ACTIVE
    if quarantined:
        return names.STATE_QUARANTINED
    return names.STATE_CLAIMED if in_ledger else "Reported"
