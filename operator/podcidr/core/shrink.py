"""Shrink: empty blocks that the target no longer needs go Draining, from the highest down.

Down to the highest target of the stabilization window, so constant demand never grows what it just gave back. In scarcity
every node gives at once what nobody there uses or waits for: headroom here is an address that a pod elsewhere lacks.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping

from .actions import Drain
from .demand import NodeClass
from .life import Draft
from .model import AUTOMATIC, IDLE, Entry, Report, Snapshot
from .prefix import Family

Floors = Collection[tuple[NodeClass, int]]
"""Classes that the going of a block concerns, and how many addresses each keeps."""


def shrink(
    groups: Iterable[NodeClass],
    drafts: Mapping[str, Draft],
    snapshot: Snapshot,
    now: float,
    scarce: set[tuple[str, Family]],
) -> None:
    """Drain what each class can spare; blocks prove empty only by a report of the present epoch."""
    groups = list(groups)
    naming: dict[str, list[NodeClass]] = defaultdict(list)
    together: dict[tuple[str, str], list[NodeClass]] = defaultdict(list)
    for group in groups:
        if group.shares_blocks and group.pending:
            naming[group.key.node].append(group)
        if group.paired:
            together[group.key.node, group.key.pools].append(group)
    for group in groups:
        draft = drafts[group.key.node]
        report = draft.nodecidr.current if draft.nodecidr else None
        if report is None or group.grew or group.shares_blocks:
            continue
        guests = naming.get(group.key.node, ()) if group.key.pools == AUTOMATIC else ()
        whole = together.get((group.key.node, group.key.pools), (group,))
        if short := {pool.name for pool in group.pools if (pool.name, group.key.family) in scarce}:
            _give(group, whole, guests, report, snapshot, short)
        elif not any(guest.key.family is group.key.family for guest in guests):
            _shrink_class(group, whole, report, snapshot, now)


def _give(
    group: NodeClass, whole: Iterable[NodeClass], guests: Collection[NodeClass], report: Report, snapshot: Snapshot, short: set[str]
) -> None:
    """What the class can do without at this moment, of the pools whose blocks pods elsewhere wait for.

    `whole`: the same pools' classes of each family, if a block of one may be of no use without one of another. `guests`: pods that
    wait and name a pool of the class. They need room in that one; the class's own pods take what is left of all.
    """
    floors = [(each, each.need + sum(_served(guest) for guest in guests if guest.key.family is each.key.family)) for each in whole]
    floor = next(floor for each, floor in floors if each is group)
    floors += [(guest, guest.need) for guest in guests]
    for entry in _empty(group, report):
        size = snapshot.pools[entry.pool].addresses(entry.prefix)
        if entry.pool in short and group.addresses - size >= floor and _take_out(entry, size, group, floors):
            group.draft.actions.append(Drain(group.key.node, "scarcity: pods elsewhere wait", entry.prefix))


def _served(guest: NodeClass) -> int:
    """Of its pods that wait, those that find an address here."""
    return max(0, guest.pending + min(0, guest.capacity - guest.need))


def _shrink_class(group: NodeClass, whole: Iterable[NodeClass], report: Report, snapshot: Snapshot, now: float) -> None:
    scaling = group.pools[0].scaling
    if now - snapshot.memory.watching_since < scaling.stabilization_window_seconds:
        return
    floor, floors = _floor(group, snapshot), [(each, _floor(each, snapshot)) for each in whole]
    for entry in _empty(group, report):
        size = snapshot.pools[entry.pool].addresses(entry.prefix)
        rest, blocks = group.addresses - size, len(group.keep) - 1
        if rest < floor or blocks < group.min_blocks or group.need * 100 > scaling.low_utilization_percent * rest:
            return
        if blocks == 0 and not _last_may_go(group, snapshot, now):
            return
        if _take_out(entry, size, group, floors):
            why = f"empty; the rest of {rest} holds the target of {floor}"
            group.draft.actions.append(Drain(group.key.node, why, entry.prefix))


def _floor(group: NodeClass, snapshot: Snapshot) -> int:
    return max(snapshot.memory.highest.get(group.key, 0), group.target)


def _take_out(entry: Entry, size: int, group: NodeClass, floors: Floors) -> bool:
    """Count the block out, unless a class, of whatever family, would then have less for its pods than it needs."""
    had = [each.capacity for each, _ in floors]
    holders = [each for each, _ in floors if each is not group and entry in each.keep] + [group]
    _count(entry, -size, holders, group.draft)
    if all(each.capacity >= min(floor, before) for (each, floor), before in zip(floors, had, strict=True)):
        for each in holders:
            each.keep.remove(entry)
        return True
    _count(entry, size, holders, group.draft)
    return False


def _count(entry: Entry, size: int, holders: Collection[NodeClass], draft: Draft) -> None:
    for each in holders:
        each.addresses += size
    draft.free[entry.pool, entry.prefix.family] += size


def _empty(group: NodeClass, report: Report) -> list[Entry]:
    """The class's empty blocks, of its last pool first, then the highest first."""
    order = {pool.name: index for index, pool in enumerate(group.pools)}
    empty = [e for e in group.keep if e not in group.draft.adopted and not any(report.blocks.get(e.prefix, IDLE))]
    return sorted(empty, key=lambda entry: (order.get(entry.pool, len(order)), entry.prefix), reverse=True)


def _last_may_go(group: NodeClass, snapshot: Snapshot, now: float) -> bool:
    """The last block waits longer: a node that ran pods of the class will likely do so again."""
    needed_at = snapshot.memory.needed_at.get(group.key, snapshot.memory.watching_since)
    return now - needed_at >= group.pools[0].scaling.last_block_delay_seconds
