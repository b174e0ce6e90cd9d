"""`explain node`: what it holds, what it needs by the planner's own count, and what happens to each block."""

from collections.abc import Iterator

from podcidr.cli.scene import Explanation, Scene, duration
from podcidr.core.actions import Action, BlockAction
from podcidr.core.demand import NodeClass, serves
from podcidr.core.life import must_go
from podcidr.core.model import AUTOMATIC, IDLE, Entry, NodeCIDR
from podcidr.core.plan import automatic_pools

SHOWN_BLOCKS = 20


def explain_node(scene: Scene, name: str) -> Explanation:
    """A Node, or a NodeCIDR or claims whose Node is gone."""
    node, nodecidr = scene.snapshot.nodes.get(name), scene.snapshot.nodecidrs.get(name)
    because = [] if node else [f"there is no Node {name}: the machine counts as gone"]
    if node and not node.ready:
        because.append("the Node is not Ready; its blocks stay all the same: unknown means used")
    if nodecidr:
        because += [scene.report_line(nodecidr), *_pools(scene, name), *_classes(scene, name), *_blocks(scene, nodecidr)]
    else:
        because.append("it has no NodeCIDR, so it may use no block")
        because += [f"block {block.prefix} is claimed for it" for block in scene.round.scene.claims.get(name, ())]
    subject = f"node {name}"
    return Explanation(subject, _verdict(nodecidr), tuple(because), tuple(_next(scene, name)), tuple(_do(scene, nodecidr)))


def _verdict(nodecidr: NodeCIDR | None) -> str:
    if nodecidr is None:
        return "holds nothing it could use"
    active = sum(not entry.draining for entry in nodecidr.entries)
    draining = len(nodecidr.entries) - active
    used = sum(usage.in_use for usage in nodecidr.known.blocks.values()) if nodecidr.known else 0
    pending = sum(demand.pending for demand in nodecidr.known.demand) if nodecidr.known else 0
    drains = f", {draining} draining" if draining else ""
    return f"holds {active} active block{'' if active == 1 else 's'}{drains}; {used} addresses in use, {pending} awaited"


def _pools(scene: Scene, name: str) -> Iterator[str]:
    """Which automatic pools serve it; which refuse, and why."""
    node = scene.snapshot.nodes.get(name)
    if node is None:
        return
    automatic = automatic_pools(scene.snapshot.pools)
    serving = [pool.name for pool in automatic if serves(pool, node)]
    yield f"pools that serve it by themselves, in order: {', '.join(serving) or 'none'}"
    for pool in automatic:
        if not serves(pool, node):
            yield f"pool {pool.name} does not: its nodeSelector does not select the node"
    for pool in scene.snapshot.pools.values():
        if not pool.pinned and not pool.usable:
            yield f"pool {pool.name} does not: it is {'disabled' if pool.disabled else 'being deleted' if pool.deleting else 'invalid'}"


def _classes(scene: Scene, name: str) -> Iterator[str]:
    """The planner's count, a class of pools and family each."""
    for group in scene.round.groups:
        if group.key.node == name and (group.keep or group.target or group.need):
            yield f"{_class_name(group)} ({group.key.family}): {_count(group)}"


def _class_name(group: NodeClass) -> str:
    return "its automatic pools" if group.key.pools == AUTOMATIC else f"pool {group.key.pools}"


def _count(group: NodeClass) -> str:
    need = f"{group.used} in use + {group.cooling} cooling + {group.pending} awaited"
    ends = f", at least {group.min_blocks} block{'' if group.min_blocks == 1 else 's'}" if group.min_blocks else ""
    cap = f"; the node can run {group.max_pods} pods" if group.max_pods is not None else ""
    burst = f", bursts of {group.burst}" if group.burst else ""
    blocks = f"{len(group.keep)} block{'' if len(group.keep) == 1 else 's'}"
    return f"{need}{burst}: target {group.target} addresses{ends}; {group.capacity} in {blocks} after the next round{cap}"


def _blocks(scene: Scene, nodecidr: NodeCIDR) -> Iterator[str]:
    """Those that are not simply active, each with the reason."""
    frozen = scene.round.scene.frozen
    odd = [entry for entry in nodecidr.entries if entry.draining or entry.prefix in frozen]
    for entry in odd[:SHOWN_BLOCKS]:
        yield f"block {entry.prefix} of pool {entry.pool}: {_state(scene, nodecidr, entry)}"
    if len(odd) > SHOWN_BLOCKS:
        yield f"… and {len(odd) - SHOWN_BLOCKS} more: podcidr show blocks {nodecidr.name}"


def _state(scene: Scene, nodecidr: NodeCIDR, entry: Entry) -> str:
    if entry.prefix in scene.round.scene.frozen:
        return "frozen, for it breaks an invariant: podcidr check says which"
    why = must_go(scene.round.drafts[nodecidr.name], nodecidr, entry, scene.round.scene)
    words = f"draining, because {why}" if why else "draining: the node needs it no more (it is taken back if that changes)"
    if nodecidr.current is None:
        return f"{words}; it leaves when the agent reports it empty at epoch {nodecidr.epoch}"
    usage = nodecidr.current.blocks.get(entry.prefix, IDLE)
    if not any(usage):
        return f"{words}; it is empty and leaves now"
    return f"{words}; {usage.in_use} addresses are in use and {usage.cooling} cool down: it stays until both are 0"


def _next(scene: Scene, name: str) -> Iterator[str]:
    now, later = scene.of_node(scene.now_actions, name), scene.of_node(scene.later_actions, name)
    for action in now:
        yield f"now: {_words(action)}"
    if not now:
        yield "now: nothing to do for this node"
    for action in later[:SHOWN_BLOCKS]:
        yield f"{_when(scene, name)}: {_words(action)}"
    yield scene.operator_line()


def _words(action: Action) -> str:
    block = f" {action.prefix}" if isinstance(action, BlockAction) else ""
    return f"{type(action).__name__}{block} ({action.reason})"


def _when(scene: Scene, name: str) -> str:
    """What `later` waits for."""
    if name not in scene.snapshot.nodes:
        return f"after {duration(scene.snapshot.lost_node_seconds)} without a sign of life (--lost-node-seconds)"
    held = {entry.pool for entry in scene.snapshot.nodecidrs[name].entries} if name in scene.snapshot.nodecidrs else set()
    windows = [pool.scaling.stabilization_window_seconds for pool in scene.snapshot.pools.values() if pool.name in held]
    return f"when the need has been this low for {duration(max(windows, default=300.0))} (stabilizationWindowSeconds)"


def _do(scene: Scene, nodecidr: NodeCIDR | None) -> Iterator[str]:
    yield from scene.operator_remedy()
    if nodecidr and nodecidr.known is None and nodecidr.name in scene.snapshot.nodes:
        where = f"-l app.kubernetes.io/component=agent --field-selector spec.nodeName={nodecidr.name}"
        yield f"see that the agent runs there: kubectl get pods -A {where}"
    if nodecidr and nodecidr.name not in scene.snapshot.nodes and nodecidr.entries:
        yield f"if the machine is off for good and its addresses are needed sooner: podcidr release --node {nodecidr.name} --force"
