"""`explain pool`: what of it is used, who may use it, who holds it back, what comes next."""

from collections import Counter
from collections.abc import Iterator

from podcidr.api import names
from podcidr.cli.cover import Cover
from podcidr.cli.reading import Pod
from podcidr.cli.relief import relief
from podcidr.cli.scene import Explanation, Scene
from podcidr.core.demand import serves
from podcidr.core.errors import PodcidrError
from podcidr.core.model import IDLE, Pool
from podcidr.core.pins import ANNOTATIONS, parse_names
from podcidr.core.usage import PoolUsage, usages

SHOWN = 10
WARNINGS = (names.REASON_ADDRESSES_IN_USE, names.REASON_SERVICE_CIDR, names.REASON_BLOCKS_BARRED, names.REASON_CIDR_DRAINING)
"""Why some of an accepted pool's blocks are not claimed."""


def explain_pool(scene: Scene, pool: Pool) -> Explanation:
    """Of one IPPool."""
    because = [*_cidrs(scene, pool), *_counts(scene, pool), *_who_may(scene, pool)]
    if pool.disabled or pool.deleting:
        because += _holders(scene, pool)
    return Explanation(f"pool {pool.name}", _verdict(scene, pool), tuple(because), tuple(_next(scene, pool)), tuple(_do(scene, pool)))


def _verdict(scene: Scene, pool: Pool) -> str:
    held = sum(block.pool == pool.name and block.pool_uid == pool.uid for block in scene.snapshot.blocks.values())
    if pool.deleting:
        return f"is being deleted; it goes when its last block is free ({held} left)" if held else "is being deleted; nothing holds it"
    if pool.disabled:
        return f"is disabled and drains ({held} blocks left)" if held else "is disabled and empty: it can be deleted"
    if pool.invalid:
        return f"is invalid and gives nothing: {pool.invalid}"
    if not pool.accepted:
        return "is not used: none of its CIDRs is accepted"
    if _exhausted(scene, pool):
        return "has no free block left"
    return "is in use and has free blocks"


def _exhausted(scene: Scene, pool: Pool) -> bool:
    counts = usages({pool.name: pool}, {}, scene.snapshot.blocks)
    return any(usage.blocks_total and not usage.blocks_free for usage in counts.values())


def _cidrs(scene: Scene, pool: Pool) -> Iterator[str]:
    rows = [row for row in scene.accepting if row.pool == pool.name]
    settled = {row.block for row in rows}
    for space in pool.spaces.values():
        for cidr in space.cidrs:
            if str(cidr) not in settled:
                yield f"CIDR {cidr}, in blocks of /{space.block_length}, is in use"
    for row in rows:
        yield f"CIDR {row.block}: {row.reason}"
    condition = scene.reading.conditions.get(pool.name, {}).get(names.CONDITION_ACCEPTED)
    if condition and condition.reason in WARNINGS:
        yield condition.message


def _counts(scene: Scene, pool: Pool) -> Iterator[str]:
    counts = usages(scene.snapshot.pools, scene.snapshot.nodecidrs, scene.snapshot.blocks)
    for family in pool.spaces:
        usage = counts[pool.name, family]
        rest = f"{usage.blocks_quarantined} resting, {_barred(usage)}{usage.blocks_free} free of {usage.blocks_total} blocks"
        reserved = f"{usage.reserved} reserved of {usage.capacity + usage.reserved}"
        yield f"{family}: {usage.blocks_claimed} claimed, {rest}; {usage.in_use} addresses in use, {usage.cooling} cooling, {reserved}"


def _barred(usage: PoolUsage) -> str:
    return f"{usage.blocks_barred} barred by blocks of others, " if usage.blocks_barred else ""


def _who_may(scene: Scene, pool: Pool) -> Iterator[str]:
    nodes = scene.snapshot.nodes.values()
    serving = [node.name for node in nodes if serves(pool, node)]
    kind = "Pinned: it serves namespaces that name it" if pool.pinned else "Automatic: it serves whom its namespaceSelector matches"
    yield f"it is {kind}; its nodeSelector selects {len(serving)} of {len(nodes)} nodes"
    pinning = sorted(f"{name}{'' if _selected(scene, pool, name) else ' (refused: namespaceSelector)'}" for name in _pinning(scene, pool))
    if pinning:
        more = f" and {len(pinning) - SHOWN} more" if len(pinning) > SHOWN else ""
        yield f"namespaces that pin it: {', '.join(pinning[:SHOWN])}{more}"


def _pinning(scene: Scene, pool: Pool) -> Iterator[str]:
    for name, namespace in scene.namespaces.items():
        annotations = namespace["metadata"].get("annotations") or {}
        for key in ANNOTATIONS:
            try:
                if pool.name in parse_names(annotations.get(key, "")):
                    yield name
                    break
            except PodcidrError:
                continue


def _selected(scene: Scene, pool: Pool, namespace: str) -> bool:
    return scene.reading.rules[pool.name].namespaces.matches(scene.namespaces[namespace]["metadata"].get("labels") or {})


def _holders(scene: Scene, pool: Pool) -> Iterator[str]:
    """What keeps it from being empty: nodes with their blocks, then pods."""
    lines = []
    for nodecidr in scene.snapshot.nodecidrs.values():
        entries = [entry for entry in nodecidr.entries if (entry.pool, entry.pool_uid) == (pool.name, pool.uid)]
        if entries:
            reported = nodecidr.known.blocks if nodecidr.known else None
            used = sum(reported.get(e.prefix, IDLE).in_use for e in entries) if reported is not None else "an unknown number of"
            lines.append(f"node {nodecidr.name} holds {len(entries)} of its blocks, with {used} addresses in use")
    pods = Counter(pod.namespace for pod in holders(scene, pool))
    lines += [f"namespace {name} has {count} pods with addresses of it" for name, count in pods.most_common(SHOWN)]
    yield from lines[: 2 * SHOWN]


def holders(scene: Scene, pool: Pool) -> list[Pod]:
    """Pods with an address in one of its CIDRs."""
    cover = Cover((cidr, pool) for space in pool.spaces.values() for cidr in space.cidrs)
    return [pod for pod in scene.reading.pods or () if any(address in cover for address in pod.addresses)]


def _next(scene: Scene, pool: Pool) -> Iterator[str]:
    if pool.disabled or pool.deleting or _exhausted(scene, pool):
        yield from relief(scene, [pool.name])[0]
    yield scene.operator_line()


def _do(scene: Scene, pool: Pool) -> Iterator[str]:
    yield from scene.operator_remedy()
    if pool.disabled and not pool.deleting:
        patch = '{"spec":{"disabled":false}}'
        yield f"to move its pods: podcidr migrate pool {pool.name} --to OTHER"
        yield f"to use it again: kubectl patch ippools.podcidr.io {pool.name} --type=merge -p '{patch}'"
    elif pool.deleting:
        yield "end or restart the pods named above; nobody else can be given its space before"
    elif _exhausted(scene, pool):
        yield from relief(scene, [pool.name])[1]
