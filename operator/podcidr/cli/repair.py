"""What `check --repair` may do, and what it leaves alone and why: pure.

The operator's own planner decides on everything that the objects show. Beside it only one thing is looked at that no operator can see:
addresses of pods (and of attachments on disk) that lie in a pool, while the ledger has lost their block and the agent is silent.
Nothing is ever claimed, and nothing leaves a node but by the proofs of core.life.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from podcidr.cli.cover import Cover
from podcidr.cli.findings import Finding
from podcidr.cli.judge import accepted_cidrs
from podcidr.cli.notes import orphans
from podcidr.cli.reading import Address, Reading
from podcidr.core.actions import Action, Adopt, BlockAction, Drain, Free, Leave, RaiseEpoch
from podcidr.core.invariants import is_orphan, listings
from podcidr.core.model import IDLE, NodeCIDR, Pool, Snapshot
from podcidr.core.plan import plan
from podcidr.core.prefix import BITS, Prefix, address_text, block_name

LEFT_ALONE = {
    1: "pods are yours: no command of podcidr ends one",
    2: "a block that two nodes hold drains on both, and stays until both report it empty",
    3: "blocks that overlap are frozen: neither may be taken away while its addresses may be in use",
    4: "no pool could have made this block, so only who created it knows what it is for",
    7: "the agent of the node has to confirm the address, and only a restart gives the pod another one",
}


@dataclass(frozen=True, slots=True)
class Held:
    """An address that somebody on a node has."""

    node: str
    address: Address
    label: str


@dataclass(frozen=True, slots=True)
class Untouched:
    """What is wrong or odd and stays so, why, and what a person can do."""

    what: str
    why: str
    remedy: str


def planned_repairs(snapshot: Snapshot, now: float) -> list[Action]:
    """What an operator would do to mend the ledger: no claim, no shrinking, nothing for demand."""
    return [action for action in plan(snapshot, now).actions if _mends(action, snapshot)]


def _mends(action: Action, snapshot: Snapshot) -> bool:
    match action:
        case Adopt() | RaiseEpoch():
            return True
        case Leave():  # of a listed block that is no orphan it is everyday life
            return _is_orphan(action, snapshot) or not _is_listed(action, snapshot)
        case Drain():
            return action.prefix in snapshot.memory.confirmed or _is_orphan(action, snapshot)
        case Free():
            return _is_orphan(action, snapshot)
        case _:
            return False


def _is_listed(action: BlockAction, snapshot: Snapshot) -> bool:
    nodecidr = snapshot.nodecidrs.get(action.node)
    return any(entry.prefix == action.prefix for entry in (nodecidr.entries if nodecidr else ()))


def _is_orphan(action: BlockAction, snapshot: Snapshot) -> bool:
    row = snapshot.blocks.get(block_name(action.prefix))
    nodecidr = snapshot.nodecidrs.get(action.node)
    entry = next((e for e in nodecidr.entries if e.prefix == action.prefix), None) if nodecidr else None
    owner = row or entry
    return owner is not None and is_orphan(snapshot.pools, action.prefix, owner.pool, owner.pool_uid)


def lost_entries(snapshot: Snapshot, held: Iterable[Held]) -> list[Adopt]:
    """Blocks that pods on a node have addresses of, and no list has: adopted, they are nobody else's until the agent has spoken."""
    listed = Cover((prefix, True) for prefix in listings(snapshot.nodecidrs.values()))
    pools = Cover((cidr, pool) for pool in snapshot.pools.values() for cidr in accepted_cidrs(pool))
    found: dict[Prefix, Adopt | None] = {}
    for one in held:
        pool = next((pool for _, pool in pools.around(one.address)), None)
        nodecidr = snapshot.nodecidrs.get(one.node)
        if pool is None or one.address in listed or nodecidr is None or nodecidr.deleting or one.node not in snapshot.nodes:
            continue
        prefix = _block_of(pool, one.address)
        adopt = _adoption(snapshot, nodecidr, pool, prefix, one)
        if prefix in found and (earlier := found[prefix]) and earlier.node != one.node:
            found[prefix] = None  # addresses of it on two nodes: a conflict, and a person's to solve
        else:
            found.setdefault(prefix, adopt)
    return [adopt for _, adopt in sorted(found.items()) if adopt]


def _adoption(snapshot: Snapshot, nodecidr: NodeCIDR, pool: Pool, prefix: Prefix, one: Held) -> Adopt | None:
    """None: the block is another node's, or overlaps one that exists."""
    row = snapshot.blocks.get(block_name(prefix))
    if row is None and any(other.prefix.overlaps(prefix) for other in snapshot.blocks.values()):
        return None
    if any(entry.prefix.overlaps(prefix) for other in snapshot.nodecidrs.values() for entry in other.entries):
        return None
    if row is not None and (row.node != nodecidr.name or row.pool_uid != pool.uid):
        return None
    words = f"{one.label} has {address_text(*one.address)}, but no list has its block"
    return Adopt(nodecidr.name, words, prefix, pool.name, pool.uid, pool.generation)


def _block_of(pool: Pool, address: Address) -> Prefix:
    length = pool.spaces[address.family].block_length
    shift = BITS[address.family] - length
    return Prefix(address.family, address.number >> shift << shift, length)


def all_repairs(snapshot: Snapshot, now: float, held: Iterable[Held]) -> tuple[list[Action], list[Adopt]]:
    """The planner's, and those that pods alone show. What a pod has an address of does not leave."""
    lost = lost_entries(snapshot, held)
    prefixes = {adopt.prefix for adopt in lost}
    planned = [a for a in planned_repairs(snapshot, now) if not (isinstance(a, BlockAction) and a.prefix in prefixes)]
    taken = {action.prefix for action in planned if isinstance(action, Adopt)}
    return planned, [adopt for adopt in lost if adopt.prefix not in taken]


def untouched(reading: Reading, violations: Sequence[Finding]) -> Iterator[Untouched]:
    """What a repair leaves as it is."""
    for finding in violations:
        yield Untouched(finding.words, LEFT_ALONE[finding.invariant], finding.remedy)
    snapshot = reading.snapshot
    for prefix, why in orphans(reading).items():
        if holder := _holder(snapshot, prefix):
            yield Untouched(f"orphan {prefix} ({why})", holder, "restart the pods that have its addresses, and it goes by itself")
    for name in sorted({*snapshot.nodecidrs, *(block.node for block in snapshot.blocks.values() if not block.quarantined)}):
        if name not in snapshot.nodes:
            why = "a node that is gone keeps its blocks until it has been silent for long enough (--lost-node-seconds)"
            yield Untouched(f"blocks of node {name}", why, f"if its machine is off for good: podcidr release --node {name} --force")


def _holder(snapshot: Snapshot, prefix: Prefix) -> str:
    """Why an orphan can't leave now; empty: it can, or has."""
    for nodecidr in snapshot.nodecidrs.values():
        if any(entry.prefix == prefix for entry in nodecidr.entries):
            if nodecidr.known is None:
                return f"node {nodecidr.name} has not reported: unknown means used"
            usage = nodecidr.known.blocks.get(prefix, IDLE)
            if any(usage):
                return f"node {nodecidr.name} has {usage.in_use} addresses of it in use and {usage.cooling} cooling down"
    return ""
