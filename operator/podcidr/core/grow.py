"""Growth: blocks until capacity reaches the target. Pending pods anywhere come before headroom anywhere.

Of nodes that compete, the one whose blocks have the fewest addresses takes the next block, one at a time: no node starves another.
"""

import heapq
from collections import Counter
from collections.abc import Collection, Iterable

from .actions import Claim, Undrain
from .demand import NodeClass, add_entry, add_free
from .life import Draft
from .model import AUTOMATIC, Entry, Pool, Snapshot
from .prefix import Family, join, merge
from .vacancy import Occupied, Vacancy

MAX_NODE_BLOCKS = 1024
"""Entries that the API takes in one NodeCIDR: a claim beyond could never enter."""


class Holding:
    """What a node lists, and claims in this round: counts and routes are kept up, not made again for each block."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        entries = list(entries)
        self.total = len(entries)
        self._count = Counter((entry.pool, entry.prefix.family) for entry in entries)
        self.routes = {family: merge(e.prefix for e in entries if e.prefix.family is family) for family in Family}

    def add(self, entry: Entry) -> None:
        """One more."""
        self.total += 1
        self._count[entry.pool, entry.prefix.family] += 1
        join(self.routes[entry.prefix.family], entry.prefix)

    def at_cap(self, pool: Pool, family: Family) -> bool:
        """maxBlocksPerNode counts draining blocks too."""
        limit = pool.scaling.max_blocks_per_node
        return self.total >= MAX_NODE_BLOCKS or (limit is not None and self._count[pool.name, family] >= limit)


class Growth:
    """One round's growth: the free blocks, shared by all nodes of the round."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._occupied: Occupied | None = None
        self._vacancies: dict[tuple[str, Family], Vacancy] = {}
        self._holdings: dict[str, Holding] = {}
        self._classes: dict[tuple[str, Family], list[NodeClass]] = {}
        self.scarce: set[tuple[str, Family]] = set()
        """Pools that had no block for a pending pod."""

    def can_grow(self, draft: Draft, pool: Pool) -> bool:
        """Whether the node could get room of the pool, in every family. (None is claimed while growth is only weighed.)"""
        return all(self.obstacle(draft, pool, family) is None for family in draft.needed(pool, draft.scarcest(pool)))

    def obstacle(self, draft: Draft, pool: Pool, family: Family) -> str | None:
        """Why the node could not get one more block of the pool, in words; None: it could."""
        if any(entry.pool == pool.name and entry.prefix.family is family for entry in draft.spare):
            return None
        if self._snapshot.held:
            return f"nothing is claimed now: {self._snapshot.held}"
        if self._holding(draft).at_cap(pool, family):
            return f"the node holds as many blocks as it may (maxBlocksPerNode, or {MAX_NODE_BLOCKS} of all pools)"
        if not pool.usable:
            return f"pool {pool.name} gives no new blocks"
        return None if self._vacancy(pool, family).best(()) else f"no block of pool {pool.name} is free"

    def grow(self, groups: Iterable[NodeClass]) -> None:
        """Un-drain and claim: first for what is used and waited for, then for headroom and minimum blocks."""
        groups = list(groups)
        for group in groups:
            self._classes.setdefault((group.key.node, group.key.family), []).append(group)
        self._round_robin(groups, pending=True)
        self._round_robin(groups, pending=False)

    def _round_robin(self, groups: list[NodeClass], *, pending: bool) -> None:
        queue = [(g.capacity, g.key, g) for g in groups if _is_short(g, pending=pending)]
        heapq.heapify(queue)
        while queue:
            capacity, key, group = heapq.heappop(queue)
            if not _is_short(group, pending=pending):
                continue
            # Another class of the node may have claimed what this one has too: then it stands further back.
            if capacity < group.capacity or self._take_one(group, pending=pending):
                heapq.heappush(queue, (group.capacity, key, group))

    def _take_one(self, group: NodeClass, *, pending: bool) -> bool:
        """One more block for the class; False when there is none."""
        draft, aims = group.draft, _aims(group, group.need if pending else group.target)
        useful = [(pool, family) for pool, family in aims if self._is_useful(draft, pool, family, pending=pending)]
        if spare := _spare(useful, draft):
            pool = self._snapshot.pools[spare.pool]
            draft.actions.append(Undrain(draft.name, _why(group), spare.prefix, pool.generation))
            draft.leaving.pop(spare.prefix, None)
            draft.spare.remove(spare)
            self._keep(draft, spare._replace(draining=False), pool)
        elif useful:
            self._claim(group, *_paired_first(useful, draft))
        elif pending and not self._snapshot.held:
            tried = [*aims, *((pool, draft.scarcest(pool)) for pool in group.instead)]
            self._note_scarcity(tried, draft)
            draft.unserved[group.key] = "; ".join(self._obstacle(pool, draft, draft.needed(pool, family)) for pool, family in tried)
        return bool(useful)

    def _is_useful(self, draft: Draft, pool: Pool, family: Family, *, pending: bool) -> bool:
        """Whether the node can have a block of the family, and of every other one without which it would give no room."""
        needed = draft.needed(pool, family)
        return all((pending or (pool.name, f) not in self.scarce) and self.obstacle(draft, pool, f) is None for f in needed)

    def _claim(self, group: NodeClass, pool: Pool, family: Family) -> None:
        draft, vacancy = group.draft, self._vacancy(pool, family)
        block = vacancy.best(self._holding(draft).routes[family])
        assert block, "it is useful, so one is free"
        vacancy.take(block)
        draft.actions.append(Claim(draft.name, _why(group), block, pool.name, pool.uid, pool.generation))
        entry = Entry(block, pool.name, pool.uid, pool.generation)
        self._holding(draft).add(entry)
        self._keep(draft, entry, pool)

    def _obstacle(self, pool: Pool, draft: Draft, needed: Collection[Family]) -> str:
        """Why the node gets no block of the pool, and what to do."""
        holding, limit = self._holding(draft), pool.scaling.max_blocks_per_node
        if holding.total >= MAX_NODE_BLOCKS:
            return f"the node lists {MAX_NODE_BLOCKS} blocks, more are not possible: use a pool of larger blocks"
        if any(holding.at_cap(pool, family) for family in needed):
            return f"pool {pool.name}: the node holds as many blocks as maxBlocksPerNode {limit} allows: raise it"
        if not pool.usable:
            return f"pool {pool.name} is invalid: see its condition Accepted"
        short = [str(family) for family in needed if self._vacancy(pool, family).best(()) is None]
        if reserved := [str(family) for family in needed if not self._vacancy(pool, family).usable]:
            return f"pool {pool.name}: all of its {' and '.join(reserved)} addresses are reserved: reserve less of it, or append a CIDR"
        return f"pool {pool.name}: no {' and no '.join(short)} block is free: append a CIDR to the pool"

    def _note_scarcity(self, tried: Iterable[tuple[Pool, Family]], draft: Draft) -> None:
        """Pools whose blocks would serve the pod if one were free (nodes at their cap and disabled pools wait in vain)."""
        for pool, family in tried:
            for each in draft.needed(pool, family) if pool.usable else ():
                if not self._holding(draft).at_cap(pool, each) and self.obstacle(draft, pool, each) is not None:
                    self.scarce.add((pool.name, each))

    def _keep(self, draft: Draft, entry: Entry, pool: Pool) -> None:
        """The block is the node's: every class that may use it has it, so that two never claim for one need."""
        draft.keep.append(entry)
        report = draft.nodecidr.known if draft.nodecidr else None
        add_free(draft, entry, pool, report)
        for group in self._classes.get((draft.name, entry.prefix.family), ()):
            if any(pool.name == entry.pool for pool in group.pools):
                add_entry(group, entry, pool, report)
                group.grew = True

    def _holding(self, draft: Draft) -> Holding:
        if draft.name not in self._holdings:
            self._holdings[draft.name] = Holding(draft.held)
        return self._holdings[draft.name]

    def _vacancy(self, pool: Pool, family: Family) -> Vacancy:
        """Made when first asked for: a settled round never looks at free blocks."""
        key = (pool.name, family)
        if key not in self._vacancies:
            self._occupied = self._occupied or Occupied(self._snapshot)
            self._vacancies[key] = Vacancy(pool, family, self._occupied)
        return self._vacancies[key]


