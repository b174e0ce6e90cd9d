"""`explain pod`: why it has this address, or waits for one. Pins by core.pins, growth by core.plan: no rule is told twice."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from podcidr.api import names
from podcidr.cli.connect import Object
from podcidr.cli.cover import Cover
from podcidr.cli.reading import TERMINAL, Address
from podcidr.cli.relief import relief
from podcidr.cli.scene import Explanation, Scene
from podcidr.core.demand import serves
from podcidr.core.errors import BadValue
from podcidr.core.model import IDLE, Entry, Node, NodeCIDR, Pool
from podcidr.core.pins import ANNOTATION, ANNOTATIONS, Resolution, narrow, resolve
from podcidr.core.prefix import parse_address


@dataclass(frozen=True)
class Wanted:
    """What a pod may have, in words and as names. `error`: what its ADD fails with."""

    because: tuple[str, ...]
    pools: tuple[str, ...] = ()
    error: str = ""


def explain_pod(scene: Scene, pod: Object) -> Explanation:
    """From the pod as the API has it."""
    meta, spec, status = pod["metadata"], pod.get("spec", {}), pod.get("status", {})
    subject = f"pod {meta['namespace']}/{meta['name']}"
    if spec.get("hostNetwork"):
        return Explanation(subject, "uses its node's own address", ("hostNetwork is true: podcidr has nothing to do with it",))
    if status.get("phase") in TERMINAL:
        return Explanation(subject, f"has ended ({status['phase']})", ("its address went back when its sandbox was removed",))
    if not spec.get("nodeName"):
        because = ("it is bound to no node: addresses come from the blocks of a pod's node",)
        return Explanation(subject, "waits for the scheduler, not for an address", because, do=(_describe(meta),))
    addresses = [item["ip"] for item in status.get("podIPs") or ()]
    if addresses:
        return _placed(scene, subject, pod, addresses)
    if "deletionTimestamp" in meta:
        return Explanation(subject, "is being deleted and has no address", ("a pod that goes is given none any more",))
    return _waiting(scene, subject, pod)


def _describe(meta: Object) -> str:
    return f"its events say more: kubectl -n {meta['namespace']} describe pod {meta['name']}"


# with an address


def _placed(scene: Scene, subject: str, pod: Object, addresses: list[str]) -> Explanation:
    node = pod["spec"]["nodeName"]
    because: list[str] = []
    do: list[str] = []
    for text in addresses:
        found = _entry_around(scene, node, text)
        if found is None:
            because.append(f"{text} lies in no block of node {node}: podcidr did not give it, or has lost sight of it")
            do.append(f"podcidr explain ip {text}; podcidr check")
        else:
            state = "draining: it goes when its last address is free" if found.draining else "active"
            because.append(f"{text} is of block {found.prefix}, which node {node} holds of pool {found.pool} ({state})")
    wanted = wanted_by(scene, pod, scene.snapshot.nodecidrs.get(node))
    because += wanted.because
    what_next = list(_future(scene, node, addresses, wanted))
    return Explanation(subject, f"has {' and '.join(addresses)} on node {node}", tuple(because), tuple(what_next), tuple(do))


def _future(scene: Scene, node: str, addresses: Iterable[str], wanted: Wanted) -> Iterator[str]:
    yield "it keeps its address until its sandbox ends, whatever becomes of pools and pins"
    for text in addresses:
        entry = _entry_around(scene, node, text)
        if entry and (wanted.error or entry.pool not in wanted.pools):
            instead = f"fail: {wanted.error}" if wanted.error else f"get one of {_listed(wanted.pools)} instead"
            yield f"a new sandbox of it would {instead}"
            return
        seconds = scene.reading.cooldown_seconds.get(entry.pool, 0) if entry else 0
        if seconds:
            began = f"the addressCooldownSeconds that the pool had when it started (now {seconds})"
            yield f"after that {text} rests before another pod gets it: {began}"


def _entry_around(scene: Scene, node: str, text: str) -> Entry | None:
    nodecidr = scene.snapshot.nodecidrs.get(node)
    try:
        address = Address(*parse_address(text))
    except BadValue:
        return None
    cover = Cover((entry.prefix, entry) for entry in (nodecidr.entries if nodecidr else ()))
    return next((entry for _, entry in cover.around(address)), None)


# pools it may use


def wanted_by(scene: Scene, pod: Object, nodecidr: NodeCIDR | None) -> Wanted:
    """Namespace, then the pod's own pin, as the agent and the plugin resolve them."""
    meta = pod["metadata"]
    namespace = scene.namespaces.get(meta["namespace"])
    automatic = nodecidr.pools if nodecidr else ()
    if namespace is None:
        return Wanted((f"namespace {meta['namespace']} could not be read: taken for one without a pin",), automatic)
    annotations, labels = _pins(namespace), namespace["metadata"].get("labels") or {}
    found = resolve(meta["namespace"], annotations, labels, scene.reading.rules, automatic)
    because = [_pin_line(meta["namespace"], annotations, found, automatic)]
    if found.error:
        return Wanted(tuple(because), error=found.error)
    allowed = automatic if found.pools is None else found.pools
    own = (meta.get("annotations") or {}).get(ANNOTATION)
    if own is None:
        return Wanted(tuple(because), allowed)
    narrowed = narrow(meta["namespace"], meta["name"], own, allowed)
    because.append(f"its own annotation {ANNOTATION} ({own}) narrows that to {_listed(narrowed.pools or ())}")
    return Wanted(tuple(because), narrowed.pools or (), narrowed.error or "")


