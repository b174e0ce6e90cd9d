"""The node's report, NodeCIDR.status, from what was seen: pure."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from podcidr.agent.observation import Observation
from podcidr.agent.observed import NodeCIDRSeen, PodSeen, PoolSeen
from podcidr.agent.records import Address, Mark, PodRef
from podcidr.agent.statedir import Standing
from podcidr.api import names
from podcidr.core.pins import Resolution, narrow
from podcidr.core.prefix import BITS, Family, Prefix

Pools = tuple[str, ...]
Places = dict[tuple[Family, int], dict[int, Prefix]]  # blocks by family and host bits, then by the bits before these
MAX_DEMAND = 256  # the API server takes no more entries


@dataclass(frozen=True, slots=True)
class Published:
    """What the allocation file on disk offers (each block with its usable addresses), and what keeps blocks out of it."""

    standing: Standing
    automatic: Pools
    room: Mapping[Prefix, int]
    problems: Pools = ()


@dataclass(frozen=True, slots=True)
class Need:
    """Of one list of pools: addresses used or asked for (`level`), ADDs that wait, addresses here, and how many exceed the target.

    `idle`: addresses of empty blocks, where the pool has no free block for anybody else. `short`: pods for which there is no address.
    `ends`: when each of the addresses that cool down here is free again, in order.
    """

    level: int
    waiting: int
    room: int
    spare: int
    idle: int = 0
    short: int = 0
    ends: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """The count, without times (the writer sets them). `usage` has what is in use or cooling, listed in the spec or not."""

    uid: str
    epoch: int
    usage: Mapping[Prefix, tuple[int, int]]
    in_use: int
    capacity: int
    pending: int
    host_network_pods: int
    demand: Mapping[tuple[Pools, Family], tuple[int, int]]
    conditions: Mapping[str, tuple[bool, str, str]]
    listed: frozenset[Prefix] = frozenset()
    draining: frozenset[Prefix] = frozenset()
    free: Mapping[Family, int] = field(default_factory=dict)
    needs: Mapping[tuple[Pools, Family], Need] = field(default_factory=dict)
    question: str = ""

    @property
    def busy(self) -> frozenset[Prefix]:
        """The Draining blocks that the node still needs."""
        return self.draining & self.usage.keys()

    def body(self) -> dict[str, Any]:
        """The status as JSON, without its times."""
        return {
            "observedUID": self.uid,
            "observedEpoch": self.epoch,
            "observedQuestion": self.question,
            "blocks": [_block(block, *self.usage.get(block, (0, 0))) for block in sorted(self.usage.keys() | self.listed)],
            "blockCount": len(self.listed),
            "inUse": self.in_use,
            "capacity": min(self.capacity, names.MAX_COUNT),
            "pending": self.pending,
            "hostNetworkPods": self.host_network_pods,
            "demand": [
                {"name": ",".join(pools), "pools": list(pools), "family": str(family), "pending": pending, "burst": burst}
                for (pools, family), (pending, burst) in sorted(self.demand.items())[:MAX_DEMAND]
            ],
        }


@dataclass(frozen=True, slots=True)
class Node:
    """Everything a report is counted from."""

    nodecidr: NodeCIDRSeen
    published: Published
    pools: Mapping[str, PoolSeen]
    namespaces: Mapping[str, Resolution]
    pods: Collection[PodSeen]
    observation: Observation
    bursts: Mapping[Pools, int]
    trouble: str | None = None  # why the plugin may not have what it needs


def count(node: Node) -> Report:
    """The report. The observation must have been made after the publication: only then no address can follow it."""
    marked, bound = _waiting(node)
    waiting, room = marked + bound, node.published.room
    usage, ends = _usage(node)
    demand = _demand(node, waiting)
    needs = {key: _need(key, node, usage, ends, demand[key], marked.count(key[0])) for key in demand}
    return Report(
        uid=node.published.standing.uid,
        epoch=node.published.standing.epoch,
        question=node.published.standing.question,
        usage=usage,
        in_use=len(node.observation.held),
        capacity=sum(room.values()),
        pending=len(waiting),
        host_network_pods=sum(1 for pod in node.pods if pod.host_network and pod.live),
        demand=demand,
        conditions={
            names.CONDITION_READY: _ready(node),
            names.CONDITION_WAITING_FOR_ADDRESSES: _waits(node, needs, len(waiting)),
        },
        listed=frozenset(entry.prefix for entry in node.nodecidr.entries),
        draining=node.nodecidr.draining,
        free={family: _free(family, room, usage) for family in Family},
        needs=needs,
    )


def _block(block: Prefix, in_use: int, cooling: int) -> dict[str, Any]:
    return {"cidr": str(block), "inUse": in_use, "cooling": cooling}


def _free(family: Family, room: Mapping[Prefix, int], usage: Mapping[Prefix, tuple[int, int]]) -> int:
    """Addresses that an ADD could get at this moment."""
    return sum(max(0, size - sum(usage.get(block, (0, 0)))) for block, size in room.items() if block.family is family)


def _need(
    key: tuple[Pools, Family], node: Node, usage: Mapping[Prefix, tuple[int, int]], ends: Mapping[Prefix, list[int]],
    demand: tuple[int, int], waiting: int,
) -> Need:  # fmt: skip
    """The planner's target against what is published: the agent tells at once what makes the operator grow, the rest in its time."""
    pools, family = key
    pending, burst = demand
    entries = [entry for entry in node.nodecidr.entries if entry.pool in pools and entry.prefix.family is family]
    blocks = [entry.prefix for entry in entries]
    level = sum(sum(usage.get(block, (0, 0))) for block in blocks) + pending
    scaling = next(node.pools[name].pool.scaling for name in pools if name in node.pools)
    headroom = max(scaling.min_free_addresses, min(burst, scaling.max_free_addresses))
    target = max(level + headroom, -(-level * 100 // scaling.high_utilization_percent))
    room = node.published.room
    total = sum(room.get(block, 0) for block in blocks)
    full = {name for name in pools if name in node.pools and node.pools[name].exhausted}
    idle = sum(room.get(entry.prefix, 0) for entry in entries if entry.pool in full and entry.prefix not in usage)
    free = _free(family, {block: room[block] for block in blocks if block in room}, usage)
    ending = tuple(sorted(end for block in blocks for end in ends.get(block, ())))
    return Need(level, waiting, total, total - target, idle, max(0, pending - free), ending)


def pools_of(pod: PodSeen, namespaces: Mapping[str, Resolution], automatic: Pools) -> Pools | None:
    """The pools that may serve the pod, in order; None where it gets an error instead, or its namespace is unknown."""
    resolution = namespaces.get(pod.namespace)
    if resolution is None or resolution.error:
        return None
    allowed = automatic if resolution.pools is None else resolution.pools
    if pod.pin is None:
        return allowed
    return narrow(pod.namespace, pod.name, pod.pin, allowed).pools


def _usage(node: Node) -> tuple[dict[Prefix, tuple[int, int]], dict[Prefix, list[int]]]:
    """Per block: in use and cooling, and when that ends. Listed in the spec or not: what is in use anywhere must be known."""
    usage: dict[Prefix, tuple[int, int]] = {}
    ends: dict[Prefix, list[int]] = {}
    blocks = {entry.prefix for entry in node.nodecidr.entries}
    places = _places(blocks)
    for address, recorded in node.observation.held.items():
        block = recorded if recorded in blocks else _block_of(address, places, node.pools)
        in_use, cooling = usage.get(block, (0, 0))
        usage[block] = in_use + 1, cooling
    for address, end in node.observation.cooling.items():
        block = _block_of(address, places, node.pools)
        in_use, cooling = usage.get(block, (0, 0))
        usage[block] = in_use, cooling + 1
        ends.setdefault(block, []).append(end)
    return usage, ends


def _places(blocks: Collection[Prefix]) -> Places:
    places: Places = {}
    for block in blocks:
        host_bits = BITS[block.family] - block.length
        places.setdefault((block.family, host_bits), {})[block.address >> host_bits] = block
    return places


def _block_of(address: Address, places: Places, pools: Mapping[str, PoolSeen]) -> Prefix:
    """The block the address counts for: the spec's that holds it, else as its pool is cut, else itself alone."""
    for (family, host_bits), blocks in places.items():
        if family is address.family and (block := blocks.get(address.number >> host_bits)):
            return block
    alone = Prefix(address.family, address.number, BITS[address.family])
    for seen in pools.values():
        space = seen.pool.spaces.get(address.family)
        if space and any(cidr.holds(alone) for cidr in space.cidrs):
            return _around(address, space.block_length)
    return alone


def _around(address: Address, length: int) -> Prefix:
    host_bits = BITS[address.family] - length
    return Prefix(address.family, address.number >> host_bits << host_bits, length)


def _waiting(node: Node) -> tuple[list[Pools], list[Pools]]:
    """One list of pools for each pod that waits, once: by its pending mark, or else because it has no attachment yet."""
    by_uid = {pod.uid: pod for pod in node.pods}
    by_name = {(pod.namespace, pod.name): pod for pod in node.pods}
    waiting: list[Pools] = []
    bound: list[Pools] = []
    marked: set[str] = set()
    for mark in {mark.place: mark for mark in node.observation.marks}.values():
        pod = _pod_of(mark.pod, by_uid, by_name)
        if pod is not None:
            marked.add(pod.uid)
        if (pod is None or pod.live) and (pools := _pools_of_mark(mark, pod, node)):
            waiting.append(pools)
    attached = {
        pod.uid for attachment in node.observation.attachments.values() if (pod := _pod_of(attachment.pod, by_uid, by_name)) is not None
    }
    for pod in node.pods:
        if pod.live and not pod.host_network and pod.uid not in attached and pod.uid not in marked:
            pools = pools_of(pod, node.namespaces, node.nodecidr.pools)
            if pools:
                bound.append(pools)
    return waiting, bound


def _pod_of(ref: PodRef, by_uid: Mapping[str, PodSeen], by_name: Mapping[tuple[str, str], PodSeen]) -> PodSeen | None:
    """The pod a file speaks of: by uid, by name only where the runtime gave no uid."""
    return by_uid.get(ref.uid) if ref.uid else by_name.get((ref.namespace, ref.name))


def _pools_of_mark(mark: Mark, pod: PodSeen | None, node: Node) -> Pools | None:
    """What the ADD waits for; the file's automatic list may lack a pool that the spec has."""
    resolution = node.namespaces.get(mark.pod.namespace)
    if resolution is not None and resolution.error:
        return None
    if mark.pools and mark.pools != node.published.automatic:
        return mark.pools
    if pod is not None:
        return pools_of(pod, node.namespaces, node.nodecidr.pools)
    if resolution is not None and resolution.pools is not None:
        return resolution.pools
    return node.nodecidr.pools


def _demand(node: Node, waiting: list[Pools]) -> dict[tuple[Pools, Family], tuple[int, int]]:
    """Per list of pools and family that it serves: pending and burst. The automatic list is always there."""
    lists = {*waiting, *(pools for pools, burst in node.bursts.items() if burst), node.nodecidr.pools} - {()}
    return {
        (pools, family): (waiting.count(pools), node.bursts.get(pools, 0))
        for pools in lists
        for family in Family
        if any(name in node.pools and family in node.pools[name].pool.spaces for name in pools)
    }


def _ready(node: Node) -> tuple[bool, str, str]:
    """Holds, reason, message."""
    published = node.published
    if node.trouble:
        ready = False, names.REASON_STATE_DIR_NOT_WRITTEN, node.trouble
    elif published.room:
        ready = True, names.REASON_BLOCKS_PUBLISHED, f"{len(published.room)} blocks are published to the plugin"
    elif published.problems:
        ready = False, names.REASON_POOL_NOT_SEEN, "no block can be published yet"
    else:
        ready = False, names.REASON_NO_BLOCKS, "the node has no Active block"
    if published.problems:
        ready = ready[0], ready[1], "; ".join((ready[2], "left out: " + published.problems[0]))
    if damaged := node.observation.damaged:
        ready = (
            ready[0],
            ready[1],
            f"{ready[2]}; damaged, and in use: {min(damaged)}" + (f" and {len(damaged) - 1} more" * (len(damaged) > 1)),
        )
    return ready


def _waits(node: Node, needs: Mapping[tuple[Pools, Family], Need], pending: int) -> tuple[bool, str, str]:
    """A pod whose runtime pauses between two ADDs waits on: else the condition would turn, and be written, at every try."""
    if node.observation.marks or any(need.short for need in needs.values()):
        return True, names.REASON_PODS_PENDING, f"{pending} pods wait for an address"
    return False, names.REASON_NONE_PENDING, "no pod waits for an address"
