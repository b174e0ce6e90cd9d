"""apply: carry a plan out by the rules that keep an address single. Steps never in parallel or in another order *for one block*.

    Enter  take the NodeCIDR decided on → CREATE the IPBlock (the lock) → read the pools, and list the blocks if they are not
           those the ledger was listed for → patch the NodeCIDR, testing uid and epoch
    Leave  take the IPBlock decided on → patch the NodeCIDR, testing uid and epoch → set the IPBlock Quarantined at its version;
           where the node is gone, see before the patch that no Node of its name is back
    Adopt  take the NodeCIDR decided on → create or touch the IPBlock → patch the NodeCIDR

All patches of one node in a round are one. A definite refusal ends the attempt: re-read, plan again. No answer means
unknown: re-read before anything else, and if even that fails, `Doubt` makes the next round begin with fresh lists.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Set
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

import structlog

from podcidr.core.acceptance import Owners, may_enter
from podcidr.core.actions import Action, Adopt, BlockAction, Claim, CreateNodeCIDR, DeleteNodeCIDR, Free, Leave
from podcidr.core.model import Block, Geometry, Snapshot
from podcidr.core.prefix import block_name
from podcidr.kube.errors import AlreadyExists, Conflict, Fenced, Invalid, KubeError, NotFound, OutcomeUnknown, Unreachable
from podcidr.reconcile.edits import NodeEdit, edits
from podcidr.reconcile.writes import Writes

IN_FLIGHT = 16
"""Writes at once: more only lengthen the API server's queue (measured: 1,300/s at 16 and at 64)."""
NODES_AT_ONCE = 64
"""Nodes that share one read of the pools after their creates."""

A = TypeVar("A", bound=Action)

_log = structlog.get_logger("podcidr.reconcile.apply")


class Doubt(Exception):
    """Some write may or may not have happened, and a read could not tell: begin again from consistent lists."""


@dataclass
class Outcome:
    """What became of a plan's actions."""

    done: list[Action] = field(default_factory=list)
    refused: list[tuple[Action, str]] = field(default_factory=list)
    unused: set[str] = field(default_factory=set)
    """Uids of IPBlocks that this round created and that surely entered no list."""
    refusing: set[str] = field(default_factory=set)
    """Nodes whose NodeCIDR the API server refused to write."""
    written: set[str] = field(default_factory=set)
    """Nodes whose NodeCIDR was written."""