def _pins(namespace: Object) -> Mapping[str, str]:
    annotations = namespace["metadata"].get("annotations") or {}
    return {key: annotations[key] for key in ANNOTATIONS if key in annotations}


def _pin_line(namespace: str, annotations: Mapping[str, str], found: Resolution, automatic: tuple[str, ...]) -> str:
    if annotations:
        pins = "; ".join(f"{key}: {value}" for key, value in annotations.items())
        return f"namespace {namespace} pins pools ({pins})" + (f": {_listed(found.pools)}, in this order" if found.pools else "")
    if found.pools is not None:
        return f"namespace {namespace} pins no pool; of the automatic ones these select it: {_listed(found.pools)}"
    return f"namespace {namespace} pins no pool: it gets the automatic ones of its node ({_listed(automatic)})"


def _listed(pools: Iterable[str] | None) -> str:
    return ", ".join(pools or ()) or "none"


# without an address


def _waiting(scene: Scene, subject: str, pod: Object) -> Explanation:
    node_name = pod["spec"]["nodeName"]
    node, nodecidr = scene.snapshot.nodes.get(node_name), scene.snapshot.nodecidrs.get(node_name)
    wanted = wanted_by(scene, pod, nodecidr)
    if wanted.error:
        goes_on = ("its ADD is tried again by kubelet, and fails until that is corrected",)
        return Explanation(subject, f"gets no address: {wanted.error}", wanted.because, goes_on)
    if nodecidr is None:
        return _without_nodecidr(scene, subject, node_name, wanted)
    because = [*wanted.because, scene.report_line(nodecidr)]
    tries = [try_pool(scene, node, nodecidr, name) for name in wanted.pools]
    because += [f"{number}. {found.words}" for number, found in enumerate(tries, 1)]
    if not tries:
        because.append(f"no pool is automatic on node {node_name}")
    verdict, what_next, do = _outlook(scene, tries, node_name)
    return Explanation(subject, verdict, tuple(because), tuple(what_next), (*do, _describe(pod["metadata"])))


def _without_nodecidr(scene: Scene, subject: str, node: str, wanted: Wanted) -> Explanation:
    planned = [f"the operator makes it: {a.reason}" for a in scene.of_node(scene.now_actions, node)]
    because = (*wanted.because, f"node {node} has no NodeCIDR, so it may use no block yet")
    what_next = (*planned, scene.operator_line())
    return Explanation(subject, "waits for its node's first block", because, what_next, tuple(scene.operator_remedy()))


@dataclass(frozen=True)
class Try:
    """One pool that was tried. `state`: room (the plugin has it), coming, full (may come), refused (never, as things are)."""

    pool: str
    state: str
    words: str


