"""Objects as the API server gives them, short."""

from typing import Any

from podcidr.agent import observed
from podcidr.agent.observed import NodeCIDRSeen, PodSeen, PoolSeen

Object = dict[str, Any]


def pool(
    name: str = "default", *, uid: str = "", generation: int = 1, deleting: bool = False, exhausted: str = "", **spec: Any
) -> PoolSeen:
    spec = {"ipv4": {"cidrs": ["10.64.0.0/14"], "blockPrefixLength": 28}} | spec
    metadata: Object = {"name": name, "uid": uid or f"{name}-uid", "generation": generation}
    if deleting:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    conditions = [{"type": "NearExhaustion", "status": "True"}, {"type": "Exhausted", "status": exhausted}] if exhausted else []
    return observed.ippool({"metadata": metadata, "spec": spec} | ({"status": {"conditions": conditions}} if exhausted else {}))


def block(cidr: str, pool: str = "default", *, state: str = "Active", generation: int = 1, uid: str = "") -> Object:
    return {"cidr": cidr, "pool": pool, "poolUID": uid or f"{pool}-uid", "poolGeneration": generation, "state": state}


def nodecidr(*blocks: Object, pools: tuple[str, ...] = ("default",), uid: str = "u1", epoch: int = 7) -> NodeCIDRSeen:
    return observed.nodecidr({"metadata": {"uid": uid}, "spec": {"epoch": epoch, "pools": list(pools), "blocks": list(blocks)}})


def pod(name: str, *, namespace: str = "default", uid: str = "", phase: str = "Pending", **extra: Any) -> PodSeen:
    metadata = {"namespace": namespace, "name": name, "uid": uid or f"{name}-uid"} | extra.pop("metadata", {})
    return observed.pod({"metadata": metadata, "spec": extra.pop("spec", {}), "status": {"phase": phase} | extra})


def record(
    *addresses: str,
    container: str = "c1",
    pod: str = "web",
    netns: str = "",
    block: str = "10.64.3.0/28",
    assigned_at: float = 1.0,
    **extra: Any,
) -> Object:
    return {
        "version": 1,
        "stateID": "s",
        "network": "net",
        "container": container,
        "interface": "eth0",
        "netns": netns,
        "pod": {"namespace": "default", "name": pod, "uid": f"{pod}-uid"},
        "ips": [{"address": address, "pool": "default", "block": block, "cooldownSeconds": 5} for address in addresses],
        "assignedAt": assigned_at,
    } | extra
