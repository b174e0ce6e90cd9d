"""Blocks come before a node runs out of addresses: which, from which pool, and for whom first."""

from dataclasses import replace
from typing import Any

import pytest

from podcidr.core.model import Demand, Key, NodeCIDR, Pool
from podcidr.core.plan import Plan, decided, plan, weigh
from podcidr.core.prefix import Family
from tests.property import build
from tests.property.world import World

V4 = Family.IPV4


def waiting(count: int, *pools: str) -> tuple[Demand, ...]:
    return (Demand(pools or ("default",), V4, pending=count),)


def test_a_node_that_joins_gets_its_list_and_then_its_first_block() -> None:
    world = World(pools={"default": build.pool("default", "10.0.0.0/24")})
    world.add_node("n1")
    assert build.short(world.round()) == [("CreateNodeCIDR", "n1")]
    assert build.short(world.round()) == [("Claim", "n1", "10.0.0.0/28")]
    assert build.short(world.round()) == []


def test_min_blocks_per_node() -> None:
    pool = build.pool("default", "10.0.0.0/24", scaling={"minBlocksPerNode": 3, "minFreeAddresses": 0})
    planned = plan(build.snapshot([pool], [build.node()], [build.nodecidr("n1", [])]), build.NOW)
    assert build.short(planned) == [("Claim", "n1", f"10.0.0.{low}/28") for low in (0, 16, 32)]
    assert planned.actions[0].reason == "the automatic pools: a node holds at least 3 blocks"


def test_no_block_for_an_idle_node_where_none_is_the_minimum() -> None:
    pool = build.pool("default", "10.0.0.0/24", scaling={"minBlocksPerNode": 0})
    assert build.actions([pool], [build.node()], [build.nodecidr("n1", [])]) == []


def test_it_grows_to_the_target_in_one_round_and_says_why() -> None:
    pool = build.pool("default", "10.0.0.0/24")
    nodecidr = build.listing("n1", pool, {"10.0.0.16/28": (14, 1)}, demand=waiting(30))
    planned = plan(build.snapshot([pool], [build.node()], [nodecidr]), build.NOW)
    assert build.short(planned) == [("Claim", "n1", "10.0.0.0/28"), ("Claim", "n1", "10.0.0.32/28"), ("Claim", "n1", "10.0.0.48/28")]
    assert planned.actions[0].reason == ("the automatic pools: 14 in use, 1 cooling, 30 pending; target 53, capacity 16 (ipv4)")


def test_the_same_report_twice_grows_once() -> None:
    world = World(pools={"default": build.pool("default", "10.0.0.0/24")})
    agent = world.add_node("n1")
    world.settle()
    agent.want((), 40, world.now)
    world.agents_report()
    assert len(world.round().actions) == 3
    assert world.round().actions == ()


def test_priority_then_name_orders_the_pools() -> None:
    pools = [build.pool(name, f"10.0.{i}.0/28", gateway="None", priority=p) for i, (name, p) in enumerate([("b", 0), ("a", 0), ("z", 5)])]
    nodecidr = build.nodecidr("n1", [], pools=("z", "a", "b"))
    burst = build.report(nodecidr, demand=(Demand(("z", "a", "b"), V4, pending=25),))
    got = build.actions(pools, [build.node()], [replace(nodecidr, report=burst)])
    assert got == [("Claim", "n1", "10.0.2.0/28"), ("Claim", "n1", "10.0.1.0/28"), ("Claim", "n1", "10.0.0.0/28")]


def test_pools_are_written_in_their_order_when_they_change() -> None:
    pools = [build.pool("low", "10.0.0.0/28"), build.pool("high", "10.0.1.0/28", priority=1)]
    pools += [build.pool("off", "10.0.2.0/28", disabled=True)]
    nodecidr = build.listing("n1", pools[0], {"10.0.0.0/28": 0}, pools=("low",))
    planned = plan(build.snapshot(pools, [build.node()], [nodecidr]), build.NOW)
    assert [(a.node, a.pools, a.reason) for a in planned.actions] == [  # type: ignore[attr-defined]
        ("n1", ("high", "low"), "the automatic pools of the node are high, low")
    ]


