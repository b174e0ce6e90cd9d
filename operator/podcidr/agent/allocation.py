"""The allocation file's content, from the NodeCIDR and the pools: pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from podcidr.agent.observed import NodeCIDRSeen, PoolSeen
from podcidr.core.model import Gateway, Pool, ends, unusable
from podcidr.core.prefix import BITS, Family, Prefix, address_text
from podcidr.core.reserved import Interval

Document = dict[str, Any]
VERSION = 1


@dataclass(frozen=True, slots=True)
class Allocation:
    """What to publish: the file, the blocks in it with the number of addresses pods can have, and blocks left out, with the reason."""

    document: Document
    room: Mapping[Prefix, int]
    withheld: Mapping[Prefix, str]


def build(node: str, seen: NodeCIDRSeen, pools: Mapping[str, PoolSeen], state_id: str) -> Allocation:
    """The file for this NodeCIDR. Only Active blocks, each with its pool at the generation it was claimed from or later."""
    offered: dict[str, list[Prefix]] = {name: [] for name, pool in sorted(pools.items()) if pool.usable}
    withheld: dict[Prefix, str] = {}
    for entry in seen.entries:
        if entry.draining:
            continue
        pool = pools.get(entry.pool)
        reason = _unfit(entry.prefix, entry.pool_uid, entry.pool_generation, pool)
        if reason:
            withheld[entry.prefix] = f"{entry.prefix} of pool {entry.pool}: {reason}"
        else:
            offered[entry.pool].append(entry.prefix)
    document: Document = {
        "version": VERSION,
        "stateID": state_id,
        "node": node,
        "uid": seen.uid,
        "epoch": seen.epoch,
        **({"question": seen.question} if seen.question else {}),
        "pools": {name: _pool(pools[name], sorted(blocks)) for name, blocks in offered.items()},
        "automatic": [name for name in seen.pools if name in offered],
    }
    room = {block: pools[name].pool.addresses(block) for name, blocks in offered.items() for block in blocks}
    return Allocation(document, room, withheld)


def _unfit(block: Prefix, pool_uid: str, pool_generation: int, pool: PoolSeen | None) -> str | None:
    """Why the block must not be published now: an older view of its pool may miss a reserved address."""
    if pool is None or pool.pool.uid != pool_uid:
        return "the pool it was claimed from is not known here"
    if pool.pool.generation < pool_generation:
        return f"generation {pool_generation} of the pool has not been seen yet, only {pool.pool.generation}"
    if pool.pool.invalid:
        return f"the pool is invalid: {pool.pool.invalid}"
    if not pool.usable:
        return "the pool is disabled or being deleted"
    if _cidr_of(pool.pool, block) is None:
        return "no CIDR of the pool holds it any more"
    return None


def _pool(seen: PoolSeen, blocks: list[Prefix]) -> Document:
    document: Document = {"cooldownSeconds": seen.cooldown_seconds}
    for family in sorted(seen.pool.spaces):
        document[family] = _entries(seen.pool, family, [block for block in blocks if block.family is family])
    return document


def _entries(pool: Pool, family: Family, blocks: list[Prefix]) -> list[Document]:
    """One entry per gateway. Without any block one empty entry stands: it says that the pool serves the family."""
    match pool.gateway:
        case Gateway.POOL:
            cidrs = {cidr: [block for block in blocks if cidr.holds(block)] for cidr in pool.spaces[family].cidrs}
            entries = [_entry(pool, inside, _gateway(cidr), cidr.length) for cidr, inside in cidrs.items() if inside]
        case Gateway.BLOCK:
            entries = [_entry(pool, [block], _gateway(block), block.length) for block in blocks]
        case _:
            entries = [_entry(pool, blocks, None, BITS[family])] if blocks else []
    return entries or [{"prefixLength": BITS[family], "blocks": [], "reserved": []}]


def _entry(pool: Pool, blocks: list[Prefix], gateway: str | None, length: int) -> Document:
    reserved = [interval for block in blocks for interval in unusable(pool, block).within(block)]
    document: Document = {} if gateway is None else {"gateway": gateway}
    return document | {
        "prefixLength": length,
        "blocks": [str(block) for block in blocks],
        "reserved": list(_texts(blocks[0].family, reserved)),
    }


def _gateway(network: Prefix) -> str:
    """Its first address: the one after the network address, but for /31 and /32 (RFC 3021)."""
    return address_text(network.family, ends(network, gateway=True)[0].last)


def _texts(family: Family, intervals: Iterable[Interval]) -> Iterable[str]:
    for first, last in intervals:
        yield address_text(family, first) + (f"-{address_text(family, last)}" if last > first else "")


def _cidr_of(pool: Pool, block: Prefix) -> Prefix | None:
    space = pool.spaces.get(block.family)
    return next((cidr for cidr in space.cidrs if cidr.holds(block)), None) if space else None
