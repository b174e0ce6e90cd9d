"""The invariants, judged on one reading of API and disk. Pure; what the API's objects prove alone is in core.invariants."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from podcidr.cli.cover import Cover
from podcidr.cli.findings import IN_TESTS_ONLY, TITLES, Finding, Findings, Proof
from podcidr.cli.notes import notes
from podcidr.cli.reading import Address, Reading
from podcidr.cli.statedirs import StateDir
from podcidr.core.invariants import listings, outside_pool, violations
from podcidr.core.model import Block, Pool, Snapshot
from podcidr.core.prefix import Prefix, address_text, block_name

FROM_API = ""


class Holder(NamedTuple):
    """Somebody with an address: a pod as the API tells, or an attachment in a state directory (`source`)."""

    node: str
    source: str
    label: str
    pool: str = ""
    pod: str = ""
    """Namespace and name; empty where a container was attached outside Kubernetes."""

    def rivals(self, other: "Holder") -> bool:
        """Whether both at once break invariant 1. A pod and its own attachment are two views of one thing."""
        if FROM_API not in (self.source, other.source):
            return self.source != other.source
        if self.source == other.source:
            return True
        return _differ(self.node, other.node) or _differ(self.pod, other.pod)


def _differ(one: str, other: str) -> bool:
    """Whether both are known, and not the same."""
    return bool(one and other and one != other)


@dataclass(frozen=True)
class _Scene:
    reading: Reading
    held: Mapping[Address, Sequence[Holder]]
    """By pods on nodes that exist, and by attachments."""
    lists: Cover[str]
    """Nodes that list a block around an address."""
    pools: Cover[Pool]
    """Accepted CIDRs: what is in use."""
    ledger: Cover[Block]

    @property
    def snapshot(self) -> Snapshot:
        return self.reading.snapshot

    def is_ours(self, address: Address) -> bool:
        """Whether podcidr has to do with the address at all."""
        return address in self.pools or address in self.lists or address in self.ledger

    @property
    def ours(self) -> list[tuple[Address, Holder]]:
        """Addresses podcidr has to do with, a holder at a time; what an attachment names a pool for is ours in any case."""
        return [(a, holder) for a, holders in self.held.items() for holder in holders if holder.pool or self.is_ours(a)]


def judge(reading: Reading, dirs: Sequence[StateDir] = ()) -> Findings:
    """All violations, in a stable order, notes, and the number of objects each invariant was checked on."""
    scene = _scene(reading, dirs)
    found = {*_of_objects(reading.snapshot), *_two_holders(scene), *_outside_blocks(scene)}
    return Findings(
        violations=tuple(sorted(found, key=lambda finding: (finding.invariant, finding.words))),
        notes=tuple(notes(reading, dirs)),
        proofs=tuple(_proofs(scene, dirs)),
        counts=_counts(reading, dirs),
    )


def _scene(reading: Reading, dirs: Sequence[StateDir]) -> _Scene:
    snapshot = reading.snapshot
    held: dict[Address, list[Holder]] = defaultdict(list)
    for pod in reading.pods or ():
        for address in pod.addresses if pod.node in snapshot.nodes else ():
            held[address].append(Holder(pod.node, FROM_API, str(pod), pod=f"{pod.namespace}/{pod.name}"))
    for directory in dirs:
        for one in directory.attachments:
            held[one.address].append(Holder(directory.node, directory.path, f"{one} in {directory.path}", one.pool, one.pod))
    return _Scene(
        reading=reading,
        held=held,
        lists=Cover((entry.prefix, nodecidr.name) for nodecidr in snapshot.nodecidrs.values() for entry in nodecidr.entries),
        pools=Cover((cidr, pool) for pool in snapshot.pools.values() for cidr in accepted_cidrs(pool)),
        ledger=Cover((block.prefix, block) for block in snapshot.blocks.values()),
    )


def accepted_cidrs(pool: Pool) -> Iterator[Prefix]:
    """CIDRs of the spec that are in use."""
    return (cidr for space in pool.spaces.values() for cidr in space.cidrs if cidr in pool.accepted)


def _of_objects(snapshot: Snapshot) -> Iterator[Finding]:
    """2, 3, 4 and what reports show of 7."""
    for violation in (*violations(snapshot), *outside_pool(snapshot.pools, _claims(snapshot))):
        rows = (block_name(prefix) for prefix in violation.prefixes)
        objects = (*(f"IPBlock {row}" for row in rows if row in snapshot.blocks), *(f"NodeCIDR {node}" for node in violation.nodes))
        yield Finding(violation.invariant, violation.words, objects)
    for prefix, nodes in listings(snapshot.nodecidrs.values()).items():
        if block_name(prefix) not in snapshot.blocks:
            words = f"block {prefix} is listed by node {', '.join(nodes)}, but its IPBlock {block_name(prefix)} is missing"
            yield Finding(2, words, tuple(f"NodeCIDR {node}" for node in nodes))


def _claims(snapshot: Snapshot) -> Iterable[Block]:
    """The ledger, and what is listed without a row of it."""
    yield from snapshot.blocks.values()
    for nodecidr in snapshot.nodecidrs.values():
        for entry in nodecidr.entries:
            if (name := block_name(entry.prefix)) not in snapshot.blocks:
                yield Block(name, "", entry.prefix, entry.pool, entry.pool_uid, nodecidr.name, nodecidr.uid)


def _two_holders(scene: _Scene) -> Iterator[Finding]:
    for address, holders in scene.held.items():
        if len(holders) > 1 and (scene.is_ours(address) or any(holder.source for holder in holders)):
            rivals = sorted({h for h in holders if any(h.rivals(o) for o in _others(h, holders))})
            if rivals:
                who = " and ".join(f"{h.label} on node {h.node or '(unknown)'}" for h in rivals)
                yield Finding(1, f"address {address_text(*address)} is held by {who}", tuple(h.label for h in rivals))


def _others(holder: Holder, holders: Sequence[Holder]) -> Iterator[Holder]:
    return (other for other in holders if other is not holder)


def _outside_blocks(scene: _Scene) -> Iterator[Finding]:
    for address, holder in scene.ours:
        if not holder.node or not (holder.pool or address in scene.pools):
            continue
        around = list(scene.lists.around(address))
        if holder.node in (node for _, node in around):
            continue
        whose = [f"block {prefix} of node {node}" for prefix, node in around]
        where = f"but in {' and '.join(whose)}" if whose else "nor of another"
        words = f"address {address_text(*address)} of {holder.label} lies in no block of its node {holder.node}, {where}"
        yield Finding(7, words, (holder.label, f"NodeCIDR {holder.node}"))


def _proofs(scene: _Scene, dirs: Sequence[StateDir]) -> Iterator[Proof]:
    snapshot, ours = scene.snapshot, scene.ours
    listed = sum(len(nodecidr.entries) for nodecidr in snapshot.nodecidrs.values())
    ledger = len(snapshot.blocks)
    reports = sum(len(n.known.blocks) for n in snapshot.nodecidrs.values() if n.known)
    on_disk = sum(holder.source != FROM_API for _, holder in ours)
    placed = sum(bool(holder.node) for _, holder in ours)
    no_address = scene.reading.pods_missing or "no pod has an address of a pool, no attachment was given"
    checked = {
        1: {"addresses of pods": len(ours) - on_disk, "addresses on disk": on_disk},
        2: {"listed blocks": listed, "IPBlocks": ledger},
        3: {"listed blocks": listed, "IPBlocks": ledger},
        4: {"IPBlocks": ledger, "listed blocks": listed},
        7: {"addresses": placed, "reported blocks": reports},
    }
    why = {1: no_address, 2: "no block is listed or claimed", 3: "no block is listed", 4: "there is no block", 7: no_address}
    for number in TITLES:
        if number in IN_TESTS_ONLY:
            yield Proof(number, {}, IN_TESTS_ONLY[number])
        else:
            nothing = not any(checked[number].values()) or (number == 3 and not listed)
            yield Proof(number, checked[number], why[number] if nothing else "")


def _counts(reading: Reading, dirs: Sequence[StateDir]) -> dict[str, int]:
    snapshot = reading.snapshot
    counts = {"nodecidrs": len(snapshot.nodecidrs), "blocks": len(snapshot.blocks), "pools": len(snapshot.pools)}
    if dirs:
        counts |= {"attachments": sum(directory.containers for directory in dirs), "state dirs": len(dirs)}
    if reading.pods is not None:
        counts["pods"] = sum(bool(pod.addresses) for pod in reading.pods)
    return counts
