"""What an agent costs its node: memory, CPU and writes while 110 pods are replaced once a minute, and while nothing happens."""

import argparse
import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from bench.machine import report
from tests.cluster.control_plane import ControlPlane
from tests.cluster.kubelet import Cluster, Machine
from tests.cluster.program import ROOT, Program

POOL = """
apiVersion: podcidr.io/v1alpha1
kind: IPPool
metadata: {name: default}
spec: {ipv4: {cidrs: [10.64.0.0/16]}}
"""
PODS = 110
TICKS = 100  # of /proc/PID/stat, a second
REPORTS, REQUESTS = "podcidr_agent_reports_total", "podcidr_api_requests_total"
MIB_BAR, CPU_PERCENT_BAR, WRITES_BAR = 45.0, 0.5, 1.0
FAIL_FACTOR = 3  # other work on the machine must not fail anybody


@dataclass
class Cost:
    """Of one phase."""

    phase: str
    seconds: float
    replaced: int
    cpu_percent: float
    writes_per_30_seconds: float
    requests_per_second: float
    resident_mib: float
    peak_mib: float


async def play(seconds: float) -> list[Cost]:
    """Both phases on a node of its own."""
    with ControlPlane() as plane:
        plane.install(ROOT)
        plane.apply(POOL)
        async with Cluster(plane, plugin=ROOT / "build" / "podcidr-ipam") as cluster:
            await cluster.create_namespace("web")
            await cluster.start_operator()
            machine = await cluster.add_machine("n1", pods=PODS)
            agent = await machine.start_agent()
            for number in range(PODS):
                await machine.start_pod("web", f"pod-{number}")
            churn = Churn(machine)
            replacing = asyncio.create_task(churn.run())
            # The first minutes fill the cooldown (120 s): addresses in use and blocks grow until then.
            await asyncio.sleep(130.0)
            # From one write on: else as many as there are, and one more by chance, fall into so many seconds.
            await asyncio.wait_for(next_write(agent), 60.0)
            before = churn.replaced
            async with measured("110 pods replaced once a minute", agent, seconds) as busy:
                await asyncio.sleep(seconds)
                busy.replaced = churn.replaced - before
            churn.ended = True
            await replacing
            await asyncio.sleep(150.0)  # the last addresses cool down, the operator takes blocks back
            async with measured("nothing happens", agent, seconds) as idle:
                await asyncio.sleep(seconds)
            return [busy, idle]


@dataclass
class Churn:
    """Replaces one pod after the other, evenly, each once a minute: two at once would be a pod more than ever, and news."""

    machine: Machine
    replaced: int = 0
    ended: bool = False

    async def run(self) -> None:
        """Until `ended`."""
        started, every = time.monotonic(), 60.0 / PODS
        while not self.ended:
            await asyncio.sleep(max(0.0, started + self.replaced * every - time.monotonic()))
            name = f"pod-{self.replaced % PODS}"
            await self.machine.stop_pod("web", name)
            await self.machine.start_pod("web", name)
            self.replaced += 1


async def next_write(agent: Program) -> None:
    """Wait until the agent has written its status once more."""
    before = (await agent.metrics()).total(REPORTS, outcome="done")
    while (await agent.metrics()).total(REPORTS, outcome="done") == before:  # noqa: ASYNC110 - it is asked, and never tells
        await asyncio.sleep(0.5)


@contextlib.asynccontextmanager
async def measured(phase: str, agent: Program, seconds: float) -> AsyncIterator[Cost]:
    """CPU, writes and requests between begin and end."""
    cost = Cost(phase, seconds, 0, 0.0, 0.0, 0.0, 0.0, 0.0)
    before, cpu, started = await agent.metrics(), ticks(agent.pid), time.monotonic()
    yield cost
    elapsed, after = time.monotonic() - started, await agent.metrics()
    cost.cpu_percent = 100 * (ticks(agent.pid) - cpu) / TICKS / elapsed
    cost.writes_per_30_seconds = 30 * (after.total(REPORTS, outcome="done") - before.total(REPORTS, outcome="done")) / elapsed
    cost.requests_per_second = (after.total(REQUESTS) - before.total(REQUESTS)) / elapsed
    cost.resident_mib, cost.peak_mib = memory_mib(agent.pid, "VmRSS"), memory_mib(agent.pid, "VmHWM")
    print(f"  {cost}", file=sys.stderr, flush=True)


def ticks(pid: int) -> int:
    """User and system."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def memory_mib(pid: int, key: str) -> float:
    """A line of /proc/PID/status."""
    return int(Path(f"/proc/{pid}/status").read_text(encoding="utf-8").split(f"{key}:")[1].split()[0]) / 1024


def main() -> int:
    """Both phases; fails only far past the bars."""
    parser = argparse.ArgumentParser("bench.agent", description=__doc__)
    parser.add_argument("--seconds", type=float, default=180.0, help="length of each phase (default: 180)")
    parser.add_argument("--write", action="store_true", help="keep the figures in bench/results/agent.md")
    options = parser.parse_args()
    busy, idle = costs = asyncio.run(play(options.seconds))
    lines = [
        "| phase | pods replaced (n) | CPU, % of a core | status writes in 30 s | API requests a second | resident MiB | peak MiB |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {cost.phase}, {cost.seconds:.0f} s | {cost.replaced} | {cost.cpu_percent:.2f} | {cost.writes_per_30_seconds:.2f} "
        f"| {cost.requests_per_second:.2f} | {cost.resident_mib:.1f} | {cost.peak_mib:.1f} |"
        for cost in costs
    ]
    bars = f"Bars: {CPU_PERCENT_BAR} % of a core and {MIB_BAR:.0f} MiB while pods are replaced, {WRITES_BAR:.0f} status write in 30 s "
    lines += ["", bars + "while nothing important changes."]
    lines += ["All programs share the machine; with the default cooldown of 120 s about 220 addresses cool down."]
    lines += [f"Load average of the machine at the end: {os.getloadavg()[1]:.1f} (above its number of cores, CPU figures are too high)."]
    report("agent", lines, write=options.write)
    past = (max(busy.peak_mib, idle.peak_mib) / MIB_BAR, busy.cpu_percent / CPU_PERCENT_BAR, idle.writes_per_30_seconds / WRITES_BAR)
    return int(max(past) > FAIL_FACTOR)


if __name__ == "__main__":
    sys.exit(main())
