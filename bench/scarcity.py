"""A pool too small for its burst: does a pod wait while a block lies idle? In virtual time over the planner, and on the real thing.

The pool has 16 blocks of 16 addresses, the cluster 20 nodes, the burst asks for more than the pool has. A block is idle
while none of its addresses is in use or cools down. The figure is the longest time that one pod waited and one and the
same block was idle: the bar is the pool's quarantine and 5 seconds (to notice, to drain, to claim). The last rows
switch the planner's rule for scarcity off, and so show what the figure is without it.
"""

import argparse
import asyncio
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from bench import demand, scarcity_real
from bench.demand import Change
from bench.machine import percentile, report
from podcidr.core.burst import Burst
from podcidr.core.prefix import Family, Prefix
from podcidr.core.shrink import shrink
from tests.property import build
from tests.property.world import World

NODES, BLOCKS, PEAK_PODS = 20, 16, 150
BEGIN_SECONDS, HOURS = 40_000.0, 1.0
TICK_SECONDS = 0.25  # a report takes about 0.2 s to the operator, a round 0.05 s: three ticks make the handshake of a drain
BAR_BEYOND_QUARANTINE_SECONDS = 5.0
WISH = ()


@dataclass
class Figures:
    """What one replay showed."""

    waits: list[float] = field(default_factory=list)
    """Of each pod that was there, how long it waited."""
    beside_idle: float = 0.0
    """The longest that one pod waited while one block was idle."""
    beside_free: float | None = 0.0
    """The same for blocks that nobody held: what a claim takes."""
    pod_seconds: float = 0.0
    """Waits of all pods together, those never served too."""
    exhausted_seconds: float = 0.0
    """How long pods waited while no block was idle: nothing could be done for them."""


class Replay:
    """Trace, agents and operator on one clock."""

    def __init__(self, changes: list[Change], quarantine_seconds: int, cooldown_seconds: int) -> None:
        pool = build.pool("default", "10.64.0.0/24", gateway="None", quarantineSeconds=quarantine_seconds)
        self.world = World(pools={"default": pool}, now=0.0, watching_since=-1e6)
        self.blocks = [Prefix(Family.IPV4, (10 << 24) + (64 << 16) + 16 * number, 28) for number in range(BLOCKS)]
        for name in sorted({change.node for change in changes}):
            self.world.add_node(name, max_pods=250).cooldown_seconds = cooldown_seconds
        self.changes = changes
        self.cooldown_seconds = cooldown_seconds
        self.bursts: dict[str, Burst] = defaultdict(Burst)
        self.numbers: dict[str, int] = {}
        self.waiting_since: dict[str, float] = {}
        self.idle_since: dict[Prefix, float] = dict.fromkeys(self.blocks, 0.0)
        self.free_since: dict[Prefix, float] = {}
        self.figures = Figures()

    def run(self) -> Figures:
        """From the first change to the last."""
        position, end = 0, self.changes[-1].seconds
        while self.world.now <= end:
            while position < len(self.changes) and self.changes[position].seconds <= self.world.now:
                self._change(self.changes[position])
                position += 1
            self.world.agents_report()
            self._look()
            acted = bool(self.world.round().actions)
            self.world.now += TICK_SECONDS
            if not (acted or self.waiting_since) and position < len(self.changes):  # nothing can happen before the next change
                self.world.now = max(self.world.now, self.changes[position].seconds)
        return self.figures

    def _change(self, change: Change) -> None:
        agent = self.world.agents[change.node]
        number = self.numbers.setdefault(change.pod, len(self.numbers))
        if change.comes:
            agent.pods[number] = (WISH, ())
            self.waiting_since[change.pod] = self.world.now
            if change.seconds > 0:
                self.bursts[change.node].arrive(change.seconds)
                agent.burst = self.bursts[change.node].value
            return
        _, addresses = agent.pods.pop(number)
        self.waiting_since.pop(change.pod, None)
        if self.cooldown_seconds:
            agent.cooling |= dict.fromkeys(addresses, self.world.now + self.cooldown_seconds)

    def _look(self) -> None:
        now, figures = self.world.now, self.figures
        held = {self.numbers[pod]: pod for pod in self.waiting_since}
        busy: set[int] = set()
        for agent in self.world.agents.values():
            busy.update(address >> 4 << 4 for _, address in (*agent.in_use, *agent.cooling))
            for number, (_, addresses) in agent.pods.items():
                if addresses and number in held:
                    figures.waits.append(now - self.waiting_since.pop(held[number]))
        self.idle_since = {block: now if block.address in busy else self.idle_since[block] for block in self.blocks}
        claimed = {block.prefix for block in self.world.blocks.values()}
        self.free_since = {block: self.free_since.get(block, now) for block in self.blocks if block not in claimed}
        figures.pod_seconds += TICK_SECONDS * len(self.waiting_since)
        if not self.waiting_since:
            return
        longest = min(self.waiting_since.values())
        idle = [max(longest, since) for block, since in self.idle_since.items() if block.address not in busy]
        free = [max(longest, since) for since in self.free_since.values()]
        figures.beside_idle = max(figures.beside_idle, *(now - since for since in idle), 0.0)
        figures.beside_free = max(figures.beside_free or 0.0, *(now - since for since in free), 0.0)
        figures.exhausted_seconds += TICK_SECONDS if not idle else 0.0


