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
        helps += _kept(scene, name)
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
    return lines[:SHOWN] + ([f"… and {len(lines) - SHOWN} more are given back"] if len(lines) > SHOWN else [])


def _kept(scene: Scene, pool: str) -> list[str]:
    """Empty blocks that do not come back: pods wait on their nodes too."""
    going = {action.prefix for action in (*scene.now_actions, *scene.later_actions) if isinstance(action, Drain)}
    lines = []
    for nodecidr in scene.snapshot.nodecidrs.values():
        report = nodecidr.current
        pending = max((demand.pending for demand in report.demand if pool in demand.pools), default=0) if report else 0
        active = [entry.prefix for entry in nodecidr.entries if entry.pool == pool and not entry.draining]
        empty = [prefix for prefix in active if prefix not in going and not any(report.blocks.get(prefix, IDLE))] if report else []
        if pending and empty:
            blocks, pods = f"block {empty[0]}" if len(empty) == 1 else f"{len(empty)} blocks", "pod waits" if pending == 1 else "pods wait"
            lines.append(f"node {nodecidr.name} keeps {blocks} of pool {pool}, empty: {pending} {pods} there too")
    return lines[:SHOWN] + ([f"… and {len(lines) - SHOWN} more nodes keep some"] if len(lines) > SHOWN else [])


def _pool_of(scene: Scene, action: Drain | Leave) -> str:
    nodecidr = scene.snapshot.nodecidrs.get(action.node)
    entries = nodecidr.entries if nodecidr else ()
    return next((entry.pool for entry in entries if entry.prefix == action.prefix), "")