def test_node_selectors() -> None:
    edge = build.pool("edge", "10.0.0.0/24", nodeSelector={"matchLabels": {"zone": "edge"}})
    nodes = [build.node("n1", labels={"zone": "edge"}), build.node("n2", labels={"zone": "core"})]
    nodecidrs = [build.nodecidr("n1", [], pools=("edge",)), build.nodecidr("n2", [], pools=())]
    assert build.actions([edge], nodes, nodecidrs) == [("Claim", "n1", "10.0.0.0/28")]


def test_max_blocks_per_node_counts_draining_blocks_too() -> None:
    pool = build.pool("default", "10.0.0.0/24", scaling={"maxBlocksPerNode": 2})
    gone = build.pool("old", "10.9.0.0/24", disabled=True)
    nodecidr = build.listing("n1", pool, {"10.0.0.16/28": 16}, demand=waiting(50))
    assert len(build.actions([pool, gone], [build.node()], [nodecidr])) == 1
    held = replace(pool, accepted=pool.accepted | {build.prefix("10.5.0.0/24")})
    nodecidr = build.listing("n1", held, {"10.0.0.16/28": 16, "10.5.0.0/28": 3}, draining=("10.5.0.0/28",), demand=waiting(50))
    assert build.actions([held], [build.node()], [nodecidr]) == []


def test_one_list_never_outgrows_what_the_api_takes() -> None:
    pool = build.pool("default", "10.0.0.0/20", block4=32, gateway="None", scaling={"minFreeAddresses": 1100, "maxFreeAddresses": 1100})
    assert len(build.actions([pool], [build.node()], [build.nodecidr("n1", [])])) == 1024
    wanted = plan(build.snapshot([pool], [build.node()], [build.listing("n1", pool, {}, demand=waiting(1025))]), build.NOW)
    assert len(wanted.actions) == 1024
    assert list(wanted.unserved.values()) == ["the node lists 1024 blocks, more are not possible: use a pool of larger blocks"]


def test_a_draining_block_comes_back_before_a_new_one_is_claimed() -> None:
    pool = build.pool("default", "10.0.0.0/24")
    used = {"10.0.0.16/28": 16, "10.0.0.32/28": 0, "10.0.0.48/28": 2}
    nodecidr = build.listing("n1", pool, used, draining=("10.0.0.32/28", "10.0.0.48/28"))
    # The one that is in use first; the empty one would leave now.
    assert build.actions([pool], [build.node()], [nodecidr]) == [("Undrain", "n1", "10.0.0.48/28"), ("Leave", "n1", "10.0.0.32/28")]


def test_what_comes_back_full_gives_no_room() -> None:
    pool = build.pool("default", "10.0.0.0/24")
    used = {f"10.0.0.{low}/28": 16 for low in (16, 32, 48)}
    nodecidr = build.listing("n1", pool, used, draining=tuple(used))
    got = build.actions([pool], [build.node()], [nodecidr])
    assert [kind for kind, *_ in got] == ["Undrain", "Undrain", "Undrain", "Claim"]


def test_held_back_claims() -> None:
    pool = build.pool("default", "10.0.0.0/24")
    nodecidr = build.listing("n1", pool, {"10.0.0.16/28": 16, "10.0.0.32/28": 1}, draining=("10.0.0.32/28",), demand=waiting(50))
    planned = plan(build.snapshot([pool], [build.node()], [nodecidr], held="the Lease was missing"), build.NOW)
    assert planned.actions == ()
    assert not planned.scarce


def test_nothing_from_a_partial_view() -> None:
    pool = build.pool("default", "10.0.0.0/24")
    planned = plan(build.snapshot([pool], [build.node()], [], unlisted=("Node", "IPBlock")), build.NOW)
    assert (planned.actions, planned.idle_because) == ((), "not listed yet: Node, IPBlock")


