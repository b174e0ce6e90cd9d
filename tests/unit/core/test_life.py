"""From claim to free, and every state that a crash, a hand or a restore can leave in between."""

from dataclasses import replace
from typing import Any

import pytest

from podcidr.core.actions import Adopt
from podcidr.core.model import LAST_EPOCH, Block, NodeCIDR, Pool, Usage
from podcidr.core.plan import plan
from podcidr.core.selectors import LabelSelector
from tests.property import build
from tests.property.build import NOW
from tests.property.world import World

POOL = build.pool("default", "10.0.0.0/24", scaling={"minBlocksPerNode": 0})
ONE = "10.0.0.16/28"
OTHERS = LabelSelector.parse({"matchLabels": {"a": "b"}})


def life(
    used: build.Used, *, pool: Pool = POOL, node: bool = True, memory: dict[str, Any] | None = None, **values: Any
) -> list[tuple[str, ...]]:
    """What is planned for one node with blocks of one pool."""
    nodecidr = build.listing("n1", pool, used, **values)
    return build.actions([pool], [build.node()] if node else [], [nodecidr], **memory or {})


class TestMustGo:
    @pytest.mark.parametrize(
        ("change", "why"),
        [
            ({"disabled": True}, "pool default is disabled"),
            ({"deleting": True}, "pool default is being deleted"),
            ({"accepted": frozenset()}, "pool default no longer has its CIDR"),
            ({"spaces": {}}, "pool default no longer has its CIDR"),
            ({"node_selector": OTHERS}, "pool default no longer selects the node"),
            ({"uid": "another"}, "pool default is gone"),
        ],
    )
    def test_blocks_in_use_drain(self, change: dict[str, Any], why: str) -> None:
        nodecidr = build.listing("n1", POOL, {ONE: 5})
        planned = plan(build.snapshot([replace(POOL, **change)], [build.node()], [nodecidr]), NOW)
        drains = [(type(action).__name__, action.reason) for action in planned.actions if type(action).__name__ != "SetPools"]
        assert drains == [("Drain", why)]

    def test_a_pool_that_is_gone_leaves_orphans(self) -> None:
        nodecidr = build.listing("n1", POOL, {ONE: 5}, pools=())
        blocks = [build.block(ONE, "n1", POOL)]
        assert build.actions([], [build.node()], [nodecidr], blocks) == [("Drain", "n1", ONE)]
        drained = build.listing("n1", POOL, {ONE: 5}, draining=(ONE,), pools=())
        assert build.actions([], [build.node()], [drained], blocks) == []
        empty = build.listing("n1", POOL, {ONE: 0}, draining=(ONE,), pools=())
        assert build.actions([], [build.node()], [empty], blocks) == [("Leave", "n1", ONE)]

    def test_a_node_that_is_gone(self) -> None:
        assert life({ONE: 5}, node=False) == [("Drain", "n1", ONE)]

    def test_a_nodecidr_that_is_being_deleted(self) -> None:
        assert life({ONE: 5}, deleting=True) == [("Drain", "n1", ONE)]

    def test_a_pool_that_became_invalid_only_gives_no_more(self) -> None:
        invalid = build.pool("default", "10.0.0.0/24", reserved=["192.0.2.1"])
        assert life({ONE: 14}, pool=invalid) == []


class TestStill:
    """A NodeCIDR that can't be written: what is claimed for it would be nobody's, and what others wait for."""

    def test_a_node_that_needs_a_block_gets_one(self) -> None:
        assert [name for name, *_ in life({ONE: 14})] == ["Claim"]

    def test_at_the_last_epoch_nothing_is_planned(self) -> None:
        assert life({ONE: 14}, epoch=LAST_EPOCH) == []
        assert [name for name, *_ in life({ONE: 14}, epoch=LAST_EPOCH - 1)] == ["Claim"]

    def test_what_is_refused_again_and_again_is_left_alone(self) -> None:
        assert life({ONE: 14}, memory={"refusing": frozenset({"n1"})}) == []
        assert life({ONE: 0}, draining=(ONE,), memory={"refusing": frozenset({"n1"})}) == []
        assert [name for name, *_ in life({ONE: 14}, memory={"refusing": frozenset({"n2"})})] == ["Claim"]

    def test_what_has_yet_to_tell_is_left_alone(self) -> None:
        """Its agent may go by a later list that etcd lost: written often enough, this one would be newer to it."""
        assert life({ONE: 0}, draining=(ONE,), memory={"silent": frozenset({"n1"})}) == []
        assert life({ONE: 0}, draining=(ONE,), memory={"silent": frozenset({"n2"})}) == [("Leave", "n1", ONE)]


