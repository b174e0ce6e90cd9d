"""What a node forgets, and what it has to find again: reboots, a lost state directory, sandboxes that were tried again."""

import asyncio
import shutil

import pytest

from tests.cluster.kubelet import Cluster, Machine, eventually
from tests.cluster.program import Program

POOL = """
apiVersion: podcidr.io/v1alpha1
kind: IPPool
metadata: {name: default}
spec:
  ipv4: {cidrs: [10.64.0.0/20], blockPrefixLength: 28}
  quarantineSeconds: 1
  addressCooldownSeconds: 1
"""
PODS = 6
GRACE = "--reclaim-grace-seconds=1"


async def node_with_pods(cluster: Cluster) -> tuple[Machine, Program]:
    """A node that runs a few pods."""
    cluster.plane.apply(POOL)
    await cluster.create_namespace("web")
    await cluster.start_operator()
    machine = await cluster.add_machine("n1")
    agent = await machine.start_agent(GRACE)
    await asyncio.gather(*(machine.start_pod("web", f"pod-{number}") for number in range(PODS)))
    return machine, agent


def held(machine: Machine) -> set[str]:
    """The addresses held on disk."""
    return {path.name for path in (machine.state_dir / "addresses").iterdir()}


def of_pods(machine: Machine) -> set[str]:
    """The addresses that pods have."""
    return {address for pod in machine.pods.values() if pod.sandbox for address in pod.addresses}


async def holds_just_its_pods(machine: Machine) -> bool:
    """Neither a leak nor an address missing."""
    return held(machine) == of_pods(machine)


@pytest.mark.parametrize("cache", ["kept", "lost"])
async def test_after_a_reboot_each_pod_holds_one_address(cluster: Cluster, cache: str) -> None:
    """The API server still lists the old ones when the agent is back; a runtime may have cleaned its cache by then."""
    machine, agent = await node_with_pods(cluster)
    agent.kill()
    await machine.reboot()
    if cache == "lost":
        shutil.rmtree(machine.runtime.cache)
    await machine.start_agent(GRACE)
    assert len(held(machine)) == (0 if cache == "kept" else PODS), "what may be in use is not given again"
    await asyncio.gather(*(machine.restart_sandbox("web", f"pod-{number}") for number in range(PODS)))
    await eventually(lambda: holds_just_its_pods(machine), "one address for each pod")


@pytest.mark.parametrize("cache", ["kept", "lost"])
async def test_a_state_dir_lost_under_running_pods_is_rebuilt(cluster: Cluster, cache: str) -> None:
    machine, agent = await node_with_pods(cluster)
    agent.kill()
    shutil.rmtree(machine.state_dir)
    machine.state_dir.mkdir(mode=0o700)
    if cache == "lost":
        shutil.rmtree(machine.runtime.cache)
    await machine.start_agent(GRACE)
    assert held(machine) == of_pods(machine)
    late = await machine.start_pod("web", "late")
    assert not set(late.addresses) & {address for pod in machine.pods.values() if pod is not late for address in pod.addresses}
    for number in range(PODS):
        await machine.stop_pod("web", f"pod-{number}")
    await eventually(lambda: holds_just_its_pods(machine), "nothing held but by the late pod")


async def test_addresses_of_lost_sandboxes_come_back_under_a_living_pod(cluster: Cluster) -> None:
    machine, _ = await node_with_pods(cluster)
    for _ in range(3):
        await machine.restart_sandbox("web", "pod-0")
    assert len(held(machine)) > len(of_pods(machine))
    await eventually(lambda: holds_just_its_pods(machine), "one address for each pod")
    assert (await cluster.api.get("/api/v1/namespaces/web/pods/pod-0"))["metadata"]["uid"] == machine.pods["web", "pod-0"].uid
