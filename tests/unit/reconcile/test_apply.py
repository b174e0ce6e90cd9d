"""How a plan is carried out when the API server says no, or nothing: recorded step by step."""

from collections.abc import Callable, Set
from dataclasses import replace
from typing import Any

import pytest

from podcidr.core.actions import Action, Adopt, Claim, Free, Leave
from podcidr.core.model import Block, Entry, Geometry, Node, NodeCIDR, Pool, Snapshot, Space
from podcidr.core.prefix import Family, Prefix, block_name, parse_prefix
from podcidr.kube.errors import AlreadyExists, Conflict, Fenced, Invalid, OutcomeUnknown, Unreachable
from podcidr.reconcile.apply import Applier, Doubt, Outcome

A, B = parse_prefix("10.64.0.0/28"), parse_prefix("10.64.0.16/28")
CIDR = parse_prefix("10.64.0.0/24")
POOL = Pool("default", "pool-uid", 1, {Family.IPV4: Space((CIDR,), 28)}, accepted=frozenset({CIDR}))
NODE = NodeCIDR("n1", "uid-1", 4, ("default",), (Entry(B, "default", "pool-uid", 1, draining=True),))
HELD = Block(block_name(B), "block-uid", B, "default", "pool-uid", "n1", "uid-1", resource_version=9)
MACHINE = Node("n1")
SNAPSHOT = Snapshot({"default": POOL}, {"n1": MACHINE}, {"n1": NODE}, {HELD.name: HELD})
GONE = replace(SNAPSHOT, nodes={})
BARE = replace(GONE, nodecidrs={})
CLAIM = Claim("n1", "", A, "default", "pool-uid", 1)
LEAVE = Leave("n1", "", B)


AS_LISTED = {POOL.geometry}


class Recorded:
    """Stands where `Writes` does: notes each call, and fails where told."""

    def __init__(
        self, pools: dict[str, Pool] | None = None, back: Node | None = None, ledger: tuple[Block, ...] = (), **failures: Exception
    ) -> None:
        self.calls: list[str] = []
        self._back, self._ledger = back, ledger
        self._failures = failures
        self._pools = {"default": POOL} if pools is None else pools

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def call(*_: Any) -> Any:
            self.calls.append(name)
            if name in self._failures:
                raise self._failures[name]
            if name == "read_pools":
                return self._pools
            if name == "read_node":
                return self._back
            if name == "read_blocks":
                return self._ledger
            return Block(block_name(A), "new-uid", A, "default", "pool-uid", "n1", "uid-1") if name == "create_block" else None

        return call


async def carry_out(writes: Recorded, *actions: Action, snapshot: Snapshot = SNAPSHOT, listed_for: Set[Geometry] = AS_LISTED) -> Outcome:
    return await Applier(writes).apply(actions, snapshot, listed_for)  # type: ignore[arg-type]  # it has what Writes has


@pytest.mark.parametrize("rival", [None, "10.0.0.0/8"])
async def test_pools_other_than_those_listed_for_let_the_ledger_be_listed_again(rival: str | None) -> None:
    """Another leader may have had blocks of another length there since."""
    wide = tuple(Block("wide", "uid-w", parse_prefix(cidr), "other", "other-uid", "n2", "uid-2") for cidr in (rival,) if cidr)
    writes = Recorded(ledger=wide)
    outcome = await carry_out(writes, CLAIM, listed_for={(POOL.uid, POOL.generation + 1, POOL.accepted)})
    assert writes.calls == ["create_block", "read_pools", "read_blocks", *(() if rival else ("patch_nodecidr",))]
    assert bool(outcome.refused) == bool(rival)
    assert outcome.unused == ({"new-uid"} if rival else set())


async def test_enter_creates_then_reads_the_pools_then_patches() -> None:
    writes = Recorded()
    outcome = await carry_out(writes, CLAIM)
    assert writes.calls == ["create_block", "read_pools", "patch_nodecidr"]
    assert outcome.done == [CLAIM]


async def test_leave_patches_then_quarantines() -> None:
    writes = Recorded()
    outcome = await carry_out(writes, LEAVE)
    assert writes.calls == ["patch_nodecidr", "quarantine"]
    assert outcome.done == [LEAVE]


async def test_a_claim_that_no_list_has_leaves_by_a_fence_first() -> None:
    """The epoch is raised though nothing is taken off: a delayed Enter of that claim fits no more."""
    bare = NodeCIDR("n1", "uid-1", 4, ("default",))
    writes = Recorded()
    await carry_out(writes, LEAVE, snapshot=Snapshot({"default": POOL}, {"n1": MACHINE}, {"n1": bare}, {HELD.name: HELD}))
    assert writes.calls == ["patch_nodecidr", "quarantine"]


async def test_adopt_touches_what_is_claimed_and_creates_what_is_not() -> None:
    writes = Recorded()
    await carry_out(writes, Adopt("n1", "", B, "default", "pool-uid", 1), Adopt("n1", "", A, "default", "pool-uid", 1))
    assert sorted(writes.calls[:2]) == ["create_block", "touch_block"]
    assert writes.calls[2:] == ["patch_nodecidr"]


async def test_a_name_that_is_taken_is_not_entered() -> None:
    writes = Recorded(create_block=AlreadyExists("taken"))
    outcome = await carry_out(writes, CLAIM)
    assert "patch_nodecidr" not in writes.calls
    assert writes.calls[1:] == ["read_nodecidr", "read_block"]
    assert not outcome.unused


