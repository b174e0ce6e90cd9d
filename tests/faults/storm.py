"""One run: load, faults in random order, peace, and the verdict."""

import asyncio
import json
import random
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from bench.machine import percentile
from tests.cluster.kubelet import Cluster, Machine, eventually
from tests.cluster.program import ROOT
from tests.faults.faults import Faults, small_file_system
from tests.faults.load import NAMESPACE, Load
from tests.faults.record import Record, moves, overlaps

# Short times and a pool that is short of blocks: an address has to change its node as often as it can.
POOL = """
apiVersion: podcidr.io/v1alpha1
kind: IPPool
metadata: {name: default}
spec:
  ipv4: {cidrs: [10.64.0.0/24], blockPrefixLength: 29}
  quarantineSeconds: 2
  addressCooldownSeconds: 1
  scaling: {stabilizationWindowSeconds: 1, minFreeAddresses: 0, maxFreeAddresses: 2}
"""
# Of these some in a storm of one hundred; an agent and an operator are what dies most in a cluster.
SHARES = {
    "operator killed": 36, "agent killed": 40, "API server killed": 6, "etcd killed": 6, "leader stopped past its Lease": 5,
    "etcd restored": 3, "state dir full": 3, "two operators without election": 1,
}  # fmt: skip


@dataclass
class Report:
    """What happened, and the verdict."""

    seed: int
    seconds: float = 0
    assignments: int = 0
    moves: int = 0
    plugin_kills: int = 0
    leaks: int = 0
    refused: dict[int, int] = field(default_factory=dict)
    ended: dict[str, int] = field(default_factory=dict)
    recoveries: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    overlaps: list[str] = field(default_factory=list)
    settled_seconds: float = 0
    violations: list[str] = field(default_factory=list)

    @property
    def kills(self) -> int:
        """Of operators, agents, API server, etcd; plugins are counted apart."""
        return sum(len(seconds) for kind, seconds in self.recoveries.items() if kind.endswith("killed"))

    def lines(self) -> list[str]:
        """As people read it."""
        rows = [f"{'fault':34} {'n':>5} {'p50 s':>8} {'p99 s':>8}"]
        for kind, seconds in sorted(self.recoveries.items()):
            rows.append(f"{kind:34} {len(seconds):5} {statistics.median(seconds):8.2f} {percentile(seconds, 99):8.2f}")
        rows.append(f"{'plugin killed':34} {self.plugin_kills:5}        -        -")
        refused = ", ".join(f"{count} × code {code}" for code, count in sorted(self.refused.items())) or "none"
        rows.append(f"{self.assignments} assignments in {self.seconds:.0f} s, {self.moves} times on another node than before")
        rows.append(f"{self.leaks} DELs that never came; ADDs refused and tried again: {refused}")
        rows.append(f"programs that ended by themselves and were started again: {sum(self.ended.values())}")
        rows += [f"  {count} × {words}" for words, count in sorted(self.ended.items())]
        rows.append(f"settled {self.settled_seconds:.1f} s after the load ended; seed {self.seed}")
        rows.append(f"addresses held by two: {len(self.overlaps)}; not as it has to be at the end: {len(self.violations)}")
        return rows


async def storm(
    cluster: Cluster, record_path: Path, *, faults: int, assignments: int, seed: int, workers: int = 12, say: Callable[[str], None] = print
) -> Report:
    """At least so many faults of all kinds, and as much load as there has to be."""
    report, chance, began = Report(seed), random.Random(seed), time.monotonic()
    cluster.plane.apply(POOL)
    await cluster.create_namespace(NAMESPACE)
    for number in range(4):
        machine = await cluster.add_machine(f"n{number}")
        machine.runtime.wait_seconds = 3
        if not small_file_system(machine.state_dir):
            say("state dirs are not filled: mounting a small tmpfs needs root")
    with Record(record_path) as record:
        load = Load(cluster, record, chance, workers)
        breaker = Faults(cluster, load, chance)
        await breaker.start()
        kubelet = asyncio.create_task(breaker.watch_over())
        load.start()
        try:
            for number, kind in enumerate(order(chance, faults), 1):
                await asyncio.sleep(chance.uniform(0, 1))  # the random moment
                say(f"{time.monotonic() - began:.0f} s {number}/{faults} {kind} …")
                report.recoveries[kind].append(await breaker.kinds[kind]())
                say(f"    back after {report.recoveries[kind][-1]:.1f} s; {record.assignments} assignments")
                for error in (load.failed(), kubelet.done() and kubelet.exception()):
                    if error:
                        raise error
            await eventually(lambda: enough(record, load, assignments), f"{assignments} assignments", timeout_seconds=3600, every_seconds=1)
            await load.stop()
        except BaseException as error:
            say(f"{type(error).__name__}: {error}")
            kubelet.cancel()
            await load.cancel()
            raise
        report.assignments = record.assignments
    report.seconds = time.monotonic() - began
    report.plugin_kills, report.leaks, report.refused = load.plugin_kills, load.leaks, dict(load.refused)
    report.overlaps, report.moves = overlaps(record_path), moves(record_path)
    ended = time.monotonic()
    try:
        await eventually(lambda: at_rest(cluster), "all addresses and blocks to be free again", timeout_seconds=180)
    except AssertionError as error:  # the figures of an hour are not thrown away for it
        report.violations.append(str(error))
    report.settled_seconds = time.monotonic() - ended
    kubelet.cancel()
    report.ended = dict(breaker.ended)
    report.violations += await asyncio.to_thread(violations, cluster)
    return report


def order(chance: random.Random, count: int) -> list[str]:
    """Every kind once at least, in random order; the rest by their shares."""
    kinds = [*SHARES, *chance.choices(list(SHARES), list(SHARES.values()), k=max(0, count - len(SHARES)))]
    chance.shuffle(kinds)
    return kinds


async def enough(record: Record, load: Load, assignments: int) -> bool:
    """Whether the load may end."""
    if error := load.failed():
        raise error
    return record.assignments >= assignments


async def at_rest(cluster: Cluster) -> bool:
    """No address is held or asked for, each node is back at one block, and the ledger has these and no other."""
    if not all(is_empty(machine) for machine in cluster.machines.values()):
        return False
    nodecidrs = await cluster.api.items("/apis/podcidr.io/v1alpha1/nodecidrs")
    blocks = await cluster.api.items("/apis/podcidr.io/v1alpha1/ipblocks")
    listed = {(block["cidr"], item["metadata"]["name"]) for item in nodecidrs for block in item["spec"].get("blocks", [])}
    claimed = {(block["spec"]["cidr"], block["spec"]["node"]) for block in blocks}
    return listed == claimed and len(listed) == len(nodecidrs) == len(cluster.machines)


def is_empty(machine: Machine) -> bool:
    """Nothing is held on its disk, leaks included."""
    return not any(any((machine.state_dir / name).iterdir()) for name in ("attachments", "addresses", "pending"))


def violations(cluster: Cluster) -> list[str]:
    """What `podcidr check` names, over the API and every state dir."""
    state_dirs = [f"--state-dir={machine.state_dir}" for machine in cluster.machines.values()]
    command = [sys.executable, "-m", "podcidr", "check", f"--kubeconfig={cluster.plane.admin_kubeconfig}", "-o", "json", *state_dirs]
    environment = {"PYTHONPATH": str(ROOT / "operator"), "PATH": "/usr/bin"}
    found = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if found.returncode > 1:
        raise RuntimeError(f"podcidr check: exit code {found.returncode}: {found.stderr}")
    return [item["message"] for item in json.loads(found.stdout)["violations"]]