class TestLeave:
    def test_it_leaves_when_reported_empty_at_this_epoch(self) -> None:
        assert life({ONE: 0}, draining=(ONE,)) == [("Leave", "n1", ONE)]

    @pytest.mark.parametrize("used", [(1, 0), (0, 1)])
    def test_a_block_in_use_or_cooling_never_leaves(self, used: tuple[int, int]) -> None:
        assert ("Leave", "n1", ONE) not in life({ONE: used}, draining=(ONE,))

    def test_a_block_that_the_report_does_not_name_is_empty(self) -> None:
        nodecidr = build.nodecidr("n1", [build.entry(ONE, POOL, draining=True)])
        nodecidr = replace(nodecidr, report=build.report(nodecidr))
        assert build.actions([POOL], [build.node()], [nodecidr]) == [("Leave", "n1", ONE)]

    def test_no_report_an_old_one_or_one_of_another_uid_proves_nothing(self) -> None:
        nodecidr = build.listing("n1", POOL, {ONE: 0}, draining=(ONE,))
        for report in (None, replace(nodecidr.report, epoch=4), replace(nodecidr.report, uid="earlier")):  # type: ignore[type-var]
            assert build.actions([POOL], [build.node()], [replace(nodecidr, report=report)]) == []

    def test_a_report_of_the_same_epoch_of_a_lost_history_proves_nothing(self) -> None:
        nodecidr = replace(build.listing("n1", POOL, {ONE: 0}, draining=(ONE,)), question="now")
        assert nodecidr.report
        for question, actions in ((None, [("Leave", "n1", ONE)]), ("now", [("Leave", "n1", ONE)]), ("", [("RaiseEpoch", "n1")])):
            told = replace(nodecidr, report=replace(nodecidr.report, question=question))
            assert build.actions([POOL], [build.node()], [told], held="restored") == actions

    def test_a_claim_that_no_list_has_is_fenced_off(self) -> None:
        assert build.actions([POOL], [build.node()], [build.nodecidr("n1", [])], [build.block(ONE, "n1", POOL)]) == [("Leave", "n1", ONE)]


class TestNodeGone:
    def test_it_is_lost_after_ten_minutes_without_a_sign(self) -> None:
        silent = {"node": False, "draining": (ONE,)}
        assert life({ONE: 5}, **silent, memory={"gone_since": {"n1": NOW - 599}}) == []  # type: ignore[arg-type]
        assert life({ONE: 5}, **silent, memory={"gone_since": {"n1": NOW - 600}}) == [("Leave", "n1", ONE)]  # type: ignore[arg-type]

    def test_a_node_that_exists_is_never_lost(self) -> None:
        assert life({ONE: 15}, draining=(ONE,), memory={"gone_since": {"n1": 0.0}, "held": "x"}) == []

    def test_a_claim_without_nodecidr(self) -> None:
        blocks = [build.block(ONE, "n1", POOL)]
        assert build.actions([POOL], [], [], blocks) == []
        assert build.actions([POOL], [], [], blocks, gone_since={"n1": NOW - 600}) == [("Leave", "n1", ONE)]
        assert build.actions([POOL], [build.node()], [], blocks, gone_since={"n1": NOW - 600}) == [("CreateNodeCIDR", "n1")]

    def test_a_claim_of_an_earlier_nodecidr_leaves_with_a_lost_node(self) -> None:
        blocks = [build.block(ONE, "n1", POOL, nodecidr_uid="earlier")]
        nodecidr = build.nodecidr("n1", [])
        assert build.actions([POOL], [], [nodecidr], blocks) == [("Adopt", "n1", ONE)]
        assert build.actions([POOL], [], [nodecidr], blocks, gone_since={"n1": NOW - 600}) == [("Leave", "n1", ONE)]

    def test_what_is_adopted_keeps_the_nodecidr(self) -> None:
        """Deleted in the same round it would take the adopted block along, or be refused."""
        nodecidr = build.nodecidr("n1", [])
        nodecidr = replace(nodecidr, report=build.report(nodecidr, {ONE: 1}))
        assert build.actions([POOL], [], [nodecidr], [], gone_since={"n1": NOW - 600}) == [("Adopt", "n1", ONE)]

    def test_the_whole_story(self) -> None:
        world = World(pools={"default": build.pool("default", "10.0.0.0/24")})
        world.add_node("n1").want((), 40, world.now)
        world.settle()
        del world.nodes["n1"]
        seen: list[tuple[str, float]] = []
        for _ in range(20):
            seen += [(kind, world.now - 10_000) for kind, *_ in build.short(world.round())]
            world.now += 60
        assert seen == [*[("Drain", 0.0)] * 4, *[("Leave", 600.0)] * 4, ("DeleteNodeCIDR", 660.0), *[("Free", 960.0)] * 4]
        assert not world.blocks

    def test_a_node_that_comes_back_has_its_blocks_back(self) -> None:
        world = World(pools={"default": build.pool("default", "10.0.0.0/24")})
        world.add_node("n1").want((), 40, world.now)
        world.settle()
        before = world.nodecidrs["n1"].entries
        world.nodes.pop("n1")
        world.round()
        assert all(entry.draining for entry in world.nodecidrs["n1"].entries)
        world.agents_report(["n1"])
        world.add_node("n1")
        world.round()
        assert world.nodecidrs["n1"].entries == before

    def test_the_last_thing_to_go_is_the_nodecidr(self) -> None:
        assert life({}, node=False) == [("DeleteNodeCIDR", "n1")]
        assert life({}, deleting=True) == [("DeleteNodeCIDR", "n1")]
        resting = [build.block(ONE, "n1", POOL, quarantined=True)]
        assert build.actions([POOL], [], [build.nodecidr("n1", [])], resting) == [("DeleteNodeCIDR", "n1")]

    def test_not_while_it_reports_use_outside_its_list(self) -> None:
        nodecidr = build.nodecidr("n1", [])
        outside = replace(nodecidr, report=build.report(nodecidr, {"192.0.2.9/32": 1}))
        assert build.actions([POOL], [], [outside]) == []
        assert build.actions([POOL], [], [outside], gone_since={"n1": NOW - 600}) == [("DeleteNodeCIDR", "n1")]
        inside = replace(nodecidr, report=build.report(nodecidr, {ONE: 1}))
        assert build.actions([POOL], [], [inside]) == [("Adopt", "n1", ONE)]


