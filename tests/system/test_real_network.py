"""Pods as network namespaces on two nodes, attached by the reference plugins through libcni: addresses that really work."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.fabric import Fabric, LibcniRuntime, addresses, destinations, ip, reaches, unreached
from tests.cluster.kubelet import Cluster, Machine, RunningPod, eventually
from tests.cluster.runtime import CniError

POOLS = """
apiVersion: podcidr.io/v1alpha1
kind: IPPool
metadata: {{name: default}}
spec:
  ipv4: {{cidrs: [10.64.0.0/24], blockPrefixLength: 30}}
  scaling: {{minFreeAddresses: 0}}
  addressCooldownSeconds: 0
  gateway: {gateway}
---
apiVersion: podcidr.io/v1alpha1
kind: IPPool
metadata: {{name: six}}
spec: {{allocation: Pinned, ipv6: {{cidrs: ["fd00:66::/64"], blockPrefixLength: 126}}, addressCooldownSeconds: 0, gateway: {gateway}}}
---
apiVersion: podcidr.io/v1alpha1
kind: IPPool
metadata: {{name: both}}
spec:
  allocation: Pinned
  ipv4: {{cidrs: [10.80.0.0/24], blockPrefixLength: 29}}
  ipv6: {{cidrs: ["fd00:80::/64"], blockPrefixLength: 125}}
  addressCooldownSeconds: 0
  gateway: {gateway}
