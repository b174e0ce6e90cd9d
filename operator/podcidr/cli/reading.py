"""What the commands look at: the API server's objects as core values, read once, in an order that makes few false alarms."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

from podcidr.api import convert, names
from podcidr.cli.connect import Api, Object, Refused
from podcidr.core.errors import BadValue
from podcidr.core.model import Snapshot
from podcidr.core.pins import PoolRule
from podcidr.core.prefix import Family, parse_address

TERMINAL = ("Succeeded", "Failed")
EPOCH = datetime.fromtimestamp(0, UTC)


class Address(NamedTuple):
    """An address as the core has it."""

    family: Family
    number: int


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod with its addresses."""

    namespace: str
    name: str
    node: str
    addresses: tuple[Address, ...]

    def __str__(self) -> str:
        return f"Pod {self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition of an object's status."""

    holds: bool
    reason: str
    message: str


@dataclass(frozen=True)
class Reading:
    """One look at the cluster. `pods` is None where this account may not list them, `pods_missing` says why."""

    snapshot: Snapshot
    conditions: Mapping[str, Mapping[str, Condition]] = field(default_factory=dict)
    """Of pools, by name and type."""
    node_addresses: Mapping[str, tuple[Address, ...]] = field(default_factory=dict)
    pending: Mapping[str, int] = field(default_factory=dict)
    """Pods that wait for an address, by node."""
    reported_at: Mapping[str, datetime] = field(default_factory=dict)
    rules: Mapping[str, PoolRule] = field(default_factory=dict)
    """What pins ask of each pool."""
    cooldown_seconds: Mapping[str, int] = field(default_factory=dict)
    """How long an address of each pool rests."""
    pods: tuple[Pod, ...] | None = None
    pods_missing: str = "pods were not asked for"
    at: datetime = EPOCH


def read(api: Api, *, with_pods: bool) -> Reading:
    """Pods first, what they rest on after them: what a pod has was listed for its node before; then lists, then the ledger."""
    pods, missing = _pods(api) if with_pods else (None, "pods were not asked for")
    nodes = api.nodes()
    pools = api.custom(names.PLURAL_IPPOOLS)
    nodecidrs = api.custom(names.PLURAL_NODECIDRS)
    blocks = api.custom(names.PLURAL_IPBLOCKS)
    return reading(pools, nodes, nodecidrs, blocks, pods, pods_missing=missing)


def reading(
    pools: Iterable[Object], nodes: Iterable[Object], nodecidrs: Iterable[Object], blocks: Iterable[Object],
    pods: Iterable[Object] | None, *, pods_missing: str = "",
) -> Reading:  # fmt: skip
    """The values of these objects."""
    pools, nodes, nodecidrs = list(pools), list(nodes), list(nodecidrs)
    return Reading(
        snapshot=Snapshot(
            pools={pool.name: pool for pool in map(convert.pool, pools)},
            nodes={node.name: node for node in map(convert.node, nodes)},
            nodecidrs={nodecidr.name: nodecidr for nodecidr in map(convert.nodecidr, nodecidrs)},
            blocks={block.name: block for block in map(convert.block, blocks)},
        ),
        conditions={_name(pool): _conditions(pool) for pool in pools},
        node_addresses={_name(node): _node_addresses(node) for node in nodes},
        pending={_name(n): n.get("status", {}).get("pending", 0) for n in nodecidrs},
        reported_at={_name(n): datetime.fromisoformat(at) for n in nodecidrs if (at := n.get("status", {}).get("reportedAt"))},
        rules={_name(pool): convert.pool_rule(pool) for pool in pools},
        cooldown_seconds={_name(pool): pool.get("spec", {}).get("addressCooldownSeconds", 120) for pool in pools},
        pods=None if pods is None else tuple(pod for obj in pods if (pod := _pod(obj))),
        pods_missing=pods_missing,
        at=datetime.now(UTC),
    )


def _pods(api: Api) -> tuple[list[Object] | None, str]:
    try:
        return api.pods(), ""
    except Refused as error:
        return None, error.message


def _name(obj: Object) -> str:
    return str(obj["metadata"]["name"])


def _conditions(obj: Object) -> dict[str, Condition]:
    return {
        c["type"]: Condition(c["status"] == names.STATUS_TRUE, c.get("reason", ""), c.get("message", ""))
        for c in obj.get("status", {}).get("conditions") or ()
    }


def _node_addresses(node: Object) -> tuple[Address, ...]:
    listed = node.get("status", {}).get("addresses") or ()
    return _parsed(item.get("address", "") for item in listed if item.get("type") in ("InternalIP", "ExternalIP"))


def _pod(obj: Object) -> Pod | None:
    """None: it has ended, or shares its node's addresses."""
    spec, status = obj.get("spec", {}), obj.get("status", {})
    if spec.get("hostNetwork") or status.get("phase") in TERMINAL or not spec.get("nodeName"):
        return None
    listed: Iterable[Mapping[str, Any]] = status.get("podIPs") or ()
    meta = obj["metadata"]
    return Pod(meta["namespace"], meta["name"], spec["nodeName"], _parsed(item.get("ip", "") for item in listed))


def _parsed(texts: Iterable[str]) -> tuple[Address, ...]:
    found = []
    for text in texts:
        try:
            found.append(Address(*parse_address(text)))
        except BadValue:
            continue  # a zone or a host name: no address of a pool
    return tuple(dict.fromkeys(found))
