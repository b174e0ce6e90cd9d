"""A small cluster as the API server's JSON, for tests of the commands."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from podcidr.core.prefix import block_name, parse_prefix

Object = dict[str, Any]
ACCEPTED = {"type": "Accepted", "status": "True", "reason": "Accepted", "message": ""}


def pool(name: str, *cidrs: str, accepted: Iterable[str] | None = None, conditions: Iterable[Object] = (ACCEPTED,), **spec: Any) -> Object:
    """An IPPool of IPv4; its CIDRs are accepted unless said."""
    status = {"acceptedCIDRs": list(cidrs if accepted is None else accepted), "conditions": list(conditions)}
    return {
        "metadata": {"name": name, "uid": f"uid-{name}", "generation": 1},
        "spec": {"ipv4": {"cidrs": list(cidrs)}, **spec},
        "status": status,
    }


def node(name: str, *addresses: str, ready: bool = True) -> Object:
    """A Node."""
    conditions = [{"type": "Ready", "status": str(ready)}]
    return {
        "metadata": {"name": name},
        "status": {"conditions": conditions, "addresses": [{"type": "InternalIP", "address": a} for a in addresses]},
    }


def nodecidr(
    name: str, used: Mapping[str, int], *, draining: Iterable[str] = (), pool: str = "default", pending: int = 0, reports: bool = True,
    epoch: int = 3,
) -> Object:  # fmt: skip
    """A NodeCIDR whose agent reports so many addresses in use of each block."""
    blocks = [
        {"cidr": cidr, "pool": pool, "poolUID": f"uid-{pool}", "poolGeneration": 1, "state": "Draining" if cidr in draining else "Active"}
        for cidr in used
    ]
    status: Object = {
        "observedUID": f"uid-{name}", "observedEpoch": epoch, "pending": pending, "reportedAt": "2026-01-01T00:00:00Z",
        "blocks": [{"cidr": cidr, "inUse": count, "cooling": 0} for cidr, count in used.items()],
    }  # fmt: skip
    spec = {"epoch": epoch, "pools": [pool], "blocks": blocks}
    return {"metadata": {"name": name, "uid": f"uid-{name}"}, "spec": spec, "status": status if reports else {}}


def block(cidr: str, node: str, *, pool: str = "default", state: str = "Claimed", released_at: str = "") -> Object:
    """An IPBlock."""
    name = block_name(parse_prefix(cidr))
    spec = {"cidr": cidr, "pool": pool, "poolUID": f"uid-{pool}", "node": node, "nodeCIDRUID": f"uid-{node}"}
    return {"metadata": {"name": name, "uid": f"uid-{name}"}, "spec": spec, "status": {"state": state, "releasedAt": released_at}}


def pod(name: str, node: str, *addresses: str, phase: str = "Running", host_network: bool = False, **metadata: Any) -> Object:
    """A Pod in the default namespace."""
    status = {"phase": phase, "podIPs": [{"ip": address} for address in addresses]}
    spec = {"nodeName": node, "hostNetwork": host_network}
    return {"metadata": {"name": name, "namespace": "default", **metadata}, "spec": spec, "status": status}


def namespace(name: str, pin: str | None = None, **labels: str) -> Object:
    """A Namespace, with our annotation if it pins."""
    return {"metadata": {"name": name, "labels": labels, "annotations": {} if pin is None else {"podcidr.io/pools": pin}}}


def lease(holder: str = "operator-1", *, age_seconds: float = 1, namespace: str = "podcidr-system") -> Object:
    """The operators' Lease, renewed so long ago."""
    renewed = datetime.now(UTC) - timedelta(seconds=age_seconds)
    spec = {"holderIdentity": holder, "renewTime": renewed.strftime("%Y-%m-%dT%H:%M:%S.%fZ"), "leaseDurationSeconds": 15}
    return {"metadata": {"name": "podcidr-operator", "namespace": namespace}, "spec": spec}


class FakeApi:
    """Serves these objects, a look after the other; the last look stays."""

    def __init__(self, *looks: Mapping[str, list[Object]]) -> None:
        self.looks = list(looks)
        self.current: Mapping[str, list[Object]] = {}

    def pods(self) -> list[Object]:
        """The first list of a look."""
        self.current = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        return self.current.get("pods", [])

    def nodes(self) -> list[Object]:
        """Nodes of this look."""
        self.current = self.current or self.looks[0]
        return self.current.get("nodes", [])

    def custom(self, plural: str) -> list[Object]:
        """Objects of podcidr's kinds."""
        return (self.current or self.looks[0]).get(plural, [])

    def namespaces(self) -> list[Object]:
        """Namespaces of this look."""
        return (self.current or self.looks[0]).get("namespaces", [])

    def get(self, path: str) -> Object | None:
        """The Leases, Service CIDRs, one Pod, Node or IPPool; None for all else."""
        look = self.current or self.looks[0]
        if "/leases" in path:
            return {"items": look.get("leases", [])}
        if path.endswith("/servicecidrs"):
            return {"items": look.get("servicecidrs", [])}
        for kind in ("nodes", "ippools"):
            if f"/{kind}/" in path:
                return next((item for item in look.get(kind, []) if path.endswith(f"/{kind}/{item['metadata']['name']}")), None)
        return next((item for item in look.get("pods", []) if path.endswith(f"/pods/{item['metadata']['name']}")), None)

    def has_pods(self) -> bool:
        """Whether the cluster has pods."""
        return bool(self.looks[-1].get("pods"))


def small_cluster() -> dict[str, list[Object]]:
    """Two nodes; a block at rest; nothing wrong."""
    return {
        "ippools": [pool("default", "10.64.0.0/24")],
        "nodes": [node("n1"), node("n2")],
        "nodecidrs": [
            nodecidr("n1", {"10.64.0.0/28": 13}),
            nodecidr("n2", {"10.64.0.16/28": 1, "10.64.0.48/28": 0}, draining=["10.64.0.48/28"]),
        ],
        "ipblocks": [
            block("10.64.0.0/28", "n1"), block("10.64.0.16/28", "n2"), block("10.64.0.48/28", "n2"),
            block("10.64.0.32/28", "n1", state="Quarantined", released_at="2026-01-01T00:00:00Z"),
        ],
        "pods": [pod("a", "n1", "10.64.0.2"), pod("b", "n2", "10.64.0.17")],
    }  # fmt: skip
