"""Which CIDRs of which pools may be used: first come, CIDR by CIDR, whatever the pools' ages.

A CIDR once accepted stays so while the spec has it, so that adding a pool never takes space from one in use.
"""

from bisect import bisect_left, insort
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain, takewhile

from .actions import Claim
from .model import Pool
from .prefix import BITS, Prefix, block_name


@dataclass(frozen=True, slots=True)
class Refusal:
    """A CIDR that is not used because it overlaps an accepted one."""

    cidr: Prefix
    by: Prefix
    pool: str

    def __str__(self) -> str:
        return f"CIDR {self.cidr} overlaps {self.by} of IPPool {self.pool}; remove it here or there"


@dataclass(frozen=True, slots=True)
class Acceptance:
    """For each pool the CIDRs that may be used and those refused."""

    accepted: Mapping[str, tuple[Prefix, ...]]
    refused: Mapping[str, tuple[Refusal, ...]]
    waiting: Mapping[str, tuple[Prefix, ...]]
    """New ones, put off until nodes have told what they use of them."""


class Owners:
    """Prefixes and whose they are (CIDRs of pools, blocks of the ledger): sorted, for thousands are compared with each other."""

    def __init__(self, owners: Mapping[Prefix, str] | None = None) -> None:
        self._owners: dict[Prefix, str] = dict(owners or {})
        self._sorted: list[Prefix] = sorted(self._owners)

    def add(self, cidr: Prefix, owner: str) -> None:
        """It is the owner's."""
        self._owners[cidr] = owner
        insort(self._sorted, cidr)

    def rival(self, cidr: Prefix, owner: str) -> Refusal | None:
        """What of another owner holds it or lies inside it."""
        bits = BITS[cidr.family] - cidr.length
        around = [Prefix(cidr.family, cidr.address >> bits + up << bits + up, cidr.length - up) for up in range(cidr.length + 1)]
        inside = (self._sorted[index] for index in range(bisect_left(self._sorted, cidr), len(self._sorted)))
        for other in chain(reversed(around), takewhile(cidr.holds, inside)):
            if self._owners.get(other, owner) != owner:
                return Refusal(cidr, other, self._owners[other])
        return None

    def of(self, pool: Pool) -> tuple[Prefix, ...]:
        """The pool's, in the order of its spec."""
        return tuple(cidr for cidr in _cidrs(pool) if self._owners.get(cidr) == pool.name)


def accept(pools: Mapping[str, Pool], *, import_pending: bool) -> Acceptance:
    """Keep what is accepted, then take new CIDRs in the order of the pools' creation."""
    kept = Owners()
    by_age = sorted(pools.values(), key=lambda pool: (pool.created, pool.name))
    for pool in by_age:
        for cidr in _cidrs(pool):
            # Of two accepted ones that overlap (two leaders accepted at once) the older pool's stays.
            if cidr in pool.accepted and kept.rival(cidr, pool.name) is None:
                kept.add(cidr, pool.name)
    refused: dict[str, list[Refusal]] = {name: [] for name in pools}
    waiting: dict[str, list[Prefix]] = {name: [] for name in pools}
    for pool in by_age:
        held = set(kept.of(pool))
        for cidr in _cidrs(pool):
            if cidr in held:
                continue
            if rival := kept.rival(cidr, pool.name):
                refused[pool.name].append(rival)
            elif import_pending and not (pool.invalid or pool.deleting):
                waiting[pool.name].append(cidr)
            elif not (pool.invalid or pool.deleting):
                kept.add(cidr, pool.name)
    return Acceptance(
        accepted={name: kept.of(pool) for name, pool in pools.items()},
        refused={name: tuple(found) for name, found in refused.items()},
        waiting={name: tuple(found) for name, found in waiting.items()},
    )


def _cidrs(pool: Pool) -> list[Prefix]:
    return [cidr for space in pool.spaces.values() for cidr in space.cidrs]


def may_enter(pools: Mapping[str, Pool], claim: Claim, ledger: Owners | None) -> str | None:
    """Why a block created by a claim must not enter, judged by pools read after its creation; None: it may (geometry rule).

    Blocks of two lengths have no name in common that would be a lock. So other pools are looked at too: two leaders may have
    accepted one space twice (each accepts, creates, then reads: one of them sees the other). `ledger`: the blocks as listed after
    that read, if the pools are not those the ledger was listed for before: others may have had blocks over the space since.
    """
    pool = pools.get(claim.pool)
    if pool is None or pool.uid != claim.pool_uid:
        return f"pool {claim.pool} is gone"
    if pool.deleting or pool.generation != claim.pool_generation:
        return f"pool {claim.pool} has changed since (generation {claim.pool_generation}, now {pool.generation})"
    if not pool.accepts(claim.prefix):
        return f"pool {claim.pool} has no accepted CIDR that holds {claim.prefix}"
    for other in pools.values():
        if other.name != pool.name and any(cidr.overlaps(claim.prefix) for cidr in other.accepted & frozenset(_cidrs(other))):
            return f"pool {other.name} has an accepted CIDR over {claim.prefix} too"
    rival = ledger.rival(claim.prefix, block_name(claim.prefix)) if ledger else None
    return f"block {rival.by} over {claim.prefix} has come into the ledger meanwhile" if rival else None