class TestAdopt:
    def test_a_nodecidr_deleted_by_hand_is_made_again_and_its_blocks_are_adopted(self) -> None:
        world = World(pools={"default": build.pool("default", "10.0.0.0/24")})
        agent = world.add_node("n1")
        agent.want((), 20, world.now)
        world.settle()
        held, before = set(agent.in_use), {entry.prefix for entry in world.nodecidrs["n1"].entries}
        del world.nodecidrs["n1"]
        assert build.short(world.round()) == [("CreateNodeCIDR", "n1")]
        world.settle()
        assert {entry.prefix for entry in world.nodecidrs["n1"].entries} == before
        assert set(agent.in_use) == held
        assert {block.touches for block in world.blocks.values()} == {1}

    def test_an_ipblock_deleted_by_hand_is_made_again_and_nothing_is_claimed_in_its_place(self) -> None:
        nodecidr = build.listing("n1", POOL, {ONE: 8})
        planned = plan(build.snapshot([POOL], [build.node()], [nodecidr], []), NOW)
        assert build.short(planned) == [("Adopt", "n1", ONE)]
        assert planned.actions[0].reason == "it is listed, but its IPBlock is missing"

    def test_nor_is_it_drained_by_shrinking(self) -> None:
        nodecidr = build.listing("n1", POOL, {ONE: 0, "10.0.0.32/28": 1})
        blocks = [build.block("10.0.0.32/28", "n1", POOL)]
        assert build.actions([POOL], [build.node()], [nodecidr], blocks) == [("Adopt", "n1", ONE)]

    def test_one_that_must_go_is_adopted_first(self) -> None:
        nodecidr = build.listing("n1", POOL, {ONE: 0}, draining=(ONE,))
        assert build.actions([POOL], [build.node()], [nodecidr], []) == [("Adopt", "n1", ONE)]
        assert build.actions([], [build.node()], [replace(nodecidr, pools=())], []) == [("Adopt", "n1", ONE)]

    def test_use_that_the_ledger_does_not_have(self) -> None:
        nodecidr = build.listing("n1", POOL, {"10.0.0.32/28": 1})
        assert nodecidr.report
        used = {**nodecidr.report.blocks, build.prefix(ONE): Usage(0, 1), build.prefix("192.0.2.1/32"): Usage(1, 0)}
        nodecidr = replace(nodecidr, report=replace(nodecidr.report, blocks=used))
        planned = plan(build.snapshot([POOL], [build.node()], [nodecidr]), NOW)
        why = "the node uses it, but the ledger does not have it"
        assert planned.actions == (Adopt("n1", why, build.prefix(ONE), "default", "default-uid", 1),)

    def test_a_claim_of_this_nodecidr_that_is_in_use(self) -> None:
        nodecidr = build.nodecidr("n1", [])
        nodecidr = replace(nodecidr, report=build.report(nodecidr, {ONE: 2}))
        assert build.actions([POOL], [build.node()], [nodecidr], [build.block(ONE, "n1", POOL)]) == [("Adopt", "n1", ONE)]
        assert build.actions([], [build.node()], [replace(nodecidr, pools=())], [build.block(ONE, "n1", POOL)]) == [("Adopt", "n1", ONE)]

    def test_a_quarantined_block_that_its_node_still_uses(self) -> None:
        """A lost node that came back alive."""
        nodecidr = build.nodecidr("n1", [])
        nodecidr = replace(nodecidr, report=build.report(nodecidr, {ONE: 2}))
        resting = [build.block(ONE, "n1", POOL, quarantined=True)]
        assert build.actions([POOL], [build.node()], [nodecidr], resting) == [("Adopt", "n1", ONE)]
        assert build.actions([POOL], [], [nodecidr], resting, gone_since={"n1": 0.0}) == [("DeleteNodeCIDR", "n1")]

    def test_a_restored_api_is_behind_the_node(self) -> None:
        nodecidr = build.listing("n1", POOL, {ONE: 9}, epoch=5)
        assert nodecidr.report
        ahead = replace(nodecidr, report=replace(nodecidr.report, epoch=9))
        planned = plan(build.snapshot([POOL], [build.node()], [ahead], held="restored"), NOW)
        assert build.short(planned) == [("RaiseEpoch", "n1")]
        assert planned.actions[0].reason.startswith("the node has seen epoch 9, the API has 5: it was restored")