@pytest.mark.parametrize("why", [{"disabled": True}, {"deleting": True}, {"reserved": ["10.9.9.9"]}, {"accepted": []}])
def test_no_block_of_a_pool_that_may_not_be_used(why: dict[str, Any]) -> None:
    pool = build.pool("default", "10.0.0.0/24", **why)
    assert "Claim" not in [kind for kind, *_ in build.actions([pool], [build.node()], [build.nodecidr("n1", [])])]


class TestPinned:
    gold = build.pool("gold", "10.0.1.0/28", allocation="Pinned", gateway="None")
    silver = build.pool("silver", "10.0.2.0/24", allocation="Pinned", gateway="None")

    def test_the_first_block_comes_on_demand(self) -> None:
        idle = build.listing("n1", self.gold, {}, pools=())
        assert build.actions([self.gold], [build.node()], [idle]) == []
        asked = build.listing("n1", self.gold, {}, pools=(), demand=waiting(1, "gold"))
        assert build.actions([self.gold], [build.node()], [asked]) == [("Claim", "n1", "10.0.1.0/28")]

    def test_a_minimum_of_blocks_needs_no_demand(self) -> None:
        pool = build.pool("gold", "10.0.1.0/24", "fd00::/112", allocation="Pinned", scaling={"minBlocksPerNode": 1}, gateway="None")
        got = build.actions([pool], [build.node()], [build.nodecidr("n1", [], pools=())])
        assert got == [("Claim", "n1", "10.0.1.0/28"), ("Claim", "n1", "fd00::/122")]

    def test_a_list_of_pools_goes_to_the_first_that_can_grow(self) -> None:
        asked = build.listing("n1", self.gold, {}, pools=(), demand=waiting(3, "gold", "silver"))
        assert build.actions([self.gold, self.silver], [build.node()], [asked]) == [("Claim", "n1", "10.0.1.0/28")]
        elsewhere = build.listing("n2", self.gold, {"10.0.1.0/28": 16}, pools=())
        got = build.actions([self.gold, self.silver], [build.node(), build.node("n2")], [asked, elsewhere])
        assert got == [("Claim", "n1", "10.0.2.0/28")]

    def test_pods_that_the_last_block_serves_are_not_passed_on(self) -> None:
        asked = build.listing("n1", self.gold, {"10.0.1.0/28": 0}, pools=(), demand=waiting(14, "gold", "silver"))
        assert build.actions([self.gold, self.silver], [build.node()], [asked]) == []
        more = build.listing("n1", self.gold, {"10.0.1.0/28": 0}, pools=(), demand=waiting(15, "gold", "silver"))
        assert build.actions([self.gold, self.silver], [build.node()], [more]) == [("Claim", "n1", "10.0.2.0/28")]

    def test_a_pool_at_its_cap_cannot_grow(self) -> None:
        capped = build.pool("gold", "10.0.1.0/24", allocation="Pinned", gateway="None", scaling={"maxBlocksPerNode": 1})
        asked = build.listing("n1", capped, {"10.0.1.0/28": 16}, pools=(), demand=waiting(1, "gold", "silver"))
        assert build.actions([capped, self.silver], [build.node()], [asked]) == [("Claim", "n1", "10.0.2.0/28")]

    def test_a_pool_whose_other_family_is_exhausted_cannot_grow(self) -> None:
        dual = build.pool("gold", "10.0.1.0/24", "fd00::/122", allocation="Pinned", gateway="None")
        other = build.listing("n2", dual, {"fd00::/122": 1, "10.0.1.0/28": 1}, pools=())
        asked = build.listing("n1", dual, {}, pools=(), demand=waiting(1, "gold", "silver"))
        got = build.actions([dual, self.silver], [build.node(), build.node("n2")], [asked, other])
        assert got == [("Claim", "n1", "10.0.2.0/28")]

    def test_a_draining_block_is_growth_too(self) -> None:
        asked = build.listing("n1", self.gold, {"10.0.1.0/28": 3}, draining=("10.0.1.0/28",), pools=(), demand=waiting(1, "gold", "silver"))
        assert build.actions([self.gold, self.silver], [build.node()], [asked]) == [("Undrain", "n1", "10.0.1.0/28")]

    def test_burst_of_a_pinned_pool_is_its_headroom(self) -> None:
        asked = build.listing("n1", self.silver, {"10.0.2.0/28": 1}, pools=(), demand=(Demand(("silver",), V4, burst=20),))
        assert build.actions([self.silver], [build.node()], [asked]) == [("Claim", "n1", "10.0.2.16/28")]

    def test_a_name_that_serves_nobody_is_passed_over(self) -> None:
        off = build.pool("off", "10.0.3.0/24", allocation="Pinned", disabled=True)
        asked = build.listing("n1", self.gold, {}, pools=(), demand=waiting(1, "no-such", "off", "gold"))
        assert build.actions([self.gold, off], [build.node()], [asked]) == [("Claim", "n1", "10.0.1.0/28")]
        assert build.actions([off], [build.node()], [asked]) == []

    def test_naming_an_automatic_pool_uses_the_blocks_of_all(self) -> None:
        pool = build.pool("default", "10.0.0.0/24")
        full = {"10.0.0.16/28": 16}
        room = build.listing("n1", pool, {"10.0.0.16/28": 1}, pools=("default", "x"), demand=waiting(2, "default"))
        assert [a for a in build.actions([pool], [build.node()], [room]) if a[0] != "SetPools"] == []
        other = build.pool("other", "10.0.9.0/24", priority=-1)
        asked = build.listing("n1", pool, full, pools=("default", "other"), demand=waiting(2, "default"))
        # One block serves the two pods and the headroom of the node.
        assert build.actions([pool, other], [build.node()], [asked]) == [("Claim", "n1", "10.0.0.0/28")]


