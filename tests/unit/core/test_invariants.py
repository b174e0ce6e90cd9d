"""What must never be, and how the planner treats it: frozen at once, drained once confirmed, never given to a third."""

from dataclasses import replace

from podcidr.core.invariants import is_orphan, outside_pool, violations
from podcidr.core.model import NodeCIDR, Snapshot
from podcidr.core.plan import plan
from tests.property import build
from tests.property.build import NOW

POOL = build.pool("default", "10.0.0.0/24", scaling={"minBlocksPerNode": 0})
ONE = "10.0.0.16/28"
NODES = [build.node("a"), build.node("b")]


def words(snapshot: Snapshot) -> list[tuple[int, str, tuple[str, ...]]]:
    return [(found.invariant, found.words, found.nodes) for found in violations(snapshot)]


def using(name: str, used: build.Used) -> NodeCIDR:
    bare = build.nodecidr(name, [])
    return replace(bare, report=build.report(bare, used))


def test_nothing_is_wrong_with_a_settled_cluster() -> None:
    assert words(build.snapshot([POOL], NODES, [build.listing("a", POOL, {ONE: 3}), build.nodecidr("b", [])])) == []


class TestListedTwice:
    both = (build.listing("a", POOL, {ONE: 3}), build.listing("b", POOL, {ONE: 0}))
    blocks = (build.block(ONE, "a", POOL),)

    def snapshot(self, **memory: object) -> Snapshot:
        return build.snapshot([POOL], NODES, list(self.both), list(self.blocks), **memory)

    def test_it_is_named(self) -> None:
        assert words(self.snapshot()) == [(2, f"block {ONE} is listed by nodes a, b", ("a", "b"))]

    def test_a_suspicion_freezes(self) -> None:
        planned = plan(self.snapshot(), NOW)
        assert [v.words for v in planned.suspects] == [f"block {ONE} is listed by nodes a, b"]
        assert planned.violations == ()
        # b's empty one may go as any other.
        assert build.short(planned) == [("Drain", "b", ONE)]

    def test_confirmed_it_drains_on_both(self) -> None:
        planned = plan(self.snapshot(confirmed=frozenset({build.prefix(ONE)})), NOW)
        assert (len(planned.suspects), len(planned.violations)) == (0, 1)
        assert [action for action in build.short(planned) if action[0] != "Claim"] == [("Drain", "a", ONE), ("Drain", "b", ONE)]
        assert planned.actions[0].reason == "two nodes hold it"

    def test_what_drains_does_not_come_back_and_leaves_when_empty(self) -> None:
        a = build.listing("a", POOL, {ONE: 3}, draining=(ONE,))
        b = build.listing("b", POOL, {ONE: 0}, draining=(ONE,))
        for confirmed in (frozenset(), frozenset({build.prefix(ONE)})):
            assert build.actions([POOL], NODES, [a, b], list(self.blocks), confirmed=confirmed) == [("Leave", "b", ONE)]


class TestClaimedElsewhere:
    def test_it_is_named(self) -> None:
        snapshot = build.snapshot([POOL], NODES, [build.listing("a", POOL, {ONE: 3})], [build.block(ONE, "b", POOL)])
        assert words(snapshot) == [(2, f"block {ONE} is listed by node a, but IPBlock 10-0-0-16-28 is claimed for node b", ("a", "b"))]

    def test_the_claim_is_left_alone(self) -> None:
        nodecidrs = [build.listing("a", POOL, {ONE: 3}), build.nodecidr("b", [])]
        assert build.actions([POOL], NODES, nodecidrs, [build.block(ONE, "b", POOL)]) == []
        assert build.actions([POOL], NODES[:1], nodecidrs[:1], [build.block(ONE, "b", POOL)], gone_since={"b": 0.0}) == []

    def test_words_do_not_depend_on_the_order_of_nodes(self) -> None:
        nodecidrs = [build.listing(name, POOL, {ONE: 0}) for name in ("y", "x")]
        blocks = [build.block(ONE, "z", POOL)]
        one = build.snapshot([POOL], [], nodecidrs, blocks)
        other = build.snapshot([POOL], [], nodecidrs[::-1], blocks)
        assert words(one) == words(other)

    def test_a_quarantined_block_that_is_listed(self) -> None:
        blocks = [build.block(ONE, "a", POOL, quarantined=True)]
        snapshot = build.snapshot([POOL], NODES, [build.listing("a", POOL, {ONE: 3})], blocks, quarantined_since={blocks[0].uid: 0.0})
        assert words(snapshot) == [(3, f"block {ONE} is listed by node a, but quarantined", ("a",))]
        assert ("Free", "a", ONE) not in build.short(plan(snapshot, NOW))


