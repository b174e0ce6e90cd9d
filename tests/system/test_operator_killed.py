"""The operator killed at random moments while nodes grow and shrink: it goes on, nothing is held twice, nothing is lost."""

import asyncio
import itertools
import json
import random
import subprocess
import sys

from tests.cluster.kubelet import Cluster, Machine, eventually
from tests.cluster.program import ROOT

KILLS = 20
POOL = """
apiVersion: podcidr.io/v1alpha1
kind: IPPool
metadata: {name: default}
spec:
  ipv4: {cidrs: [10.64.0.0/22], blockPrefixLength: 29}
  quarantineSeconds: 1
  addressCooldownSeconds: 0
  scaling: {stabilizationWindowSeconds: 0, minFreeAddresses: 0, maxFreeAddresses: 4}
"""


async def test_operator_killed_20_times_during_growth_and_shrink(cluster: Cluster) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")  # shown when the test fails
    chance = random.Random(seed)
    cluster.plane.apply(POOL)
    await cluster.create_namespace("web")
    machines = [await cluster.add_machine(f"n{number}") for number in range(3)]
    operator = await cluster.start_operator("--lease-seconds=2")
    await asyncio.gather(*(machine.start_agent() for machine in machines))
    over = asyncio.Event()
    churn = asyncio.gather(*(come_and_go(machine, random.Random(chance.random()), over) for machine in machines))

    for _ in range(KILLS):
        await asyncio.sleep(chance.uniform(0.05, 0.8))  # the random moment
        operator.kill()
        operator = await cluster.start_operator("--lease-seconds=2", ready=False)
    await operator.ready()
    over.set()
    await churn

    await eventually(lambda: nothing_lost(cluster), "every block to be listed or free again", timeout_seconds=60)
    check = await asyncio.to_thread(run_check, cluster)
    assert check.returncode == 0, check.stdout + check.stderr
    assert json.loads(check.stdout)["violations"] == []


async def come_and_go(machine: Machine, chance: random.Random, over: asyncio.Event) -> None:
    """Up to two dozen pods, started and stopped in waves. Never cancelled: half a stop would leave a Pod without its address."""
    for wave in itertools.takewhile(lambda _: not over.is_set(), itertools.count()):
        names = [f"{machine.name}-{wave}-{number}" for number in range(chance.randint(6, 24))]
        await asyncio.gather(*(machine.start_pod("web", name, attempts=50, retry_seconds=0.1) for name in names))
        await asyncio.gather(*(machine.stop_pod("web", name) for name in names))


async def nothing_lost(cluster: Cluster) -> bool:
    """Each IPBlock is in the list of its node, and each node is back at one block."""
    nodecidrs = (await cluster.api.get("/apis/podcidr.io/v1alpha1/nodecidrs"))["items"]
    blocks = (await cluster.api.get("/apis/podcidr.io/v1alpha1/ipblocks"))["items"]
    listed = {(block["cidr"], item["metadata"]["name"]) for item in nodecidrs for block in item["spec"]["blocks"]}
    claimed = {(block["spec"]["cidr"], block["spec"]["node"]) for block in blocks}
    return listed == claimed and len(listed) == len(nodecidrs)


def run_check(cluster: Cluster) -> subprocess.CompletedProcess[str]:
    """`podcidr check` over the API and every state dir."""
    kubeconfig = cluster.plane.admin_kubeconfig
    state_dirs = [f"--state-dir={machine.state_dir}" for machine in cluster.machines.values()]
    command = [sys.executable, "-m", "podcidr", "check", f"--kubeconfig={kubeconfig}", "-o", "json", *state_dirs]
    environment = {"PYTHONPATH": str(ROOT / "operator"), "PATH": "/usr/bin"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
