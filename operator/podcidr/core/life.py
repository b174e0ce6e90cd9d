"""The life of blocks that exist: what must drain, may leave, is adopted, is freed.

    Free → Claimed → listed Active → Draining → reported empty at this epoch → off the list → Quarantined → Free
                          ↑____________|  un-drained while it need not go

A crash between any two steps leaves a state that stands in one of the cases below; the rule is *unknown means used*.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from .actions import Action, Adopt, CreateNodeCIDR, DeleteNodeCIDR, Drain, Free, Leave, RaiseEpoch, SetPools
from .model import IDLE, Block, Entry, Key, Node, NodeCIDR, Pool, Snapshot
from .prefix import Family, Prefix, block_name

DEFAULT_QUARANTINE_SECONDS = 300.0
"""For a block whose pool is gone."""


@dataclass(slots=True)
class Draft:
    """One node within a round: what it has, what the round does to it."""

    name: str
    node: Node | None
    nodecidr: NodeCIDR | None
    pools: tuple[Pool, ...]
    """Automatic pools that serve the node, in order."""
    keep: list[Entry] = field(default_factory=list)
    """Active entries that may stay."""
    spare: list[Entry] = field(default_factory=list)
    """Draining entries that need not go: growth takes them back first."""
    adopted: list[Entry] = field(default_factory=list)
    """What this round adopts and need not go."""
    leaving: dict[Prefix, str] = field(default_factory=dict)
    """Entries that may leave now, and why."""
    actions: list[Action] = field(default_factory=list)
    free: dict[tuple[str, Family], int] = field(default_factory=dict)
    """By pool and family: addresses of its Active blocks that are neither in use nor cooling."""
    unserved: dict[Key, str] = field(default_factory=dict)
    """Pods that wait and why no block can be had for them, with the remedy."""
    still: bool = False
    """Its NodeCIDR can't be written: nothing is planned for it, for a block claimed in vain would be nobody's."""

    @property
    def held(self) -> list[Entry]:
        """All that it lists or adopts, Draining blocks too."""
        listed = self.nodecidr.entries if self.nodecidr else ()
        return [*listed, *(entry for entry in self.adopted if entry not in listed)]

    def room(self, pool: Pool) -> int:
        """Pods that the pool has addresses for: each takes one of every family that the pool serves, or none."""
        return max(0, min(self.free.get((pool.name, family), 0) for family in pool.spaces))

    def scarcest(self, pool: Pool) -> Family:
        """The pool's family of which the node has fewest free addresses: it bounds the room."""
        return min(sorted(pool.spaces), key=lambda family: self.free.get((pool.name, family), 0))

    def needed(self, pool: Pool, family: Family) -> list[Family]:
        """Families of which the node has no more free addresses than of this one: a block of it alone gives no room."""
        free = {other: self.free.get((pool.name, other), 0) for other in sorted(pool.spaces)}
        return [other for other, count in free.items() if count <= free[family]]

    def unpaired(self, pool: Pool) -> bool:
        """Whether it has Active blocks of the pool, but not of every family."""
        held = [family for family in pool.spaces if (pool.name, family) in self.free]
        return 0 < len(held) < len(pool.spaces)


@dataclass(frozen=True, slots=True)
class Scene:
    """What every case below looks at besides the node itself."""

    snapshot: Snapshot
    now: float
    frozen: frozenset[Prefix]
    confirmed: frozenset[Prefix]
    claims: Mapping[str, list[Block]]
    """Claimed blocks by node."""


