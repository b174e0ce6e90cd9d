"""Counts of a pool: what IPPool.status, metrics and the CLI show. Saturate at 2^53 − 1, the largest integer JSON keeps exact."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from .barred import Bar, bars
from .model import Block, Gateway, NodeCIDR, Pool, ends
from .prefix import Family, Prefix

LARGEST = 2**53 - 1


@dataclass(slots=True)
class PoolUsage:
    """Blocks and addresses of one pool and family."""

    capacity: int = 0
    reserved: int = 0
    blocks_total: int = 0
    blocks_reserved: int = 0
    """Blocks without a usable address: never claimed."""
    blocks_claimed: int = 0
    blocks_quarantined: int = 0
    in_use: int = 0
    cooling: int = 0
    blocks_outside: int = 0
    addresses_outside: int = 0
    """Orphans, of CIDRs that were removed: counted in the fields above too, but no part of the capacity."""
    blocks_barred: int = 0
    """Blocks with an address for pods, over which blocks of others lie: not claimed before those have gone."""
    barred_by: Mapping[Bar, int] = field(default_factory=dict)
    """Whose they are, and how many."""

    @property
    def blocks_free(self) -> int:
        """Blocks that can be claimed."""
        taken = self.blocks_claimed + self.blocks_quarantined - self.blocks_outside
        return max(0, self.blocks_total - self.blocks_reserved - self.blocks_barred - taken)

    @property
    def free(self) -> int:
        """Addresses neither in use nor cooling, on nodes or not."""
        return max(0, self.capacity - self._taken)

    @property
    def utilization_percent(self) -> int:
        """In use and cooling of the capacity, rounded up: 100 only when the last address is taken."""
        if not self.capacity:
            return 0
        return min(99 if self._taken < self.capacity else 100, -(-self._taken * 100 // self.capacity))

    @property
    def _taken(self) -> int:
        return self.in_use + self.cooling - self.addresses_outside

    @property
    def claimed_percent(self) -> int:
        """Blocks not free, of all."""
        return 0 if not self.blocks_total else (self.blocks_total - self.blocks_free) * 100 // self.blocks_total


def usages(
    pools: Mapping[str, Pool], nodecidrs: Mapping[str, NodeCIDR], blocks: Mapping[str, Block]
) -> dict[tuple[str, Family], PoolUsage]:
    """For every pool and family of it. Blocks of a pool that is gone are in none."""
    found = {(pool.name, family): _space(pool, family) for pool in pools.values() for family in pool.spaces}
    strangers = []
    for block in blocks.values():
        pool = pools.get(block.pool)
        is_own = pool is not None and pool.uid == block.pool_uid
        is_outside = not (pool and is_own and pool.accepts(block.prefix))
        if is_outside:
            strangers.append(block)
        if is_own and (usage := found.get((block.pool, block.prefix.family))):
            usage.blocks_quarantined += block.quarantined
            usage.blocks_claimed += not block.quarantined
            usage.blocks_outside += is_outside
    for key, own in bars(pools, strangers).items():
        pool, usage = pools[key[0]], found[key]
        usage.barred_by = own.owners
        usage.blocks_barred = sum(_blocks_usable(pool, piece) for piece in own.disjoint())
    for nodecidr in nodecidrs.values():
        reported = nodecidr.known.blocks if nodecidr.known else {}
        for entry in nodecidr.entries:
            usage, pool = found.get((entry.pool, entry.prefix.family)), pools.get(entry.pool)
            counted = reported.get(entry.prefix)
            if usage and pool and pool.uid == entry.pool_uid and counted:
                usage.in_use += counted.in_use
                usage.cooling += counted.cooling
                usage.addresses_outside += 0 if pool.accepts(entry.prefix) else counted.in_use + counted.cooling
    return found


def _space(pool: Pool, family: Family) -> PoolUsage:
    space = pool.spaces[family]
    usage = PoolUsage()
    for cidr in space.cidrs:
        if cidr in pool.accepted and cidr.length <= space.block_length:
            reserved = _reserved(pool, cidr, space.block_length)
            usage.blocks_total += 1 << (space.block_length - cidr.length)
            usage.blocks_reserved += _blocks_reserved(pool, cidr, space.block_length)
            usage.reserved += reserved
            usage.capacity += cidr.size - reserved
    return usage


def _reserved(pool: Pool, cidr: Prefix, length: int) -> int:
    """Addresses without use. By arithmetic: a pool may have more blocks than one can look at."""
    own = list(pool.reserved[cidr.family].within(cidr)) if cidr.family in pool.reserved else []
    block = Prefix(cidr.family, cidr.address, length)
    offsets = _end_offsets(pool, block)
    block_ends = len(offsets) * (cidr.size // block.size)
    both = sum(_count(first, last, offset, block) for first, last in own for offset in offsets)
    return sum(last - first + 1 for first, last in own) + block_ends - both


def _end_offsets(pool: Pool, block: Prefix) -> list[int]:
    """In gateway mode `Block` every block loses its own ends; here as offsets within it."""
    if pool.gateway is not Gateway.BLOCK:
        return []
    return [a - block.address for low, high in ends(block, gateway=True) for a in range(low, high + 1)]


def _count(first: int, last: int, offset: int, block: Prefix) -> int:
    """How many addresses from first to last stand at this offset within their block."""
    start = block.address + offset
    return (last - start) // block.size - (first - 1 - start) // block.size


def _blocks_usable(pool: Pool, piece: Prefix) -> int:
    length = pool.spaces[piece.family].block_length
    return (1 << (length - piece.length)) - _blocks_reserved(pool, piece, length)


def _blocks_reserved(pool: Pool, cidr: Prefix, length: int) -> int:
    """Blocks of the CIDR whose every address is reserved, or an end of the block."""
    block = Prefix(cidr.family, cidr.address, length)
    offsets = _end_offsets(pool, block)
    usable = [offset for offset in (0, 1, 2, block.size - 1) if offset < block.size and offset not in offsets]
    if not usable:
        return cidr.size // block.size
    low, high = usable[0], block.size - 1 if block.size - 1 not in offsets else block.size - 2
    spare_low, spare_high = low, block.size - 1 - high
    found = 0
    for first, last in pool.reserved[cidr.family].within(cidr) if cidr.family in pool.reserved else ():
        begin = -(-(first - spare_low - cidr.address) // block.size)
        end = (last + spare_high + 1 - cidr.address) // block.size
        found += max(0, end - begin)
    return found


def saturated(number: int) -> int:
    """The number, or the largest that JSON keeps exact."""
    return min(number, LARGEST)
