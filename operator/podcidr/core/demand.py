"""What a node needs: use and demand of each class of pools, and the target that follows.

With U in use + cooling (Active blocks), P pending:

    headroom = clamp(burst, minFreeAddresses, maxFreeAddresses)
    target   = max(U + P + headroom, ceil((U + P) / highUtilization)), headroom capped by what the node can still run

Capacity is what pods can have: a pod takes an address of every family that its pool serves, or none. So the addresses of a
family count only as far as the pools have room in their other families too.

An absolute target from demand, never "add a batch": a late or repeated report then changes nothing.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from .life import Draft
from .model import AUTOMATIC, IDLE, Demand, Entry, Key, Node, Pool, Report, Snapshot
from .prefix import Family

CanGrow = Callable[[Draft, Pool], bool]
"""Whether the node could get more room of the pool."""


@dataclass(slots=True)
class NodeClass:
    """One class of pools on one node and family, within a round. Numbers are addresses."""

    key: Key
    pools: tuple[Pool, ...]
    draft: Draft
    listed: tuple[Pool, ...]
    """Pools that its pods may have addresses of, whatever families they serve."""
    max_pods: int | None = None
    """Pods that the node can run beside those on its own network."""
    used: int = 0
    cooling: int = 0
    pending: int = 0
    burst: int = 0
    addresses: int = 0
    """Of its Active blocks, whether pods can have them or not."""
    keep: list[Entry] = field(default_factory=list)
    grew: bool = False
    instead: list[Pool] = field(default_factory=list)
    """Pools that its pods could have addresses of too: all of them are scarce if no block is free."""

    @property
    def need(self) -> int:
        """U + P: what is used, cools down, or is waited for."""
        return self.used + self.cooling + self.pending

    @property
    def paired(self) -> bool:
        """Whether addresses of this family may be of no use without those of another."""
        return any(len(pool.spaces) > 1 for pool in self.listed)

    @property
    def capacity(self) -> int:
        """Addresses that pods have or can have: free ones count as far as the pools have room in all of their families."""
        if not self.paired:
            return self.addresses
        return min(self.addresses, self.used + self.cooling + sum(self.draft.room(pool) for pool in self.listed))

    @property
    def min_blocks(self) -> int:
        """Blocks that the node holds whatever the demand; for pods that name a pool alone there are none."""
        pool = self.pools[0]
        return pool.min_blocks if pool.pinned == (self.key.pools != AUTOMATIC) else 0

    @property
    def target(self) -> int:
        """Addresses the Active blocks should have."""
        if self.min_blocks == 0 and self.need == 0:
            return 0
        if self.shares_blocks:
            return self.need
        scaling = self.pools[0].scaling
        headroom = max(scaling.min_free_addresses, min(self.burst, scaling.max_free_addresses))
        wanted = max(self.need + headroom, -(-self.need * 100 // scaling.high_utilization_percent))
        if self.max_pods is not None:
            wanted = min(wanted, self.max_pods + self.cooling)
        return max(wanted, self.need)

    @property
    def shares_blocks(self) -> bool:
        """Pods that name an automatic pool: they need its addresses, but its blocks belong to the automatic class."""
        return self.key.pools != AUTOMATIC and not self.pools[0].pinned


def classes(draft: Draft, snapshot: Snapshot, can_grow: CanGrow) -> list[NodeClass]:
    """The node's classes: the automatic pools, each pinned pool it holds or waits for, and what pods name by itself."""
    report = draft.nodecidr.known if draft.nodecidr else None
    found: dict[Key, NodeClass] = {}
    for family in Family:
        pools = tuple(pool for pool in draft.pools if family in pool.spaces)
        if pools:
            key = Key(draft.name, AUTOMATIC, family)
            found[key] = NodeClass(key, pools, draft, draft.pools, _max_pods(draft.node, report))
    _add_pinned_floor(draft, snapshot, found, report)
    for entry in (*draft.keep, *draft.adopted):
        add_free(draft, entry, snapshot.pools[entry.pool], report)
        add_entry(_class_of(entry, draft, snapshot, found, report), entry, snapshot.pools[entry.pool], report)
    for entry in draft.spare:
        _class_of(entry, draft, snapshot, found, report)  # growth takes it back, if its class is short
    for demand in report.demand if report else ():
        _add_demand(demand, draft, snapshot, found, report, can_grow)
    return [found[key] for key in sorted(found)]


def _max_pods(node: Node | None, report: Report | None) -> int | None:
    if node is None or node.max_pods is None:
        return None
    return node.max_pods - (report.host_network_pods if report else 0)


def _add_pinned_floor(draft: Draft, snapshot: Snapshot, found: dict[Key, NodeClass], report: Report | None) -> None:
    """Pinned pools of which every selected node holds blocks, because their minBlocksPerNode says so."""
    for _, pool in sorted(snapshot.pools.items()):
        if pool.pinned and pool.min_blocks and pool.usable and serves(pool, draft.node):
            for family in sorted(pool.spaces):
                key = Key(draft.name, pool.name, family)
                found[key] = NodeClass(key, (pool,), draft, (pool,), _max_pods(draft.node, report))


