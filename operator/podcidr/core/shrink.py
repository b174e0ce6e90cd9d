"""Shrink: empty blocks that the target no longer needs go Draining, from the highest down.

Down to the highest target of the stabilization window, so constant demand never grows what it just gave back; in
scarcity an idle node gives at once.
"""

from collections.abc import Collection, Iterable, Mapping

from .actions import Drain
from .demand import NodeClass
from .life import Draft
from .model import AUTOMATIC, IDLE, Entry, Report, Snapshot
from .prefix import Family


def shrink(
    groups: Iterable[NodeClass],
    drafts: Mapping[str, Draft],
    snapshot: Snapshot,
    now: float,
    scarce: set[tuple[str, Family]],
) -> None:
    """Drain what each class can spare; blocks prove empty only by a report of the present epoch."""
    groups = list(groups)
    sharing = {(group.key.node, group.key.family) for group in groups if group.shares_blocks and group.pending}
    together: dict[tuple[str, str], list[NodeClass]] = {}
    for group in groups:
        if group.paired:
            together.setdefault((group.key.node, group.key.pools), []).append(group)
    for group in groups:
        draft = drafts[group.key.node]
        report = draft.nodecidr.current if draft.nodecidr else None
        if report is None or group.grew or group.shares_blocks:
            continue
        if not (group.key.pools == AUTOMATIC and (group.key.node, group.key.family) in sharing):
            short = {pool.name for pool in group.pools if not group.pending and (pool.name, group.key.family) in scarce}
            _shrink_class(group, together.get((group.key.node, group.key.pools), ()), report, snapshot, now, short)


def _shrink_class(
    group: NodeClass, together: Collection[NodeClass], report: Report, snapshot: Snapshot, now: float, short: set[str]
) -> None:
    """`short`: pools of the class whose blocks pods elsewhere wait for; then only their blocks are looked at.

    `together`: the same pools' classes of each family, if a block of one may be of no use without one of another.
    """
    scaling, is_scarce = group.pools[0].scaling, bool(short)
    if not is_scarce and now - snapshot.memory.watching_since < scaling.stabilization_window_seconds:
        return
    floor, min_blocks = _floor(group, snapshot, is_scarce=is_scarce), 0 if is_scarce else group.min_blocks
    floors = [(each, _floor(each, snapshot, is_scarce=is_scarce)) for each in together]
    for entry in _empty(group, report):
        if is_scarce and entry.pool not in short:
            continue
        size = snapshot.pools[entry.pool].addresses(entry.prefix)
        rest, blocks = group.addresses - size, len(group.keep) - 1
        if rest < floor or blocks < min_blocks or not (is_scarce or group.need * 100 <= scaling.low_utilization_percent * rest):
            return
        if blocks == 0 and not is_scarce and not _last_may_go(group, snapshot, now):
            return
        if not _take_out(entry, size, group, floors):
            continue
        why = "scarcity: pods elsewhere wait" if is_scarce else f"empty; the rest of {rest} holds the target of {floor}"
        group.draft.actions.append(Drain(group.key.node, why, entry.prefix))
        group.keep.remove(entry)


def _floor(group: NodeClass, snapshot: Snapshot, *, is_scarce: bool) -> int:
    """Addresses that the class keeps."""
    return group.need if is_scarce else max(snapshot.memory.highest.get(group.key, 0), group.target)


def _take_out(entry: Entry, size: int, group: NodeClass, floors: Collection[tuple[NodeClass, int]]) -> bool:
    """Count the block out, unless a class of these pools, of whatever family, would then have less for its pods than it needs."""
    had = [each.capacity for each, _ in floors]
    group.addresses -= size
    group.draft.free[entry.pool, entry.prefix.family] -= size
    if all(each.capacity >= min(floor, before) for (each, floor), before in zip(floors, had, strict=True)):
        return True
    group.addresses += size
    group.draft.free[entry.pool, entry.prefix.family] += size
    return False


def _empty(group: NodeClass, report: Report) -> list[Entry]:
    """The class's empty blocks, of its last pool first, then the highest first."""
    order = {pool.name: index for index, pool in enumerate(group.pools)}
    empty = [e for e in group.keep if e not in group.draft.adopted and not any(report.blocks.get(e.prefix, IDLE))]
    return sorted(empty, key=lambda entry: (order.get(entry.pool, len(order)), entry.prefix), reverse=True)


def _last_may_go(group: NodeClass, snapshot: Snapshot, now: float) -> bool:
    """The last block waits longer: a node that ran pods of the class will likely do so again."""
    needed_at = snapshot.memory.needed_at.get(group.key, snapshot.memory.watching_since)
    return now - needed_at >= group.pools[0].scaling.last_block_delay_seconds
