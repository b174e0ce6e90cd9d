"""The values that the planner reads: frozen, made once per change of an object, never per round.

Times are seconds of the operator's monotonic clock. Addresses are integers, see `prefix`.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from .prefix import Family, Prefix
from .reserved import Interval, Intervals
from .selectors import LabelSelector

AUTOMATIC = ""
"""Name of the class that all automatic pools of a node form; a pool pinned or named alone has its own name."""


class Gateway(enum.StrEnum):
    """What the plugin prints as gateway (design: on the node)."""

    POOL = "Pool"
    BLOCK = "Block"
    NONE = "None"


@dataclass(frozen=True, slots=True)
class Scaling:
    """When a node's blocks grow and shrink. `None` = the default that depends on pool or node."""

    min_free_addresses: int = 8
    max_free_addresses: int = 96
    high_utilization_percent: int = 100
    low_utilization_percent: int = 75
    min_blocks_per_node: int | None = None
    max_blocks_per_node: int | None = None
    stabilization_window_seconds: float = 300
    last_block_delay_seconds: float = 3600


@dataclass(frozen=True, slots=True)
class Space:
    """A pool's CIDRs of one family, as its spec names them, and the block length they are cut by."""

    cidrs: tuple[Prefix, ...]
    block_length: int


Geometry = tuple[str, int, frozenset[Prefix]]
"""uid, generation and accepted CIDRs of a pool."""


@dataclass(frozen=True)
class Pool:
    """An IPPool. `accepted` are the CIDRs that may be used (status: first come); `invalid` says why none may."""

    name: str
    uid: str
    generation: int
    spaces: Mapping[Family, Space]
    accepted: frozenset[Prefix] = frozenset()
    reserved: Mapping[Family, Intervals] = field(default_factory=dict)
    gateway: Gateway = Gateway.POOL
    pinned: bool = False
    disabled: bool = False
    deleting: bool = False
    priority: int = 0
    created: str = ""
    node_selector: LabelSelector = LabelSelector()
    scaling: Scaling = Scaling()
    quarantine_seconds: float = 300
    invalid: str | None = None
    resource_version: int = 0

    @property
    def usable(self) -> bool:
        """Whether new blocks may be claimed from it at all."""
        return not (self.disabled or self.deleting or self.invalid)

    @property
    def geometry(self) -> Geometry:
        """How it cuts which space. Acceptance is a status: it grows no generation, and yet moves space from one pool to another."""
        return self.uid, self.generation, self.accepted

    @cached_property
    def min_blocks(self) -> int:
        """Blocks a selected node holds at least."""
        wanted = self.scaling.min_blocks_per_node
        return wanted if wanted is not None else (0 if self.pinned else 1)

    def accepts(self, prefix: Prefix) -> bool:
        """Whether the block is one of this pool: of its length, in an accepted CIDR that the spec still has."""
        space = self.spaces.get(prefix.family)
        if space is None or space.block_length != prefix.length:
            return False
        return any(cidr in self.accepted and cidr.holds(prefix) for cidr in space.cidrs)

    def addresses(self, block: Prefix) -> int:
        """Addresses of a block that pods can have."""
        if block not in self._addresses:
            self._addresses[block] = block.size - unusable(self, block).count_within(block)
        return self._addresses[block]

    @cached_property
    def _addresses(self) -> dict[Prefix, int]:
        """Counted once a block and version of the pool, not once a round."""
        return {}


def unusable(pool: Pool, block: Prefix) -> Intervals:
    """The pool's reserved addresses, and in gateway mode `Block` the block's own three."""
    reserved = pool.reserved.get(block.family, NOTHING)
    if pool.gateway is not Gateway.BLOCK:
        return reserved
    return Intervals([*reserved.within(block), *ends(block, gateway=True)])


def ends(prefix: Prefix, *, gateway: bool) -> list[Interval]:
    """Addresses of a network that no pod may have: network, gateway, IPv4 broadcast. RFC 3021: /31 and /32 have no ends."""
    if prefix.size <= 2:
        return [Interval(prefix.address, prefix.address)] if gateway else []
    lowest = Interval(prefix.address, prefix.address + (1 if gateway else 0))
    return [lowest, Interval(prefix.last, prefix.last)] if prefix.family is Family.IPV4 else [lowest]


NOTHING = Intervals()


LAST_EPOCH = 2**53 - 1
"""The largest that every JSON reader keeps exact; the CRD takes no larger one."""


