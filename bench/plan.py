"""How long one plan takes: 5,000 nodes and 25,000 blocks, settled and with growth. The bar is one second of CPU: it does nothing else.

python bench/plan.py [--write]
"""

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / "operator"), str(Path(__file__).parents[1])]

from podcidr.api import convert  # noqa: E402 - after sys.path, so that the script runs from a fresh clone
from podcidr.core.model import Block, Demand, Entry, Memory, Node, NodeCIDR, Pool, Report, Snapshot, Usage  # noqa: E402
from podcidr.core.plan import Plan, plan  # noqa: E402
from podcidr.core.prefix import Family, Prefix, block_name  # noqa: E402

NODES, BLOCKS_EACH, ROUNDS, NOW = 5_000, 5, 15, 100_000.0
BAR_SECONDS = 1.0
RESULT = Path(__file__).parent / "results" / "plan.md"


def the_pool(name: str = "default", ipv4: str = "10.0.0.0/12") -> Pool:
    """As from the API."""
    spec = {"ipv4": {"cidrs": [ipv4]}, "reserved": ["10.0.0.64-10.0.0.95"]}
    return convert.pool({"metadata": {"name": name, "uid": f"{name}-uid"}, "spec": spec, "status": {"acceptedCIDRs": [ipv4]}})


def settled(nodes: int = NODES) -> Snapshot:
    """Every node holds what it needs: 4 blocks in use and one with room."""
    pool = the_pool()
    base, size = pool.spaces[Family.IPV4].cidrs[0].address + 4096, 16
    snapshot = Snapshot({pool.name: pool}, {}, {}, {}, Memory())
    nodecidrs: dict[str, NodeCIDR] = {}
    blocks: dict[str, Block] = {}
    for index in range(nodes):
        name, uid = f"node-{index:05}", f"uid-{index}"
        prefixes = [Prefix(Family.IPV4, base + (index * BLOCKS_EACH + i) * size, 28) for i in range(BLOCKS_EACH)]
        usage = {prefix: Usage(15, 1) for prefix in prefixes[:-1]} | {prefixes[-1]: Usage(4, 0)}
        report = Report(uid, 6, usage, (Demand(("default",), Family.IPV4, 0, 5),), 4, "")
        entries = tuple(Entry(prefix, pool.name, pool.uid, 1) for prefix in prefixes)
        nodecidrs[name] = NodeCIDR(name, uid, 6, (pool.name,), entries, report)
        for prefix in prefixes:
            key = block_name(prefix)
            blocks[key] = Block(key, f"block-{prefix.address}", prefix, pool.name, pool.uid, name, uid)
    node_values = {name: Node(name, {"kubernetes.io/hostname": name}, 110, ready=True) for name in nodecidrs}
    return replace(snapshot, nodes=node_values, nodecidrs=nodecidrs, blocks=blocks)


def growing(snapshot: Snapshot) -> Snapshot:
    """One node in ten has pods that wait for two blocks more."""
    nodecidrs = dict(snapshot.nodecidrs)
    for name in list(nodecidrs)[::10]:
        report = nodecidrs[name].report
        assert report
        nodecidrs[name] = replace(nodecidrs[name], report=replace(report, demand=(Demand(("default",), Family.IPV4, 30, 5),)))
    return replace(snapshot, nodecidrs=nodecidrs)


def joining(snapshot: Snapshot) -> Snapshot:
    """All nodes at once have an empty list."""
    empty = {name: replace(nodecidr, entries=(), report=None) for name, nodecidr in snapshot.nodecidrs.items()}
    return replace(snapshot, nodecidrs=empty, blocks={})


def measure(work: Callable[[], Plan]) -> tuple[float, float, int]:
    """p50 in seconds by the wall clock and of CPU time (others may share the machine), and how many actions."""
    wall, cpu = [], []
    for _ in range(ROUNDS):
        begin, cpu_begin = time.perf_counter(), time.process_time()
        actions = len(work().actions)
        wall.append(time.perf_counter() - begin)
        cpu.append(time.process_time() - cpu_begin)
    return statistics.median(wall), statistics.median(cpu), actions


def main(argv: list[str]) -> int:
    """Measure, print, and fail above the bar."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--write", action="store_true", help=f"also write bench/results/{RESULT.name}")
    arguments = options.parse_args(argv)
    snapshot = settled()
    cases = {
        "settled": snapshot,
        "one node in ten grows": growing(snapshot),
        "all nodes join": joining(snapshot),
        "settled, twice as many": settled(2 * NODES),
    }
    lines = [f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores; n = {ROUNDS}", ""]
    lines += ["| snapshot | nodes | blocks | actions | p50 ms | of CPU |", "|---|--:|--:|--:|--:|--:|"]
    slowest = 0.0
    for name, case in cases.items():
        p50, cpu, actions = measure(lambda case=case: plan(case, NOW))  # type: ignore[misc]
        lines.append(f"| {name} | {len(case.nodes):,} | {len(case.blocks):,} | {actions:,} | {p50 * 1000:.0f} | {cpu * 1000:.0f} |")
        slowest = max(slowest, cpu) if len(case.nodes) == NODES else slowest
    print("\n".join(lines))
    if arguments.write:
        RESULT.parent.mkdir(exist_ok=True)
        title = "# `plan` over a large cluster\n\n`python bench/plan.py --write`; the bar is 1 s of CPU at 5,000 nodes."
        RESULT.write_text("\n".join([title, "", *lines, ""]))
    return int(slowest > BAR_SECONDS)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