class TestQuarantine:
    resting = build.block(ONE, "n1", POOL, quarantined=True, resource_version=7)

    def free(
        self, pools: tuple[Pool, ...] = (POOL,), nodecidrs: tuple[NodeCIDR, ...] = (), rested: float | None = 300, **values: Any
    ) -> bool:
        since = {} if rested is None else {self.resting.uid: NOW - rested}
        actions = build.actions(list(pools), [build.node("n9")], list(nodecidrs), [self.resting], quarantined_since=since, **values)
        return ("Free", "n1", ONE) in actions

    def test_it_rests_for_quarantine_seconds_since_we_saw_it(self) -> None:
        assert not self.free(rested=None)
        assert not self.free(rested=299)
        assert self.free(rested=300)

    def test_no_quarantine(self) -> None:
        assert self.free(pools=(replace(POOL, quarantine_seconds=0),), rested=0)

    def test_of_a_pool_that_is_gone_it_rests_as_long_as_by_default(self) -> None:
        assert not self.free(pools=(), rested=299)
        assert self.free(pools=(), rested=300)

    def test_a_claim_that_never_entered_needs_none(self) -> None:
        assert self.free(rested=0, unused=frozenset({self.resting.uid}))

    def test_not_while_held_listed_or_used(self) -> None:
        assert not self.free(held="the Lease was missing")
        assert not self.free(nodecidrs=(build.listing("n9", POOL, {ONE: 0}),))
        for used in ((1, 0), (0, 1)):
            nodecidr = build.nodecidr("n9", [])
            assert not self.free(nodecidrs=(replace(nodecidr, report=build.report(nodecidr, {ONE: used})),))

    def test_it_names_the_version_decided_on(self) -> None:
        planned = plan(build.snapshot([POOL], [], [], [self.resting], quarantined_since={self.resting.uid: 0.0}), NOW)
        (action,) = planned.actions
        assert (action.uid, action.resource_version, action.reason) == (self.resting.uid, 7, "its quarantine of 300 s is over")  # type: ignore[attr-defined]


def test_a_claimed_block_is_never_freed() -> None:
    claimed: Block = build.block(ONE, "n1", POOL)
    assert build.actions([POOL], [], [], [claimed], unused=frozenset({claimed.uid})) == []


def test_a_block_from_first_to_last() -> None:
    world = World(pools={"default": build.pool("default", "10.0.0.0/24", scaling={"stabilizationWindowSeconds": 0})})
    agent = world.add_node("n1")
    agent.cooldown_seconds = 120
    world.settle()
    agent.want((), 12, world.now)
    seen: list[tuple[str, str, float]] = []
    for second in range(0, 900, 30):
        if second == 60:
            agent.want((), 0, world.now)
        world.agents_report()
        seen += [(kind, block, world.now - 10_000) for kind, _, block in build.short(world.round())]
        world.now += 30
    assert seen == [
        ("Claim", "10.0.0.16/28", 0.0),
        ("Drain", "10.0.0.16/28", 210.0),
        ("Leave", "10.0.0.16/28", 240.0),
        ("Free", "10.0.0.16/28", 570.0),
    ]


def test_a_persons_word_for_a_gone_machine_holds_until_the_next_report() -> None:
    silent = build.nodecidr("n1", [])
    assert not silent.said_gone
    assert replace(silent, said_gone_after="never").said_gone
    reported = replace(silent, said_gone_after="T1", report=build.report(silent, reported_at="T1"))
    assert reported.said_gone
    assert not replace(reported, report=build.report(silent, reported_at="T2")).said_gone