@dataclass(frozen=True, slots=True)
class Node:
    """What we read of a Node. `max_pods` is allocatable.pods, None = no cap."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    max_pods: int | None = None
    ready: bool = False
    addresses: tuple[Prefix, ...] = ()
    """Its own (status.addresses), as single addresses: a block that holds one is not claimed."""


class Entry(NamedTuple):
    """A block in NodeCIDR.spec."""

    prefix: Prefix
    pool: str
    pool_uid: str
    pool_generation: int
    draining: bool = False


class Usage(NamedTuple):
    """Addresses of a block that are in use and that cool down."""

    in_use: int = 0
    cooling: int = 0


IDLE = Usage()


class Demand(NamedTuple):
    """Pods of a node that wait for an address of a list of pools, and how many arrive at once (`burst`)."""

    pools: tuple[str, ...]
    family: Family
    pending: int = 0
    burst: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """NodeCIDR.status: what the agent counted, at which uid and epoch of the spec."""

    uid: str
    epoch: int
    blocks: Mapping[Prefix, Usage] = field(default_factory=dict)
    demand: tuple[Demand, ...] = ()
    host_network_pods: int = 0
    reported_at: str = field(default="", compare=False)
    """The agent's own stamp: a sign of life, never an age. A report that says the same again is no change."""
    question: str | None = None
    """The question that stood in the spec it goes by; None from an agent that knows of none."""


@dataclass(frozen=True, slots=True)
class NodeCIDR:
    """What a node may use (spec, ours) and what it said of it (report, the agent's)."""

    name: str
    uid: str
    epoch: int
    pools: tuple[str, ...] = ()
    entries: tuple[Entry, ...] = ()
    report: Report | None = None
    deleting: bool = False
    resource_version: int = field(default=0, compare=False)
    said_gone_after: str = ""
    """A person's word that the machine is gone: the stamp of the report after which none can come (`never`: there was none)."""
    question: str = ""
    """Random, anew with each doubt: epochs of two histories may be the same, if etcd was put back in between."""

    @property
    def ended(self) -> bool:
        """Whether its epoch, which grows with every write, has no number left: it can't be written any more."""
        return self.epoch >= LAST_EPOCH

    @property
    def known(self) -> Report | None:
        """The report, if it is of this object and not of one that bore the name before."""
        return self.report if self.report and self.report.uid == self.uid else None

    @property
    def said_gone(self) -> bool:
        """Whether a person says that the machine is gone, and no report since belies it."""
        return self.said_gone_after == ((self.report and self.report.reported_at) or "never")

    @property
    def current(self) -> Report | None:
        """The report, if it was counted at the present epoch of this history: only such a one proves a block empty."""
        return self.known if self.known and self.known.epoch == self.epoch and self._fits(self.known) else None

    @property
    def overtaken(self) -> bool:
        """Whether the node goes by a list that the API does not know: etcd was restored, and this list is of before."""
        if self.known is None or self.known.epoch < self.epoch:
            return False
        return self.known.epoch > self.epoch or not self._fits(self.known)

    def has_answered(self, epoch: int) -> bool:
        """Whether it was asked at this epoch, and has reported since."""
        return self.known is not None and epoch <= self.known.epoch <= self.epoch and self._fits(self.known)

    def _fits(self, report: Report) -> bool:
        return report.question in (None, self.question)


@dataclass(frozen=True, slots=True)
class Block:
    """An IPBlock: one row of the ledger."""

    name: str
    uid: str
    prefix: Prefix
    pool: str
    pool_uid: str
    node: str
    nodecidr_uid: str
    quarantined: bool = False
    resource_version: int = 0
    touches: int = 0
    released_at: str = ""
    created: str = ""


class Key(NamedTuple):
    """Blocks that grow and shrink together on one node: a class of pools and a family."""

    node: str
    pools: str
    family: Family


@dataclass(frozen=True)
class Memory:
    """What the leader has watched, as values: empty for a leader that has just begun."""

    watching_since: float = 0.0
    highest: Mapping[Key, int] = field(default_factory=dict)
    """Highest target within the pool's stabilization window."""
    needed_at: Mapping[Key, float] = field(default_factory=dict)
    """When somebody last used or waited for an address of the class."""
    quarantined_since: Mapping[str, float] = field(default_factory=dict)
    """By uid of the IPBlock."""
    gone_since: Mapping[str, float] = field(default_factory=dict)
    """Since when neither the Node nor a change of its NodeCIDR's status was seen."""
    unused: frozenset[str] = frozenset()
    """Uids of IPBlocks that this process created and knows never entered: they need no quarantine."""
    confirmed: frozenset[Prefix] = frozenset()
    """Blocks whose violated invariant consistent reads have confirmed."""
    refusing: frozenset[str] = frozenset()
    """Nodes whose NodeCIDR the API server refused to write again and again: left alone for a while."""
    silent: frozenset[str] = frozenset()
    """Nodes that have yet to tell what they use, while the ledger is suspected: their lists stay as they are."""


@dataclass(frozen=True)
class Snapshot:
    """Everything the planner knows. `unlisted`: kinds not yet listed once; `held`: why nothing may be claimed now."""

    pools: Mapping[str, Pool] = field(default_factory=dict)
    nodes: Mapping[str, Node] = field(default_factory=dict)
    nodecidrs: Mapping[str, NodeCIDR] = field(default_factory=dict)
    blocks: Mapping[str, Block] = field(default_factory=dict)
    memory: Memory = Memory()
    unlisted: tuple[str, ...] = ()
    held: str | None = None
    lost_node_seconds: float = 600
    services: tuple[Prefix, ...] = ()
    """Service CIDRs: an address there is some Service's, whatever a pool says."""
