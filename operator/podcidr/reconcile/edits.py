"""One node's actions of a round as one patch of its NodeCIDR: pure, so that tests read what would be written."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from podcidr.api.convert import entry_json
from podcidr.core.actions import Action, Adopt, Claim, Drain, Leave, RaiseEpoch, SetPools, Undrain
from podcidr.core.model import Entry, NodeCIDR

Operation = dict[str, Any]


@dataclass
class NodeEdit:
    """What a round does to one NodeCIDR. `decided` is the version the plan was made on: every write tests its uid and epoch."""

    decided: NodeCIDR
    claims: list[Claim] = field(default_factory=list)
    adopts: list[Adopt] = field(default_factory=list)
    leaves: list[Leave] = field(default_factory=list)
    others: list[Drain | Undrain | SetPools | RaiseEpoch] = field(default_factory=list)

    def add(self, action: Action) -> None:
        """Sort the action in."""
        match action:
            case Claim():
                self.claims.append(action)
            case Adopt():
                self.adopts.append(action)
            case Leave():
                self.leaves.append(action)
            case Drain() | Undrain() | SetPools() | RaiseEpoch():
                self.others.append(action)
            case _:
                raise TypeError(action)

    @property
    def actions(self) -> list[Action]:
        """All that are left in it."""
        return [*self.claims, *self.adopts, *self.leaves, *self.others]

    @property
    def epoch(self) -> int:
        """The next one: above what the node has seen, too, should the API have been restored."""
        seen = self.decided.known.epoch if self.decided.known else 0
        return max(self.decided.epoch, seen) + 1

    def operations(self) -> list[Operation]:
        """The JSON patch; empty if nothing is left to do. A fence is a patch that only raises the epoch."""
        if not self.actions:
            return []
        patch: list[Operation] = [
            {"op": "test", "path": "/metadata/uid", "value": self.decided.uid},
            {"op": "test", "path": "/spec/epoch", "value": self.decided.epoch},
            {"op": "replace", "path": "/spec/epoch", "value": self.epoch},
        ]
        questions = [action.question for action in self.others if isinstance(action, RaiseEpoch) and action.question]
        patch += [{"op": "add", "path": "/spec/question", "value": question} for question in questions]
        pools = [action.pools for action in self.others if isinstance(action, SetPools)]
        patch += [{"op": "add", "path": "/spec/pools", "value": list(names)} for names in pools]
        entries = self.entries()
        if entries != list(self.decided.entries):
            patch.append({"op": "add", "path": "/spec/blocks", "value": [entry_json(entry) for entry in entries]})
        return patch

    def entries(self) -> list[Entry]:
        """The list as the patch leaves it."""
        entries = {entry.prefix: entry for entry in self.decided.entries}
        for leave in self.leaves:
            entries.pop(leave.prefix, None)
        for action in self.others:
            if isinstance(action, Drain | Undrain) and action.prefix in entries:
                entries[action.prefix] = _turned(entries[action.prefix], action)
        for adopt in self.adopts:
            entries[adopt.prefix] = Entry(adopt.prefix, adopt.pool, adopt.pool_uid, adopt.pool_generation, draining=True)
        for claim in self.claims:
            entries[claim.prefix] = Entry(claim.prefix, claim.pool, claim.pool_uid, claim.pool_generation)
        if self.decided.overtaken:  # what it lists as Active may be another node's by what that node has seen
            return [entry._replace(draining=True) for entry in entries.values()]
        return list(entries.values())


def _turned(entry: Entry, action: Drain | Undrain) -> Entry:
    if isinstance(action, Drain):
        return entry._replace(draining=True)
    return entry._replace(draining=False, pool_generation=max(entry.pool_generation, action.pool_generation))


def edits(actions: Iterable[Action], nodecidrs: dict[str, NodeCIDR]) -> dict[str, NodeEdit]:
    """The actions on NodeCIDRs that exist, a node each."""
    found: dict[str, NodeEdit] = {}
    for action in actions:
        if isinstance(action, Claim | Adopt | Leave | Drain | Undrain | SetPools | RaiseEpoch) and action.node in nodecidrs:
            found.setdefault(action.node, NodeEdit(nodecidrs[action.node])).add(action)
    return found
