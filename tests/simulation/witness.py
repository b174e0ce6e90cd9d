"""Sees every change of the API's objects and every address a pod really has, and raises at the first that must not be.

The numbers are those of the design's invariants. It shares no code with the planner's own checks.
"""

import ipaddress
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from zlib import crc32

from tests.simulation.fake_api import Change

Object = dict[str, Any]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
LOST_SECONDS = 600.0
_network = lru_cache(maxsize=None)(ipaddress.ip_network)
_address = lru_cache(maxsize=None)(ipaddress.ip_address)


class Violation(Exception):
    """An invariant does not hold."""

    def __init__(self, invariant: str, words: str) -> None:
        super().__init__(f"invariant {invariant}: {words}")
        self.invariant = invariant


@dataclass
class Row:
    """An IPBlock of the ledger, and what became of it."""

    uid: str
    node: str
    pool: str
    quarantined_at: float | None = None
    left_at: float | None = None
    """When it last went from a list: its rest is stamped then, though the write may be carried out much later."""
    entered: bool = False


@dataclass
class Witness:
    """Ground truth. `now` is virtual time, which nobody else sees."""

    now: Callable[[], float]
    live_nodes: Callable[[], set[str]]
    quarantine_seconds: dict[str, float] = field(default_factory=dict)
    """The shortest that a pool ever had."""
    tolerance: Callable[[float], float] = lambda seconds: seconds
    """What is left of so many seconds where clocks differ as far as they do here."""
    holders: dict[str, tuple[str, str]] = field(default_factory=dict)
    held_by: dict[str, list[str]] = field(default_factory=dict)
    listed: dict[str, str] = field(default_factory=dict)
    rows: dict[str, Row] = field(default_factory=dict)
    absent_since: dict[str, float] = field(default_factory=dict)
    disturbed: set[str] = field(default_factory=set)
    """Nodes whose NodeCIDR was lost by hand or by a restore: their addresses may lie outside their list for a while."""
    by_hand: set[str] = field(default_factory=set)
    cidrs: dict[str, set[str]] = field(default_factory=dict)
    """Every CIDR that a pool (by uid) ever had."""
    busy: dict[tuple[str, int], list[frozenset[str]]] = field(default_factory=dict)
    """By uid and epoch of a NodeCIDR: what each report of the agent said to be in use. An older one may land last."""
    trace: deque[tuple[float, tuple[object, ...]]] = field(default_factory=lambda: deque(maxlen=20_000))
    violation: Violation | None = None
    restored_at: float = float("-inf")
    assignments: int = 0
    checks: int = 0
    digest: int = 0

    def note(self, *what: object) -> None:
        """One line of the trace."""
        self.trace.append((self.now(), what))

    def fail(self, invariant: str, words: str) -> None:
        """Keep the first."""
        self.note("VIOLATION", invariant, words)
        if self.violation is None:
            self.violation = Violation(invariant, words)

    # What pods have

    def assigned(self, address: str, node: str, container: str) -> None:
        """A pod's interface has it from here on."""
        self.checks += 1
        self.assignments += 1
        self.note("assigned", address, node, container)
        if address in self.holders:
            other = self.holders[address]
            self.fail("1", f"{address} is given to {container} on {node}, but {other[1]} on {other[0]} has it")
        self.holders[address] = node, container
        self.held_by.setdefault(container, []).append(address)
        if node not in self.disturbed and self.block_of(address, node) is None:
            self.fail("7", f"{address} is given to {container} on {node}, but lies in no block of that node")

    def released(self, container: str) -> None:
        """Its interface is gone."""
        for address in self.held_by.pop(container, ()):
            self.note("released", address, container)
            self.holders.pop(address, None)

    def block_of(self, address: str, node: str) -> str | None:
        number = _address(address)
        return next((cidr for cidr, holder in self.listed.items() if holder == node and number in _network(cidr)), None)

    def outlives_restore(self, address: str) -> bool:
        """Whether it lies in a block that another node has in the ledger and nobody in a list: a claim or a rest from before a restore
        of etcd may own what a later owner's pods live in. Nobody gets the block until they end."""
        node, _ = self.holders[address]
        others = (cidr for cidr, row in self.rows.items() if cidr not in self.listed and row.node != node)
        return self.restored_at > 0 and any(_address(address) in _network(cidr) for cidr in others)

    # What the API holds

    def changed(self, change: Change) -> None:
        """Every change passes here, one by one."""
        self.checks += 1
        self.digest = crc32(f"{self.digest} {change.plural} {change.key} {change.type} {self.now():.6f}".encode())
        match change.plural:
            case "nodecidrs":
                self._nodecidr_changed(change)
            case "ipblocks":
                self._block_changed(change)
            case "ippools":
                self._pool_changed(change)
            case "nodes":
                self._node_changed(change)

    def _node_changed(self, change: Change) -> None:
        if change.type == "DELETED":
            self.absent_since[change.key] = self.now()
        else:
            self.absent_since.pop(change.key, None)

    def _pool_changed(self, change: Change) -> None:
        spec, name = change.new.value["spec"], change.key
        known = self.cidrs.setdefault(change.new.value["metadata"]["uid"], set())
        for family in ("ipv4", "ipv6"):
            known.update((spec.get(family) or {}).get("cidrs", ()))
        quarantine = float(spec.get("quarantineSeconds", 300))
        self.quarantine_seconds[name] = min(quarantine, self.quarantine_seconds.get(name, quarantine))

    def _nodecidr_changed(self, change: Change) -> None:
        node, new, old = change.key, change.new.value, change.old
        before = {b["cidr"]: b for b in (old or {}).get("spec", {}).get("blocks", ())}
        after = {} if change.type == "DELETED" else {b["cidr"]: b for b in new["spec"]["blocks"]}
        if before != after:
            self.note("spec", node, new["metadata"]["uid"], new["spec"]["epoch"], {c: b["state"] for c, b in after.items()})
        if change.type == "DELETED" and node in self.by_hand:
            self.by_hand.discard(node)
            self.listed = {cidr: holder for cidr, holder in self.listed.items() if holder != node}
            return
        for cidr in sorted(before.keys() - after.keys()):
            self.listed.pop(cidr, None)
            if row := self.rows.get(cidr):
                row.left_at = self.now()
            self._left(node, cidr, before[cidr], old or {})
        for cidr in sorted(after.keys() - before.keys()):
            self._entered(node, cidr, after[cidr])
        if old and old.get("status") != new.get("status"):
            status = new.get("status", {})
            self._reported(status)
            self.note(
                "report", node, status.get("observedEpoch"), [(b["cidr"], b["inUse"], b["cooling"]) for b in status.get("blocks", ())]
            )

    def _reported(self, status: Object) -> None:
        told = self.busy.setdefault((status.get("observedUID", ""), status.get("observedEpoch", 0)), [])
        told.append(frozenset(block["cidr"] for block in status.get("blocks", ()) if block["inUse"] + block["cooling"]))

    def _entered(self, node: str, cidr: str, entry: Object) -> None:
        for other, holder in self.listed.items():
            if _network(other).version == _network(cidr).version and _network(other).overlaps(_network(cidr)):
                self.fail("2" if other == cidr else "3", f"{cidr} enters the list of {node}, but {holder} lists {other}")
        row = self.rows.get(cidr)
        if row is None or row.node != node:
            self.fail("2", f"{cidr} enters the list of {node}, but its IPBlock is {'missing' if row is None else f'of {row.node}'}")
        elif row.quarantined_at is not None:
            self.fail("3", f"{cidr} enters the list of {node}, but its IPBlock is quarantined")
        for other, held in self.rows.items():
            if held.quarantined_at is not None and other != cidr and _overlap(other, cidr):
                self.fail("3", f"{cidr} enters the list of {node}, but {other} rests in quarantine")
        if not any(_inside(cidr, known) for known in self.cidrs.get(entry["poolUID"], ())):
            self.fail("4", f"{cidr} enters the list of {node}, but pool {entry['pool']} never had a CIDR around it")
        for address, (holder, container) in self.holders.items():
            if holder != node and _address(address) in _network(cidr):
                self.fail("7", f"{cidr} enters the list of {node}, but {container} on {holder} has {address} of it")
        if row is not None:
            row.entered, row.left_at = True, None
        self.listed[cidr] = node

    def _left(self, node: str, cidr: str, entry: Object, old: Object) -> None:
        for address, (holder, container) in self.holders.items():
            if holder == node and _address(address) in _network(cidr):
                self.fail("5", f"{cidr} leaves {node}, but {container} has {address} of it")
        if self.now() - self.absent_since.get(node, self.now()) >= self.tolerance(LOST_SECONDS):
            return
        meta, epoch = old["metadata"], old["spec"]["epoch"]
        told = self.busy.get((meta["uid"], epoch), [])
        if entry["state"] != "Draining" or all(cidr in busy for busy in told):
            self.fail("5", f"{cidr} leaves {node} while {entry['state']}: at epoch {epoch} there were {len(told)} reports, none without it")

    def _block_changed(self, change: Change) -> None:
        value = change.new.value
        cidr, uid, state = value["spec"]["cidr"], value["metadata"]["uid"], (value.get("status") or {}).get("state", "Claimed")
        self.note("ipblock", change.type, cidr, value["spec"]["node"], state, uid)
        if change.type == "DELETED":
            self._freed(cidr, self.rows.pop(cidr, None))
            return
        row = self.rows.get(cidr)
        if row is None or row.uid != uid:
            row = self.rows[cidr] = Row(uid, value["spec"]["node"], value["spec"]["pool"])
        if state == "Quarantined":
            if cidr in self.listed:
                self.fail("3", f"IPBlock of {cidr} is quarantined, but {self.listed[cidr]} lists it")
            row.quarantined_at = self.now() if row.quarantined_at is None else row.quarantined_at
        else:
            row.quarantined_at = None

    def _freed(self, cidr: str, row: Row | None) -> None:
        if cidr in self.listed:
            self.fail("2", f"IPBlock of {cidr} is deleted, but {self.listed[cidr]} lists it")
        if row is None or not row.entered:
            return
        due = self.tolerance(self.quarantine_seconds.get(row.pool, 300.0))
        rested = -1.0 if row.quarantined_at is None else self.now() - (row.quarantined_at if row.left_at is None else row.left_at)
        if rested < due:
            self.fail("6", f"IPBlock of {cidr} is deleted {rested:.1f} s after it left its list, not {due:.1f} s")

    # What hands other than the product's did

    def forgotten(self, node: str) -> None:
        """Its NodeCIDR is being deleted by hand, whatever it lists."""
        self.disturbed.add(node)
        self.by_hand.add(node)

    def restored(self, objects: dict[str, list[Object]]) -> None:
        """Etcd has an older state: begin anew from it. What pods have is as it was."""
        self.note("etcd restored")
        self.restored_at = self.now()
        self.listed = {b["cidr"]: n["metadata"]["name"] for n in objects["nodecidrs"] for b in n["spec"]["blocks"]}
        self.rows = {}
        for block in objects["ipblocks"]:
            resting = (block.get("status") or {}).get("state") == "Quarantined"
            spec = block["spec"]
            self.rows[spec["cidr"]] = Row(
                block["metadata"]["uid"], spec["node"], spec["pool"], self.now() - 1e6 if resting else None, spec["cidr"] in self.listed
            )
        self.busy = {}
        for nodecidr in objects["nodecidrs"]:
            self._reported(nodecidr.get("status") or {})
        present = {node["metadata"]["name"] for node in objects["nodes"]}
        self.absent_since = {name: self.now() for name in self.absent_since if name not in present}
        self.disturbed |= self.live_nodes()


def _overlap(a: str, b: str) -> bool:
    return _network(a).version == _network(b).version and _network(a).overlaps(_network(b))


def _inside(cidr: str, around: str) -> bool:
    inner, outer = _network(cidr), _network(around)
    return inner.version == outer.version and inner.subnet_of(outer)  # type: ignore[arg-type]
