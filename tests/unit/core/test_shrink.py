"""Blocks go back when the node no longer needs them, and not sooner; in scarcity at once."""

from dataclasses import replace
from typing import Any

import pytest

from podcidr.core.model import AUTOMATIC, Demand, Key, Memory, Pool
from podcidr.core.plan import plan
from podcidr.core.prefix import Family
from tests.property import build
from tests.property.build import NOW
from tests.property.world import World

V4 = Family.IPV4
KEY = Key("n1", AUTOMATIC, V4)
POOL = build.pool("default", "10.0.0.0/24")
THREE = {"10.0.0.16/28": 4, "10.0.0.32/28": 0, "10.0.0.48/28": 0}


def drained(used: build.Used, *, pool: Pool = POOL, now: float = NOW, **memory: Any) -> list[str]:
    nodecidr = build.listing("n1", pool, used)
    return [block for kind, _, block in build.actions([pool], [build.node()], [nodecidr], now=now, **memory) if kind == "Drain"]


def test_empty_blocks_go_from_the_highest_down() -> None:
    assert drained({**THREE}) == ["10.0.0.48/28", "10.0.0.32/28"]


def test_a_block_in_use_or_cooling_stays() -> None:
    assert drained({"10.0.0.16/28": 0, "10.0.0.32/28": 0, "10.0.0.48/28": 4}) == ["10.0.0.32/28", "10.0.0.16/28"]
    assert drained({"10.0.0.16/28": 0, "10.0.0.32/28": (0, 1), "10.0.0.48/28": 4}) == ["10.0.0.16/28"]


@pytest.mark.parametrize(("used", "left"), [(4, 1), (8, 1), (9, 2), (12, 2)])
def test_the_rest_holds_the_target(used: int, left: int) -> None:
    assert len(THREE) - len(drained({**THREE, "10.0.0.16/28": used})) == left


@pytest.mark.parametrize(("percent", "left"), [(75, 1), (50, 1), (49, 2), (24, 3)])
def test_the_rest_is_used_to_low_utilization_at_most(percent: int, left: int) -> None:
    pool = build.pool("default", "10.0.0.0/24", scaling={"lowUtilizationPercent": percent, "minFreeAddresses": 0})
    assert len(THREE) - len(drained({**THREE, "10.0.0.16/28": 8}, pool=pool)) == left


def test_the_highest_target_of_the_window_holds_blocks_back() -> None:
    assert drained({**THREE}, highest={KEY: 32}) == ["10.0.0.48/28"]
    assert drained({**THREE}, highest={KEY: 33}) == []


def test_a_new_leader_watches_for_a_whole_window_first() -> None:
    assert drained({**THREE}, watching_since=NOW - 299) == []
    assert len(drained({**THREE}, watching_since=NOW - 300)) == 2


def test_a_report_of_an_earlier_epoch_proves_nothing() -> None:
    nodecidr = build.listing("n1", POOL, {**THREE})
    late = replace(nodecidr, epoch=nodecidr.epoch + 1)
    assert build.actions([POOL], [build.node()], [late]) == []
    assert build.actions([POOL], [build.node()], [replace(nodecidr, report=None)]) == []


def test_min_blocks_per_node_stay() -> None:
    pool = build.pool("default", "10.0.0.0/24", scaling={"minBlocksPerNode": 2})
    assert drained({**THREE}, pool=pool) == ["10.0.0.48/28"]


def test_the_last_pool_gives_first() -> None:
    low, high = build.pool("aaa", "10.9.0.0/24"), build.pool("zzz", "10.0.0.0/24", priority=1)
    entries = [build.entry("10.0.0.16/28", high), build.entry("10.0.0.32/28", high), build.entry("10.9.0.16/28", low)]
    nodecidr = build.nodecidr("n1", entries, pools=("zzz", "aaa"))
    nodecidr = replace(nodecidr, report=build.report(nodecidr))
    got = build.actions([low, high], [build.node()], [nodecidr])
    assert got == [("Drain", "n1", "10.9.0.16/28"), ("Drain", "n1", "10.0.0.32/28")]


def test_a_node_that_grows_does_not_shrink() -> None:
    pool = build.pool("default", "10.0.0.0/24", "fd00::/112", gateway="None")
    nodecidr = build.listing("n1", pool, {"10.0.0.0/28": 4, "10.0.0.16/28": 0})
    got = build.actions([pool], [build.node()], [nodecidr])
    assert got == [("Claim", "n1", "fd00::/122"), ("Drain", "n1", "10.0.0.16/28")]  # each family by itself


