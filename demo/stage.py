"""What the acts play on: a real control plane, two pools, three machines with their own state directories."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from demo.timeline import Timeline, say
from demo.watch import Held, Watch
from podcidr.core.prefix import parse_address
from tests.cluster.control_plane import ControlPlane
from tests.cluster.kubelet import Cluster, Machine, RunningPod
from tests.cluster.program import ROOT, Program
from tests.cluster.runtime import Runtime, Sandbox
from tools import assets

NODES = ("node-a", "node-b", "node-c")
POOL, PINNED = "default", "egress"
TEAM, PINNED_TEAM = "shop", "payments"
HEADROOM = 8
COOLDOWN_SECONDS = 2
POOLS = """
apiVersion: podcidr.io/v1alpha1
kind: IPPool
metadata: {name: default}
spec:
  ipv4: {cidrs: [10.64.0.0/22], blockPrefixLength: 28}     # 64 blocks of 16 addresses
  scaling: {minFreeAddresses: 8, maxFreeAddresses: 8, stabilizationWindowSeconds: 4}
  addressCooldownSeconds: 2
  quarantineSeconds: 3
---
apiVersion: podcidr.io/v1alpha1
kind: IPPool
metadata: {name: egress}
spec:
  allocation: Pinned                                       # for namespaces that name it, and nobody else
  ipv4: {cidrs: [10.80.0.0/26], blockPrefixLength: 29}
  scaling: {minFreeAddresses: 2, maxFreeAddresses: 2, stabilizationWindowSeconds: 4, lastBlockDelaySeconds: 2}
  addressCooldownSeconds: 2
  quarantineSeconds: 3
"""


class Failed(Exception):
    """Something that the demo promises did not happen."""


@dataclass
class TimedRuntime(Runtime):
    """Measures each ADD from the start of the plugin's process to its answer."""

    seconds: list[float] = field(default_factory=list)

    async def add(self, sandbox: Sandbox, **more: Any) -> dict[str, Any]:
        """ADD, on the watch."""
        started = time.monotonic()
        result = await super().add(sandbox, **more)
        self.seconds.append(time.monotonic() - started)
        return result


