"""The scarce pool on the real thing: operator, agents and plugin; the burst moves from node to node, so blocks have to follow it."""

import asyncio
import random
import time
from dataclasses import dataclass, field
from ipaddress import ip_address

from tests.cluster.control_plane import ControlPlane
from tests.cluster.kubelet import Cluster, Machine
from tests.cluster.plugin import build_plugin
from tests.cluster.program import ROOT

QUARANTINE_SECONDS, COOLDOWN_SECONDS = 2, 1
WAVES, SAMPLE_SECONDS = 6, 0.05
IPPOOLS, NODECIDRS = "/apis/podcidr.io/v1alpha1/ippools", "/apis/podcidr.io/v1alpha1/nodecidrs"
FIRST = int(ip_address("10.64.0.0"))


@dataclass
class Found:
    """What the harness saw from outside: it knows who holds an address and which ADD has not returned."""

    blocks: int
    pods: int = 0
    seconds: float = 0.0
    waits: list[float] = field(default_factory=list)
    beside_idle: float = 0.0
    exhausted_seconds: float = 0.0
    waiting_since: dict[str, float] = field(default_factory=dict)
    idle_since: dict[int, float] = field(default_factory=dict)
    busy_until: dict[int, float] = field(default_factory=dict)
    """A block cools down after its last address was released."""

    def sample(self, cluster: Cluster) -> None:
        """Whose blocks are idle now, and does a pod wait?"""
        now = time.monotonic()
        held = {(int(ip_address(address)) - FIRST) // 16 for address in cluster.ledger.held()}
        self.busy_until.update(dict.fromkeys(held, now + COOLDOWN_SECONDS))
        busy = {block for block, until in self.busy_until.items() if until > now}
        self.idle_since = {block: self.idle_since.get(block, now) for block in range(self.blocks) if block not in busy}
        if not self.waiting_since:
            return
        longest = min(self.waiting_since.values())
        beside = [now - max(longest, since) for since in self.idle_since.values()]
        self.beside_idle = max([self.beside_idle, *beside])
        self.exhausted_seconds += 0.0 if beside else SAMPLE_SECONDS

    async def start(self, machine: Machine, name: str) -> None:
        """One pod, timed."""
        self.waiting_since[name] = time.monotonic()
        try:
            await machine.start_pod("web", name, attempts=30)
        finally:
            self.waits.append(time.monotonic() - self.waiting_since.pop(name))
        self.pods += 1


async def run(nodes: int, blocks: int) -> Found:
    """Waves: each fills the pool on other nodes, while the wave before it ends."""
    found = Found(blocks)
    with ControlPlane() as plane:
        plane.install(ROOT)
        plane.apply(_pool(blocks))
        async with Cluster(plane, plugin=build_plugin(), concurrency=200) as cluster:
            await cluster.create_namespace("web")
            await cluster.start_operator()
            machines = [await cluster.add_machine(f"n{number:02}", pods=250) for number in range(nodes)]
            for machine in machines:
                await machine.start_agent()
            started = time.monotonic()
            sampler = asyncio.create_task(_sample(found, cluster))
            await _waves(found, machines, blocks)
            sampler.cancel()
            found.seconds = time.monotonic() - started
            assert cluster.ledger.check_overlaps() == []
    return found


async def _sample(found: Found, cluster: Cluster) -> None:
    while True:
        found.sample(cluster)
        await asyncio.sleep(SAMPLE_SECONDS)


async def _waves(found: Found, machines: list[Machine], blocks: int) -> None:
    chance = random.Random(7)
    before: list[tuple[Machine, str]] = []
    for wave in range(WAVES):
        chosen = chance.sample(machines, 3)
        pods = [(chosen[number % 3], f"w{wave}-{number}") for number in range(blocks * 10)]
        starting = [asyncio.create_task(found.start(machine, name)) for machine, name in pods]
        await asyncio.gather(*(machine.stop_pod("web", name) for machine, name in before))
        await asyncio.gather(*starting)
        before = pods


def _pool(blocks: int) -> str:
    cidrs = ", ".join(f"10.64.{number * 16 // 256}.{number * 16 % 256}/28" for number in range(blocks))
    return f"""
apiVersion: podcidr.io/v1alpha1
kind: IPPool
metadata: {{name: default}}
spec:
  ipv4: {{cidrs: [{cidrs}]}}
  gateway: None
  quarantineSeconds: {QUARANTINE_SECONDS}
  addressCooldownSeconds: {COOLDOWN_SECONDS}
"""
