"""Whether pods can move from one pool to another, and how far they are: pure. The state is the cluster's; nothing else is kept."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from podcidr.api import names
from podcidr.cli.connect import Object
from podcidr.cli.cover import Cover
from podcidr.cli.reading import Address, Reading
from podcidr.cli.scene import Leader
from podcidr.cli.workloads import Workload
from podcidr.core.demand import serves
from podcidr.core.errors import BadValue, PodcidrError
from podcidr.core.model import IDLE, Pool, Snapshot
from podcidr.core.pins import ANNOTATION, ANNOTATIONS, narrow, parse_names, resolve
from podcidr.core.plan import automatic_pools
from podcidr.core.prefix import parse_address
from podcidr.core.usage import usages

SHOWN = 10


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why pods would not get addresses of the new pool. `stops`: the migration does not begin before it is solved."""

    what: str
    remedy: str
    stops: bool = True


@dataclass(frozen=True, slots=True)
class Progress:
    """What of the old pool is still held."""

    pods: int
    addresses_in_use: int
    addresses_cooling: int
    blocks: int
    blocks_resting: int
    nodes: tuple[str, ...]
    drained: bool


@dataclass(frozen=True)
class Migration:
    """One look at it. `stage`: Refused, Ready (nothing changed yet), Draining, Drained."""

    source: str
    target: str
    stage: str
    obstacles: tuple[Obstacle, ...]
    progress: Progress
    workloads: tuple[Workload, ...]


def stage_of(source: Pool, obstacles: Sequence[Obstacle], progress: Progress) -> str:
    """Where the migration stands; a pool that drains already goes on, whatever is in the way of its pods."""
    if progress.drained:
        return "Drained"
    if source.disabled:
        return "Draining"
    return "Refused" if any(obstacle.stops for obstacle in obstacles) else "Ready"


def holders(snapshot: Snapshot, source: Pool, pods: Iterable[Object]) -> list[Object]:
    """Pods with an address of the pool: in its CIDRs, or in blocks of it whose CIDR it has lost."""
    cover = Cover((cidr, True) for space in source.spaces.values() for cidr in space.cidrs)
    entries = Cover((e.prefix, True) for n in snapshot.nodecidrs.values() for e in n.entries if e.pool == source.name)
    found = []
    for pod in pods:
        addresses = _addresses(pod)
        if any(address in cover or address in entries for address in addresses):
            found.append(pod)
    return found


def _addresses(pod: Object) -> list[Address]:
    found = []
    for item in pod.get("status", {}).get("podIPs") or ():
        try:
            found.append(Address(*parse_address(item.get("ip", ""))))
        except BadValue:
            continue
    return found


def progress_of(reading: Reading, source: Pool, pods: int) -> Progress:
    """Counted from the ledger and from reports."""
    snapshot = reading.snapshot
    blocks = [block for block in snapshot.blocks.values() if block.pool == source.name]
    in_use, cooling, nodes = 0, 0, set()
    for nodecidr in snapshot.nodecidrs.values():
        for entry in nodecidr.entries:
            if entry.pool == source.name:
                nodes.add(nodecidr.name)
                usage = nodecidr.known.blocks.get(entry.prefix, IDLE) if nodecidr.known else IDLE
                in_use, cooling = in_use + usage.in_use, cooling + usage.cooling
    condition = reading.conditions.get(source.name, {}).get(names.CONDITION_DRAINED)
    drained = source.disabled and not blocks and not nodes and bool(condition and condition.holds)
    return Progress(pods, in_use, cooling, len(blocks), sum(block.quarantined for block in blocks), tuple(sorted(nodes)), drained)


# What is in the way


def obstacles(
    reading: Reading, source: Pool, target: Pool, pods: Sequence[Object], namespaces: Mapping[str, Object], leader: Leader | None
) -> Iterator[Obstacle]:
    """All of it, what stops first."""
    yield from _target_unfit(reading, source, target)
    yield from _nodes_not_selected(reading.snapshot, source, target)
    yield from _namespaces_refused(reading, source, target, pods, namespaces)
    yield from _pods_pinned(reading, source, target, pods, namespaces)
    yield from _too_small(reading.snapshot, source, target)
    if not (leader and leader.leads(reading.at)):
        yield Obstacle("no operator leads: nothing drains before one runs", "start the operator", stops=False)
    for nodecidr in reading.snapshot.nodecidrs.values():
        if nodecidr.known is None and any(entry.pool == source.name for entry in nodecidr.entries):
            words = f"node {nodecidr.name} has blocks of pool {source.name}, and its agent has not reported: they stay until it does"
            yield Obstacle(words, "start its agent", stops=False)


def _target_unfit(reading: Reading, source: Pool, target: Pool) -> Iterator[Obstacle]:
    name = target.name
    if not target.usable:
        why = "disabled" if target.disabled else "being deleted" if target.deleting else f"invalid ({target.invalid})"
        yield Obstacle(f"pool {name} is {why}", f"correct pool {name}, or choose another")
    elif not target.accepted:
        condition = reading.conditions.get(name, {}).get(names.CONDITION_ACCEPTED)
        why = condition.message if condition else "no operator has looked at it yet"
        yield Obstacle(f"no CIDR of pool {name} is accepted: {why}", "a pool for other blocks needs space of its own; correct it")
    if missing := [family for family in source.spaces if family not in target.spaces]:
        lost = " and ".join(missing)
        yield Obstacle(f"pool {name} has no {lost}: restarted pods would lose theirs", f"add {lost} to pool {name}")
    if target.pinned and not source.pinned:
        words = f"pool {name} is Pinned, pool {source.name} Automatic: namespaces without a pin would get nothing of it"
        yield Obstacle(words, f"set spec.allocation of pool {name} to Automatic")


