"""How long a node waits for its first block, and a pod for an address when its node has none: end to end, on the real thing."""

import argparse
import asyncio
import sys
import time

from bench.machine import percentile, report
from tests.cluster.api import Api
from tests.cluster.control_plane import ControlPlane
from tests.cluster.kubelet import Cluster, Machine, eventually
from tests.cluster.plugin import build_plugin
from tests.cluster.program import ROOT

POOL = """
apiVersion: podcidr.io/v1alpha1
kind: IPPool
metadata: {name: default}
spec:
  ipv4: {cidrs: [10.64.0.0/16], blockPrefixLength: 28}
  scaling: {minFreeAddresses: 0, maxFreeAddresses: 0, minBlocksPerNode: 1}
"""
NODECIDRS = "/apis/podcidr.io/v1alpha1/nodecidrs"
FIRST_BLOCK_BAR_SECONDS, WAITING_ADD_BAR_SECONDS = 0.3, 0.5


async def first_blocks(cluster: Cluster, count: int) -> list[float]:
    """From the answer to the creation of a Node to the moment at which its NodeCIDR is seen to list a block."""
    found = []
    for number in range(count):
        await cluster.add_machine(f"new-{number}", pods=110)
        started = time.monotonic()
        await has_block(cluster.api, f"new-{number}")
        found.append(time.monotonic() - started)
    return found


async def has_block(api: Api, node: str) -> None:
    """Asks every 5 ms."""

    async def listed() -> bool:
        items = (await api.get(f"{NODECIDRS}?fieldSelector=metadata.name%3D{node}"))["items"]
        return bool(items and items[0]["spec"]["blocks"])

    await eventually(listed, f"node {node} to have a block", every_seconds=0.005)


async def waiting_adds(cluster: Cluster, machine: Machine, count: int) -> tuple[list[float], list[float]]:
    """ADDs that find every address of the node taken, and ADDs that find one: each timed around the plugin's process."""
    waited: list[float] = []
    at_once: list[float] = []
    number = 0
    while len(waited) < count:
        full = await is_full(cluster, machine)
        started = time.monotonic()
        await machine.start_pod("web", f"pod-{number}", attempts=1)
        (waited if full else at_once).append(time.monotonic() - started)
        number += 1
    return waited, at_once


async def is_full(cluster: Cluster, machine: Machine) -> bool:
    """No address left in the blocks that the node has (the first one lost two to network and gateway)."""
    blocks = (await cluster.api.get(f"{NODECIDRS}/{machine.name}"))["spec"]["blocks"]
    held = sum(holding.node == machine.name for holding in cluster.ledger.held().values())
    lost = 2 if any(block["cidr"] == "10.64.0.0/28" for block in blocks) else 0
    return held >= 16 * len(blocks) - lost


async def run(plane: ControlPlane, count: int) -> dict[str, list[float]]:
    """One operator, one agent, an idle cluster."""
    async with Cluster(plane, plugin=build_plugin()) as cluster:
        await cluster.create_namespace("web")
        await cluster.start_operator()
        machine = await cluster.add_machine("busy", pods=2000)
        await machine.start_agent()
        await has_block(cluster.api, "busy")
        first = await first_blocks(cluster, count)
        waited, at_once = await waiting_adds(cluster, machine, count)
        return {"Node created → first block": first, "ADD that waits for a block": waited, "pod start with room": at_once}


def main() -> int:
    """Print both figures; fails only past three times a bar."""
    parser = argparse.ArgumentParser("bench.latency", description=__doc__)
    parser.add_argument("-n", type=int, default=20, help="samples (default: 20)")
    parser.add_argument("--write", action="store_true", help="keep the figures in bench/results/latency.md")
    options = parser.parse_args()
    with ControlPlane() as plane:
        plane.install(ROOT)
        plane.apply(POOL)
        found = asyncio.run(run(plane, options.n))
    bars = dict(zip(found, (FIRST_BLOCK_BAR_SECONDS, WAITING_ADD_BAR_SECONDS), strict=False))
    lines = ["| what | n | p50 ms | p99 ms | bar (p50) ms |", "|---|---|---|---|---|"]
    for what, seconds in found.items():
        bar = f"{bars[what] * 1000:.0f}" if what in bars else ""
        p50, p99 = percentile(seconds, 50) * 1000, percentile(seconds, 99) * 1000
        lines.append(f"| {what} | {len(seconds)} | {p50:.0f} | {p99:.0f} | {bar} |")
    lines += ["", "An ADD is timed with the creation of its Pod and of its network namespace."]
    report("latency", lines, write=options.write)
    return int(any(percentile(found[what], 50) > 3 * bar for what, bar in bars.items()))


if __name__ == "__main__":
    sys.exit(main())