class TestLastBlock:
    pool = build.pool("gold", "10.0.0.0/24", allocation="Pinned", scaling={"stabilizationWindowSeconds": 60})
    key = Key("n1", "gold", V4)

    def left(self, **memory: Any) -> list[tuple[str, ...]]:
        nodecidr = build.listing("n1", self.pool, {"10.0.0.16/28": 0}, pools=())
        return build.actions([self.pool], [build.node()], [nodecidr], **memory)

    def test_it_waits_for_last_block_delay(self) -> None:
        assert self.left(needed_at={self.key: NOW - 3599}) == []
        assert self.left(needed_at={self.key: NOW - 3600}) == [("Drain", "n1", "10.0.0.16/28")]

    def test_a_new_leader_counts_from_its_beginning(self) -> None:
        assert self.left(watching_since=NOW - 3599) == []
        assert self.left(watching_since=NOW - 3600) == [("Drain", "n1", "10.0.0.16/28")]

    def test_its_whole_life(self) -> None:
        world = World(pools={"gold": self.pool})
        agent = world.add_node("n1")
        world.settle()
        agent.want(("gold",), 1, world.now)
        assert build.short(world_round := world.round()) == [], world_round
        world.agents_report()
        assert build.short(world.round()) == [("Claim", "n1", "10.0.0.0/28")]
        world.agents_report()
        agent.want(("gold",), 0, world.now)
        kinds = []
        for _ in range(80):
            world.now += 60
            world.agents_report()
            kinds += [(kind, world.now - 10_000) for kind, *_ in build.short(world.round())]
        assert kinds == [("Drain", 3600.0), ("Leave", 3660.0), ("Free", 4020.0)]


