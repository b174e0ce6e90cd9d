"""Where the next free block of an exhausted pool will come from, and when: pure."""

from collections.abc import Iterable

from podcidr.cli.scene import Scene, duration, moment, quarantine_seconds
from podcidr.core.actions import Drain, Leave
from podcidr.core.model import IDLE

SHOWN = 3


def relief(scene: Scene, pools: Iterable[str]) -> tuple[list[str], list[str]]:
    """What comes back by itself, soonest first, and what a person can do."""
    helps: list[str] = []
    do: list[str] = []
    for name in pools:
        found = [*_resting(scene, name), *_draining(scene, name), *_given_back(scene, name)]
        helps += found or [f"nothing of pool {name} comes back by itself before pods that use it end"]
        do.append(f"append a CIDR to pool {name}, or end pods that use it (podcidr show blocks; podcidr explain pool {name})")
    return helps, do


def _resting(scene: Scene, pool: str) -> list[str]:
    """Blocks in quarantine."""
    resting = [block for block in scene.snapshot.blocks.values() if block.pool == pool and block.quarantined]
    known = sorted((until, block.prefix) for block in resting if (until := scene.rests_until(block)))
    lines = [f"block {prefix} of pool {pool} is free again at {moment(until)}, when its quarantine ends" for until, prefix in known]
    more = [f"… and {len(lines) - SHOWN} more rest in quarantine"] if len(lines) > SHOWN else []
    return lines[:SHOWN] + more


def _draining(scene: Scene, pool: str) -> list[str]:
    """Blocks on their way back."""
    rest = duration(quarantine_seconds(scene.snapshot, pool))
    lines = []
    for nodecidr in scene.snapshot.nodecidrs.values():
        for entry in nodecidr.entries:
            if entry.pool == pool and entry.draining:
                usage = nodecidr.known.blocks.get(entry.prefix, IDLE) if nodecidr.known else None
                waits = f"{usage.in_use} addresses in use, {usage.cooling} cooling" if usage else "no report of its node"
                lines.append(f"block {entry.prefix} drains on node {nodecidr.name} ({waits}); once empty it rests {rest}, then it is free")
    return lines[:SHOWN] + ([f"… and {len(lines) - SHOWN} more drain"] if len(lines) > SHOWN else [])


def _given_back(scene: Scene, pool: str) -> list[str]:
    """What the next rounds take from nodes that do not need it."""
    lines = []
    for when, actions in (("now", scene.now_actions), ("when its window has passed", scene.later_actions)):
        for action in actions:
            if isinstance(action, Drain | Leave) and _pool_of(scene, action) == pool:
                word = "drains" if isinstance(action, Drain) else "leaves"
                lines.append(f"block {action.prefix} {word} on node {action.node} {when} ({action.reason})")
    return lines[:SHOWN]


def _pool_of(scene: Scene, action: Drain | Leave) -> str:
    nodecidr = scene.snapshot.nodecidrs.get(action.node)
    entries = nodecidr.entries if nodecidr else ()
    return next((entry.pool for entry in entries if entry.prefix == action.prefix), "")