def test_pods_that_wait_come_before_headroom_elsewhere() -> None:
    pool = build.pool("default", "10.0.0.0/27", gateway="None")
    nodes = [build.node("a"), build.node("b"), build.node("c")]
    waits = build.listing("c", pool, {}, demand=waiting(20))
    got = build.actions([pool], nodes, [build.nodecidr("a", []), build.nodecidr("b", []), waits])
    assert got == [("Claim", "c", "10.0.0.0/28"), ("Claim", "c", "10.0.0.16/28")]


def test_of_nodes_that_compete_the_one_with_fewest_addresses_is_next() -> None:
    pool = build.pool("default", "10.0.0.0/26", gateway="None")
    rich = build.listing("a", pool, {"10.0.0.0/28": 16, "10.0.0.16/28": 16}, demand=waiting(100))
    poor = build.listing("b", pool, {}, demand=waiting(100))
    got = build.actions([pool], [build.node("a"), build.node("b")], [rich, poor])
    assert got == [("Claim", "b", "10.0.0.32/28"), ("Claim", "b", "10.0.0.48/28")]


def test_pods_that_nothing_can_be_done_for_are_named_with_the_remedy() -> None:
    """What an Event on the node says."""
    tiny = build.pool("tiny", "10.0.0.0/28", allocation="Pinned", gateway="None")
    capped = build.pool("capped", "10.0.1.0/24", allocation="Pinned", scaling={"maxBlocksPerNode": 1})
    elsewhere = build.pool("elsewhere", "10.0.2.0/24", allocation="Pinned", nodeSelector={"matchLabels": {"rack": "a"}})
    demand = tuple(Demand((name,), V4, pending=20) for name in ("tiny", "capped", "elsewhere", "gone"))
    pools = [build.pool("default", "10.9.0.0/24"), tiny, capped, elsewhere]
    listed = build.nodecidr("n1", [build.entry("10.0.0.0/28", tiny), build.entry("10.0.1.0/28", capped)])
    whole = build.pool("whole", "10.0.3.0/28", "fd00::/122", allocation="Pinned", reserved=["10.0.3.0/28"])
    unaccepted = build.pool("unaccepted", "10.0.4.0/24", allocation="Pinned", accepted=[])
    demand = (*demand, Demand(("whole",), V4, pending=1), Demand(("unaccepted",), V4, pending=1))
    pools += [whole, unaccepted]
    nodecidr = replace(listed, report=build.report(listed, {"10.0.0.0/28": 14}, demand=demand))
    unserved = {key.pools: why for key, why in plan(build.snapshot(pools, [build.node()], [nodecidr]), build.NOW).unserved.items()}
    assert unserved == {
        "tiny": "pool tiny: no ipv4 block is free: append a CIDR to the pool",
        "capped": "pool capped: the node holds as many blocks as maxBlocksPerNode 1 allows: raise it",
        "whole": "pool whole: all of its ipv4 addresses are reserved: reserve less of it, or append a CIDR",
        "unaccepted": "pool unaccepted: no ipv4 block is free: append a CIDR to the pool",
        "elsewhere": "pool elsewhere does not select the node: change its nodeSelector, or label the node",
        "gone": "pool gone does not exist: create it, or unpin the pods",
    }