def live(draft: Draft, scene: Scene) -> None:
    """Sort the node's blocks into keep, spare and leaving; add what must be done whatever the demand."""
    nodecidr = draft.nodecidr
    if draft.still:
        return
    if nodecidr is None:
        draft.actions += _without_nodecidr(draft, scene)
        return
    if draft.node and not nodecidr.deleting and nodecidr.pools != (names := tuple(p.name for p in draft.pools)):
        draft.actions.append(SetPools(draft.name, f"the automatic pools of the node are {', '.join(names) or 'none'}", names))
    if nodecidr.known and nodecidr.overtaken:
        seen = f"the node has seen epoch {nodecidr.known.epoch}, the API has {nodecidr.epoch}"
        reason = f"{seen}: it was restored, so what the list offers drains until all nodes have told"
        draft.actions.append(RaiseEpoch(draft.name, reason))
    for entry in nodecidr.entries:
        _listed(draft, nodecidr, entry, scene)
    _unlisted(draft, nodecidr, scene)
    if (draft.node is None or nodecidr.deleting) and _is_bare(draft, nodecidr, scene):
        reason = "the node is gone and its last block has left" if draft.node is None else "it is being deleted and lists no block"
        draft.actions.append(DeleteNodeCIDR(draft.name, reason))


def _is_bare(draft: Draft, nodecidr: NodeCIDR, scene: Scene) -> bool:
    """Nothing listed, claimed, adopted or used: the report is all we know of addresses outside the list, so it goes last."""
    if nodecidr.entries or scene.claims.get(draft.name) or any(isinstance(action, Adopt) for action in draft.actions):
        return False
    return not _used(nodecidr) or is_lost(draft, scene)


def _used(nodecidr: NodeCIDR) -> set[Prefix]:
    """Blocks of which the node reports addresses in use or cooling, at whatever epoch: unknown means used."""
    return {prefix for prefix, usage in nodecidr.known.blocks.items() if any(usage)} if nodecidr.known else set()


def _without_nodecidr(draft: Draft, scene: Scene) -> Iterator[Action]:
    if draft.node:
        yield CreateNodeCIDR(draft.name, "the node has none", tuple(pool.name for pool in draft.pools))
    elif is_lost(draft, scene):
        for block in scene.claims[draft.name]:  # else nobody would know of it
            if block.prefix not in scene.frozen:
                yield Leave(draft.name, "node and NodeCIDR are gone", block.prefix)


def is_lost(draft: Draft, scene: Scene) -> bool:
    """Neither Node nor a change of status seen for so long that no pod can live there."""
    since = scene.snapshot.memory.gone_since.get(draft.name)
    return draft.node is None and since is not None and scene.now - since >= scene.snapshot.lost_node_seconds


def _listed(draft: Draft, nodecidr: NodeCIDR, entry: Entry, scene: Scene) -> None:
    block = scene.snapshot.blocks.get(block_name(entry.prefix))
    if block is None and entry.prefix not in scene.frozen:
        _adopt(draft, nodecidr, entry, scene, "it is listed, but its IPBlock is missing")
        return
    why_go = "two nodes hold it" if entry.prefix in scene.confirmed else must_go(draft, nodecidr, entry, scene)
    if entry.draining:
        if why_empty := _may_leave(draft, nodecidr, entry, scene):
            draft.leaving[entry.prefix] = why_empty
        if not why_go and entry.prefix not in scene.frozen and not scene.snapshot.held:
            draft.spare.append(entry)
    elif why_go:
        draft.actions.append(Drain(draft.name, why_go, entry.prefix))
    else:
        draft.keep.append(entry)


def must_go(draft: Draft, nodecidr: NodeCIDR, entry: Entry, scene: Scene) -> str | None:
    """Why the block has to go whatever the demand, or None."""
    pool = scene.snapshot.pools.get(entry.pool)
    if pool is None or pool.uid != entry.pool_uid:
        return f"pool {entry.pool} is gone"
    if draft.node is None:
        return "the node is gone"
    if nodecidr.deleting:
        return "the NodeCIDR is being deleted"
    if pool.deleting or pool.disabled:
        return f"pool {pool.name} is {'being deleted' if pool.deleting else 'disabled'}"
    if not pool.accepts(entry.prefix):
        return f"pool {pool.name} no longer has its CIDR"
    return None if pool.node_selector.matches(draft.node.labels) else f"pool {pool.name} no longer selects the node"


