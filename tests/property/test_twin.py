"""The planner against its golden twin, on snapshots that no cluster would ever reach."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

from podcidr.core.actions import Action
from podcidr.core.barred import Bar
from podcidr.core.model import IDLE, Block, Pool, Snapshot
from podcidr.core.plan import plan
from podcidr.core.prefix import Family, Prefix
from podcidr.core.usage import PoolUsage, usages
from tests.property.effort import share
from tests.property.snapshots import NOW, Snapshots
from tests.property.twin import Twin
from tests.property.twin.space import addresses, owns, span

SEEDS = share(1_500)
KINDS = {"Claim", "Undrain", "Drain", "Leave", "Free", "Adopt", "CreateNodeCIDR", "SetPools", "RaiseEpoch", "DeleteNodeCIDR"}


def more(action: Action) -> list[Any]:
    """All that it says besides its node and its reason; its block first."""
    named = [getattr(action, each.name) for each in fields(action) if each.name not in ("node", "reason")]
    return sorted(named, key=lambda value: not isinstance(value, Prefix))


def usages_by_counting(snapshot: Snapshot, pool: Pool, family: Family) -> PoolUsage:
    """Address by address, block by block."""
    space = pool.spaces[family]
    cidrs = [cidr for cidr in space.cidrs if cidr in pool.accepted and cidr.length <= space.block_length]
    size = 2 ** ((32 if family == "ipv4" else 128) - space.block_length)
    blocks = [Prefix(family, at, space.block_length) for cidr in cidrs for at in span(cidr)[::size]]
    rows = [b for b in snapshot.blocks.values() if (b.pool, b.pool_uid, b.prefix.family) == (pool.name, pool.uid, family)]
    listed = [(e, n.report) for n in snapshot.nodecidrs.values() for e in n.entries if n.report and n.report.uid == n.uid]
    mine = [
        (e.prefix, r.blocks.get(e.prefix, IDLE))
        for e, r in listed
        if (e.pool, e.pool_uid, e.prefix.family) == (pool.name, pool.uid, family)
    ]

    def whose(block: Block) -> Bar:
        return Bar(block.pool, block.pool_uid, (live := snapshot.pools.get(block.pool)) is None or live.uid != block.pool_uid)

    strangers = [b for b in snapshot.blocks.values() if whose(b).gone or not owns(snapshot.pools[b.pool], b.prefix)]
    total, usable = sum(len(span(cidr)) for cidr in cidrs), sum(addresses(pool, block) for block in blocks)
    return PoolUsage(
        capacity=usable,
        reserved=total - usable,
        blocks_total=len(blocks),
        blocks_reserved=sum(not addresses(pool, block) for block in blocks),
        blocks_claimed=sum(not row.quarantined for row in rows),
        blocks_quarantined=sum(row.quarantined for row in rows),
        in_use=sum(use.in_use for _, use in mine),
        cooling=sum(use.cooling for _, use in mine),
        blocks_outside=sum(not owns(pool, row.prefix) for row in rows),
        addresses_outside=sum(sum(use) for block, use in mine if not owns(pool, block)),
        blocks_barred=sum(bool(addresses(pool, block)) and any(block.overlaps(other.prefix) for other in strangers) for block in blocks),
        barred_by={
            bar: count
            for bar in map(whose, strangers)
            if (count := sum(other.prefix.overlaps(cidr) for other in strangers for cidr in cidrs if whose(other) == bar))
        },
    )


def difference(snapshot: Snapshot, now: float) -> str | None:
    """Where planner and twin disagree."""
    real, twin = plan(snapshot, now), Twin(snapshot, now)
    words = [(type(action).__name__, action.node, *more(action)) for action in real.actions]
    for what, ours, theirs in [
        ("actions", Counter(words), Counter(twin.words)),
        ("targets", real.targets, twin.targets),
        ("pending", real.pending, twin.pending),
        ("scarce", real.scarce, twin.scarce),
    ]:
        if ours != theirs:
            return f"{what}: the planner has {ours}, the twin {theirs}"
    for (name, family), counted in usages(snapshot.pools, snapshot.nodecidrs, snapshot.blocks).items():
        if counted != (by_counting := usages_by_counting(snapshot, snapshot.pools[name], family)):
            return f"usage of {name}: counted {counted}, one by one {by_counting}"
    return None


def smaller(snapshot: Snapshot) -> Iterator[Snapshot]:
    """The same without one object, list entry or wish."""
    for kind in ("pools", "nodes", "nodecidrs", "blocks"):
        objects = getattr(snapshot, kind)
        for name in objects:
            fewer: Any = {kind: {other: value for other, value in objects.items() if other != name}}
            yield replace(snapshot, **fewer)
    for name, nodecidr in snapshot.nodecidrs.items():
        for entry in nodecidr.entries:
            shorter = replace(nodecidr, entries=tuple(other for other in nodecidr.entries if other != entry))
            yield replace(snapshot, nodecidrs={**snapshot.nodecidrs, name: shorter})
        for demand in nodecidr.report.demand if nodecidr.report else ():
            report = replace(nodecidr.report, demand=tuple(other for other in nodecidr.report.demand if other != demand))  # type: ignore[union-attr, type-var]
            yield replace(snapshot, nodecidrs={**snapshot.nodecidrs, name: replace(nodecidr, report=report)})


def smallest(snapshot: Snapshot, now: float) -> Snapshot:
    """Without all that is not needed for a difference."""
    for candidate in smaller(snapshot):
        try:
            if difference(candidate, now):
                return smallest(candidate, now)
        except KeyError:  # a pool that is needed
            continue
    return snapshot


def test_they_agree_on_anything() -> None:
    seen: Counter[str] = Counter()
    for seed in range(SEEDS):
        snapshot = Snapshots(seed).make()
        if found := difference(snapshot, NOW):
            least = smallest(snapshot, NOW)
            raise AssertionError(f"seed {seed}: {found}\n\nat least in: {difference(least, NOW)}\n{least}")
        decided = plan(snapshot, NOW)
        seen.update({type(action).__name__ for action in decided.actions})
        seen.update(scarcity=bool(decided.scarce), violation=bool(decided.suspects or decided.violations))
    assert KINDS | {"scarcity", "violation"} == {what for what, count in seen.items() if count >= SEEDS // 50}, seen
