"""1,000 and 2,000 Nodes created at once on a real API server: time, API requests a node, the operator's memory."""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

import aiohttp

from bench.machine import report
from tests.cluster.control_plane import ControlPlane
from tests.cluster.kubelet import eventually
from tests.cluster.program import ROOT, Program

POOL = """
apiVersion: podcidr.io/v1alpha1
kind: IPPool
metadata: {name: default}
spec: {ipv4: {cidrs: [10.64.0.0/14], blockPrefixLength: 28}}
"""
LARGEST_FACTOR = 2.2


async def create_nodes(plane: ControlPlane, count: int) -> None:
    """As fast as the API server takes them."""
    headers = {"Authorization": f"Bearer {plane.admin_token}"}
    connector = aiohttp.TCPConnector(limit=16, ssl=plane.ssl_context)
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:

        async def create(number: int) -> None:
            body = {"metadata": {"name": f"node-{number:05}"}}
            async with session.post(f"{plane.url}/api/v1/nodes", json=body) as answer:
                answer.raise_for_status()

        await asyncio.gather(*(create(number) for number in range(count)))


async def measure(plane: ControlPlane, directory: Path, count: int) -> dict[str, float]:
    """One size, with an operator of its own."""
    kubeconfig = plane.kubeconfig_for_service_account("podcidr-system", "podcidr-operator")
    operator = Program("operator", ["operator"], kubeconfig=kubeconfig, directory=directory)
    try:
        await operator.ready()
        await eventually(lambda: accepted(plane), "the pool to be accepted")
        before, cpu_before = await requests(operator), cpu_seconds(operator.pid)
        started = time.monotonic()
        await create_nodes(plane, count)
        created = time.monotonic() - started
        await eventually(lambda: all_served(plane, count), f"{count} nodes to have a block", timeout_seconds=300, every_seconds=0.2)
        return {
            "nodes": count,
            "create_seconds": created,
            "seconds": time.monotonic() - started,
            "requests_per_node": (await requests(operator) - before) / count,
            "cpu_seconds": cpu_seconds(operator.pid) - cpu_before,
            "peak_mib": operator.peak_memory_bytes() / 2**20,
        }
    finally:
        operator.terminate()


def run(count: int) -> dict[str, float]:
    """A control plane of its own, so that sizes do not inherit anything."""
    with ControlPlane() as plane, tempfile.TemporaryDirectory() as directory:
        plane.install(ROOT)
        plane.apply(POOL)
        return asyncio.run(measure(plane, Path(directory), count))


async def accepted(plane: ControlPlane) -> bool:
    """The pool may be claimed from."""
    pool = await asyncio.to_thread(plane.request, "GET", "/apis/podcidr.io/v1alpha1/ippools/default")
    return bool(pool.get("status", {}).get("acceptedCIDRs"))


async def all_served(plane: ControlPlane, count: int) -> bool:
    """Every NodeCIDR lists a block; read from the API server's cache, which costs it little."""
    listing = await asyncio.to_thread(plane.request, "GET", "/apis/podcidr.io/v1alpha1/nodecidrs?resourceVersion=0")
    return sum(bool(item["spec"].get("blocks")) for item in listing["items"]) == count


async def requests(operator: Program) -> float:
    """All but the watches, which do not grow with the nodes."""
    metrics = await operator.metrics()
    return metrics.total("podcidr_api_requests_total") - metrics.total("podcidr_api_requests_total", verb="watch")


def cpu_seconds(pid: int) -> float:
    """User and system."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


def main() -> int:
    """Both sizes; fails only where doubling costs far more than twice."""
    parser = argparse.ArgumentParser("bench.smoke", description=__doc__)
    parser.add_argument("--nodes", type=int, default=1000, help="the smaller size (default: 1000)")
    parser.add_argument("--write", action="store_true", help="keep the figures in bench/results/smoke.md")
    options = parser.parse_args()
    small, large = run(options.nodes), run(2 * options.nodes)
    lines = ["| nodes | created in s | all have a block after s | requests a node | CPU s | peak MiB |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {r['nodes']:.0f} | {r['create_seconds']:.1f} | {r['seconds']:.1f} | {r['requests_per_node']:.2f} | {r['cpu_seconds']:.1f} "
        f"| {r['peak_mib']:.0f} |"
        for r in (small, large)
    ]
    time_factor = large["seconds"] / small["seconds"]
    request_factor = 2 * large["requests_per_node"] / small["requests_per_node"]
    lines += ["", f"Doubling costs {time_factor:.2f} x the time and {request_factor:.2f} x the requests (bar: {LARGEST_FACTOR} x)."]
    report("smoke", lines, write=options.write)
    print(json.dumps({"small": small, "large": large}), file=sys.stderr)
    return int(max(time_factor, request_factor) > 3 * LARGEST_FACTOR)


if __name__ == "__main__":
    sys.exit(main())
