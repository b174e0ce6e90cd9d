"""`explain ip`: whose it is, of which block, and what may become of it."""

from collections.abc import Iterable, Iterator, Sequence

from podcidr.cli.cover import Cover
from podcidr.cli.reading import Address
from podcidr.cli.scene import Explanation, Scene, moment
from podcidr.core.model import IDLE, Entry, Pool, unusable
from podcidr.core.prefix import BITS, Prefix, address_text


def explain_address(scene: Scene, address: Address, services: Sequence[Prefix] = ()) -> Explanation:
    """Of one address of either family."""
    because = [*_pods(scene, address), *_nodes(scene, address)]
    holders = len(because)
    because += [f"it lies in Service CIDR {cidr}: a Service may have it, no pod gets it" for cidr, _ in _around(services, address)]
    pools = list(_pools(scene, address))
    because += [_pool_line(cidr, pool) for cidr, pool in pools]
    because += [words for cidr, pool in pools if (words := _reserved(scene, pool, address))]
    rows = _cover_of_ledger(scene, address)
    because += rows
    verdict = _verdict(scene, address, held=bool(holders), in_pool=bool(pools))
    return Explanation(f"ip {address_text(*address)}", verdict, tuple(because), tuple(_next(scene, address)), tuple(_do(holders)))


def _pods(scene: Scene, address: Address) -> Iterator[str]:
    if scene.reading.pods is None:
        yield f"which pod has it is not known: {scene.reading.pods_missing}"
    for pod in scene.reading.pods or ():
        if address in pod.addresses:
            yield f"pod {pod.namespace}/{pod.name} on node {pod.node} has it"


def _nodes(scene: Scene, address: Address) -> Iterator[str]:
    for name, addresses in sorted(scene.reading.node_addresses.items()):
        if address in addresses:
            yield f"it is node {name}'s own address: podcidr does not claim a block that holds it"


def _pools(scene: Scene, address: Address) -> Iterator[tuple[Prefix, Pool]]:
    pools = scene.snapshot.pools.values()
    yield from Cover((cidr, pool) for pool in pools for space in pool.spaces.values() for cidr in space.cidrs).around(address)


def _around(prefixes: Iterable[Prefix], address: Address) -> Iterator[tuple[Prefix, bool]]:
    return Cover((prefix, True) for prefix in prefixes).around(address)


def _pool_line(cidr: Prefix, pool: Pool) -> str:
    used = "" if cidr in pool.accepted else ", which is not in use (podcidr explain pool says why)"
    return f"it lies in {cidr} of pool {pool.name}{used}"


def _block_of(pool: Pool, address: Address) -> Prefix:
    length = pool.spaces[address.family].block_length
    shift = BITS[address.family] - length
    return Prefix(address.family, address.number >> shift << shift, length)


def _reserved(scene: Scene, pool: Pool, address: Address) -> str:
    if address.number not in unusable(pool, _block_of(pool, address)):
        return ""
    return f"pool {pool.name} never hands it out: it is in spec.reserved, or a network, gateway or broadcast address"


def _cover_of_ledger(scene: Scene, address: Address) -> list[str]:
    snapshot = scene.snapshot
    lines = []
    for prefix, block in Cover((block.prefix, block) for block in snapshot.blocks.values()).around(address):
        if block.quarantined:
            lines.append(f"its block {prefix} rests in quarantine after node {block.node}, until {moment(scene.rests_until(block))}")
        else:
            lines.append(f"its block {prefix} is claimed for node {block.node} out of pool {block.pool} (IPBlock {block.name})")
    for _, (node, entry) in _lists(scene).around(address):
        usage = _usage(scene, node, entry.prefix)
        state = "draining" if entry.draining else "active"
        lines.append(f"node {node} lists {entry.prefix} as {state}, and reports {usage}")
    return lines


def _lists(scene: Scene) -> Cover[tuple[str, Entry]]:
    nodecidrs = scene.snapshot.nodecidrs.values()
    return Cover((entry.prefix, (nodecidr.name, entry)) for nodecidr in nodecidrs for entry in nodecidr.entries)


def _usage(scene: Scene, node: str, prefix: Prefix) -> str:
    known = scene.snapshot.nodecidrs[node].known
    if known is None:
        return "nothing yet: all of it counts as used"
    usage = known.blocks.get(prefix, IDLE)
    return f"{usage.in_use} addresses of it in use, {usage.cooling} cooling down"


def _verdict(scene: Scene, address: Address, *, held: bool, in_pool: bool) -> str:
    lists = list(_lists(scene).around(address))
    if held:
        return "is in use"
    if any(_reserved(scene, pool, address) for _, pool in _pools(scene, address)):
        return "is reserved: no pod gets it"
    if lists:
        return f"belongs to node {lists[0][1][0]}; no pod shows it (free, cooling down, or being assigned)"
    rows = [block for _, block in Cover((b.prefix, b) for b in scene.snapshot.blocks.values()).around(address)]
    if rows:
        return "rests in quarantine" if rows[0].quarantined else f"is claimed for node {rows[0].node}, but in no list: unknown means used"
    return "is free: no node holds its block" if in_pool else "is in no pool: podcidr has nothing to do with it"


def _next(scene: Scene, address: Address) -> Iterator[str]:
    cover = [prefix for prefix, _ in _lists(scene).around(address)]
    cover += [prefix for prefix, _ in Cover((b.prefix, b) for b in scene.snapshot.blocks.values()).around(address)]
    for prefix in dict.fromkeys(cover):
        for action in scene.of_block(scene.now_actions, prefix):
            yield f"now: {type(action).__name__} {prefix} for node {action.node} ({action.reason})"
        for action in scene.of_block(scene.later_actions, prefix):
            yield f"when windows and waits have passed: {type(action).__name__} {prefix} for node {action.node} ({action.reason})"
    for _, pool in _pools(scene, address):
        if _reserved(scene, pool, address):
            continue
        if seconds := scene.reading.cooldown_seconds.get(pool.name):
            began = f"addressCooldownSeconds of pool {pool.name}; a pod keeps the value of its start"
            yield f"once released it rests before another pod gets it: {seconds} s ({began})"


def _do(holders: int) -> Iterator[str]:
    if holders > 1:
        yield "more than one holds it: podcidr check, then delete the younger pod"