def _may_leave(draft: Draft, nodecidr: NodeCIDR, entry: Entry, scene: Scene) -> str | None:
    """Only a report of this epoch proves that no address is in use and none can be given any more."""
    if nodecidr.current and not any(nodecidr.current.blocks.get(entry.prefix, IDLE)):
        return "reported empty"
    return "the node is lost" if is_lost(draft, scene) else None


def _unlisted(draft: Draft, nodecidr: NodeCIDR, scene: Scene) -> None:
    """Claims and use outside the list: what a crash, a deletion by hand or a restore left."""
    listed = {entry.prefix for entry in nodecidr.entries}
    used = _used(nodecidr)
    for block in scene.claims.get(draft.name, ()):
        if block.prefix in listed or block.prefix in scene.frozen:
            continue
        if block.nodecidr_uid == nodecidr.uid and block.prefix not in used:
            draft.actions.append(Leave(draft.name, "it is claimed, but no list has it", block.prefix))
        elif draft.node is None and is_lost(draft, scene):
            draft.actions.append(Leave(draft.name, "the node is lost", block.prefix))
        else:
            words = "it is in use" if block.prefix in used else "it was claimed for an earlier NodeCIDR of this name"
            _adopt(draft, nodecidr, _entry_of(block, scene), scene, words)
    for prefix in sorted(used - listed - scene.frozen):
        row = scene.snapshot.blocks.get(block_name(prefix))
        if row is None and (pool := _pool_of(prefix, scene)):
            entry = Entry(prefix, pool.name, pool.uid, pool.generation)
            _adopt(draft, nodecidr, entry, scene, "the node uses it, but the ledger does not have it")
        elif row and row.quarantined and row.node == draft.name and not is_lost(draft, scene):
            _adopt(draft, nodecidr, _entry_of(row, scene), scene, "the node uses it, but it is quarantined")


def _adopt(draft: Draft, nodecidr: NodeCIDR, entry: Entry, scene: Scene, words: str) -> None:
    """Its capacity counts already, for growth may un-drain it next: nothing is claimed in its place."""
    draft.actions.append(Adopt(draft.name, words, entry.prefix, entry.pool, entry.pool_uid, entry.pool_generation))
    if not (entry.draining or must_go(draft, nodecidr, entry, scene)):
        draft.adopted.append(entry)


def _entry_of(block: Block, scene: Scene) -> Entry:
    pool = scene.snapshot.pools.get(block.pool)
    generation = pool.generation if pool and pool.uid == block.pool_uid else 1
    return Entry(block.prefix, block.pool, block.pool_uid, generation)


def _pool_of(prefix: Prefix, scene: Scene) -> Pool | None:
    """The pool by whose geometry the prefix is a block; use outside every pool is left alone (and never claimed)."""
    return next((pool for _, pool in sorted(scene.snapshot.pools.items()) if pool.accepts(prefix)), None)


def free(scene: Scene) -> Iterator[Free]:
    """Quarantined blocks whose rest is over."""
    memory, nodecidrs = scene.snapshot.memory, scene.snapshot.nodecidrs.values()
    resting = [block for _, block in sorted(scene.snapshot.blocks.items()) if block.quarantined]
    if scene.snapshot.held or not resting:
        return
    barred = scene.frozen.union(*map(_used, nodecidrs), (entry.prefix for nodecidr in nodecidrs for entry in nodecidr.entries))
    for block in resting:
        if block.prefix in barred:
            continue
        pool = scene.snapshot.pools.get(block.pool)
        rest = pool.quarantine_seconds if pool else DEFAULT_QUARANTINE_SECONDS
        since = memory.quarantined_since.get(block.uid)
        if block.uid in memory.unused or (since is not None and scene.now - since >= rest):
            words = "it never entered a node's list" if block.uid in memory.unused else f"its quarantine of {rest:g} s is over"
            yield Free(block.node, words, block.prefix, block.uid, block.resource_version)