def _nodes_not_selected(snapshot: Snapshot, source: Pool, target: Pool) -> Iterator[Obstacle]:
    holding = {n.name for n in snapshot.nodecidrs.values() for entry in n.entries if entry.pool == source.name}
    refused = sorted(name for name in holding if name in snapshot.nodes and not serves(target, snapshot.nodes[name]))
    if refused:
        words = f"nodes with blocks of pool {source.name} are not selected by the nodeSelector of pool {target.name}: {_some(refused)}"
        yield Obstacle(words, f"widen spec.nodeSelector of pool {target.name}, or label the nodes")


def _some(items: Sequence[str]) -> str:
    return ", ".join(items[:SHOWN]) + (f" and {len(items) - SHOWN} more" if len(items) > SHOWN else "")


def _namespaces_refused(
    reading: Reading, source: Pool, target: Pool, pods: Sequence[Object], namespaces: Mapping[str, Object]
) -> Iterator[Obstacle]:
    """By the agents' own rules for pins, as they will be once the old pool is disabled."""
    with_pods = {pod["metadata"]["namespace"] for pod in pods}
    for name, namespace in sorted(namespaces.items()):
        pinned = list(_pins_of(namespace, source.name))
        if name not in with_pods and not pinned:
            continue
        allowed, error = _after(reading, source, namespace)
        if error and pinned:
            yield Obstacle(f"namespace {name} pins pool {source.name}: {error}", _repin(name, pinned, source.name, target.name))
        elif error:
            yield Obstacle(error, f"let spec.namespaceSelector of pool {target.name} select namespace {name}")
        elif target.name not in allowed:
            words = f"pods of namespace {name} would not get addresses of pool {target.name}, but of {_some(list(allowed)) or 'none'}"
            select = f"let pool {target.name} select namespace {name} (spec.namespaceSelector), or pin it"
            yield Obstacle(words, f"if that is not wanted: {select}", stops=not allowed)


def _pins_of(namespace: Object, pool: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Annotations that name the pool, with all their names."""
    for key in ANNOTATIONS:
        try:
            listed = parse_names((namespace["metadata"].get("annotations") or {}).get(key, ""))
        except PodcidrError:
            continue
        if pool in listed:
            yield key, listed


def _repin(namespace: str, pins: Iterable[tuple[str, tuple[str, ...]]], source: str, target: str) -> str:
    """Commands that put the new pool in the old one's place; running pods keep their addresses."""
    commands = []
    for key, listed in pins:
        value = ",".join(dict.fromkeys(target if name == source else name for name in listed))
        if key != ANNOTATION:
            value = "[" + ",".join(f'"{name}"' for name in value.split(",")) + "]"
        commands.append(f"kubectl annotate namespace {namespace} --overwrite {key}='{value}'")
    return "; ".join(commands)


def _after(reading: Reading, source: Pool, namespace: Object) -> tuple[tuple[str, ...], str]:
    """Pools that a namespace may use once the old one is disabled, or the error its pods would get."""
    meta = namespace["metadata"]
    rules = dict(reading.rules)
    rules[source.name] = replace(rules[source.name], disabled=True)
    automatic = tuple(pool.name for pool in automatic_pools(reading.snapshot.pools) if pool.name != source.name)
    annotations = {key: value for key, value in (meta.get("annotations") or {}).items() if key in ANNOTATIONS}
    found = resolve(meta["name"], annotations, meta.get("labels") or {}, rules, automatic)
    return (automatic if found.pools is None else found.pools), found.error or ""


def _pods_pinned(
    reading: Reading, source: Pool, target: Pool, pods: Sequence[Object], namespaces: Mapping[str, Object]
) -> Iterator[Obstacle]:
    """Pods' own annotations, which come from the templates of their workloads."""
    for pod in pods:
        meta = pod["metadata"]
        pin, namespace = (meta.get("annotations") or {}).get(ANNOTATION), namespaces.get(meta["namespace"])
        if pin is None or namespace is None:
            continue
        allowed, error = _after(reading, source, namespace)
        if not error and (narrowed := narrow(meta["namespace"], meta["name"], pin, allowed)).error:
            yield Obstacle(narrowed.error, f"put {target.name} in the place of {source.name} in the pod template that it comes from")


def _too_small(snapshot: Snapshot, source: Pool, target: Pool) -> Iterator[Obstacle]:
    counts = usages(snapshot.pools, snapshot.nodecidrs, snapshot.blocks)
    for family in source.spaces:
        if family not in target.spaces:
            continue
        needed, free = counts[source.name, family].in_use, counts[target.name, family].free
        if needed > free:
            words = f"pool {target.name} has {free} free addresses of {family}, and {needed} of pool {source.name} are in use"
            yield Obstacle(words, f"append a CIDR to pool {target.name}")