@pytest.mark.parametrize("error", [OutcomeUnknown("time-out"), Unreachable("refused")])
async def test_a_claim_without_an_answer_is_not_entered_even_if_it_was_created(error: Exception) -> None:
    writes = Recorded(create_block=error)
    outcome = await carry_out(writes, CLAIM)
    assert "patch_nodecidr" not in writes.calls
    assert not outcome.unused, "it may be another attempt's, which entered it: it has to rest"


async def test_a_pool_that_changed_after_the_claim_keeps_it_out() -> None:
    writes = Recorded(pools={})
    outcome = await carry_out(writes, CLAIM, listed_for=set())
    assert writes.calls == ["create_block", "read_pools"]
    assert outcome.unused == {"new-uid"}


@pytest.mark.parametrize("writes", [Recorded(read_pools=Unreachable("refused")), Recorded(read_blocks=Unreachable("refused"))])
async def test_without_a_word_on_pools_and_ledger_nothing_enters(writes: Recorded) -> None:
    with pytest.raises(Doubt):
        await carry_out(writes, CLAIM, listed_for=set())
    assert "patch_nodecidr" not in writes.calls


@pytest.mark.parametrize(
    ("prefix", "writes"),
    [
        (B, Recorded(touch_block=Conflict("version"))),
        (B, Recorded(touch_block=OutcomeUnknown("time-out"))),
        (A, Recorded(create_block=AlreadyExists("taken"))),
    ],
)
async def test_what_could_not_be_secured_is_not_adopted(prefix: Prefix, writes: Recorded) -> None:
    """Somebody has written to the IPBlock since, or made it: by now the block may be free, or another node's."""
    adopt = Adopt("n1", "", prefix, "default", "pool-uid", 1)
    outcome = await carry_out(writes, adopt)
    assert writes.calls[1:] == ["read_nodecidr", "read_block"]
    assert [action for action, _ in outcome.refused] == [adopt]


@pytest.mark.parametrize("error", [Conflict("version"), Invalid("test failed")])
async def test_a_refused_patch_quarantines_nothing_and_knows_the_claim_unused(error: Exception) -> None:
    writes = Recorded(patch_nodecidr=error)
    outcome = await carry_out(writes, CLAIM, LEAVE)
    assert "quarantine" not in writes.calls
    assert outcome.unused == {"new-uid"}
    assert outcome.done == []


async def test_a_refused_patch_whose_first_copy_was_carried_out_leaves_the_claim_used() -> None:
    """The second copy of a patch fails at the epoch that the first one wrote: what it entered has to rest one day."""

    class Listed(Recorded):
        async def read_nodecidr(self, _name: str) -> NodeCIDR:
            return NodeCIDR("n1", "uid-1", 5, ("default",), (*NODE.entries, Entry(A, "default", "pool-uid", 1)))

    outcome = await carry_out(Listed(patch_nodecidr=Invalid("test failed")), CLAIM)
    assert outcome.unused == set()


async def test_a_patch_without_an_answer_quarantines_nothing_and_knows_nothing() -> None:
    writes = Recorded(patch_nodecidr=OutcomeUnknown("time-out"))
    outcome = await carry_out(writes, CLAIM, LEAVE)
    assert "quarantine" not in writes.calls
    assert outcome.unused == set()


async def test_an_unsettled_doubt_ends_the_round() -> None:
    writes = Recorded(patch_nodecidr=OutcomeUnknown("time-out"), read_nodecidr=Unreachable("refused"))
    with pytest.raises(Doubt):
        await carry_out(writes, LEAVE)


async def test_a_fenced_write_ends_everything() -> None:
    writes = Recorded(patch_nodecidr=Fenced("not the leader"))
    with pytest.raises(Fenced):
        await carry_out(writes, LEAVE, Free("n1", "", A, "u", 1))
    assert "free" not in writes.calls


async def test_a_block_of_another_node_is_taken_off_the_list_but_not_quarantined() -> None:
    foreign = Block(HELD.name, "block-uid", B, "default", "pool-uid", "n2", "uid-2")
    writes = Recorded()
    await carry_out(writes, LEAVE, snapshot=replace(SNAPSHOT, blocks={HELD.name: foreign}))
    assert writes.calls == ["patch_nodecidr"]


async def test_without_a_nodecidr_reads_make_sure_that_neither_it_nor_the_node_is_there() -> None:
    writes = Recorded()
    await carry_out(writes, LEAVE, snapshot=BARE)
    assert writes.calls == ["read_nodecidr", "read_node", "quarantine"], "the Node last: who comes back after it is not listed yet"


async def test_a_lost_node_is_looked_for_before_its_block_leaves() -> None:
    writes = Recorded()
    outcome = await carry_out(writes, LEAVE, snapshot=GONE)
    assert writes.calls == ["read_node", "patch_nodecidr", "quarantine"]
    assert outcome.done == [LEAVE]


@pytest.mark.parametrize("snapshot", [GONE, BARE])
async def test_a_lost_node_that_is_back_keeps_its_block(snapshot: Snapshot) -> None:
    """The cache of Nodes was behind: its agent may have the block in its file, and the report of that under way."""
    writes = Recorded(back=MACHINE)
    outcome = await carry_out(writes, LEAVE, snapshot=snapshot)
    assert not {"patch_nodecidr", "quarantine"} & set(writes.calls)
    assert [action for action, _ in outcome.refused] == [LEAVE]


@pytest.mark.parametrize("snapshot", [GONE, BARE])
async def test_without_a_word_on_the_node_nothing_leaves(snapshot: Snapshot) -> None:
    writes = Recorded(read_node=Unreachable("refused"))
    with pytest.raises(Doubt):
        await carry_out(writes, LEAVE, snapshot=snapshot)
    assert not {"patch_nodecidr", "quarantine"} & set(writes.calls)
