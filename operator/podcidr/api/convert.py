"""API objects (JSON) → core values. By hand and lenient: pydantic costs ten times as much, and the CRDs have checked already.

Runs once per event of an object, never per round.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from itertools import pairwise
from typing import Any

from podcidr.api.names import ANNOTATION_MACHINE_GONE
from podcidr.core.errors import BadValue, PodcidrError
from podcidr.core.model import Block, Demand, Entry, Gateway, Node, NodeCIDR, Pool, Report, Scaling, Space, Usage, ends
from podcidr.core.pins import PoolRule
from podcidr.core.prefix import BITS, Family, Prefix, parse_address, parse_prefix
from podcidr.core.reserved import Interval, Intervals, parse_reserved
from podcidr.core.selectors import LabelSelector

JSON = Mapping[str, Any]

DEFAULT_BLOCK_LENGTH = {Family.IPV4: 28, Family.IPV6: 122}

SCALING = {
    "minFreeAddresses": "min_free_addresses",
    "maxFreeAddresses": "max_free_addresses",
    "highUtilizationPercent": "high_utilization_percent",
    "lowUtilizationPercent": "low_utilization_percent",
    "minBlocksPerNode": "min_blocks_per_node",
    "maxBlocksPerNode": "max_blocks_per_node",
    "stabilizationWindowSeconds": "stabilization_window_seconds",
    "lastBlockDelaySeconds": "last_block_delay_seconds",
}

QUANTITY = re.compile(r"(\d+)([kMG]?|[KMG]i)", re.ASCII)
QUANTITY_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}

_prefix = lru_cache(maxsize=1 << 17)(parse_prefix)  # a block's CIDR comes with every report; parsing it costs 5 µs


def pool(obj: JSON) -> Pool:
    """An IPPool. What can't be used does not raise: it is `invalid`, so that one bad pool stops no other."""
    meta, spec, status = obj["metadata"], obj.get("spec", {}), obj.get("status", {})
    problems: list[str] = []
    spaces = _spaces(spec, problems)
    gateway = _gateway(spec, problems)
    _selector(spec, "namespaceSelector", problems)  # enforced on the nodes, but said here
    return Pool(
        name=meta["name"],
        uid=meta["uid"],
        generation=meta.get("generation", 1),
        spaces=spaces,
        accepted=frozenset(_accepted(status)),
        reserved=_reserved(spec, spaces, gateway, problems),
        gateway=gateway,
        pinned=spec.get("allocation") == "Pinned",
        disabled=bool(spec.get("disabled")),
        deleting="deletionTimestamp" in meta,
        priority=spec.get("priority", 0),
        created=meta.get("creationTimestamp", ""),
        node_selector=_selector(spec, "nodeSelector", problems),
        scaling=Scaling(**{SCALING[key]: value for key, value in spec.get("scaling", {}).items() if key in SCALING}),
        quarantine_seconds=spec.get("quarantineSeconds", 300),
        invalid="; ".join(problems) or None,
        resource_version=int(meta.get("resourceVersion", 0)),
    )


def pool_rule(obj: JSON) -> PoolRule:
    """What a pin needs to know of an IPPool."""
    found = pool(obj)
    cidrs = tuple(str(cidr) for space in found.spaces.values() for cidr in space.cidrs)
    return PoolRule(found.disabled, found.deleting, _selector(obj.get("spec", {}), "namespaceSelector", []), cidrs, found.invalid)


def _gateway(spec: JSON, problems: list[str]) -> Gateway:
    try:
        return Gateway(spec.get("gateway", "Pool"))
    except ValueError:
        problems.append(f"spec.gateway: {spec['gateway']!r}: use Pool, Block or None")
        return Gateway.POOL


def _accepted(status: JSON) -> Iterator[Prefix]:
    """What somebody made unreadable counts as not accepted yet."""
    for text in status.get("acceptedCIDRs", ()):
        with suppress(BadValue):
            yield _prefix(text)


def _spaces(spec: JSON, problems: list[str]) -> dict[Family, Space]:
    spaces = {}
    for family in Family:
        if family in spec:
            length = spec[family].get("blockPrefixLength", DEFAULT_BLOCK_LENGTH[family])
            field = f"spec.{family}.cidrs"
            cidrs = [cidr for text in spec[family].get("cidrs", ()) if (cidr := _cidr(text, field, family, length, problems))]
            spaces[family] = Space(tuple(cidrs), length)
            for cidr, other in pairwise(sorted(cidrs)):  # sorted, of CIDRs that overlap two are neighbours
                if cidr.overlaps(other):
                    problems.append(f"{field}: {str(other)!r}: overlaps {cidr}; keep the larger one only")
    if not spaces:
        problems.append("spec: neither ipv4 nor ipv6 is set; a pool needs at least one")
    return spaces


def _cidr(text: str, field: str, family: Family, length: int, problems: list[str]) -> Prefix | None:
    try:
        cidr = parse_prefix(text, field)
        if cidr.family is not family:
            raise BadValue(field, text, f"not an {family} CIDR")
        if cidr.length > length:
            raise BadValue(field, text, f"smaller than a block of /{length}; widen it or create a pool with smaller blocks")
    except BadValue as error:
        problems.append(str(error))
        return None
    return cidr