def test_blocks_among_service_addresses_are_never_claimed() -> None:
    pool = build.pool("default", "10.0.0.0/26", gateway="None")
    snapshot = build.snapshot([pool], [build.node()], [build.nodecidr("n1", [])], services=(build.prefix("10.0.0.0/27"),))
    assert build.short(plan(snapshot, build.NOW)) == [("Claim", "n1", "10.0.0.32/28")]
    around = replace(snapshot, services=(build.prefix("10.0.0.0/8"),))
    assert build.short(plan(around, build.NOW)) == []


def test_space_that_two_pools_hold_at_once_is_claimed_for_neither() -> None:
    """Two leaders accepted at once; what would be claimed there could never enter (geometry rule)."""
    pools = [build.pool("a", "10.0.0.0/27", block4=29, gateway="None"), build.pool("b", ["10.0.0.0/28", "10.0.1.0/28"], gateway="None")]
    nodecidr = build.listing("n1", pools[0], {}, demand=(*waiting(20, "a"), *waiting(20, "b")), pools=("a", "b"))
    planned = build.actions(pools, [build.node()], [nodecidr])
    assert sorted(planned) == [("Claim", "n1", block) for block in ("10.0.0.16/29", "10.0.0.24/29", "10.0.1.0/28")]


def test_a_node_with_two_classes_in_one_pool_takes_no_second_turn() -> None:
    """Its pods name the automatic pool: what it claims for the one class is there for the other."""
    pool = build.pool("default", "10.0.0.0/28", block4=30, gateway="None")
    greedy = build.listing("n1", pool, {}, demand=(Demand(("default",), V4, 9), Demand(("none", "default"), V4, 9)))
    modest = build.listing("n2", pool, {}, demand=waiting(9))
    planned = build.actions([pool], [build.node("n1"), build.node("n2")], [greedy, modest])
    assert [action[1] for action in planned if action[0] == "Claim"].count("n2") == 2


@pytest.mark.parametrize(
    ("change", "draining", "words"),
    [
        ({}, False, None),
        ({}, True, None),
        ({"held": "the Lease was missing"}, False, "nothing is claimed now: the Lease was missing"),
        ({"maxBlocksPerNode": 1}, False, "the node holds as many blocks as it may (maxBlocksPerNode, or 1024 of all pools)"),
        ({"cidr": "10.0.0.0/28"}, False, "no block of pool default is free"),
        ({"invalid": "it overlaps itself"}, False, "pool default gives no new blocks"),
    ],
)
def test_what_keeps_a_node_from_one_more_block(change: dict[str, Any], draining: bool, words: str | None) -> None:
    scaling = {"maxBlocksPerNode": change["maxBlocksPerNode"]} if "maxBlocksPerNode" in change else {}
    pool = replace(build.pool("default", change.get("cidr", "10.0.0.0/27"), scaling=scaling), invalid=change.get("invalid"))
    nodecidr = build.listing("n1", pool, {"10.0.0.0/28": 0}, draining=("10.0.0.0/28",) if draining else ())
    snapshot = build.snapshot([pool], [build.node()], [nodecidr], held=change.get("held"))
    weighed = weigh(snapshot, build.NOW)
    draft = replace(weighed.drafts["n1"], spare=list(nodecidr.entries)) if draining else weighed.drafts["n1"]
    assert weighed.growth.obstacle(draft, pool, V4) == words


