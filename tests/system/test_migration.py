"""300 pods on three nodes move to another pool with other blocks, and the operator is killed in the middle."""

import asyncio
import json
import random
import subprocess
import sys
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from tests.cluster.kubelet import Cluster, Machine, eventually
from tests.cluster.program import ROOT
from tests.system.test_operator_killed import run_check

PODS, NODES, AT_ONCE = 300, 3, 10
OLD, NEW = ip_network("10.64.0.0/22"), ip_network("10.80.0.0/22")
POOLS = """
apiVersion: podcidr.io/v1alpha1
kind: IPPool
metadata: {name: old}
spec:
  ipv4: {cidrs: [10.64.0.0/22], blockPrefixLength: 28}
  priority: 1
  quarantineSeconds: 1
  addressCooldownSeconds: 1
  scaling: {stabilizationWindowSeconds: 2}
---
apiVersion: podcidr.io/v1alpha1
kind: IPPool
metadata: {name: new}
spec:
  ipv4: {cidrs: [10.80.0.0/22], blockPrefixLength: 27}
  quarantineSeconds: 1
  addressCooldownSeconds: 1
  scaling: {stabilizationWindowSeconds: 2}
"""


@pytest.mark.timeout(600)  # every pod starts twice, on a machine that may be busy
async def test_300_pods_move_while_the_operator_is_killed(cluster: Cluster) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")  # shown when the test fails
    chance = random.Random(seed)
    cluster.plane.apply(POOLS)
    await cluster.create_namespace("web")
    operator = await cluster.start_operator("--lease-seconds=10")
    machines = [await cluster.add_machine(f"n{number}", pods=250) for number in range(NODES)]
    await asyncio.gather(*(machine.start_agent() for machine in machines))
    keys = [(machine, f"pod-{number}") for number in range(PODS) for machine in [machines[number % NODES]]]
    await asyncio.gather(*(machine.start_pod("web", name, attempts=60) for machine, name in keys))
    first = {name: machine.pods["web", name].addresses for machine, name in keys}
    assert all(ip_address(address) in OLD for addresses in first.values() for address in addresses)
    assert len({address for addresses in first.values() for address in addresses}) == PODS

    dry = await finished(migrate(cluster, "--dry-run"))
    assert (dry["stage"], dry["progress"]["pods"], dry["obstacles"]) == ("Ready", PODS, [])
    assert not await is_disabled(cluster)

    migration = migrate(cluster, "--yes", "--wait-seconds=400")
    await eventually(lambda: is_disabled(cluster), "the old pool to be disabled")
    chance.shuffle(keys)
    half = PODS // 2
    await restart(keys[: half // 2])
    operator.kill()
    # Nobody gives blocks now: pods that end here end, the others keep what they have.
    kept = keys[half // 2 :]
    assert held_on_disk(kept) == {name: first[name] for _, name in kept}
    restarts = asyncio.gather(restart(keys[half // 2 : half]), asyncio.sleep(0))
    await cluster.start_operator("--lease-seconds=10")
    await restarts
    assert held_on_disk(keys[half:]) == {name: first[name] for _, name in keys[half:]}
    assert (await finished(migrate(cluster, "--wait-seconds=0"), status=1))["stage"] == "Draining", (
        "the command can be run again at any point"
    )
    await restart(keys[half:])

    report = await finished(migration)
    assert (report["stage"], report["progress"]["blocks"], report["workloads"]) == ("Drained", 0, [])
    now = [address for machine, name in keys for address in machine.pods["web", name].addresses]
    assert len(set(now)) == PODS
    assert all(ip_address(address) in NEW for address in now)
    assert cluster.ledger.check_overlaps() == []
    check = await asyncio.to_thread(run_check, cluster)
    assert check.returncode == 0, check.stdout + check.stderr


async def restart(keys: list[tuple[Machine, str]]) -> None:
    """As rollouts do it: a few at a time, each after the end of the one before. A pod keeps its address until then."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(machine: Machine, name: str) -> None:
        async with slots:
            before = machine.pods["web", name].addresses
            assert all((machine.state_dir / "addresses" / address).exists() for address in before), f"{name} lost {before}"
            await machine.stop_pod("web", name)
            await machine.start_pod("web", name, attempts=60)

    await asyncio.gather(*(one(machine, name) for machine, name in keys))


def held_on_disk(keys: list[tuple[Machine, str]]) -> dict[str, list[str]]:
    """What the plugin has noted for each of these pods."""
    return {
        name: [a for a in machine.pods["web", name].addresses if names_pod(machine, a, name)]
        for machine, name in keys
    }  # fmt: skip


def names_pod(machine: Machine, address: str, pod: str) -> bool:
    record = json.loads((machine.state_dir / "addresses" / address).read_bytes())
    return bool(record["pod"]["name"] == pod)


def migrate(cluster: Cluster, *words: str) -> "subprocess.Popen[str]":
    kubeconfig = cluster.plane.admin_kubeconfig
    command = [sys.executable, "-m", "podcidr", "migrate", "pool", "old", "--to=new", "-o", "json", *words, f"--kubeconfig={kubeconfig}"]
    environment = {"PYTHONPATH": str(ROOT / "operator"), "PATH": "/usr/bin"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


async def finished(process: "subprocess.Popen[str]", *, status: int = 0) -> dict[str, Any]:
    """Its report."""
    out, complaint = await asyncio.to_thread(process.communicate, None, 450)
    assert process.returncode == status, out + complaint
    found: dict[str, Any] = json.loads(out)
    return found


async def is_disabled(cluster: Cluster) -> bool:
    pool = await cluster.api.get("/apis/podcidr.io/v1alpha1/ippools/old")
    return bool(pool["spec"].get("disabled"))