def try_pool(scene: Scene, node: Node | None, nodecidr: NodeCIDR, name: str) -> Try:
    """Which rule lets the pool serve the node's pods, or refuses."""
    pool = scene.snapshot.pools.get(name)
    if why := _refused(scene, node, nodecidr, pool, name):
        return Try(name, "refused", f"pool {name}: {why}")
    assert pool is not None, "a pool that does not exist is refused"
    entries = [entry for entry in nodecidr.entries if (entry.pool, entry.pool_uid) == (name, pool.uid) and not entry.draining]
    holds = f"pool {name}: {_room(pool, nodecidr, entries)}"
    short = [family for family in pool.spaces if not _free(pool, nodecidr, [e for e in entries if e.prefix.family is family])]
    if not short:
        return Try(name, "room", holds)
    if gains := scene.gains(nodecidr.name, pool):
        steps = "; ".join(f"{type(gain).__name__.lower()} {gain.prefix}" for gain in gains[:3])
        return Try(name, "coming", f"{holds}; the operator's next step: {steps} ({gains[0].reason})")
    draft = scene.round.drafts[nodecidr.name]
    obstacles = {scene.round.growth.obstacle(draft, pool, family) for family in short}
    if why := "; ".join(sorted(filter(None, obstacles))):
        return Try(name, "full", f"{holds}; {why}")
    words = f"{holds}; a block is free, but the report shows no demand for it yet: the agent tells it within a second"
    return Try(name, "coming", words)


def _refused(scene: Scene, node: Node | None, nodecidr: NodeCIDR, pool: Pool | None, name: str) -> str:
    if pool is None:
        return "there is no such IPPool"
    if not pool.usable:
        return f"it gives no new addresses ({'disabled' if pool.disabled else 'being deleted' if pool.deleting else pool.invalid})"
    if not serves(pool, node):
        return f"its nodeSelector does not select node {nodecidr.name}" if node else f"node {nodecidr.name} is gone"
    if not any(cidr in pool.accepted for space in pool.spaces.values() for cidr in space.cidrs):
        accepted = scene.reading.conditions.get(name, {}).get(names.CONDITION_ACCEPTED)
        return f"none of its CIDRs is accepted ({accepted.message if accepted else 'no operator has looked at it yet'})"
    return ""


def _free(pool: Pool, nodecidr: NodeCIDR, entries: Iterable[Entry]) -> int:
    """Addresses that the plugin can assign at once, as far as the last report tells."""
    reported = nodecidr.known.blocks if nodecidr.known else {}
    return sum(max(0, pool.addresses(entry.prefix) - sum(reported.get(entry.prefix, IDLE))) for entry in entries)


def _room(pool: Pool, nodecidr: NodeCIDR, entries: list[Entry]) -> str:
    if not entries:
        return "the node holds no block of it"
    reported = nodecidr.known.blocks if nodecidr.known else {}
    cooling = sum(reported.get(entry.prefix, IDLE).cooling for entry in entries)
    capacity = sum(pool.addresses(entry.prefix) for entry in entries)
    count = f"{len(entries)} block{'' if len(entries) == 1 else 's'}"
    return f"the node holds {count} of it, {_free(pool, nodecidr, entries)} of {capacity} addresses free, {cooling} cooling"


def _outlook(scene: Scene, tries: list[Try], node: str) -> tuple[str, list[str], list[str]]:
    """Verdict, what comes next, what to do: by the first pool that helps."""
    leads = [scene.operator_line()]
    for state, verdict in (("room", "can have an address now"), ("coming", "gets an address as soon as its node has its next block")):
        if found := next((one for one in tries if one.state == state), None):
            words = f"the plugin assigns the lowest free address of pool {found.pool} at the next ADD" if state == "room" else leads[0]
            remedy = [] if state == "room" else list(scene.operator_remedy())
            return verdict, [words, *_room_note(scene, node, state)], remedy
    full = [one.pool for one in tries if one.state == "full"]
    if not full:
        return "gets no address: no pool may serve it on this node", [*leads], ["change what refused it above"]
    helps, do = relief(scene, full)
    return f"waits: {' and '.join(full)} {'has' if len(full) == 1 else 'have'} no block left for node {node}", [*helps, *leads], do


def _room_note(scene: Scene, node: str, state: str) -> Iterator[str]:
    nodecidr = scene.snapshot.nodecidrs[node]
    if state == "room" and nodecidr.current is None:
        yield "its agent has not published the newest list yet: if that lasts, look at the agent's log on the node"