@pytest.mark.parametrize(
    ("change", "is_"), [({"deleting": True}, "being deleted"), ({"disabled": True}, "disabled"), ({"reserved": ["192.0.2.1"]}, "invalid")]
)
def test_pods_that_name_a_pool_that_gives_nothing(change: dict[str, Any], is_: str) -> None:
    gold = build.pool("gold", "10.0.0.0/28", allocation="Pinned", **change)
    nodecidr = build.listing("n1", gold, {}, demand=waiting(1, "gold"), pools=())
    unserved = plan(build.snapshot([gold], [build.node()], [nodecidr]), build.NOW).unserved
    assert list(unserved.values()) == [f"pool gold is {is_}: pin another one"]


class TestPodsThatNameLists:
    """Pinned pools: of gold one block exists and the node has it; of others none is left, unless they are large."""

    gold = build.pool("gold", "10.0.0.0/28", allocation="Pinned", gateway="None")

    def pool(self, name: str, cidr: str) -> Pool:
        return build.pool(name, cidr, allocation="Pinned", gateway="None")

    def planned(self, in_use: int, demand: list[tuple[str, int, int]], *others: Pool) -> Plan:
        wishes = tuple(Demand(tuple(names.split()), V4, pending, burst) for names, pending, burst in demand)
        nodecidr = build.listing("n1", self.gold, {"10.0.0.0/28": in_use}, demand=wishes, pools=())
        held = [build.block("10.0.0.0/28", "n1", self.gold)]
        held += [build.block(f"10.0.{index}.0/28", "n2", other) for index, other in enumerate(others, 1)]
        return plan(build.snapshot([self.gold, *others], [build.node()], [nodecidr], held), build.NOW)

    def pending(self, planned: Plan) -> dict[str, int]:
        return {key.pools: pending for key, pending in planned.pending.items()}

    def test_what_a_pool_has_room_for_it_serves_beside_those_that_name_it_alone(self) -> None:
        planned = self.planned(5, [("gold", 3, 0), ("gold silver", 4, 0)], self.pool("silver", "10.0.1.0/24"))
        assert self.pending(planned) == {"gold": 7}

    def test_every_list_of_pods_that_wait_makes_its_pools_scarce(self) -> None:
        silver, bronze = self.pool("silver", "10.0.1.0/28"), self.pool("bronze", "10.0.2.0/28")
        planned = self.planned(16, [("gold silver", 1, 0), ("gold bronze", 1, 0)], silver, bronze)
        assert {name for name, _ in planned.scarce} == {"gold", "silver", "bronze"}

    def test_a_list_that_nobody_waits_for_makes_none_scarce(self) -> None:
        planned = self.planned(16, [("gold", 3, 0), ("gold silver", 0, 5)], self.pool("silver", "10.0.1.0/28"))
        assert {name for name, _ in planned.scarce} == {"gold"}

    def test_a_burst_lands_where_room_is_and_a_full_pool_has_none(self) -> None:
        assert self.gold.addresses(build.prefix("10.0.0.0/28")) == 14
        planned = self.planned(14, [("gold silver", 1, 20)], self.pool("silver", "10.0.1.0/24"))
        assert {key.pools: target for key, target in planned.targets.items()} == {"gold": 22, "silver": 21}

    def test_one_wish_told_in_two_parts(self) -> None:
        assert self.pending(self.planned(0, [("gold", 20, 0), ("gold", 1, 0)])) == {"gold": 21}

    def test_only_pods_that_wait_are_told_why_and_only_if_nothing_can_be_had(self) -> None:
        silver = self.pool("silver", "10.0.1.0/24")
        for demand in ([("silver", 5, 0)], [("gone", 0, 5)], [("gone", 0, 0)], [("silver", 0, 3)], [("", 5, 0)]):
            assert self.planned(0, demand, silver).unserved == {}, demand


