"""What the API server tells of blocks while the demo runs: who holds what now, and each change since."""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

from podcidr.api import names
from podcidr.core.prefix import Prefix, parse_prefix
from podcidr.kube.client import KubeClient
from podcidr.kube.clock import SystemClock
from podcidr.kube.credentials import load
from podcidr.kube.reflector import Reflector
from podcidr.kube.resources import IPBLOCKS, IPPOOLS, NODECIDRS
from podcidr.kube.transport import AiohttpTransport

GRANTED, UNDRAINED, DRAINING, LEFT = "granted", "undrained", "draining", "left"
QUARANTINED, FREED = "quarantined", "freed"


class Held(NamedTuple):
    """A block in a NodeCIDR."""

    prefix: Prefix
    pool: str
    draining: bool


class Holding(NamedTuple):
    """What matters of a NodeCIDR."""

    epoch: int
    pending: int
    blocks: tuple[Held, ...]


class Change(NamedTuple):
    """Something that happened to a block."""

    at: float
    what: str
    block: Prefix
    node: str


@dataclass
class Watch:
    """Three watches as the admin; nothing here is asked of the programs under show."""

    kubeconfig: Path

    async def __aenter__(self) -> Self:
        clock = SystemClock()
        self._client = KubeClient(AiohttpTransport(load(str(self.kubeconfig)), user_agent="podcidr-demo"), clock)
        self.nodes: Reflector[Holding] = Reflector(self._client, NODECIDRS, _holding, clock=clock, on_change=self._node_changed)
        self.ledger: Reflector[tuple[Prefix, str, bool]] = Reflector(
            self._client, IPBLOCKS, _ledger_entry, clock=clock, on_change=self._ledger_changed
        )
        self.pools: Reflector[bool] = Reflector(self._client, IPPOOLS, _is_accepted, clock=clock)
        self.changes: list[Change] = []
        self.peak = 0
        watches = (self.nodes, self.ledger, self.pools)
        self._tasks = [asyncio.create_task(reflector.run()) for reflector in watches]
        for reflector in watches:
            await asyncio.wait_for(reflector.synced.wait(), 30)
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.close()

    def blocks(self, node: str, pool: str | None = None) -> list[Held]:
        """What the node may use, the lowest first."""
        holding = self.nodes.items.get(node)
        return sorted(held for held in (holding.blocks if holding else ()) if pool in (None, held.pool))

    @property
    def resting(self) -> int:
        """Blocks in quarantine."""
        return sum(quarantined for _, _, quarantined in self.ledger.items.values())

    def count(self, what: str, since: int = 0) -> int:
        """How often this has happened, from that change on."""
        return Counter(change.what for change in self.changes[since:])[what]

    def _note(self, what: str, block: Prefix, node: str) -> None:
        self.changes.append(Change(time.monotonic(), what, block, node))

    def _node_changed(self, node: str, old: Holding | None, new: Holding | None) -> None:
        before = {held.prefix: held for held in old.blocks} if old else {}
        after = {held.prefix: held for held in new.blocks} if new else {}
        for prefix, held in after.items():
            if prefix not in before:
                self._note(GRANTED, prefix, node)
            elif held.draining != before[prefix].draining:
                self._note(DRAINING if held.draining else UNDRAINED, prefix, node)
        for prefix in before.keys() - after.keys():
            self._note(LEFT, prefix, node)
        self.peak = max(self.peak, sum(len(holding.blocks) for holding in self.nodes.items.values()))

    def _ledger_changed(self, _name: str, old: tuple[Prefix, str, bool] | None, new: tuple[Prefix, str, bool] | None) -> None:
        if new is None and old is not None:
            self._note(FREED, old[0], old[1])
        elif new is not None and new[2] and not (old and old[2]):
            self._note(QUARANTINED, new[0], new[1])


def _holding(obj: dict[str, Any]) -> Holding:
    spec = obj["spec"]
    blocks = (Held(parse_prefix(b["cidr"]), b["pool"], b["state"] == names.STATE_DRAINING) for b in spec.get("blocks") or ())
    return Holding(spec["epoch"], (obj.get("status") or {}).get("pending", 0), tuple(blocks))


def _ledger_entry(obj: dict[str, Any]) -> tuple[Prefix, str, bool]:
    quarantined = (obj.get("status") or {}).get("state") == names.STATE_QUARANTINED
    return parse_prefix(obj["spec"]["cidr"]), obj["spec"]["node"], quarantined


def _is_accepted(obj: dict[str, Any]) -> bool:
    conditions = (obj.get("status") or {}).get("conditions") or ()
    return any(c["type"] == names.CONDITION_ACCEPTED and c["status"] == names.STATUS_TRUE for c in conditions)