def serves(pool: Pool, node: Node | None) -> bool:
    """Whether the node may hold blocks of the pool."""
    return node is not None and pool.node_selector.matches(node.labels)


def _class_of(entry: Entry, draft: Draft, snapshot: Snapshot, found: dict[Key, NodeClass], report: Report | None) -> NodeClass:
    pool = snapshot.pools[entry.pool]
    key = Key(draft.name, pool.name if pool.pinned else AUTOMATIC, entry.prefix.family)
    if key not in found:
        found[key] = NodeClass(key, (pool,), draft, (pool,), _max_pods(draft.node, report))
    return found[key]


def add_free(draft: Draft, entry: Entry, pool: Pool, report: Report | None) -> None:
    """Count an Active block's free addresses in."""
    usage = report.blocks.get(entry.prefix, IDLE) if report else IDLE
    key = entry.pool, entry.prefix.family
    draft.free[key] = draft.free.get(key, 0) + pool.addresses(entry.prefix) - usage.in_use - usage.cooling


def add_entry(group: NodeClass, entry: Entry, pool: Pool, report: Report | None) -> None:
    """Count an Active block in."""
    usage = report.blocks.get(entry.prefix, IDLE) if report else IDLE
    group.keep.append(entry)
    group.addresses += pool.addresses(entry.prefix)
    group.used += usage.in_use
    group.cooling += usage.cooling


def _add_demand(
    demand: Demand,
    draft: Draft,
    snapshot: Snapshot,
    found: dict[Key, NodeClass],
    report: Report | None,
    can_grow: CanGrow,
) -> None:
    automatic = Key(draft.name, AUTOMATIC, demand.family)
    if draft.nodecidr and demand.pools == draft.nodecidr.pools and automatic in found:
        found[automatic].pending += demand.pending
        found[automatic].burst = demand.burst
        return
    pools = list(_listed_pools(demand, draft.node, snapshot.pools)) if demand.pending or demand.burst else []
    if demand.pending and demand.pools and not pools:
        key = Key(draft.name, ",".join(demand.pools), demand.family)
        draft.unserved[key] = "; ".join(_unfit(name, demand.family, snapshot.pools) for name in demand.pools)
    if pools:
        _share_out(demand, [_named_class(pool, draft, demand.family, found, report) for pool in pools], draft, can_grow)


def _named_class(pool: Pool, draft: Draft, family: Family, found: dict[Key, NodeClass], report: Report | None) -> NodeClass:
    """The class of a pool that pods name."""
    key = Key(draft.name, pool.name, family)
    if key not in found:
        found[key] = group = NodeClass(key, (pool,), draft, (pool,), _max_pods(draft.node, report))
        for entry in (*draft.keep, *draft.adopted):  # none if the pool is pinned: its first block has made the class
            if entry.pool == pool.name and entry.prefix.family is family:
                add_entry(group, entry, pool, report)
    return found[key]


def _share_out(demand: Demand, groups: list[NodeClass], draft: Draft, can_grow: CanGrow) -> None:
    """Pods wait for the first pool of their list that can grow; what pools before it have room for, those get.

    Without the room a pool that has just given its last block would pass the same pods on to the next one.
    """
    left = demand.pending
    for group in groups:
        if len(groups) == 1 or can_grow(draft, group.pools[0]):
            chosen = group
            break
        served = max(0, min(left, group.capacity - group.need))
        group.pending += served
        left -= served
    else:
        chosen = groups[0]
        chosen.instead += [group.pools[0] for group in groups[1:]] if left else []
    chosen.pending += left
    # The next pods land where room is. If growth alone decided, a pool's last empty block would drain,
    # count as one that can be had back, and be un-drained, for ever.
    lands = next(group for group in groups if group is chosen or group.capacity > group.need)
    lands.burst = max(lands.burst, demand.burst)


def _listed_pools(demand: Demand, node: Node | None, pools: Mapping[str, Pool]) -> Iterator[Pool]:
    for name in demand.pools:
        pool = pools.get(name)
        if pool and pool.usable and demand.family in pool.spaces and serves(pool, node):
            yield pool


def _unfit(name: str, family: Family, pools: Mapping[str, Pool]) -> str:
    """Why the node's pods get nothing of the pool, and what to do."""
    pool = pools.get(name)
    if pool is None:
        return f"pool {name} does not exist: create it, or unpin the pods"
    if not pool.usable:
        return f"pool {name} is {'being deleted' if pool.deleting else 'disabled' if pool.disabled else 'invalid'}: pin another one"
    if family not in pool.spaces:
        return f"pool {name} has no {family} addresses: add {family} to it"
    return f"pool {name} does not select the node: change its nodeSelector, or label the node"


def targets(groups: Iterable[NodeClass]) -> dict[Key, int]:
    """The targets to remember: the highest of the stabilization window holds blocks back from shrinking."""
    return {group.key: group.target for group in groups if not group.shares_blocks and (group.keep or group.target)}