def test_pods_of_which_no_pool_exists_are_told_so_of_each() -> None:
    nodecidr = build.listing("n1", build.pool(), {}, demand=waiting(1, "gone", "lost"), pools=())
    unserved = plan(build.snapshot([], [build.node()], [nodecidr]), build.NOW).unserved
    one = "pool {} does not exist: create it, or unpin the pods"
    assert unserved == {Key("n1", "gone,lost", V4): f"{one.format('gone')}; {one.format('lost')}"}


def test_a_draining_block_is_taken_back_with_the_reason_of_a_claim() -> None:
    pool = build.pool("default", "10.0.0.0/24")
    nodecidr = build.listing("n1", pool, {"10.0.0.0/28": 14, "10.0.0.16/28": 3}, draining=("10.0.0.16/28",))
    weighed = weigh(build.snapshot([pool], [build.node()], [nodecidr]), build.NOW)
    why = "the automatic pools: 14 in use, 0 cooling, 0 pending; target 22, capacity 14 (ipv4)"
    assert [(type(action).__name__, action.reason) for action in decided(weighed).actions] == [("Undrain", why)]
    assert not any(entry.draining for entry in weighed.drafts["n1"].keep)


def test_of_two_families_both_are_named_if_both_are_short() -> None:
    pool = build.pool("both", "10.0.0.0/28", "fd00::/122", gateway="None", allocation="Pinned")
    nodecidr = build.listing("n1", pool, {}, demand=waiting(1, "both"), pools=())
    others = [build.block(text, "n2", pool) for text in ("10.0.0.0/28", "fd00::/122")]
    unserved = plan(build.snapshot([pool], [build.node()], [nodecidr], others), build.NOW).unserved
    assert list(unserved.values()) == ["pool both: no ipv4 and no ipv6 block is free: append a CIDR to the pool"]


def test_what_waits_for_the_automatic_pools_is_summed() -> None:
    pool = build.pool("default", "10.0.0.0/24")
    nodecidr = build.listing("n1", pool, {}, demand=(*waiting(3), *waiting(4)))
    assert list(plan(build.snapshot([pool], [build.node()], [nodecidr]), build.NOW).pending.values()) == [7]