@contextmanager
def without_scarcity() -> Iterator[None]:
    """The planner with its rule for scarcity switched off."""

    def patient(groups: Any, drafts: Any, snapshot: Any, now: float, _scarce: Any) -> None:
        shrink(groups, drafts, snapshot, now, set())

    with patch("podcidr.core.plan.shrink", patient):
        yield


def the_burst(traces: Path | None) -> tuple[str, list[Change]]:
    """A part of the recorded batch trace, or an invented one like it."""
    file = traces / "demand-batch.csv.gz" if traces else None
    if file and file.exists():
        changes = demand.window(demand.read(file), NODES, BEGIN_SECONDS, HOURS)
        return f"{file.name}, {HOURS:g} h of its {NODES} busiest nodes, thinned", demand.thinned(changes, PEAK_PODS)
    return "invented (bench/demand.py)", demand.thinned(demand.invented(NODES, HOURS), PEAK_PODS)


def cases(changes: list[Change]) -> Iterator[tuple[str, int, Callable[[], Figures]]]:
    """Name, quarantine, and how to run it."""
    for quarantine, cooldown in ((300, 120), (30, 10), (0, 0)):
        yield "podcidr", quarantine, Replay(changes, quarantine, cooldown).run
    yield "rule off", 30, partial(_run_without, Replay(changes, 30, 10))
    yield "rule off", 0, partial(_run_without, Replay(changes, 0, 0))


def _run_without(replay: Replay) -> Figures:
    with without_scarcity():
        return replay.run()


def row(name: str, quarantine: float, figures: Figures) -> str:
    """One line of the table."""
    waits = figures.waits or [0.0]
    cells = [
        name,
        f"{quarantine:g}",
        f"{len(waits):,}",
        f"{percentile(waits, 50):.2f}",
        f"{percentile(waits, 99):.0f}",
        f"{figures.pod_seconds:,.0f}",
        f"{figures.exhausted_seconds:.0f}",
        "–" if figures.beside_free is None else f"{figures.beside_free:.2f}",
        f"**{figures.beside_idle:.2f}**",
        f"{quarantine + BAR_BEYOND_QUARANTINE_SECONDS:g}",
    ]
    return f"| {' | '.join(cells)} |"


HEADER = [
    "| planner | quarantine s | pods | wait p50 s | p99 s | all s | none idle s | beside a free block s | beside an idle one s | bar s |",
    "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
]


def virtual(traces: Path | None) -> tuple[list[str], bool]:
    """The table, and whether the planner kept three times the bar."""
    source, changes = the_burst(traces)
    lines = [
        f"Virtual time: {BLOCKS} blocks of 16 addresses, {NODES} nodes; demand: {source}: at most {demand.highest(changes)} pods at once.",
        "",
        *HEADER,
    ]
    kept = True
    for name, quarantine, run in cases(changes):
        figures = run()
        lines.append(row(name, quarantine, figures))
        if name == "podcidr":
            kept &= figures.beside_idle <= 3 * (quarantine + BAR_BEYOND_QUARANTINE_SECONDS)
    return lines, kept


def real(nodes: int, blocks: int) -> list[str]:
    """The table of the smaller check with operator, agents and plugin."""
    found = asyncio.run(scarcity_real.run(nodes, blocks))
    setting = f"operator, {nodes} agents, plugin and API server; {blocks} blocks of 16 addresses"
    return [
        "",
        f"The real thing: {setting}, {found.pods} pods in {found.seconds:.0f} s.",
        "",
        *HEADER,
        row(
            "podcidr",
            scarcity_real.QUARANTINE_SECONDS,
            Figures(found.waits, found.beside_idle, None, sum(found.waits), found.exhausted_seconds),
        ),
    ]


def main(argv: Iterable[str] | None = None) -> int:
    """Print the figures; fails only past three times a bar."""
    parser = argparse.ArgumentParser("bench.scarcity", description=__doc__)
    parser.add_argument("--traces", type=Path, help="a folder with recorded traces; without it the burst is invented")
    parser.add_argument("--real", action="store_true", help="also run the smaller check on the real thing")
    parser.add_argument("--nodes", type=int, default=10, help="nodes of the real thing (default: 10)")
    parser.add_argument("--blocks", type=int, default=8, help="blocks of the real thing (default: 8)")
    parser.add_argument("--write", action="store_true", help="keep the figures in bench/results/scarcity.md")
    options = parser.parse_args(None if argv is None else list(argv))
    lines, kept = virtual(options.traces)
    if options.real:
        lines += real(options.nodes, options.blocks)
    report("scarcity", lines, write=options.write)
    return int(not kept)


if __name__ == "__main__":
    sys.exit(main())
