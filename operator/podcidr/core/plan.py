"""`plan(snapshot, now)`: what to do now, and why. Pure, total, deterministic; the operator lives on this one function.

    violations → freeze │ life of each node's blocks │ demand → targets │ grow │ shrink │ leave, free

The operator, `podcidr plan`, simulation and tests run the same one. Nothing is planned from a partial view.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from .actions import Action, Adopt, Leave
from .demand import NodeClass, classes, serves, targets
from .grow import Growth
from .invariants import Violation, violations
from .life import Draft, Scene, free, live
from .model import Block, Key, Node, Pool, Snapshot
from .prefix import Family
from .shrink import shrink


@dataclass(frozen=True)
class Plan:
    """Actions in the order of their nodes' names, and what the leader should remember of the round."""

    actions: tuple[Action, ...] = ()
    idle_because: str | None = None
    """Why nothing could be planned at all."""
    targets: Mapping[Key, int] = field(default_factory=dict)
    needed: frozenset[Key] = frozenset()
    """Classes of which somebody uses or awaits an address."""
    pending: Mapping[Key, int] = field(default_factory=dict)
    scarce: frozenset[tuple[str, Family]] = frozenset()
    """Pools without a block for a pod that waits."""
    unserved: Mapping[Key, str] = field(default_factory=dict)
    """Pods that wait and can get no block now: why, and what a person could do."""
    suspects: tuple[Violation, ...] = ()
    """Violations to be confirmed by consistent reads: watches of two kinds are never in step."""
    violations: tuple[Violation, ...] = ()
    """Confirmed ones."""


@dataclass(frozen=True)
class Round:
    """What a round makes of each node, before it is boiled down to a plan: `explain` reads it too."""

    found: tuple[Violation, ...]
    scene: Scene
    drafts: Mapping[str, Draft]
    groups: tuple[NodeClass, ...]
    growth: Growth


def weigh(snapshot: Snapshot, now: float) -> Round:
    """Look at every node once. The snapshot has to be a whole one."""
    found = violations(snapshot)
    scene = _scene(snapshot, now, found)
    drafts = _drafts(snapshot, scene)
    for draft in drafts.values():
        live(draft, scene)
    groups, growth = _grow(snapshot, drafts)
    shrink(groups, drafts, snapshot, now, growth.scarce)
    for draft in drafts.values():
        draft.actions += [Leave(draft.name, why, prefix) for prefix, why in draft.leaving.items()]
    return Round(tuple(found), scene, drafts, tuple(groups), growth)


def plan(snapshot: Snapshot, now: float) -> Plan:
    """All that may and should be done in this round."""
    if snapshot.unlisted:
        return Plan(idle_because=f"not listed yet: {', '.join(snapshot.unlisted)}")
    return decided(weigh(snapshot, now))


def decided(weighed: Round) -> Plan:
    """The plan that a round comes to."""
    found, scene, drafts, groups, growth = weighed.found, weighed.scene, weighed.drafts, weighed.groups, weighed.growth
    actions = [action for name in sorted(drafts) for action in drafts[name].actions]
    return Plan(
        actions=(*actions, *free(scene)),
        targets=targets(groups),
        needed=frozenset(group.key for group in groups if group.need),
        pending={group.key: group.pending for group in groups if group.pending},
        scarce=frozenset(growth.scarce),
        unserved={key: why for name in sorted(drafts) for key, why in drafts[name].unserved.items()},
        suspects=tuple(v for v in found if not scene.confirmed.issuperset(v.prefixes)),
        violations=tuple(v for v in found if scene.confirmed.issuperset(v.prefixes)),
    )


def _scene(snapshot: Snapshot, now: float, found: list[Violation]) -> Scene:
    frozen = frozenset(prefix for violation in found for prefix in violation.prefixes)
    claims: dict[str, list[Block]] = {}
    for name in sorted(snapshot.blocks):
        if not (block := snapshot.blocks[name]).quarantined:
            claims.setdefault(block.node, []).append(block)
    return Scene(snapshot, now, frozen, frozen & snapshot.memory.confirmed, claims)


def _drafts(snapshot: Snapshot, scene: Scene) -> dict[str, Draft]:
    automatic = automatic_pools(snapshot.pools)
    drafts = {}
    for name in sorted({*snapshot.nodes, *snapshot.nodecidrs, *scene.claims}):
        node = snapshot.nodes.get(name)
        drafts[name] = Draft(name, node, snapshot.nodecidrs.get(name), _pools_of(node, automatic), still=_is_left_alone(name, snapshot))
    return drafts


def is_still(node: str, snapshot: Snapshot) -> bool:
    """Whether the node's NodeCIDR can't be written, now or ever."""
    nodecidr = snapshot.nodecidrs.get(node)
    return node in snapshot.memory.refusing or (nodecidr is not None and nodecidr.ended)


def _is_left_alone(node: str, snapshot: Snapshot) -> bool:
    """Or whether its list may be older than what the node goes by: a write could bring back what others have by now."""
    return node in snapshot.memory.silent or is_still(node, snapshot)


def automatic_pools(pools: Mapping[str, Pool]) -> list[Pool]:
    """The pools that serve nodes by themselves: the higher priority first, ties by name."""
    eligible = [pool for pool in pools.values() if not (pool.pinned or pool.disabled or pool.deleting)]
    return sorted(eligible, key=lambda pool: (-pool.priority, pool.name))


def _pools_of(node: Node | None, automatic: list[Pool]) -> tuple[Pool, ...]:
    return tuple(pool for pool in automatic if serves(pool, node))


def _grow(snapshot: Snapshot, drafts: dict[str, Draft]) -> tuple[list[NodeClass], Growth]:
    growth = Growth(snapshot)
    groups = [
        group
        for draft in drafts.values()
        if draft.node and draft.nodecidr and not (draft.nodecidr.deleting or draft.still)
        for group in classes(draft, snapshot, growth.can_grow)
    ]
    # What is adopted in this round can be un-drained in the next: a node does not claim beside it.
    adopting = {draft.name for draft in drafts.values() if any(isinstance(action, Adopt) for action in draft.actions)}
    for group in groups:
        group.grew = group.key.node in adopting
    growth.grow(sorted((group for group in groups if not group.grew), key=lambda group: not group.shares_blocks))
    return groups, growth
