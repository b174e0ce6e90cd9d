"""The acts, in order. Each says what to look for, and fails when it did not happen."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from demo.stage import COOLDOWN_SECONDS, HEADROOM, NODES, PINNED, PINNED_TEAM, TEAM, Stage, require, start_operator
from demo.timeline import say
from demo.watch import DRAINING, FREED, LEFT, QUARANTINED
from tests.cluster.program import ROOT

STAY = 4
"""Pods that each node keeps to the end: a check of nothing proves nothing."""


@dataclass(frozen=True)
class Act:
    """One thing to see."""

    title: str
    look: str
    play: Callable[[Stage], Awaitable[str]]
    """Plays it; gives what happened, in one sentence."""


async def join(stage: Stage) -> str:
    """First blocks."""
    seconds = [await stage.join(node) for node in NODES]
    for node in NODES:
        require(len(stage.watch.blocks(node)) == 1, f"{node} has one block, of the automatic pool; it has {stage.watch.blocks(node)}")
    for node in NODES:
        await stage.start_agent(node)
    times = ", ".join(f"{s * 1000:.0f} ms" for s in seconds)
    return f"from Node to first block: {times}; three agents run, each with a state directory of its own"


async def burst(stage: Stage) -> str:
    """Growth."""
    async with asyncio.TaskGroup() as group:
        for node, count in zip(NODES, (90, 35, 10), strict=True):
            group.create_task(stage.start_pods(node, TEAM, count))
    await stage.until(lambda: all(stage.free(node) >= HEADROOM for node in NODES), f"every node has {HEADROOM} free addresses again")
    counts = {node: len(stage.watch.blocks(node)) for node in NODES}
    require(counts["node-a"] >= 6 > counts["node-c"], f"node-a has six blocks at least and node-c fewer: {counts}")
    require(len(stage.held()) == 135, f"135 pods have 135 different addresses: {len(stage.held())}")
    say(f"         why node-a's last block, in the operator's words: \"{stage.reason('Claim', 'node-a')}\"")
    return f"135 pods, 135 addresses; blocks: {', '.join(f'{node} {count}' for node, count in counts.items())}"


async def pin(stage: Stage) -> str:
    """The pinned namespace."""
    require(not any(stage.watch.blocks(node, PINNED) for node in NODES), f"no node has a block of pool {PINNED} yet")
    started = time.monotonic()
    await stage.start_pods("node-b", PINNED_TEAM, 1)
    first_ms = (time.monotonic() - started) * 1000
    await stage.start_pods("node-b", PINNED_TEAM, 9)
    addresses = [a for (ns, _), pod in stage.machines["node-b"].pods.items() if ns == PINNED_TEAM for a in pod.addresses]
    require(len(addresses) == 10 and all(a.startswith("10.80.0.") for a in addresses), f"ten addresses of pool {PINNED}: {addresses}")
    holders = [node for node in NODES if stage.watch.blocks(node, PINNED)]
    require(holders == ["node-b"], f"node-b alone has blocks of pool {PINNED}: {holders}")
    return f"the first pod waited for its pool's first block and ran after {first_ms:.0f} ms; ten have addresses from {addresses[0]} on"


async def roll_out(stage: Stage) -> str:
    """Cooldown."""
    before = len(stage.watch.blocks("node-a"))
    await stage.within(40, stage.replace_pods("node-a", TEAM, 80, at_once=8), "80 pods of node-a are replaced")
    await stage.until(lambda: stage.free("node-a") >= HEADROOM, "node-a has room again")
    rest = stage.cluster.ledger.shortest_rest_seconds()
    require(rest is None or rest >= COOLDOWN_SECONDS, f"no address was used again before {COOLDOWN_SECONDS} s: {rest} s")
    reused = "no address was needed again" if rest is None else f"the address used again soonest had rested for {rest:.1f} s"
    return f"80 pods replaced; {reused}; node-a has {len(stage.watch.blocks('node-a')) - before} blocks more meanwhile"


async def survive(stage: Stage) -> str:
    """Life without an operator, and with a new one."""
    await stage.until(lambda: all(stage.free(node) >= HEADROOM for node in NODES), "every node has room")
    await stage.count_writes(stage.operator)
    await stage.count_writes(stage.agents["node-c"])
    stage.operator.kill()
    stage.agents["node-c"].kill()
    epochs = {node: stage.watch.nodes.items[node].epoch for node in NODES}
    started = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for node in NODES:
            group.create_task(stage.start_pods(node, TEAM, 5))
    seconds = time.monotonic() - started
    require({node: stage.watch.nodes.items[node].epoch for node in NODES} == epochs, "nobody gave a block meanwhile")
    say(f"         15 pods started with no operator alive, in {seconds:.1f} s; both start again now, and 60 pods more arrive on node-c")
    stage.operator = await start_operator(stage.cluster)
    await stage.start_agent("node-c")
    await stage.within(40, stage.start_pods("node-c", TEAM, 60), "60 pods on node-c have addresses, by blocks of the new operator")
    return "the next operator waited until the Lease had expired, took it over and gave node-c what it lacked"


async def shrink(stage: Stage) -> str:
    """Everything back."""
    reports = stage.watch.nodes.items
    await stage.until(lambda: not any(reports[node].pending for node in NODES), "every node has reported that no pod waits")
    first = len(stage.watch.changes)
    held = sum(len(stage.watch.blocks(node)) for node in NODES)
    async with asyncio.TaskGroup() as group:
        for node in NODES:
            group.create_task(stage.stop_pods(node, keep=STAY))
    watch = stage.watch
    await stage.until(
        lambda: all(len(watch.blocks(node)) == 1 for node in NODES) and len(watch.ledger.items) == len(NODES),
        "each node is back at one block, and the IPBlocks of all others are gone",
        timeout_seconds=60,
    )
    returned = held - len(NODES)
    for what in (DRAINING, LEFT, QUARANTINED, FREED):
        seen = watch.count(what, first)
        require(seen >= returned, f"each of {returned} blocks was seen {what}: {seen}")
    return f"{returned} blocks drained, left, rested and are free; each node keeps one block and {STAY} pods"


async def check(stage: Stage) -> str:
    """The invariants, from the API and from the nodes' disks."""
    command = [sys.executable, "-m", "podcidr", "check", f"--kubeconfig={stage.plane.admin_kubeconfig}"]
    for machine in stage.machines.values():
        command += ["--state-dir", str(machine.state_dir)]
    done = await asyncio.to_thread(
        subprocess.run, command, cwd=ROOT, env=program_environment(), capture_output=True, text=True, timeout=60, check=False
    )
    for line in done.stdout.splitlines():
        say(f"         {line}")
    require(done.returncode == 0, f"`podcidr check` exits with 0: {done.returncode}\n{done.stderr.strip()}")
    require("check: 0 violations" in done.stdout, "`podcidr check` finds no violation")
    twice = stage.cluster.ledger.check_overlaps()
    require(not twice, f"no address was held twice, by the runtime's own record: {twice}")
    return f"and by the runtime's own record none of {len(stage.cluster.ledger.holdings)} assignments met another one of its address"


def program_environment() -> dict[str, str]:
    """For podcidr's programs from this tree."""
    return {**os.environ, "PYTHONPATH": str(ROOT / "operator"), "PYTHONSAFEPATH": "1"}


ACTS = (
    Act("three nodes join", "each gets its first block of 16 addresses before any pod asks", join),
    Act("a burst of pods", f"node-a grows to many blocks, node-c hardly; {HEADROOM} addresses stay free everywhere", burst),
    Act(
        f"namespace {PINNED_TEAM} is pinned to pool {PINNED}",
        "no node holds a block of it until the first pod asks; then node-b alone does",
        pin,
    ),
    Act(
        "a rollout on node-a, eight pods at a time",
        f"released addresses cool down for {COOLDOWN_SECONDS} s before they are used again, and count as used so long",
        roll_out,
    ),
    Act("the operator and node-c's agent are killed with -9", "pods start all the same: the plugin needs files only", survive),
    Act("most pods go", "blocks empty from the highest down, drain, rest in quarantine, and are free again", shrink),
    Act("podcidr check", "the invariants, counted on API objects and on all three state directories", check),
)