class TestUsedElsewhere:
    def test_of_a_block_that_another_lists(self) -> None:
        snapshot = build.snapshot([POOL], NODES, [build.listing("a", POOL, {ONE: 3}), using("b", {ONE: 1})])
        assert words(snapshot) == [(7, f"node b has addresses of {ONE} in use, which block {ONE} of a holds", ("a", "b"))]

    def test_of_a_block_that_two_others_list(self) -> None:
        nodecidrs = [build.listing(name, POOL, {ONE: 0}) for name in ("a", "c")]
        found = violations(build.snapshot([POOL], NODES, [*nodecidrs, using("b", {ONE: 1})], []))
        assert [(v.invariant, v.words, v.prefixes, v.nodes) for v in found] == [
            (2, f"block {ONE} is listed by nodes a, c", (build.prefix(ONE),), ("a", "c")),
            (7, f"node b has addresses of {ONE} in use, which block {ONE} of a, c holds", (build.prefix(ONE),), ("a", "b", "c")),
        ]

    def test_of_a_block_that_is_claimed_for_another(self) -> None:
        snapshot = build.snapshot([POOL], NODES, [build.nodecidr("a", []), using("b", {ONE: 1})], [build.block(ONE, "a", POOL)])
        assert [nodes for _, _, nodes in words(snapshot)] == [("a", "b")]
        assert build.short(plan(snapshot, NOW)) == []

    def test_of_one_address_whose_pool_the_node_does_not_know(self) -> None:
        listed = build.listing("a", POOL, {ONE: 3, "10.0.0.64/28": 0})
        snapshot = build.snapshot([POOL], NODES, [listed, using("b", {"10.0.0.17/32": 1, "192.0.2.1/32": 1})])
        assert words(snapshot) == [(7, f"node b has addresses of 10.0.0.17/32 in use, which block {ONE} of a holds", ("a", "b"))]

    def test_its_own_address_is_no_violation(self) -> None:
        listed = build.listing("a", POOL, {ONE: 3})
        assert listed.report
        blocks = {**listed.report.blocks, build.prefix("10.0.0.20/32"): listed.report.blocks[build.prefix(ONE)]}
        assert words(build.snapshot([POOL], NODES, [replace(listed, report=replace(listed.report, blocks=blocks))])) == []

    def test_cooling_is_no_use(self) -> None:
        assert words(build.snapshot([POOL], NODES, [build.listing("a", POOL, {ONE: 3}), using("b", {ONE: (0, 1)})])) == []


class TestOverlap:
    wide = build.pool("wide", "10.0.0.0/24", block4=26)

    def test_blocks_of_different_lengths(self) -> None:
        a, b = build.listing("a", POOL, {ONE: 3}), build.listing("b", self.wide, {"10.0.0.0/26": 0}, pools=("wide",))
        assert words(build.snapshot([POOL, self.wide], NODES, [a, b])) == [(3, f"blocks 10.0.0.0/26 and {ONE} overlap", ("a", "b"))]

    def test_with_a_quarantined_one(self) -> None:
        resting = build.block("10.0.0.0/26", "b", self.wide, quarantined=True)
        blocks = [build.block(ONE, "a", POOL), resting]
        rested = {resting.uid: 0.0}
        listed = build.listing("a", POOL, {ONE: 3})
        snapshot = build.snapshot([POOL, self.wide], NODES[:1], [listed], blocks, quarantined_since=rested)
        assert [nodes for _, _, nodes in words(snapshot)] == [("a", "b")]
        assert ("Free", "b", "10.0.0.0/26") not in build.short(plan(snapshot, NOW))

    def test_three_deep(self) -> None:
        resting = [build.block(text, "b", POOL, quarantined=True) for text in ("10.0.0.0/24", "10.0.0.0/26", "10.0.0.128/28")]
        snapshot = build.snapshot([POOL], NODES, [build.listing("a", POOL, {ONE: 3})], [*resting, build.block(ONE, "a", POOL)])
        assert [found.words for found in violations(snapshot)] == [
            f"blocks 10.0.0.0/24 and {ONE} overlap",
            f"blocks 10.0.0.0/26 and {ONE} overlap",
        ]

    def test_of_two_that_rest_nobody_can_be_given_an_address(self) -> None:
        resting = [build.block(text, "b", POOL, quarantined=True) for text in ("10.0.0.0/26", ONE)]
        assert words(build.snapshot([POOL], NODES, [], resting)) == []


def test_a_block_outside_its_pool() -> None:
    wrong, cut, other = build.block("10.0.0.0/30", "a", POOL), build.block("10.7.0.0/28", "a", POOL), build.block("fd00::/122", "a", POOL)
    unknown = build.block("10.8.0.0/30", "a", replace(POOL, uid="earlier"))
    found = outside_pool({"default": POOL}, [wrong, cut, other, unknown, build.block(ONE, "a", POOL)])
    assert [(v.invariant, v.words) for v in found] == [
        (4, "block 10.0.0.0/30 names pool default, whose CIDRs never had it"),
        (4, "block fd00::/122 names pool default, whose CIDRs never had it"),
    ]
    assert [(v.prefixes, v.nodes) for v in found] == [((wrong.prefix,), ("a",)), ((other.prefix,), ("a",))]


def test_orphans() -> None:
    pools = {"default": POOL}
    assert not is_orphan(pools, build.prefix(ONE), "default", "default-uid")
    assert is_orphan(pools, build.prefix("10.7.0.0/28"), "default", "default-uid")
    assert is_orphan(pools, build.prefix(ONE), "default", "earlier")
    assert is_orphan(pools, build.prefix(ONE), "none", "none-uid")