"""
PINS = {"web": None, "six": "six", "both": "both"}
GATEWAYS = {4: {"10.64": "10.64.0.1", "10.80": "10.80.0.1"}, 6: {"fd00:66": "fd00:66::1", "fd00:80": "fd00:80::1"}}
PODS_EACH = 3  # more than a /30 has


@pytest.fixture
async def fabric(cluster: Cluster) -> Fabric:
    """Two machines to be, on one switch."""
    if not cluster.namespaces.real:
        pytest.skip("network namespaces need root: run as root to attach pods with the real ptp and bridge")
    fabric = Fabric(cluster)
    await fabric.start()
    return fabric


async def machines(fabric: Fabric, network: dict[str, Any], *, gateway: str = "Pool", segment: bool = False) -> list[Machine]:
    """Both nodes, with operator and agents, ready for pods."""
    cluster = fabric.cluster
    cluster.plane.apply(POOLS.format(gateway=gateway))
    for namespace, pool in PINS.items():
        await cluster.create_namespace(namespace, {"podcidr.io/pools": pool} if pool else {})
    await cluster.start_operator()
    made = [await cluster.add_machine(name) for name in ("n1", "n2")]
    for machine in made:
        await fabric.plug(machine, network, segment=segment)
        await machine.start_agent("--reclaim-grace-seconds=1")
    return made


async def start_pods(nodes: list[Machine]) -> list[RunningPod]:
    """A few in each namespace on each node."""
    return await asyncio.gather(
        *(
            machine.start_pod(namespace, f"{machine.name}-{namespace}-{number}")
            for machine in nodes
            for namespace in PINS
            for number in range(PODS_EACH)
        )
    )


def netns(pod: RunningPod) -> Path:
    assert pod.sandbox is not None
    return Path(pod.sandbox.netns)


def version(address: str) -> int:
    return 6 if ":" in address else 4


def every_pair(pods: list[RunningPod]) -> list[tuple[Path | str, str]]:
    """From each pod to every address of its families, of the others, and to its gateways."""
    addresses = [address for pod in pods for address in pod.addresses]
    pairs: list[tuple[Path | str, str]] = []
    for pod in pods:
        families = {version(address) for address in pod.addresses}
        pairs += [(netns(pod), address) for address in addresses if version(address) in families and address not in pod.addresses]
        pairs += [(netns(pod), gateway_of(address)) for address in pod.addresses]
    return pairs


def gateway_of(address: str) -> str:
    return next(gateway for prefix, gateway in GATEWAYS[version(address)].items() if address.startswith(prefix))


def families_and_blocks_are_as_asked(nodes: list[Machine]) -> None:
    """Each namespace has its pool's families, and each node blocks of several segments."""
    for machine in nodes:
        for (namespace, name), pod in machine.pods.items():
            if pod.sandbox is not None:
                wanted = {"web": [4], "six": [6], "both": [4, 6]}[namespace]
                assert [version(address) for address in pod.addresses] == wanted, name
    held = [address for pod in nodes[0].pods.values() if pod.sandbox for address in pod.addresses]
    assert {address[:5] for address in held} == {"10.64", "10.80", "fd00:"}
    assert len({int(address.rpartition(".")[2]) // 4 for address in held if address.startswith("10.64")}) > 1, "a /30 is not enough"


async def ends_cleanly(fabric: Fabric, pod: RunningPod, machine: Machine) -> None:
    """DEL takes the address off the pod and the node, and twice is as good as once."""
    runtime, sandbox = machine.runtime, pod.sandbox
    assert isinstance(runtime, LibcniRuntime)
    assert sandbox is not None
    await runtime.attach("check", sandbox)
    assert set(pod.addresses) <= await addresses(sandbox.netns)
    for _ in range(2):
        await runtime.delete(sandbox)
        assert not set(pod.addresses) & await addresses(sandbox.netns)
    assert not set(pod.addresses) & (await destinations(fabric.nodes[machine.name]) | await addresses(fabric.nodes[machine.name]))
    assert not set(pod.addresses) & {path.name for path in (machine.state_dir / "addresses").iterdir()}
    assert not list(runtime.cache.glob(f"*{sandbox.container}*"))
    await machine.stop_pod(pod.namespace, pod.name)


async def test_ptp(fabric: Fabric) -> None:
    """Routed: the gateway is on each node, and blocks are routed to the nodes that hold them."""
    nodes = await machines(fabric, {"type": "ptp"})
    pods = await start_pods(nodes)
    families_and_blocks_are_as_asked(nodes)
    await fabric.route()
    assert await unreached(every_pair(pods)) == []
    for pod, machine in ((pods[0], nodes[0]), (pods[-1], nodes[1])):
        await ends_cleanly(fabric, pod, machine)
    assert not await reaches(netns(pods[1]), pods[0].addresses[0], within_seconds=1)


async def test_bridge_on_the_nodes_segment(fabric: Fabric) -> None:
    """Switched: pods stand on the network of the nodes, whose router is the gateway of both segments."""
    nodes = await machines(fabric, {"type": "bridge", "bridge": "cni0", "isGateway": False}, segment=True)
    routers = [f"address add {gateway}/24 dev br0" for gateway in GATEWAYS[4].values()]
    routers += [f"address add {gateway}/64 dev br0 nodad" for gateway in GATEWAYS[6].values()]
    await ip(fabric.switch, *routers)
    pods = await start_pods(nodes)
    families_and_blocks_are_as_asked(nodes)
    assert await unreached(every_pair(pods)) == []
    for pod, machine in ((pods[0], nodes[0]), (pods[-1], nodes[1])):
        await ends_cleanly(fabric, pod, machine)
    assert not await reaches(netns(pods[1]), pods[0].addresses[0], within_seconds=1)


async def test_a_bridge_that_is_the_gateway_takes_one_block_of_ipv4(fabric: Fabric) -> None:
    """A limit of the reference plugin, told in docs/cni.md: it refuses a second IPv4 address for its bridge. What fails leaves nothing."""
    nodes = await machines(fabric, {"type": "bridge", "bridge": "cni0", "isGateway": True}, gateway="Block")
    machine = nodes[0]
    pods = [await machine.start_pod("six", f"six-{number}") for number in range(3)]
    assert len({address.rpartition(":")[2] for pod in pods for address in pod.addresses}) == 3
    pairs = [(netns(one), address) for one in pods for other in pods if other is not one for address in other.addresses]
    assert await unreached(pairs) == [], "blocks of IPv6 may be many"
    first = await machine.start_pod("web", "first")
    held = {path.name for path in (machine.state_dir / "addresses").iterdir()}
    with pytest.raises(CniError, match="already has an IP address different from"):
        await machine.start_pod("both", "second", attempts=1)
    assert {path.name for path in (machine.state_dir / "addresses").iterdir()} == held
    held_first = int(first.addresses[0].rpartition(".")[2])
    assert await reaches(netns(first), f"10.64.0.{held_first // 4 * 4 + 1}"), "the first block goes on working"


async def test_a_lost_state_dir_is_rebuilt_from_libcnis_own_cache(fabric: Fabric) -> None:
    nodes = await machines(fabric, {"type": "ptp"})
    machine = nodes[0]
    pods = [await machine.start_pod(namespace, namespace) for namespace in PINS]
    agent = next(program for program in fabric.cluster.programs if program.name == "agent-n1")
    agent.kill()
    for path in sorted(machine.state_dir.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    await machine.start_agent()
    attachments = {path.name for path in (machine.state_dir / "attachments").iterdir()}
    assert attachments == {f"podcidr:{pod.sandbox.container}:eth0" for pod in pods if pod.sandbox}, (
        "as the plugin named them, so DEL finds them"
    )
    for pod in pods:
        await ends_cleanly(fabric, pod, machine)

    async def all_gone() -> bool:
        return not list((machine.state_dir / "addresses").iterdir())

    await eventually(all_gone, "every recovered address to be released")
