"""What must never be: used by the planner (freeze what is concerned), by `check`, by tests and simulation.

Numbers are those of the design's invariants. Here stand those that the API's objects prove by themselves: 2, 3 and 4.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from .model import Block, NodeCIDR, Pool, Snapshot
from .prefix import BITS, Family, Prefix, block_name


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken invariant: which, in words, and the blocks and nodes concerned."""

    invariant: int
    words: str
    prefixes: tuple[Prefix, ...]
    nodes: tuple[str, ...]


def violations(snapshot: Snapshot) -> list[Violation]:
    """All that the objects of the API show, in a stable order."""
    listed = listings(snapshot.nodecidrs.values())
    found = [
        *_listed_twice(listed),
        *_claimed_elsewhere(listed, snapshot.blocks),
        *_used_elsewhere(snapshot, listed),
        *_overlaps({*listed, *(block.prefix for block in snapshot.blocks.values())}, listed, snapshot.blocks),
    ]
    return sorted(found, key=lambda v: (v.invariant, v.prefixes, v.words))


def listings(nodecidrs: Iterable[NodeCIDR]) -> dict[Prefix, list[str]]:
    """For each block in a NodeCIDR.spec, the nodes that list it."""
    listed: dict[Prefix, list[str]] = {}
    for nodecidr in sorted(nodecidrs, key=lambda nodecidr: nodecidr.name):
        for entry in nodecidr.entries:
            listed.setdefault(entry.prefix, []).append(nodecidr.name)
    return listed


def _listed_twice(listed: Mapping[Prefix, list[str]]) -> Iterable[Violation]:
    for prefix, nodes in listed.items():
        if len(nodes) > 1:
            yield Violation(2, f"block {prefix} is listed by nodes {', '.join(sorted(nodes))}", (prefix,), tuple(sorted(nodes)))


def _claimed_elsewhere(listed: Mapping[Prefix, list[str]], blocks: Mapping[str, Block]) -> Iterable[Violation]:
    for prefix, nodes in listed.items():
        block = blocks.get(block_name(prefix))
        if block is None:
            continue
        if block.node not in nodes:
            words = f"block {prefix} is listed by node {nodes[0]}, but IPBlock {block.name} is claimed for node {block.node}"
            yield Violation(2, words, (prefix,), tuple(sorted({*nodes, block.node})))
        elif block.quarantined:
            yield Violation(3, f"block {prefix} is listed by node {nodes[0]}, but quarantined", (prefix,), tuple(nodes))


def _used_elsewhere(snapshot: Snapshot, listed: Mapping[Prefix, list[str]]) -> Iterable[Violation]:
    """A node reports addresses in use of a block that another one lists or has claimed."""
    lengths = {(prefix.family, prefix.length) for prefix in listed}
    for nodecidr in snapshot.nodecidrs.values():
        for prefix, usage in nodecidr.known.blocks.items() if nodecidr.known else ():
            if not usage.in_use or nodecidr.name in listed.get(prefix, ()):
                continue
            for around in (prefix, *_wider(prefix, lengths)):
                if (holders := _holders(around, listed, snapshot.blocks)) and nodecidr.name not in holders:
                    others = ", ".join(sorted(holders))
                    words = f"node {nodecidr.name} has addresses of {prefix} in use, which block {around} of {others} holds"
                    yield Violation(7, words, (around,), tuple(sorted({*holders, nodecidr.name})))


def _wider(prefix: Prefix, lengths: Iterable[tuple[Family, int]]) -> Iterator[Prefix]:
    """Prefixes of these lengths around it: a node names an address of a pool it does not know by itself, as a /32."""
    for family, length in sorted(lengths):
        if family is prefix.family and length < prefix.length:
            shift = BITS[family] - length
            yield Prefix(family, prefix.address >> shift << shift, length)


def _overlaps(prefixes: Iterable[Prefix], listed: Mapping[Prefix, list[str]], blocks: Mapping[str, Block]) -> Iterable[Violation]:
    """Blocks of different lengths over the same addresses, one of them listed. Sorted, a block comes after those around it."""
    around: list[Prefix] = []
    for prefix in sorted(prefixes):
        while around and not around[-1].overlaps(prefix):
            around.pop()
        for wider in around:
            if wider in listed or prefix in listed:  # else both rest: nobody can be given an address of either
                nodes = {node for p in (wider, prefix) for node in _holders(p, listed, blocks)}
                yield Violation(3, f"blocks {wider} and {prefix} overlap", (wider, prefix), tuple(sorted(nodes)))
        around.append(prefix)


def _holders(prefix: Prefix, listed: Mapping[Prefix, list[str]], blocks: Mapping[str, Block]) -> set[str]:
    block = blocks.get(block_name(prefix))
    return {*listed.get(prefix, []), *([block.node] if block else [])}


def outside_pool(pools: Mapping[str, Pool], blocks: Iterable[Block]) -> list[Violation]:
    """Invariant 4: a block outside its pool that is not an orphan in drain; orphans themselves are allowed, and shown."""
    return [
        Violation(4, f"block {block.prefix} names pool {block.pool}, whose CIDRs never had it", (block.prefix,), (block.node,))
        for block in blocks
        if (pool := pools.get(block.pool)) and pool.uid == block.pool_uid and not _could_hold(pool, block.prefix)
    ]


def is_orphan(pools: Mapping[str, Pool], prefix: Prefix, pool_name: str, pool_uid: str) -> bool:
    """A block whose pool or CIDR is gone: kept until empty, never given to another pool."""
    pool = pools.get(pool_name)
    return pool is None or pool.uid != pool_uid or not pool.accepts(prefix)


def _could_hold(pool: Pool, prefix: Prefix) -> bool:
    """Block length is immutable, so a block of another length can't be of this pool; a CIDR may have been removed."""
    space = pool.spaces.get(prefix.family)
    return space is not None and space.block_length == prefix.length
