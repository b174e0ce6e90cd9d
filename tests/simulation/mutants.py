"""Deliberate bugs, by name: what the simulation must catch. Nothing of this is in the product.

Each is a switch that changes the product's code in memory before the first seed.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from podcidr.agent import main as agent_main
from podcidr.agent import service
from podcidr.agent.observed import NodeCIDRSeen
from podcidr.agent.publisher import Publisher
from podcidr.agent.statedir import StateDir
from podcidr.core import life
from podcidr.core.model import Memory, NodeCIDR, Pool
from podcidr.kube.client import KubeClient
from podcidr.reconcile.apply import Applier
from podcidr.reconcile.edits import NodeEdit
from podcidr.reconcile.memory import LeaderMemory
from podcidr.reconcile.writes import Writes

Patch = Callable[[], None]
MUTANTS: dict[str, Patch] = {}


def mutant(patch: Patch) -> Patch:
    """Give it its name."""
    MUTANTS[patch.__name__.replace("_", "-")] = patch
    return patch


@mutant
def skip_quarantine() -> None:
    """A released block is free again at once."""
    value = LeaderMemory.value

    def mutated(self: LeaderMemory, pools: Mapping[str, Pool]) -> Memory:
        memory = value(self, pools)
        return replace(memory, quarantined_since=dict.fromkeys(memory.quarantined_since, -1e9))

    LeaderMemory.value = mutated  # type: ignore[method-assign]


@mutant
def ignore_observed_epoch() -> None:
    """Any report of the right uid proves a Draining block empty, however old it is."""
    NodeCIDR.current = property(lambda self: self.known)  # type: ignore[assignment]


@mutant
def leave_without_fence() -> None:
    """A claim in no list is quarantined without raising the epoch first: a delayed Enter still fits."""
    patch = Applier._patch

    async def mutated(self: Applier, edit: NodeEdit, created: Any, snapshot: Any, outcome: Any) -> None:
        listed = {entry.prefix for entry in edit.decided.entries}
        if edit.leaves and edit.actions == edit.leaves and not any(leave.prefix in listed for leave in edit.leaves):
            for leave in edit.leaves:
                await self._guarded(lambda a, _o: self._quarantine(a, snapshot), leave, outcome)
            return
        await patch(self, edit, created, snapshot, outcome)

    Applier._patch = mutated  # type: ignore[method-assign]


@mutant
def write_after_losing_the_lease() -> None:
    """The client asks nobody whether this process may still write."""
    seconds_left = KubeClient._seconds_left

    def mutated(self: KubeClient, left: float, *, fenced: bool) -> float:
        return seconds_left(self, left, fenced=False)

    KubeClient._seconds_left = mutated  # type: ignore[method-assign]


@mutant
def enter_without_test() -> None:
    """The patch of a NodeCIDR tests neither uid nor epoch."""
    operations = NodeEdit.operations

    def mutated(self: NodeEdit) -> list[dict[str, Any]]:
        return [operation for operation in operations(self) if operation["op"] != "test"]

    NodeEdit.operations = mutated  # type: ignore[method-assign]


@mutant
def enter_what_another_claimed() -> None:
    """A create that is refused because the name is taken counts as done."""
    create_block = Writes.create_block

    async def mutated(self: Writes, action: Any, nodecidr_uid: str) -> Any:
        from podcidr.core.prefix import block_name
        from podcidr.kube.errors import AlreadyExists

        try:
            return await create_block(self, action, nodecidr_uid)
        except AlreadyExists:
            return await self.read_block(block_name(action.prefix))

    Writes.create_block = mutated  # type: ignore[method-assign]


@mutant
def leave_while_in_use() -> None:
    """A Draining block leaves whatever the node reports of it."""
    life._may_leave = lambda draft, nodecidr, entry, scene: "reported empty"


@mutant
def trust_a_report_of_another_uid() -> None:
    """The report of a NodeCIDR that bore the name before counts."""
    NodeCIDR.known = property(lambda self: self.report)  # type: ignore[assignment]


@mutant
def forget_what_is_used_outside_the_list() -> None:
    """What a node reports beside its list is neither adopted nor kept."""
    life._used = lambda nodecidr: set()


@mutant
def count_before_publishing() -> None:
    """The agent reports at the new epoch while the plugin still has the old file."""

    async def mutated(self: Publisher, seen: NodeCIDRSeen, pools: Any) -> None:
        document = self._document
        await publish(self, seen, pools)
        if document is not None and self.published is not None and document["uid"] == seen.uid:
            self._state.replace(self._state.root / "allocation.json", {**document, "epoch": seen.epoch})

    publish = Publisher._publish
    Publisher._publish = mutated  # type: ignore[method-assign]


@mutant
def go_back_an_epoch() -> None:
    """The agent publishes whatever it reads, older or not."""

    async def mutated(self: StateDir, document: Mapping[str, Any]) -> Any:
        from podcidr.agent.statedir import Standing

        self.replace(self.root / "allocation.json", document)
        return Standing(document["uid"], document["epoch"])

    StateDir.publish = mutated  # type: ignore[method-assign]


@mutant
def rebuild_nothing() -> None:
    """After a loss of the state dir the agent begins as if nobody had an address."""
    agent_main.from_cache = lambda directory: iter(())  # type: ignore[attr-defined]
    service.from_pods = lambda *_: iter(())  # type: ignore[attr-defined]


@mutant
def two_agents_at_once() -> None:
    """The agent does not wait for the one before it."""
    StateDir.try_agent_lock = lambda self: True  # type: ignore[method-assign]


@mutant
def count_cooling_as_free() -> None:
    """A block whose addresses cool down counts as empty."""
    may_leave = life._may_leave

    def mutated(draft: Any, nodecidr: NodeCIDR, entry: Any, scene: Any) -> str | None:
        current = nodecidr.current
        usage = current.blocks.get(entry.prefix) if current else None
        if usage is not None and usage.in_use == 0:
            return "reported empty"
        return may_leave(draft, nodecidr, entry, scene)

    life._may_leave = mutated


@mutant
def free_what_is_listed() -> None:
    """A quarantined block is deleted on its name alone."""
    from podcidr.kube.resources import IPBLOCKS

    delete = KubeClient.delete

    async def mutated(self: KubeClient, resource: Any, name: str, **options: Any) -> Any:
        if resource is IPBLOCKS:
            options.update(uid=None, resource_version=None)
        return await delete(self, resource, name, **options)

    KubeClient.delete = mutated  # type: ignore[method-assign]