class TestPairs:
    """A pod takes an address of every family that its pool serves, or none: a block without its partner serves nobody."""

    default = build.pool("default", "10.0.0.0/24", "fd00:1::/112", gateway="None")
    extra = build.pool("extra", "10.0.1.0/24", "fd00:2::/112", gateway="None", priority=-1)
    both = ("default", "extra")

    def planned(
        self,
        listed: list[tuple[str, Pool]],
        pools: tuple[Pool, ...] = (default, extra),
        *,
        pending: int = 3,
        others: tuple[NodeCIDR, ...] = (),
        asked: tuple[str, ...] = both,
        draining: tuple[str, ...] = (),
        used: dict[str, int] | None = None,
    ) -> Plan:
        demand = tuple(Demand(asked, family, pending) for family in Family if pending)
        bare = build.nodecidr("n1", [build.entry(text, pool, draining=text in draining) for text, pool in listed], pools=self.both)
        nodecidr = replace(bare, report=build.report(bare, used or {}, demand=demand))
        nodes = [build.node(name) for name in ("n1", *(other.name for other in others))]
        return plan(build.snapshot(list(pools), nodes, [nodecidr, *others], watching_since=build.NOW), build.NOW)

    def actions(self, *args: Any, **values: Any) -> list[tuple[str, ...]]:
        return [action for action in build.short(self.planned(*args, **values)) if action[1] == "n1" and action[0] != "SetPools"]

    def test_a_family_of_each_of_two_pools_is_paired_with_its_partner(self) -> None:
        halves = [("10.0.0.0/28", self.default), ("fd00:2::/122", self.extra)]
        assert self.actions(halves) == [("Claim", "n1", "fd00:1::/122")]
        assert self.actions(halves, pending=0) == [("Claim", "n1", "fd00:1::/122")]

    def test_its_reason_says_what_lacks(self) -> None:
        planned = self.planned([("10.0.0.0/28", self.default), ("fd00:2::/122", self.extra)])
        words = "the automatic pools: 0 in use, 0 cooling, 3 pending; target 11, capacity 0 of 15, for other families are short (ipv4)"
        assert [action.reason for action in planned.actions] == [words]

    def test_a_pair_is_completed_before_another_is_begun(self) -> None:
        """Though the other pool has priority; a pool of one family is no pair, and keeps its place."""
        half = [("fd00:2::/122", self.extra)]
        assert self.actions(half) == [("Claim", "n1", "10.0.1.0/28")]
        single = build.pool("default", "10.0.0.0/24", gateway="None")
        assert self.actions(half, (single, self.extra)) == [("Claim", "n1", "10.0.0.0/28")]

    def test_a_pool_of_which_a_family_is_exhausted_is_passed_over(self) -> None:
        small = build.pool("default", "10.0.0.0/24", "fd00:1::/122", gateway="None")
        other = build.listing("n2", small, {"10.0.0.16/28": 16, "fd00:1::/122": 64}, pools=self.both)
        half = [("10.0.0.0/28", small)]
        got = self.actions(half, (small, self.extra), others=(other,))
        assert sorted(got) == [("Claim", "n1", "10.0.1.0/28"), ("Claim", "n1", "fd00:2::/122")]

    def test_where_no_pair_can_be_had_the_family_that_lacks_is_scarce(self) -> None:
        small = build.pool("default", "10.0.0.0/24", "fd00:1::/122", gateway="None")
        idle = build.listing("n2", small, {"10.0.0.16/28": 0, "fd00:1::/122": 0}, pools=("default",))
        planned = self.planned([("10.0.0.0/28", small)], (small,), others=(idle,), asked=("default", "extra"))
        assert planned.scarce == {("default", Family.IPV6)}
        assert ("Drain", "n2", "fd00:1::/122") in build.short(planned)
        assert set(planned.unserved.values()) == {"pool default: no ipv6 block is free: append a CIDR to the pool"}

    def test_a_draining_partner_comes_back_first(self) -> None:
        listed = [("10.0.0.0/28", self.default), ("fd00:1::40/122", self.default)]
        assert self.actions(listed, draining=("fd00:1::40/122",)) == [("Undrain", "n1", "fd00:1::40/122")]

    def test_use_of_one_family_alone_leaves_no_room_in_the_pair(self) -> None:
        """A block that drains took its partner's use with it: what is free counts, not how many addresses there are."""
        listed = [("10.0.0.0/28", self.default), ("fd00:1::/122", self.default)]
        assert self.actions(listed, used={"fd00:1::/122": 62}) == [("Claim", "n1", "fd00:1::40/122")]

    def test_a_pool_of_one_family_that_has_room_needs_no_pair_beside_it(self) -> None:
        """As before: the node has a block of each family, and its pods can all be served by the first pool."""
        single = build.pool("default", "10.0.0.0/24", gateway="None")
        listed = [("10.0.0.0/28", single), ("fd00:2::/122", self.extra)]
        assert self.actions(listed, (single, self.extra)) == []

    def test_pods_that_name_pools_go_to_the_first_that_can_have_a_pair(self) -> None:
        """In every family to the same one, though the first still has blocks of the other family."""
        small = build.pool("gold", "10.0.0.0/24", "fd00:1::/122", allocation="Pinned", gateway="None")
        silver = build.pool("silver", "10.0.1.0/24", "fd00:2::/112", allocation="Pinned", gateway="None")
        other = build.listing("n2", small, {"10.0.0.16/28": 16, "fd00:1::/122": 64}, pools=())
        got = self.actions([("10.0.0.0/28", small)], (small, silver), others=(other,), asked=("gold", "silver"))
        assert sorted(got) == [("Claim", "n1", "10.0.1.0/28"), ("Claim", "n1", "fd00:2::/122")]