def _reserved(spec: JSON, spaces: Mapping[Family, Space], gateway: Gateway, problems: list[str]) -> dict[Family, Intervals]:
    """What a person reserved, and the ends of each pool CIDR."""
    found: dict[Family, list[Interval]] = {family: [] for family in spaces}
    for family, space in spaces.items():
        for cidr in space.cidrs:
            found[family] += ends(cidr, gateway=gateway is Gateway.POOL)
    whole = {f: Intervals(Interval(c.address, c.last) for c in space.cidrs) for f, space in spaces.items()}
    for text in spec.get("reserved", ()):
        try:
            family, interval = parse_reserved(text, "spec.reserved")
            if not any(first <= interval.first and interval.last <= last for first, last in whole.get(family, ())):
                raise BadValue("spec.reserved", text, "outside the pool's CIDRs; remove it or correct it")
            found[family].append(interval)
        except BadValue as error:
            problems.append(str(error))
    return {family: Intervals(intervals) for family, intervals in found.items()}


def _selector(spec: JSON, field: str, problems: list[str]) -> LabelSelector:
    try:
        return LabelSelector.parse(spec.get(field))
    except PodcidrError as error:
        problems.append(f"spec.{field}: {error}")
        return LabelSelector()


def node(obj: JSON) -> Node:
    """A Node, of its many fields the five that count; heartbeats leave the value equal."""
    status = obj.get("status", {})
    pods = _quantity(status.get("allocatable", {}).get("pods"))
    ready = any(c.get("type") == "Ready" and c.get("status") == "True" for c in status.get("conditions") or ())
    meta = obj["metadata"]
    return Node(meta["name"], meta.get("labels", {}), pods, ready, _own_addresses(status))


def _own_addresses(status: JSON) -> tuple[Prefix, ...]:
    """InternalIP and ExternalIP; of Hostname and DNS names nothing is known."""
    found = []
    for address in status.get("addresses") or ():
        if address.get("type") in ("InternalIP", "ExternalIP"):
            with suppress(BadValue):
                family, number = parse_address(address["address"])
                found.append(Prefix(family, number, BITS[family]))
    return tuple(found)


def _quantity(text: str | int | None) -> int | None:
    """A whole number as the API writes it: 1000 comes as "1k". None: none given, or none that we understand."""
    matched = QUANTITY.fullmatch(str(text))
    return int(matched[1]) * QUANTITY_UNITS[matched[2]] if matched else None


def service_prefixes(obj: JSON) -> tuple[Prefix, ...]:
    """CIDRs of a ServiceCIDR, or the addresses of a Service."""
    spec, found = obj.get("spec", {}), []
    for text in spec.get("cidrs", ()):
        with suppress(BadValue):
            found.append(parse_prefix(text))
    for text in spec.get("clusterIPs", ()):
        with suppress(BadValue):  # a headless one's is "None"
            family, number = parse_address(text)
            found.append(Prefix(family, number, BITS[family]))
    return tuple(found)


def nodecidr(obj: JSON) -> NodeCIDR:
    """A NodeCIDR with its report."""
    meta, spec = obj["metadata"], obj.get("spec", {})
    return NodeCIDR(
        name=meta["name"],
        uid=meta["uid"],
        epoch=spec.get("epoch", 1),
        pools=tuple(spec.get("pools", ())),
        entries=tuple(_entry(block) for block in spec.get("blocks", ())),
        report=_report(obj.get("status", {})),
        deleting="deletionTimestamp" in meta,
        resource_version=int(meta.get("resourceVersion", 0)),
        said_gone_after=meta.get("annotations", {}).get(ANNOTATION_MACHINE_GONE, ""),
        question=spec.get("question", ""),
    )


def _entry(block: JSON) -> Entry:
    draining = block.get("state") == "Draining"
    return Entry(_prefix(block["cidr"]), block["pool"], block["poolUID"], block["poolGeneration"], draining)


def entry_json(entry: Entry) -> dict[str, Any]:
    """An entry as NodeCIDR.spec has it."""
    return {
        "cidr": str(entry.prefix),
        "pool": entry.pool,
        "poolUID": entry.pool_uid,
        "poolGeneration": entry.pool_generation,
        "state": "Draining" if entry.draining else "Active",
    }


def _report(status: JSON) -> Report | None:
    """None where there is no report, or one that makes no sense: of such a node everything counts as used."""
    try:
        return _readable_report(status) if "observedUID" in status else None
    except (BadValue, KeyError, ValueError):
        return None


def _readable_report(status: JSON) -> Report:
    return Report(
        uid=status["observedUID"],
        epoch=status.get("observedEpoch", 0),
        blocks={_prefix(b["cidr"]): Usage(b.get("inUse", 0), b.get("cooling", 0)) for b in status.get("blocks", ())},
        demand=tuple(
            Demand(tuple(d.get("pools", ())), Family(d["family"]), d.get("pending", 0), d.get("burst", 0)) for d in status.get("demand", ())
        ),
        host_network_pods=status.get("hostNetworkPods", 0),
        reported_at=status.get("reportedAt", ""),
        question=status.get("observedQuestion"),
    )


def block(obj: JSON) -> Block:
    """An IPBlock."""
    meta, spec, status = obj["metadata"], obj["spec"], obj.get("status", {})
    return Block(
        name=meta["name"],
        uid=meta["uid"],
        prefix=_prefix(spec["cidr"]),
        pool=spec["pool"],
        pool_uid=spec["poolUID"],
        node=spec["node"],
        nodecidr_uid=spec["nodeCIDRUID"],
        quarantined=status.get("state") == "Quarantined",
        resource_version=int(meta.get("resourceVersion", 0)),
        touches=status.get("touches", 0),
        released_at=status.get("releasedAt", ""),
        created=meta.get("creationTimestamp", ""),
    )
