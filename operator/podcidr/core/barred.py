"""Blocks of a pool's space that can't be claimed because others lie there: of a pool that is gone, or of a CIDR that moved."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from .model import Block, Pool
from .prefix import BITS, Family, Prefix
from .vacancy import Among


class Bar(NamedTuple):
    """Whose blocks they are. `gone`: there is no such pool any more, else it has lost the CIDR."""

    pool: str
    pool_uid: str
    gone: bool


@dataclass(slots=True)
class Bars:
    """What bars the space of one pool and family."""

    pieces: set[Prefix] = field(default_factory=set)
    """Of the pool's own geometry: whole blocks, or several."""
    owners: Counter[Bar] = field(default_factory=Counter)
    """How many of their blocks lie there."""

    def disjoint(self) -> Iterator[Prefix]:
        """The pieces, none inside another. Sorted, a piece comes after those around it."""
        widest: Prefix | None = None
        for piece in sorted(self.pieces):
            if widest is None or not widest.holds(piece):
                widest = piece
                yield piece


def bars(pools: Mapping[str, Pool], strangers: Sequence[Block]) -> dict[tuple[str, Family], Bars]:
    """By pool and family: what blocks bar that are in no accepted CIDR of a pool of their own.

    The ledger tells all: blocks that nodes list without a row of it are adopted within a round.
    """
    if not strangers:
        return {}
    spaces: dict[Prefix, list[Pool]] = {}
    for pool in pools.values():
        for space in pool.spaces.values():
            for cidr in space.cidrs:
                if cidr in pool.accepted and cidr.length <= space.block_length:
                    spaces.setdefault(cidr, []).append(pool)
    among, found = Among(spaces), dict[tuple[str, Family], Bars]()
    for block in strangers:
        for cidr in among.around(block.prefix):
            for pool in spaces[cidr]:
                own = found.setdefault((pool.name, cidr.family), Bars())
                own.pieces.add(_piece(block.prefix, cidr, pool.spaces[cidr.family].block_length))
                own.owners[_owner(pools, block)] += 1
    return found


def _owner(pools: Mapping[str, Pool], block: Block) -> Bar:
    pool = pools.get(block.pool)
    return Bar(block.pool, block.pool_uid, pool is None or pool.uid != block.pool_uid)


def _piece(block: Prefix, cidr: Prefix, length: int) -> Prefix:
    """What the block takes of the CIDR, in blocks of the CIDR's pool."""
    if block.holds(cidr):
        return cidr
    length = min(length, block.length)
    bits = BITS[block.family] - length
    return Prefix(block.family, block.address >> bits << bits, length)