@dataclass
class Stage:
    """All that the acts touch."""

    binaries: Path
    plane: ControlPlane
    cluster: Cluster
    watch: Watch
    operator: Program
    machines: dict[str, Machine] = field(default_factory=dict)
    agents: dict[str, Program] = field(default_factory=dict)
    add_seconds: list[float] = field(default_factory=list)
    waiting: set[str] = field(default_factory=set)
    pods_started: int = 0
    writes: int = 0

    def __post_init__(self) -> None:
        self.timeline = Timeline(NODES, POOL, self.watch, addresses=self.held, waiting=lambda: len(self.waiting))

    async def join(self, node: str) -> float:
        """A machine joins; gives the seconds until it has a block."""
        machine = await self.cluster.add_machine(node)
        machine.runtime = TimedRuntime(
            self.cluster.plugin, machine.state_dir, machine.runtime.cache, machine.runtime.wait_seconds, seconds=self.add_seconds
        )
        self.machines[node] = machine
        started = time.monotonic()
        await self.until(lambda: bool(self.watch.blocks(node, POOL)), f"{node} has a block of pool {POOL}", every_seconds=0.005)
        return time.monotonic() - started

    async def start_agent(self, node: str) -> None:
        """Start it, and wait until the plugin can serve."""
        self.agents[node] = await self.machines[node].start_agent()

    async def start_pods(self, node: str, namespace: str, count: int) -> None:
        """All at once, as a rollout does."""
        async with asyncio.TaskGroup() as group:
            for number in range(self.pods_started, self.pods_started + count):
                group.create_task(self._start_pod(node, namespace, f"pod-{number}"))
            self.pods_started += count

    async def _start_pod(self, node: str, namespace: str, name: str) -> None:
        self.waiting.add(name)
        await self.machines[node].start_pod(namespace, name)
        self.waiting.discard(name)

    async def replace_pods(self, node: str, namespace: str, count: int, *, at_once: int) -> None:
        """A rollout: so many at a time go, and a new one comes for each."""
        machine, slots = self.machines[node], asyncio.Semaphore(at_once)
        numbers = range(self.pods_started, self.pods_started + count)
        self.pods_started += count

        async def replace(old: str, number: int) -> None:
            async with slots:
                await machine.stop_pod(namespace, old)
                await self._start_pod(node, namespace, f"pod-{number}")

        async with asyncio.TaskGroup() as group:
            for old, number in zip([name for space, name in machine.pods if space == namespace][:count], numbers, strict=True):
                group.create_task(replace(old, number))

    async def stop_pods(self, node: str, *, keep: int) -> None:
        """Stop all but so many neighbours in one block: a pod that lives on in a block of its own would hold that block."""
        machine = self.machines[node]
        pods = [pod for pod in machine.pods.values() if pod.sandbox is not None]
        fullest = max(self.watch.blocks(node, POOL), key=lambda held: sum(_lives_in(pod, held) for pod in pods))
        pods.sort(key=lambda pod: not _lives_in(pod, fullest))
        async with asyncio.TaskGroup() as group:
            for pod in pods[keep:]:
                group.create_task(machine.stop_pod(pod.namespace, pod.name))

    def held(self) -> dict[str, str]:
        """Addresses in use and their nodes, by the runtime's own record."""
        return {address: holding.node for address, holding in self.cluster.ledger.held().items()}

    def in_use(self, node: str) -> int:
        """How many addresses the node's pods have."""
        return sum(holder == node for holder in self.held().values())

    def free(self, node: str) -> int:
        """Addresses of the automatic pool that are ready for pods to come on this node."""
        blocks = [held.prefix for held in self.watch.blocks(node, POOL) if not held.draining]
        used = [parse_address(address)[1] for address, holder in self.held().items() if holder == node]
        return sum(block.size for block in blocks) - sum(block.address <= number <= block.last for number in used for block in blocks)

    async def until(self, condition: Callable[[], bool], what: str, *, timeout_seconds: float = 30, every_seconds: float = 0.05) -> None:
        """Wait until this holds."""
        try:
            async with asyncio.timeout(timeout_seconds):
                while not condition():  # noqa: ASYNC110 - of several watches and the harness at once
                    await asyncio.sleep(every_seconds)
        except TimeoutError:
            raise Failed(f"not within {timeout_seconds:g} s: {what}") from None

    async def within(self, seconds: float, doing: Awaitable[None], what: str) -> None:
        """Do this, in time."""
        try:
            await asyncio.wait_for(doing, seconds)
        except TimeoutError:
            raise Failed(f"not within {seconds:g} s: {what}") from None

    async def count_writes(self, program: Program) -> None:
        """Add a program's writes to the sum; its counters end with it."""
        metrics = await program.metrics()
        self.writes += int(sum(metrics.total("podcidr_api_requests_total", verb=verb) for verb in ("create", "patch", "update", "delete")))

    def reason(self, action: str, node: str) -> str:
        """The operator's own words for the last such action on a node, from its log."""
        for line in reversed(self.operator.output().splitlines()):
            with contextlib.suppress(ValueError):
                entry = json.loads(line)
                if entry.get("action") == action and entry.get("node") == node:
                    return str(entry["reason"])
        raise Failed(f"the operator's log gives no reason for {action} on {node}")


def _lives_in(pod: RunningPod, held: Held) -> bool:
    return held.prefix.address <= parse_address(pod.addresses[0])[1] <= held.prefix.last


def require(condition: bool, what: str) -> None:
    """What must hold now."""
    if not condition:
        raise Failed(what)


@contextlib.asynccontextmanager
async def set_up(plugin: Path) -> AsyncIterator[Stage]:
    """Control plane, CRDs, accounts, RBAC, pools and operator. On leaving nothing of it is left, however one leaves."""
    started = time.monotonic()
    binaries = await asyncio.to_thread(assets.locate)
    with ControlPlane(binaries) as plane:
        say(f"kube-apiserver and etcd run ({time.monotonic() - started:.1f} s)")
        await asyncio.to_thread(plane.install, ROOT)
        say("CRDs, ServiceAccounts, RBAC and admission policies are those of crds/ and deploy/podcidr.yaml")
        async with Cluster(plane, plugin=plugin, concurrency=16) as cluster, Watch(plane.admin_kubeconfig) as watch:
            plane.apply(POOLS)
            await cluster.create_namespace(TEAM)
            await cluster.create_namespace(PINNED_TEAM, {"podcidr.io/pools": PINNED})
            stage = Stage(binaries, plane, cluster, watch, await start_operator(cluster))
            await stage.until(lambda: list(watch.pools.items.values()) == [True, True], "both pools are accepted")
            say(f"pools {POOL} (10.64.0.0/22 in blocks of 16) and {PINNED} (pinned, 10.80.0.0/26 in blocks of 8) are accepted")
            yield stage


async def start_operator(cluster: Cluster) -> Program:
    """A short Lease: the demo kills its holder, and waits for it to expire."""
    return await cluster.start_operator("--lease-seconds=3")