class TestScarcity:
    """Four blocks; node c waits, nodes a and b are idle."""

    pool = build.pool("default", "10.0.0.0/26", gateway="None")
    nodes = (build.node("a"), build.node("b"), build.node("c"))

    def planned(self, waits: int = 1, pools: tuple[Pool, ...] = (), **memory: Any) -> list[tuple[str, ...]]:
        idle = build.listing("a", self.pool, {"10.0.0.0/28": 0, "10.0.0.16/28": 3})
        spare = build.listing("b", self.pool, {"10.0.0.32/28": 0})
        asks = build.listing("c", self.pool, {"10.0.0.48/28": 16}, demand=(Demand(("default",), V4, pending=waits),))
        planned = plan(build.snapshot([self.pool, *pools], list(self.nodes), [idle, spare, asks], **memory), NOW)
        assert planned.scarce == ({("default", V4)} if waits else set())
        assert {action.reason for action in planned.actions} <= {"scarcity: pods elsewhere wait"}
        return build.short(planned)

    def test_idle_nodes_give_at_once_even_their_last(self) -> None:
        highest = {Key(name, AUTOMATIC, V4): 99 for name in "abc"}
        assert self.planned(watching_since=NOW, highest=highest) == [("Drain", "a", "10.0.0.0/28"), ("Drain", "b", "10.0.0.32/28")]

    def test_without_a_pod_that_waits_they_keep_them(self) -> None:
        assert self.planned(waits=0, watching_since=NOW) == []

    @pytest.mark.parametrize(("pending", "kept"), [(1, 1), (15, 1), (17, 2), (31, 2), (33, 3), (99, 3)])
    def test_pods_that_wait_here_hold_back_what_they_need_and_no_more(self, pending: int, kept: int) -> None:
        """A pod whose ADD never comes waits for ever: it is one address, not a reason to keep all that the window saw."""
        used = {f"10.0.0.{low}/28": 0 for low in (0, 16, 32)}
        stuck = build.listing("a", self.pool, used, demand=(Demand(("default",), V4, pending=pending),))
        asks = build.listing("c", self.pool, {"10.0.0.48/28": 16}, demand=(Demand(("default",), V4, pending=1),))
        snapshot = build.snapshot([self.pool], [self.nodes[0], self.nodes[2]], [stuck, asks], highest={Key("a", AUTOMATIC, V4): 41})
        assert build.short(plan(snapshot, NOW)) == [("Drain", "a", f"10.0.0.{low}/28") for low in (32, 16)[: 3 - kept]]

    def test_a_large_block_that_is_needed_hides_no_small_one(self) -> None:
        pool = build.pool("default", "10.0.0.0/26", gateway="None", reserved=["10.0.0.0-10.0.0.9"])
        idle = build.listing(
            "a", pool, {"10.0.0.0/28": 0, "10.0.0.16/28": 0, "10.0.0.32/28": 2}, demand=(Demand(("default",), V4, pending=30),)
        )
        asks = build.listing("c", pool, {"10.0.0.48/28": 16}, demand=(Demand(("default",), V4, pending=1),))
        assert build.actions([pool], [self.nodes[0], self.nodes[2]], [idle, asks]) == [("Drain", "a", "10.0.0.0/28")]

    @pytest.mark.parametrize(
        ("named", "unnamed", "given"),
        [
            (0, 0, ["10.1.0.0/28", "10.0.0.16/28", "10.0.0.0/28"]),
            (1, 0, ["10.1.0.0/28", "10.0.0.16/28"]),
            (17, 0, ["10.1.0.0/28"]),
            (1, 15, ["10.1.0.0/28", "10.0.0.0/28"]),  # 29 to spare: 14, and then the smaller of the two
            (0, 15, ["10.1.0.0/28", "10.0.0.16/28"]),
            (99, 0, ["10.1.0.0/28"]),  # of no use to pods that name the other pool
            (99, 1, []),
        ],
    )
    def test_pods_that_name_an_automatic_pool_hold_its_blocks_back(self, named: int, unnamed: int, given: list[str]) -> None:
        """And those only; what the others need, they need in any pool."""
        assert self.given(named, unnamed, "default", "other") == given

    def test_room_in_another_pool_is_none_for_pods_that_name_one(self) -> None:
        assert self.given(1, 0, "default") == ["10.0.0.16/28"]
        assert self.given(0, 1, "default") == ["10.0.0.16/28", "10.0.0.0/28"]

    def given(self, named: int, unnamed: int, *short: str) -> list[str]:
        """What a gives while c waits for these pools. It has 15 and 16 addresses of the one, 14 of the other; `named` name the first."""
        other = build.pool("other", "10.1.0.0/28", priority=-1, gateway="None")
        pools, more = ("default", "other"), build.entry("10.1.0.0/28", other)
        demand = (Demand(("default",), V4, pending=named), Demand(pools, V4, pending=unnamed))
        holds = build.listing("a", self.pool, {"10.0.0.0/28": 0, "10.0.0.16/28": 0}, pools=pools, demand=demand)
        holds = replace(holds, entries=(*holds.entries, more))
        holds = replace(holds, report=build.report(holds, demand=demand))
        wants = tuple(Demand((name,), V4, pending=1) for name in short)
        asks = build.listing("c", self.pool, {"10.0.0.32/28": 16, "10.0.0.48/28": 16}, pools=pools, demand=wants)
        got = build.actions([self.pool, other], [self.nodes[0], self.nodes[2]], [holds, asks], watching_since=NOW)
        assert all(action[:2] == ("Drain", "a") for action in got), got
        return [block for _, _, block in got]

    def test_no_first_block_for_idle_nodes_and_no_headroom(self) -> None:
        idle = build.listing("a", self.pool, {"10.0.0.0/28": 1, "10.0.0.32/28": 0}, draining=("10.0.0.32/28",))
        asks = build.listing("c", self.pool, {"10.0.0.48/28": 16, "10.0.0.16/28": 16}, demand=(Demand(("default",), V4, pending=1),))
        got = build.actions([self.pool], list(self.nodes), [idle, build.nodecidr("b", []), asks])
        # a's draining block leaves for c, although a has less than its headroom; b gets nothing.
        assert got == [("Leave", "a", "10.0.0.32/28")]

    def test_it_ends_well(self) -> None:
        world = World(pools={"default": self.pool})
        for name in "abc":
            world.add_node(name)
        world.settle()
        world.agents["c"].want((), 50, world.now)
        for _ in range(40):
            world.now += 30
            world.agents_report()
            world.round()
        assert world.agents["c"].pending == 0
        assert len(world.nodecidrs["c"].entries) == 4

    def test_one_pool_of_a_class_is_scarce_the_other_grows_and_keeps(self) -> None:
        other = build.pool("other", "10.1.0.0/24", priority=-1, gateway="None")
        pools = ("default", "other")
        used = {f"10.0.0.{low}/28": 16 for low in (0, 16, 32, 48)}
        asks = build.listing("c", self.pool, used, pools=pools, demand=(Demand(("default",), V4, pending=1),))
        idle = build.listing("a", other, {"10.1.0.0/28": 0}, pools=pools)
        planned = plan(build.snapshot([self.pool, other], list(self.nodes), [idle, build.nodecidr("b", [], pools=pools), asks]), NOW)
        assert planned.scarce == {("default", V4)}
        assert [action for action in build.short(planned) if action[1] != "c"] == [("Claim", "b", "10.1.0.32/28")]

    def test_a_node_at_its_cap_makes_nothing_scarce(self) -> None:
        capped = build.pool("default", "10.0.0.0/26", gateway="None", scaling={"maxBlocksPerNode": 1})
        asks = build.listing("c", capped, {"10.0.0.48/28": 16}, demand=(Demand(("default",), V4, pending=1),))
        assert plan(build.snapshot([capped], list(self.nodes[2:]), [asks]), NOW).scarce == frozenset()

    def test_every_pool_of_a_list_is_scarce_if_none_has_a_block(self) -> None:
        gold = build.pool("gold", "10.1.0.0/28", allocation="Pinned", gateway="None")
        silver = build.pool("silver", "10.2.0.0/28", allocation="Pinned", gateway="None")
        holds = build.nodecidr("a", [build.entry("10.1.0.0/28", gold), build.entry("10.2.0.0/28", silver)], pools=())
        holds = replace(holds, report=build.report(holds, {"10.1.0.0/28": 16}))
        asks = build.listing("c", gold, {}, pools=(), demand=(Demand(("gold", "silver"), V4, pending=1),))
        planned = plan(build.snapshot([gold, silver], [build.node("a"), build.node("c")], [holds, asks], watching_since=NOW), NOW)
        assert planned.scarce == {("gold", V4), ("silver", V4)}
        assert build.short(planned) == [("Drain", "a", "10.2.0.0/28")]


