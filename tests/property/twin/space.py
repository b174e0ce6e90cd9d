"""The golden twin's allocator: which blocks are free, and which of them a node should get. It tries every one."""

from collections.abc import Collection, Iterable
from ipaddress import collapse_addresses, ip_network
from typing import Any

from podcidr.core.model import Gateway, Pool
from podcidr.core.prefix import Family, Prefix


def span(p: Prefix) -> range:
    return range(p.address, p.address + 2 ** ((32 if p.family == "ipv4" else 128) - p.length))


def touch(one: Prefix, other: Prefix) -> bool:
    return one.family == other.family and one.address <= span(other)[-1] and other.address <= span(one)[-1]


def owns(pool: Pool, p: Prefix) -> bool:
    """Whether it is one of the pool's blocks."""
    space = pool.spaces.get(p.family)
    cidrs = [c for c in space.cidrs if c in pool.accepted] if space and space.block_length == p.length else []
    return any(touch(c, p) and c.length <= p.length for c in cidrs)


def addresses(pool: Pool, block: Prefix) -> int:
    """Those that pods can have."""
    ends = [*span(block)[:2], *(span(block)[-1:] if block.family == "ipv4" else ())] if len(span(block)) > 2 else [block.address]
    barred = ends if pool.gateway is Gateway.BLOCK else []
    return sum(a not in barred and not any(x <= a <= y for x, y in pool.reserved.get(block.family, ())) for a in span(block))


def routes(prefixes: Iterable[Prefix], family: Family) -> list[Prefix]:
    """The fewest that have the same addresses."""
    every: list[Any] = [ip_network((p.address, p.length)) for p in prefixes if p.family is family]
    nets: list[Any] = list(collapse_addresses(every))
    return [Prefix(family, int(net.network_address), net.prefixlen) for net in nets]


def other_half(p: Prefix) -> Prefix:
    size = len(span(p))
    return Prefix(p.family, p.address + (size if p.address // size % 2 == 0 else -size), p.length)


def best(pool: Pool, family: Family, held: Iterable[Prefix], taken: Collection[Prefix]) -> Prefix | None:
    """The free block with which routes are fewest; else beside one, in a small free gap; else one whose other half is free."""
    space, mine = pool.spaces[family], routes(held, family)
    step = 2 ** ((32 if family == "ipv4" else 128) - space.block_length)
    every = [Prefix(family, a, space.block_length) for c in space.cidrs if c in pool.accepted for a in span(c)[::step]]
    free = [p for p in every if pool.usable and owns(pool, p) and addresses(pool, p) and not any(touch(p, q) for q in taken)]
    small = [other_half(r) for r in sorted(mine, key=lambda r: (-r.length, r.address)) if r.length and 2 * step <= len(span(r)) <= 8 * step]
    gaps = [gap.address for gap in small if {a for p in free for a in span(p)}.issuperset(span(gap))]

    def rank(p: Prefix) -> tuple[Any, ...]:
        count = len(routes([*mine, p], family))
        if count <= len(mine):
            return count, p.address
        return count, gaps.index(p.address) if p.address in gaps else len(gaps), other_half(p) not in free, every.index(p)

    return min(free, key=rank, default=None)
