"""A node that goes from nothing to 300 pods at once, and back: operator, agent and plugin as they are."""

import asyncio
from ipaddress import ip_address, ip_network
from typing import Any

from tests.cluster.kubelet import Cluster, eventually

PODS = 300
POOL = """
apiVersion: podcidr.io/v1alpha1
kind: IPPool
metadata: {name: default}
spec:
  ipv4: {cidrs: [10.64.0.0/20], blockPrefixLength: 28}
  quarantineSeconds: 1
  addressCooldownSeconds: 1
  scaling: {stabilizationWindowSeconds: 2}
"""


async def test_300_parallel_adds_from_an_empty_start(cluster: Cluster) -> None:
    cluster.plane.apply(POOL)
    await cluster.create_namespace("web")
    await cluster.start_operator()
    machine = await cluster.add_machine("n1", pods=400)
    await machine.start_agent()

    pods = await asyncio.gather(*(machine.start_pod("web", f"pod-{number}", attempts=1) for number in range(PODS)))

    addresses = {address for pod in pods for address in pod.addresses}
    assert len(addresses) == PODS
    blocks = [ip_network(block) for block in await listed(cluster)]
    assert all(any(ip_address(address) in block for block in blocks) for address in addresses)

    await asyncio.gather(*(machine.stop_pod("web", f"pod-{number}") for number in range(PODS)))
    await eventually(lambda: holds_what_its_burst_asks_for(cluster), "the node to hold what its burst asks for", timeout_seconds=60)

    patch = {"spec": {"scaling": {"maxFreeAddresses": 8}}}
    await cluster.api.merge("/apis/podcidr.io/v1alpha1/ippools/default", patch)
    await eventually(lambda: one_block(cluster), "the node to be back at minBlocksPerNode, every other IPBlock gone", timeout_seconds=60)


async def listed(cluster: Cluster) -> list[str]:
    """The node's blocks."""
    nodecidr = await cluster.api.get("/apis/podcidr.io/v1alpha1/nodecidrs/n1")
    return [block["cidr"] for block in nodecidr["spec"]["blocks"]]


async def holds_what_its_burst_asks_for(cluster: Cluster) -> bool:
    """As few blocks as have room for the burst of 8 to 96, and nothing in quarantine."""
    nodecidr = await cluster.api.get("/apis/podcidr.io/v1alpha1/nodecidrs/n1")
    ledger = await cluster.api.get("/apis/podcidr.io/v1alpha1/ipblocks")
    burst = max((demand.get("burst", 0) for demand in nodecidr["status"].get("demand", [])), default=0)
    capacities = sorted(capacity(block) for block in nodecidr["spec"]["blocks"])
    headroom = min(max(burst, 8), 96)
    enough, least = sum(capacities) >= headroom, sum(capacities[:-1]) < headroom
    return bool(nodecidr["status"]["inUse"] == 0 and enough and least and len(ledger["items"]) == len(capacities))


def capacity(block: dict[str, Any]) -> int:
    """Network and gateway of the pool's CIDR are in its first block, the broadcast address in its last."""
    network = ip_network(block["cidr"])
    lost = {ip_address("10.64.0.0"), ip_address("10.64.0.1"), ip_address("10.64.15.255")}
    return network.num_addresses - sum(address in network for address in lost)


async def one_block(cluster: Cluster) -> bool:
    """minBlocksPerNode is 1."""
    ledger = await cluster.api.get("/apis/podcidr.io/v1alpha1/ipblocks")
    return len(await listed(cluster)) == 1 and len(ledger["items"]) == 1