def test_the_headroom_of_a_list_stays_where_room_is() -> None:
    """A pool that has nothing more to give keeps its last empty block: drained, it could be had back, and would be, for ever."""
    gold = build.pool("gold", "10.1.0.0/27", allocation="Pinned", gateway="None", scaling={"minFreeAddresses": 4})
    silver = build.pool("silver", "10.2.0.0/28", allocation="Pinned", gateway="None")
    demand = (Demand(("gold", "silver"), V4, burst=20),)
    room = build.listing("n1", gold, {"10.1.0.0/28": 1, "10.1.0.16/28": 0}, pools=(), demand=demand)
    assert build.actions([gold, silver], [build.node()], [room]) == []
    full = build.listing("n1", gold, {"10.1.0.0/28": 16, "10.1.0.16/28": 16}, pools=(), demand=(demand[0]._replace(pending=1),))
    assert build.actions([gold, silver], [build.node()], [full]) == [("Claim", "n1", "10.2.0.0/28")]


def test_pods_that_name_an_automatic_pool_hold_its_blocks_back() -> None:
    demand = (Demand(("default",), V4, pending=20),)
    other = build.pool("other", "10.9.0.0/24", priority=-1)
    nodecidr = build.listing("n1", POOL, {**THREE}, pools=("default", "other"), demand=demand)
    assert build.actions([POOL, other], [build.node()], [nodecidr]) == []


def test_memory_of_a_leader_that_has_just_begun_is_empty() -> None:
    assert Memory() == Memory(0.0, {}, {}, {}, {}, frozenset(), frozenset())


class TestPairs:
    """Blocks of two families belong together: what has no partner goes back, a partner that is needed stays."""

    default = build.pool("default", "10.0.0.0/24", "fd00:1::/112", gateway="None")
    extra = build.pool("extra", "10.0.1.0/24", "fd00:2::/112", gateway="None", priority=-1)

    def actions(self, listed: list[tuple[str, Pool]], used: dict[str, int] | None = None, **memory: Any) -> list[tuple[str, ...]]:
        bare = build.nodecidr("n1", [build.entry(text, pool) for text, pool in listed], pools=("default", "extra"))
        nodecidr = replace(bare, report=build.report(bare, used or {}))
        return build.actions([self.default, self.extra], [build.node()], [nodecidr], **memory)

    def test_a_block_without_its_partner_goes_back(self) -> None:
        pair = [("10.0.0.0/28", self.default), ("fd00:1::/122", self.default)]
        assert self.actions([*pair, ("fd00:2::/122", self.extra)]) == [("Drain", "n1", "fd00:2::/122")]
        assert self.actions([*pair, ("10.0.1.0/28", self.extra)]) == [("Drain", "n1", "10.0.1.0/28")]

    def test_though_it_is_of_the_first_pool(self) -> None:
        """The last pool's block would go first, but the node's only pair needs it."""
        pair = [("10.0.1.0/28", self.extra), ("fd00:2::/122", self.extra)]
        assert self.actions([*pair, ("fd00:1::/122", self.default)]) == [("Drain", "n1", "fd00:1::/122")]

    def test_two_idle_pairs_become_one(self) -> None:
        pairs = [
            (text, pool) for net, pool in ((1, self.default), (2, self.extra)) for text in (f"10.0.{net - 1}.0/28", f"fd00:{net}::/122")
        ]
        assert self.actions(pairs) == [("Drain", "n1", "10.0.1.0/28"), ("Drain", "n1", "fd00:2::/122")]

    def test_a_partner_whose_family_has_plenty_stays_while_the_other_family_remembers_more(self) -> None:
        pairs = [
            (text, pool) for net, pool in ((1, self.default), (2, self.extra)) for text in (f"10.0.{net - 1}.0/28", f"fd00:{net}::/122")
        ]
        assert self.actions(pairs, highest={Key("n1", AUTOMATIC, V4): 20}) == []
