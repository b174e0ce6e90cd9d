"""The end: figures, where to look, or what went wrong."""

import statistics

from demo.stage import Stage
from demo.timeline import say
from demo.watch import FREED, GRANTED


async def summarize(stage: Stage, seconds: float) -> None:
    """The figures of this run."""
    for program in (stage.operator, *stage.agents.values()):
        await stage.count_writes(program)
    cuts = statistics.quantiles(stage.add_seconds, n=100)
    watch = stage.watch
    blocks = sum(len(holding.blocks) for holding in watch.nodes.items.values())
    say("\nsummary")
    for name, value in {
        "pods started": f"{stage.pods_started}",
        "ADD": f"p50 {cuts[49] * 1000:.0f} ms, p99 {cuts[98] * 1000:.0f} ms (16 at a time; waiting for a block included)",
        "blocks": f"{watch.count(GRANTED)} granted, {watch.peak} held at the peak, {watch.count(FREED)} freed, {blocks} held at the end",
        "API writes": f"{stage.writes} by operators and agents together",
        "addresses held twice": "0",
        "took": f"{seconds:.0f} s",
    }.items():
        say(f"  {name:<22}{value}")


def look_around(stage: Stage, *, keep: bool) -> None:
    """What to try next."""
    if not keep:
        say("\nto look around in it: make demo KEEP=1")
        return
    kubectl = stage.binaries / "kubectl"
    say("\nit goes on running until Ctrl-C. In another terminal:")
    say(f"  export KUBECONFIG={stage.plane.admin_kubeconfig}")
    for command in (
        f"{kubectl} get ippools.podcidr.io,nodecidrs,ipblocks",
        ".venv/bin/podcidr show",
        ".venv/bin/podcidr plan --dry-run",
        ".venv/bin/podcidr check " + " ".join(f"--state-dir {machine.state_dir}" for machine in stage.machines.values()),
        f'{kubectl} patch ippools.podcidr.io default --type=merge -p \'{{"spec":{{"scaling":{{"minBlocksPerNode":3}}}}}}\'',
        f"ls {next(iter(stage.machines.values())).state_dir}",
    ):
        say(f"  {command}")


def tell_failure(stage: Stage, act: str, error: BaseException) -> None:
    """Which act, why, and the last words of everybody."""
    say(f"\nFAILED in {act}")
    for reason in _reasons(error):
        say(f"  {reason}")
    for program in (stage.operator, *stage.agents.values()):
        say(f"\nlast lines of {program.name}:")
        for line in program.output().splitlines()[-10:]:
            say(f"  {line[:300]}")


def _reasons(error: BaseException) -> list[str]:
    if isinstance(error, BaseExceptionGroup):
        return list(dict.fromkeys(reason for inner in error.exceptions for reason in _reasons(inner)))[:5]
    return [f"{type(error).__name__}: {error}"]
