"""What `check` and `show` point out though no invariant is broken: pure."""

from collections.abc import Iterator, Sequence

from podcidr.api import names
from podcidr.cli.cover import Cover
from podcidr.cli.findings import Note
from podcidr.cli.reading import Address, Reading
from podcidr.cli.statedirs import StateDir
from podcidr.core.invariants import is_orphan, listings
from podcidr.core.model import Pool
from podcidr.core.prefix import Prefix, address_text


def notes(reading: Reading, dirs: Sequence[StateDir] = ()) -> Iterator[Note]:
    """All of them, a topic at a time."""
    yield from _pools(reading)
    yield from _silent_agents(reading)
    yield from _epochs(reading)
    yield from _orphans(reading)
    yield from _unlisted(reading)
    yield from _foreign(reading)
    for directory in dirs:
        for problem in directory.problems:
            yield Note("state dir", problem)


def _pools(reading: Reading) -> Iterator[Note]:
    for name, conditions in sorted(reading.conditions.items()):
        accepted = conditions.get(names.CONDITION_ACCEPTED)
        if accepted is None:
            yield Note("pool", f"pool {name} has not been looked at by an operator yet: is one running?", (f"IPPool {name}",))
        elif not accepted.holds:
            yield Note("pool", f"pool {name} is not accepted ({accepted.reason}): {accepted.message}", (f"IPPool {name}",))


def _silent_agents(reading: Reading) -> Iterator[Note]:
    for name, node in sorted(reading.snapshot.nodes.items()):
        nodecidr = reading.snapshot.nodecidrs.get(name)
        if nodecidr is None:
            if node.ready:
                yield Note("silent agent", f"node {name} is Ready, but has no NodeCIDR: is the operator running?", (f"Node {name}",))
        elif nodecidr.known is None and node.ready:
            words = f"node {name} is Ready, but its agent has not reported for this NodeCIDR: is the agent running there?"
            yield Note("silent agent", words, (f"Node {name}", f"NodeCIDR {name}"))


def _epochs(reading: Reading) -> Iterator[Note]:
    """The epoch grows with every write and never falls."""
    for name, nodecidr in sorted(reading.snapshot.nodecidrs.items()):
        seen = nodecidr.known.epoch if nodecidr.known else 0
        if max(nodecidr.epoch, seen) > names.MAX_COUNT - names.MAX_EPOCH_STEP:
            words = (
                f"NodeCIDR {name} can hardly be written any more, so node {name} gets and gives back nothing: its epoch is"
                f" {max(nodecidr.epoch, seen)}, and it ends at {names.MAX_COUNT}; docs/operations.md says how to make it anew"
            )
            yield Note("epoch at its end", words, (f"NodeCIDR {name}",))


def orphans(reading: Reading) -> dict[Prefix, str]:
    """Blocks whose pool or CIDR is gone, and why."""
    snapshot = reading.snapshot
    rows = [(block.prefix, block.pool, block.pool_uid) for block in snapshot.blocks.values()]
    rows += [(e.prefix, e.pool, e.pool_uid) for nodecidr in snapshot.nodecidrs.values() for e in nodecidr.entries]
    return {
        prefix: _why_orphan(snapshot.pools.get(pool), pool, uid)
        for prefix, pool, uid in sorted(rows)
        if is_orphan(snapshot.pools, prefix, pool, uid)
    }


def _why_orphan(pool: Pool | None, name: str, uid: str) -> str:
    return f"pool {name} no longer has its CIDR" if pool and pool.uid == uid else f"pool {name} is gone"


def _orphans(reading: Reading) -> Iterator[Note]:
    for prefix, why in orphans(reading).items():
        yield Note("orphan", f"block {prefix} is an orphan: {why}; it stays until it is empty, no other pool gets it")


def _unlisted(reading: Reading) -> Iterator[Note]:
    listed = listings(reading.snapshot.nodecidrs.values())
    for _, block in sorted(reading.snapshot.blocks.items()):
        if not block.quarantined and block.prefix not in listed:
            words = f"block {block.prefix} is claimed for node {block.node}, but in no list: it is about to enter or to leave"
            yield Note("claim in no list", words, (f"IPBlock {block.name}",), is_warning=False)


def _foreign(reading: Reading) -> Iterator[Note]:
    """Addresses that podcidr did not give: of nodes in any CIDR of a pool, of pods where the CIDR is not accepted yet."""
    snapshot = reading.snapshot
    spaces = Cover((cidr, pool) for pool in snapshot.pools.values() for space in pool.spaces.values() for cidr in space.cidrs)
    for name, addresses in sorted(reading.node_addresses.items()):
        for address in addresses:
            if around := _first(spaces, address):
                words = f"node {name} has address {address_text(*address)} itself, in {around[0]} of pool {around[1].name}"
                yield Note("foreign address", f"{words}: a pool must be unused space; reserve it there", (f"Node {name}",))
    blocks = Cover((block.prefix, True) for block in snapshot.blocks.values())
    outside, homeless, orphaned = 0, 0, 0
    for pod in reading.pods or ():
        homeless += pod.node not in snapshot.nodes
        for address in pod.addresses:
            if (around := _first(spaces, address)) is None:
                orphaned, outside = orphaned + (address in blocks), outside + (address not in blocks)
            elif around[0] not in around[1].accepted:
                words = f"{pod} has address {address_text(*address)} of pool {around[1].name}, whose {around[0]} is not in use yet"
                yield Note("foreign address", f"{words}: restart the pod, or reserve the address", (str(pod),))
    if orphaned:
        words = f"addresses of pods in blocks whose pool or CIDR is gone: {orphaned}; they drain, restart these pods to be done sooner"
        yield Note("orphan", words, is_warning=False)
    if outside:
        yield Note("foreign address", f"addresses of pods in no pool, not podcidr's: {outside}", is_warning=False)
    if homeless:
        yield Note("pods without node", f"pods of nodes that are gone, not counted: {homeless}", is_warning=False)


def _first(spaces: Cover[Pool], address: Address) -> tuple[Prefix, Pool] | None:
    return next(spaces.around(address), None)
