"""What the agent keeps of the objects it watches: tiny values, so that 1,000 namespaces cost next to nothing."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from podcidr.api import names
from podcidr.core.errors import PodcidrError
from podcidr.core.model import Entry, Gateway, Pool, Scaling, Space, ends
from podcidr.core.pins import ANNOTATION, ANNOTATIONS, PoolRule
from podcidr.core.prefix import Family, Prefix, parse_prefix
from podcidr.core.reserved import Interval, Intervals, parse_reserved
from podcidr.core.selectors import LabelSelector

Object = dict[str, Any]
Transitions = Mapping[str, tuple[bool, str]]  # condition → does it hold, since when
_NONE: Mapping[str, str] = {}  # one for all: most namespaces have no pin
_TERMINAL = ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True)
class PodSeen:
    """A pod bound to this node. `live`: it wants an address (not terminal, not being deleted)."""

    namespace: str
    name: str
    uid: str
    host_network: bool
    live: bool
    pin: str | None = None
    ips: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NamespaceSeen:
    """Labels and pin annotations of a namespace."""

    labels: Mapping[str, str]
    annotations: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class PoolSeen:
    """An IPPool as the node needs it. `rule` decides who may use it, `pool` what it hands out."""

    pool: Pool
    rule: PoolRule
    cooldown_seconds: int
    exhausted: bool = False
    """The operator says that no block is free: what this node can spare, pods elsewhere may wait for."""

    @property
    def usable(self) -> bool:
        """Whether new addresses may come from it."""
        return self.pool.usable


@dataclass(frozen=True, slots=True)
class NodeCIDRSeen:
    """The spec of this node's NodeCIDR."""

    uid: str
    epoch: int
    pools: tuple[str, ...]
    entries: tuple[Entry, ...]
    transitions: Transitions = field(default_factory=dict, compare=False)  # our own report, back: no news
    question: str = ""

    @property
    def draining(self) -> frozenset[Prefix]:
        """The blocks whose end the operator waits for."""
        return frozenset(entry.prefix for entry in self.entries if entry.draining)


def pod(obj: Object) -> PodSeen:
    """Project a Pod."""
    metadata, spec, status = obj["metadata"], obj.get("spec", {}), obj.get("status", {})
    ended = "deletionTimestamp" in metadata or status.get("phase") in _TERMINAL
    return PodSeen(
        namespace=sys.intern(metadata["namespace"]),
        name=metadata["name"],
        uid=metadata["uid"],
        host_network=bool(spec.get("hostNetwork")),
        live=not ended,
        pin=(metadata.get("annotations") or {}).get(ANNOTATION),
        ips=tuple(entry["ip"] for entry in status.get("podIPs") or () if entry.get("ip")),
    )


def namespace(obj: Object) -> NamespaceSeen:
    """Project a Namespace."""
    metadata = obj["metadata"]
    annotations = metadata.get("annotations") or {}
    return NamespaceSeen(
        labels={sys.intern(key): sys.intern(value) for key, value in (metadata.get("labels") or {}).items()},
        annotations={key: annotations[key] for key in ANNOTATIONS if key in annotations} if annotations else _NONE,
    )


def ippool(obj: Object) -> PoolSeen:
    """Project an IPPool. One that can't be understood is kept, but `invalid`: nothing is handed out from it."""
    metadata, spec = obj["metadata"], obj["spec"]
    invalid: str | None = None
    spaces: dict[Family, Space] = {}
    reserved: dict[Family, Intervals] = {}
    selector = LabelSelector()
    gateway = Gateway(spec.get("gateway", Gateway.POOL))
    try:
        selector = LabelSelector.parse(spec.get("namespaceSelector"))
        spaces = _spaces(spec)
        reserved = _reserved(spaces, spec.get("reserved") or (), gateway)
    except PodcidrError as error:
        invalid = str(error)
    pool = Pool(
        name=metadata["name"],
        uid=metadata["uid"],
        generation=metadata["generation"],
        spaces=spaces,
        reserved=reserved,
        gateway=gateway,
        disabled=bool(spec.get("disabled")),
        deleting="deletionTimestamp" in metadata,
        invalid=invalid,
        scaling=_scaling(spec.get("scaling") or {}),
    )
    cidrs = tuple(str(cidr) for space in spaces.values() for cidr in space.cidrs)
    rule = PoolRule(pool.disabled, pool.deleting, selector, cidrs, invalid)
    return PoolSeen(pool, rule, int(spec.get("addressCooldownSeconds", 120)), _is_exhausted(obj))


def _is_exhausted(obj: Object) -> bool:
    conditions = obj.get("status", {}).get("conditions") or ()
    return any(c["type"] == names.CONDITION_EXHAUSTED and c["status"] == names.STATUS_TRUE for c in conditions)


def nodecidr(obj: Object) -> NodeCIDRSeen:
    """Project this node's NodeCIDR."""
    spec = obj["spec"]
    return NodeCIDRSeen(
        uid=obj["metadata"]["uid"],
        epoch=spec["epoch"],
        pools=tuple(spec.get("pools") or ()),
        entries=tuple(_entry(block) for block in spec.get("blocks") or ()),
        transitions={
            condition["type"]: (condition["status"] == names.STATUS_TRUE, condition["lastTransitionTime"])
            for condition in obj.get("status", {}).get("conditions") or ()
        },
        question=spec.get("question") or "",
    )


def _entry(block: Object) -> Entry:
    return Entry(
        prefix=parse_prefix(block["cidr"], "spec.blocks.cidr"),
        pool=block["pool"],
        pool_uid=block["poolUID"],
        pool_generation=block["poolGeneration"],
        draining=block["state"] != names.STATE_ACTIVE,
    )


def _scaling(spec: Object) -> Scaling:
    """As far as the agent needs it: whether a pod more makes the operator's target larger than what is here."""
    default = Scaling()
    return Scaling(
        min_free_addresses=int(spec.get("minFreeAddresses", default.min_free_addresses)),
        max_free_addresses=int(spec.get("maxFreeAddresses", default.max_free_addresses)),
        high_utilization_percent=int(spec.get("highUtilizationPercent", default.high_utilization_percent)),
    )


def _spaces(spec: Object) -> dict[Family, Space]:
    return {
        family: Space(
            tuple(parse_prefix(cidr, f"spec.{family}.cidrs") for cidr in spec[family].get("cidrs") or ()),
            int(spec[family].get("blockPrefixLength", 28 if family is Family.IPV4 else 122)),
        )
        for family in Family
        if spec.get(family)
    }


def _reserved(spaces: Mapping[Family, Space], texts: Any, gateway: Gateway) -> dict[Family, Intervals]:
    """The pool's list and each CIDR's own: network, gateway (mode Pool), IPv4 broadcast."""
    listed: dict[Family, list[Interval]] = {
        family: [interval for cidr in space.cidrs for interval in ends(cidr, gateway=gateway is Gateway.POOL)]
        for family, space in spaces.items()
    }
    for text in texts:
        family, interval = parse_reserved(text, "spec.reserved")
        listed.setdefault(family, []).append(interval)
    return {family: Intervals(intervals) for family, intervals in listed.items()}
