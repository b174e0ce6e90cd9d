"""Free blocks of a pool, and which of them a node should get."""

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterator

from .model import Pool, Snapshot
from .prefix import BITS, Family, Prefix, buddy, parent
from .reserved import Interval, Intervals

MERGE_BLOCKS = 8
"""How large a gap beside a node's route is looked at, in blocks: routes merge mostly at the small end."""


class Occupied:
    """All addresses that some block has: the ledger, the lists of nodes, what they report. Sorted once a round."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._among = Among(_taken(snapshot))
        owners: dict[Prefix, set[str]] = {}
        for pool in snapshot.pools.values():
            for space in pool.spaces.values():
                for cidr in pool.accepted.intersection(space.cidrs):
                    owners.setdefault(cidr, set()).add(pool.name)
        self._owners, self._accepted = owners, Among(owners)

    def inside(self, cidr: Prefix, pool: str) -> Iterator[Prefix]:
        """What lies inside the pool's CIDR, and what holds it; of accepted CIDRs those of other pools.

        Those are none, unless two leaders accepted at once: then nothing of either may enter.
        """
        yield from self._among.around(cidr)
        for other in self._accepted.around(cidr):
            if self._owners[other] != {pool}:
                yield other


def _taken(snapshot: Snapshot) -> set[Prefix]:
    taken = {block.prefix for block in snapshot.blocks.values()}
    for nodecidr in snapshot.nodecidrs.values():
        taken.update(entry.prefix for entry in nodecidr.entries)
        if nodecidr.known:
            taken.update(prefix for prefix, usage in nodecidr.known.blocks.items() if usage.in_use or usage.cooling)
    for node in snapshot.nodes.values():  # a pool should be unused space; where it is not, nothing is handed out
        taken.update(node.addresses)
    taken.update(snapshot.services)
    return taken


class Among:
    """Prefixes, sorted, to be asked which of them touch another."""

    def __init__(self, prefixes: Collection[Prefix]) -> None:
        self._sorted, self._all = sorted(prefixes), frozenset(prefixes)
        self._lengths = {family: sorted({p.length for p in prefixes if p.family is family}) for family in Family}

    def around(self, cidr: Prefix) -> Iterator[Prefix]:
        """What lies inside the CIDR, and what holds it."""
        start = bisect_left(self._sorted, Prefix(cidr.family, cidr.address, 0))
        stop = bisect_right(self._sorted, Prefix(cidr.family, cidr.last, BITS[cidr.family] + 1))
        yield from self._sorted[start:stop]
        for length in self._lengths[cidr.family]:
            wider = Prefix(cidr.family, cidr.address >> (BITS[cidr.family] - length) << (BITS[cidr.family] - length), length)
            if wider.address != cidr.address and wider in self._all:  # what begins where the CIDR does is in the slice
                yield wider


class Vacancy:
    """The free blocks of one pool and family. Taking a block is remembered, so one round never gives it twice."""

    def __init__(self, pool: Pool, family: Family, occupied: Occupied) -> None:
        space = pool.spaces[family]
        self.pool, self.length = pool, space.block_length
        self._cidrs = [cidr for cidr in space.cidrs if cidr in pool.accepted] if pool.usable else []
        self._size = 1 << (BITS[family] - space.block_length)
        self._family = family
        self._taken: set[int] = set()
        foreign: list[Interval] = []
        for cidr in self._cidrs:
            for prefix in occupied.inside(cidr, pool.name):
                if prefix.length == self.length:
                    self._taken.add(prefix.address)
                else:
                    foreign.append(Interval(prefix.address, prefix.last))
        self._foreign = Intervals(foreign)  # blocks of another length, use outside blocks: bar whatever they reach into
        self._barred = Intervals([*foreign, *pool.reserved.get(family, Intervals())])
        self._low = [cidr.address for cidr in self._cidrs]  # below these nothing is free
        self._low_pairs = [cidr.address for cidr in self._cidrs]  # below these no pair is free

    @property
    def usable(self) -> bool:
        """Whether the pool has an address for pods at all, given away or not. (Without an accepted CIDR that is not what is wrong.)"""
        reserved = self.pool.reserved.get(self._family, Intervals())
        return not self._cidrs or any(reserved.count_within(cidr) < cidr.size for cidr in self._cidrs)

    def best(self, routes: Collection[Prefix]) -> Prefix | None:
        """The free block that merges best with the node's routes (those of its family): fewest of them. None: nothing is free."""
        return self._merging(routes) or self._beside(routes) or self._first(pairs=True) or self._first(pairs=False)

    def take(self, prefix: Prefix) -> None:
        """The block is given away in this round."""
        self._taken.add(prefix.address)

    def is_free(self, prefix: Prefix) -> bool:
        """Whether the block is of this pool, nobody's, and has an address for pods."""
        if prefix.address in self._taken or not any(cidr.holds(prefix) for cidr in self._cidrs):
            return False
        return not any(self._foreign.within(prefix)) and self.pool.addresses(prefix) > 0

    def _merging(self, routes: Collection[Prefix]) -> Prefix | None:
        """A free block whose buddy the node holds; of several the one that merges furthest, then the lowest."""
        candidates = [buddy(route) for route in routes if route.length == self.length and route.length]
        free = [block for block in candidates if self.is_free(block)]
        return min(free, key=lambda block: (-_merges(block, routes), block.address), default=None)

    def _beside(self, routes: Collection[Prefix]) -> Prefix | None:
        """The lowest block of a gap that the node could fill alone until it merges."""
        for route in sorted(routes, key=lambda r: (-r.length, r.address)):
            gap = buddy(route)
            if route.length and 1 < gap.size // self._size <= MERGE_BLOCKS:
                blocks = [Prefix(self._family, a, self.length) for a in range(gap.address, gap.last + 1, self._size)]
                if all(self.is_free(block) for block in blocks):
                    return blocks[0]
        return None

    def _first(self, *, pairs: bool) -> Prefix | None:
        """The lowest free block; of pairs, the lowest whose buddy is free too, which leaves the node room to merge."""
        low = self._low_pairs if pairs else self._low
        for index, cidr in enumerate(self._cidrs):
            address = low[index]
            while address <= cidr.last:
                if address in self._taken:
                    address += self._size
                    continue
                block = Prefix(self._family, address, self.length)
                if self.is_free(block) and (not pairs or self.is_free(buddy(block))):
                    low[index] = address
                    return block
                ahead = self._barred.end_of(block)
                address = address + self._size if ahead is None else (ahead + 1) // self._size * self._size
                address = max(address, block.address + self._size)
            low[index] = address
        return None


def _merges(block: Prefix, routes: Collection[Prefix]) -> int:
    """How many routes vanish when the block joins them."""
    count = 0
    while block.length and buddy(block) in routes:
        block, count = parent(block), count + 1
    return count