def _is_short(group: NodeClass, *, pending: bool) -> bool:
    if pending:
        return group.pending > 0 and group.capacity < group.need
    return group.capacity < group.target or len(group.keep) < group.min_blocks


def _aims(group: NodeClass, wanted: int) -> list[tuple[Pool, Family]]:
    """Where a block could be had, and of which family: where addresses would do but other families lack, of those."""
    if group.addresses >= wanted > group.capacity:
        return [(pool, group.draft.scarcest(pool)) for pool in group.listed]
    return [(pool, group.key.family) for pool in group.pools]


def _paired_first(useful: list[tuple[Pool, Family]], draft: Draft) -> tuple[Pool, Family]:
    """The first; but before the node begins with a pool of several families, it completes one."""
    first, _ = useful[0]
    if len(first.spaces) > 1 and not any((first.name, family) in draft.free for family in first.spaces):
        return next(((p, f) for p, f in useful if draft.unpaired(p) and (p.name, f) not in draft.free), useful[0])
    return useful[0]


def _spare(useful: Iterable[tuple[Pool, Family]], draft: Draft) -> Entry | None:
    """A draining block that need not go: one still in use before an empty one, then the lowest."""
    wanted = {(pool.name, family) for pool, family in useful}
    spares = [entry for entry in draft.spare if (entry.pool, entry.prefix.family) in wanted]
    return min(spares, key=lambda entry: (entry.prefix in draft.leaving, entry.prefix), default=None)


def _why(group: NodeClass) -> str:
    pools = "the automatic pools" if group.key.pools == AUTOMATIC else f"pool {group.key.pools}"
    if group.capacity >= group.target:
        return f"{pools}: a node holds at least {group.min_blocks} {'block' if group.min_blocks == 1 else 'blocks'}"
    lack = f" of {group.addresses}, for other families are short" if group.addresses > group.capacity else ""
    return (
        f"{pools}: {group.used} in use, {group.cooling} cooling, {group.pending} pending; "
        f"target {group.target}, capacity {group.capacity}{lack} ({group.key.family})"
    )
