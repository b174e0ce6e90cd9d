"""What a repair would do, and what it leaves alone: on planted clusters, pure. That it works: tests/contract."""

from typing import Any

import pytest

from podcidr.cli.forecast import memory_of
from podcidr.cli.judge import judge
from podcidr.cli.main import main
from podcidr.cli.mending import held_addresses
from podcidr.cli.reading import Reading, reading
from podcidr.cli.repair import all_repairs, untouched
from podcidr.core.model import Snapshot
from tests.unit.cli.objects import Object, block, node, nodecidr, pod, pool, small_cluster

World = dict[str, list[Object]]


def seen(world: World) -> Reading:
    return reading(world["ippools"], world["nodes"], world["nodecidrs"], world["ipblocks"], world.get("pods", []))


def repairs(world: World) -> list[tuple[str, ...]]:
    found = seen(world)
    now = found.at.timestamp()
    values = {**found.snapshot.__dict__, "memory": memory_of(found.snapshot, now, settled=False, confirmed=frozenset())}
    planned, lost = all_repairs(Snapshot(**values), now, list(held_addresses(found, [])))
    every: list[Any] = [*planned, *lost]
    return [(type(action).__name__, action.node, str(getattr(action, "prefix", ""))) for action in every]


def test_a_sound_ledger_needs_none() -> None:
    assert repairs(small_cluster()) == [], "a block that drains and leaves is everyday life"


def test_a_lost_ipblock_is_adopted() -> None:
    world = small_cluster()
    world["ipblocks"].pop(0)
    assert repairs(world) == [("Adopt", "n1", "10.64.0.0/28")]


def test_use_outside_the_list_is_adopted() -> None:
    world = small_cluster()
    world["nodecidrs"][0]["status"]["blocks"].append({"cidr": "10.64.0.64/28", "inUse": 2, "cooling": 0})
    assert repairs(world) == [("Adopt", "n1", "10.64.0.64/28")]


def test_a_claim_in_no_list_leaves() -> None:
    world = small_cluster()
    world["ipblocks"].append(block("10.64.0.64/28", "n1"))
    assert repairs(world) == [("Leave", "n1", "10.64.0.64/28")]


def test_orphans_drain_and_leave_when_empty() -> None:
    world = small_cluster()
    world["nodecidrs"].append(nodecidr("n3", {"10.99.0.0/28": 0, "10.99.0.16/28": 0}, pool="old", draining=["10.99.0.0/28"]))
    world["nodes"].append(node("n3"))
    world["ipblocks"] += [block("10.99.0.0/28", "n3", pool="old"), block("10.99.0.16/28", "n3", pool="old")]
    assert set(repairs(world)) == {("Leave", "n3", "10.99.0.0/28"), ("Drain", "n3", "10.99.0.16/28")}


class TestAddressesOfPods:
    """The ledger was lost with a silent node's blocks: only its pods tell."""

    def test_their_block_is_adopted(self) -> None:
        world = small_cluster()
        world["pods"] += [pod("c", "n1", "10.64.0.66"), pod("d", "n1", "10.64.0.67")]
        assert repairs(world) == [("Adopt", "n1", "10.64.0.64/28")]

    def test_a_claim_that_would_leave_is_kept_for_them(self) -> None:
        world = small_cluster()
        world["ipblocks"].append(block("10.64.0.64/28", "n1"))
        world["pods"].append(pod("c", "n1", "10.64.0.66"))
        assert repairs(world) == [("Adopt", "n1", "10.64.0.64/28")]

    @pytest.mark.parametrize(
        "obj",
        [
            pod("c", "n1", "10.64.0.18"),  # n2's block: a conflict
            pod("c", "n1", "192.168.0.1"),  # of no pool
            pod("c", "gone", "10.64.0.66"),  # of a node that is not there
            pod("c", "n2", "10.64.0.34"),  # rests after n1
        ],
    )
    def test_what_is_not_theirs_to_have(self, obj: Object) -> None:
        world = small_cluster()
        world["pods"].append(obj)
        assert repairs(world) == []

    def test_two_nodes_with_addresses_of_one_block(self) -> None:
        world = small_cluster()
        world["pods"] += [pod("c", "n1", "10.64.0.66"), pod("d", "n2", "10.64.0.67")]
        assert repairs(world) == []

    def test_a_block_of_another_length_is_in_the_way(self) -> None:
        world = small_cluster()
        world["ippools"].append(pool("other", "10.70.0.0/24"))
        world["ipblocks"].append(block("10.64.0.64/29", "n2", pool="other"))
        world["pods"].append(pod("c", "n1", "10.64.0.76"))
        assert ("Adopt", "n1", "10.64.0.64/28") not in repairs(world)


def test_every_untouched_thing_has_a_reason_and_a_remedy() -> None:
    world = small_cluster()
    world["pods"].append(pod("c", "n1", "10.64.0.17"))  # pod b of n2 has it
    world["nodecidrs"].append(nodecidr("n3", {"10.99.0.0/28": 2}, pool="old", draining=["10.99.0.0/28"]))
    world["nodes"].append(node("n3"))
    world["ipblocks"] += [block("10.99.0.0/28", "n3", pool="old"), block("10.64.0.80/28", "gone")]
    found = list(untouched(seen(world), judge(seen(world)).violations))
    assert all(one.why and one.remedy for one in found)
    words = [one.what for one in found]
    assert any(word.startswith("address 10.64.0.17 is held by") and "Pod default/b" in word for word in words)
    assert "orphan 10.99.0.0/28 (pool old is gone)" in words
    assert "blocks of node gone" in words


def test_yes_without_repair(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--yes"]) == 2
    assert "--yes answers what --repair asks" in capsys.readouterr().err
