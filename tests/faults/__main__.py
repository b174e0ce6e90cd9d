"""`make faults`: the storm on real processes, at length."""

import argparse
import asyncio
import secrets
import sys
import tempfile
from pathlib import Path

from bench.machine import report as show
from tests.cluster.control_plane import ControlPlane
from tests.cluster.kubelet import Cluster
from tests.cluster.plugin import build_plugin
from tests.cluster.program import ROOT
from tests.faults.storm import Report, storm


def main() -> int:
    """Exit 1 if an address was held by two, or something is wrong at the end."""
    parser = argparse.ArgumentParser("python -m tests.faults", description=__doc__)
    parser.add_argument("--faults", type=int, default=240, metavar="N", help="faults of all kinds (default: %(default)s)")
    parser.add_argument("--assignments", type=int, default=50_000, metavar="N", help="addresses assigned, at least (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=None, metavar="N", help="which faults, and when (default: random)")
    parser.add_argument("--record", type=Path, default=None, metavar="FILE", help="keep the record of assignments there")
    parser.add_argument("--write", action="store_true", help="keep the figures in bench/results/faults.md")
    options = parser.parse_args()
    seed = secrets.randbits(32) if options.seed is None else options.seed
    with tempfile.TemporaryDirectory(prefix="podcidr-faults-") as directory:
        record = options.record or Path(directory) / "assignments.jsonl"
        report = asyncio.run(run(record, options.faults, options.assignments, seed))
    show("faults", report.lines(), write=options.write)
    for line in [*report.overlaps, *report.violations]:
        print(f"WRONG: {line}", file=sys.stderr)
    return 1 if report.overlaps or report.violations else 0


async def run(record: Path, faults: int, assignments: int, seed: int) -> Report:
    """On a control plane of its own."""
    with ControlPlane() as plane:
        plane.install(ROOT)
        # Held files stand for network namespaces: fifty thousand of these keep the kernel busier than us.
        async with Cluster(plane, plugin=build_plugin(), concurrency=400, real_namespaces=False) as cluster:
            return await storm(cluster, record, faults=faults, assignments=assignments, seed=seed, say=lambda text: print(text, flush=True))


if __name__ == "__main__":
    sys.exit(main())