class Applier:
    """Carries out one plan at a time."""

    def __init__(self, writes: Writes) -> None:
        self._writes = writes
        self._slots = asyncio.Semaphore(IN_FLIGHT)

    async def apply(self, actions: Iterable[Action], snapshot: Snapshot, listed_for: Set[Geometry] = frozenset()) -> Outcome:
        """All of them; raises Fenced or Doubt when going on would be guessing. `listed_for`: pools read before the ledger was listed."""
        actions = list(actions)
        outcome = Outcome()
        await self._each(self._create_nodecidr, _of(CreateNodeCIDR, actions), outcome)
        changes = edits(actions, dict(snapshot.nodecidrs))
        remaining = iter(changes.values())
        while batch := list(islice(remaining, NODES_AT_ONCE)):
            await self._edit(batch, snapshot, listed_for, outcome)
        orphaned = [leave for leave in _of(Leave, actions) if leave.node not in snapshot.nodecidrs]
        await self._each(lambda a, o: self._leave_without_node(a, snapshot, o), orphaned, outcome)
        await self._each(self._free, _of(Free, actions), outcome)
        await self._each(lambda a, o: self._delete_nodecidr(a, snapshot, o), _of(DeleteNodeCIDR, actions), outcome)
        return outcome

    async def _each(self, step: Callable[[A, Outcome], Awaitable[None]], actions: Iterable[A], outcome: Outcome) -> None:
        await self._all(self._guarded(step, action, outcome) for action in actions)

    async def _all(self, steps: Iterable[Awaitable[None]]) -> None:
        """Every step to its end, then the worst of what they raised: none is left running behind our back."""
        results = await asyncio.gather(*(self._slotted(step) for step in steps), return_exceptions=True)
        errors = [result for result in results if isinstance(result, BaseException)]
        for error in sorted(errors, key=lambda error: not isinstance(error, Fenced)):
            raise error

    async def _slotted(self, step: Awaitable[None]) -> None:
        async with self._slots:
            await step

    async def _guarded(self, step: Callable[[A, Outcome], Awaitable[None]], action: A, outcome: Outcome) -> None:
        try:
            await step(action, outcome)
            outcome.done.append(action)
        except (Conflict, AlreadyExists, NotFound, Invalid) as error:
            outcome.refused.append((action, str(error)))
            await self._reread(action)
        except (OutcomeUnknown, Unreachable) as error:
            outcome.refused.append((action, str(error)))
            await self._reread(action)

    async def _reread(self, action: Action) -> None:
        """See what is really there, so that the next plan is made on it."""
        try:
            await self._writes.read_nodecidr(action.node)
            if isinstance(action, BlockAction):
                await self._writes.read_block(block_name(action.prefix))
        except KubeError as error:
            raise Doubt(f"{action}: {error}") from error

    # NodeCIDRs as such

    async def _create_nodecidr(self, action: CreateNodeCIDR, _outcome: Outcome) -> None:
        await self._writes.create_nodecidr(action.node, action.pools)

    async def _delete_nodecidr(self, action: DeleteNodeCIDR, snapshot: Snapshot, _outcome: Outcome) -> None:
        await self._writes.delete_nodecidr(snapshot.nodecidrs[action.node])

    # Blocks: Enter, Adopt, Leave

    async def _edit(self, batch: list[NodeEdit], snapshot: Snapshot, listed_for: Set[Geometry], outcome: Outcome) -> None:
        """The three steps of a batch of nodes, each step for all of them before the next."""
        created: dict[Claim, Block] = {}
        await self._all(self._create_block(edit, claim, created, outcome) for edit in batch for claim in list(edit.claims))
        await self._all(self._secure_adopted(edit, adopt, snapshot, outcome) for edit in batch for adopt in list(edit.adopts))
        if created:
            await self._drop_what_may_not_enter(batch, created, listed_for, outcome)
        gone = [edit for edit in batch if edit.leaves and edit.decided.name not in snapshot.nodes]
        await self._all(self._drop_leaves_of_who_is_back(edit, outcome) for edit in gone)
        await self._all(self._patch(edit, created, snapshot, outcome) for edit in batch)

    async def _create_block(self, edit: NodeEdit, claim: Claim, created: dict[Claim, Block], outcome: Outcome) -> None:
        """CREATE is the lock: only the attempt whose create succeeded may enter the block."""
        try:
            created[claim] = await self._writes.create_block(claim, edit.decided.uid)
        except (AlreadyExists, Invalid, OutcomeUnknown, Unreachable) as error:
            edit.claims.remove(claim)
            outcome.refused.append((claim, str(error)))
            await self._reread(claim)

    async def _secure_adopted(self, edit: NodeEdit, adopt: Adopt, snapshot: Snapshot, outcome: Outcome) -> None:
        """Create or touch: a write on the IPBlock makes every other decision about it fail."""
        try:
            block = snapshot.blocks.get(block_name(adopt.prefix))
            if block is None:
                await self._writes.create_block(adopt, edit.decided.uid)
            else:
                await self._writes.touch_block(block)
        except (AlreadyExists, Conflict, NotFound, Invalid, OutcomeUnknown, Unreachable) as error:
            edit.adopts.remove(adopt)
            outcome.refused.append((adopt, str(error)))
            await self._reread(adopt)

    async def _drop_what_may_not_enter(
        self, batch: list[NodeEdit], created: dict[Claim, Block], listed_for: Set[Geometry], outcome: Outcome
    ) -> None:
        """The geometry rule: pools and ledger as they are after the creates. What may not enter is left where it is."""
        try:
            pools = await self._writes.read_pools()
            as_listed = {pool.geometry for pool in pools.values()} == listed_for
            ledger = None if as_listed else Owners({block.prefix: block.name for block in await self._writes.read_blocks()})
        except KubeError as error:
            raise Doubt(f"reading pools and blocks after a claim: {error}") from error
        for edit in batch:
            for claim in list(edit.claims):
                if why := may_enter(pools, claim, ledger):
                    edit.claims.remove(claim)
                    outcome.refused.append((claim, why))
                    outcome.unused.add(created[claim].uid)

    async def _drop_leaves_of_who_is_back(self, edit: NodeEdit, outcome: Outcome) -> None:
        """That a lost node's block is empty rests on its Node's absence, and the cache of Nodes may be behind that of NodeCIDRs."""
        if await self._is_back(edit.decided.name):
            outcome.refused += [(leave, "its Node is back") for leave in edit.leaves]
            edit.leaves.clear()

    async def _is_back(self, node: str) -> bool:
        try:
            return await self._writes.read_node(node) is not None
        except KubeError as error:
            raise Doubt(f"reading Node {node} before its blocks leave: {error}") from error

    async def _patch(self, edit: NodeEdit, created: dict[Claim, Block], snapshot: Snapshot, outcome: Outcome) -> None:
        operations = edit.operations()
        if not operations:
            return
        try:
            await self._writes.patch_nodecidr(edit.decided.name, operations)
        except (Conflict, NotFound, Invalid) as error:
            outcome.refused += [(action, str(error)) for action in edit.actions]
            outcome.refusing.add(edit.decided.name)
            await self._reread(edit.actions[0])
            await self._note_unused(edit, created, outcome)
            return
        except (OutcomeUnknown, Unreachable) as error:
            outcome.refused += [(action, str(error)) for action in edit.actions]
            await self._reread(edit.actions[0])
            return
        outcome.written.add(edit.decided.name)
        outcome.done += [*edit.claims, *edit.adopts, *edit.others]
        for leave in edit.leaves:
            await self._guarded(lambda a, _o: self._quarantine(a, snapshot), leave, outcome)

    async def _note_unused(self, edit: NodeEdit, created: dict[Claim, Block], outcome: Outcome) -> None:
        """A refusal may answer the second copy of a patch whose first was carried out (a proxy's, etcd's): the list tells."""
        if not edit.claims:
            return
        try:
            seen = await self._writes.read_nodecidr(edit.decided.name)
        except KubeError as error:
            raise Doubt(f"reading {edit.decided.name} after a refused patch: {error}") from error
        listed = {entry.prefix for entry in seen.entries} if seen else set()
        outcome.unused |= {created[claim].uid for claim in edit.claims if claim.prefix not in listed}

    async def _quarantine(self, leave: Leave, snapshot: Snapshot) -> None:
        """At the version decided on. A block of another node (a conflict that has drained here) is not ours to touch."""
        block = snapshot.blocks.get(block_name(leave.prefix))
        if block is not None and block.node == leave.node:
            await self._writes.quarantine(block)

    async def _leave_without_node(self, leave: Leave, snapshot: Snapshot, _outcome: Outcome) -> None:
        """There is no list to take it off; a read makes sure. A NodeCIDR made again has another uid, so no late Enter fits.

        The Node is read after it: whoever comes back later has to write the IPBlock before it is listed.
        """
        if await self._writes.read_nodecidr(leave.node) is not None or await self._is_back(leave.node):
            raise Conflict(f"{leave.node} is back")
        await self._quarantine(leave, snapshot)

    async def _free(self, action: Free, _outcome: Outcome) -> None:
        await self._writes.free(action)


def _of(kind: type[A], actions: Iterable[Action]) -> list[A]:
    return [action for action in actions if isinstance(action, kind)]
