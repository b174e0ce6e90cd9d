"""How many addresses a node should have: the numbers of the design."""

from typing import Any

import pytest

from podcidr.core.demand import NodeClass
from podcidr.core.life import Draft
from podcidr.core.model import AUTOMATIC, Demand, Key
from podcidr.core.plan import plan
from podcidr.core.prefix import Family
from tests.property import build

KEY = Key("n1", AUTOMATIC, Family.IPV4)


def target(scaling: dict[str, int] | None = None, *, pinned: bool = False, max_pods: int | None = None, **counts: Any) -> int:
    pool = build.pool("default", "10.0.0.0/16", scaling=scaling or {}, allocation="Pinned" if pinned else "Automatic")
    key = KEY._replace(pools="default") if pinned else KEY
    return NodeClass(key, (pool,), Draft("n1", None, None, (pool,)), (pool,), max_pods, **counts).target


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        pytest.param({}, 8, id="an idle node keeps minFreeAddresses"),
        pytest.param({"used": 10}, 18, id="in use + headroom"),
        pytest.param({"used": 10, "cooling": 5}, 23, id="cooling counts as used"),
        pytest.param({"used": 10, "pending": 5}, 23, id="pending counts"),
        pytest.param({"used": 10, "burst": 7}, 18, id="a burst below minFreeAddresses changes nothing"),
        pytest.param({"used": 10, "burst": 30}, 40, id="headroom is the burst"),
        pytest.param({"used": 10, "burst": 500}, 106, id="and at most maxFreeAddresses"),
    ],
)
def test_target_is_need_and_headroom(counts: dict[str, Any], expected: int) -> None:
    assert target(**counts) == expected


@pytest.mark.parametrize(("used", "percent", "expected"), [(100, 100, 108), (100, 80, 125), (100, 95, 108), (99, 70, 142), (0, 50, 8)])
def test_high_utilization_asks_for_a_share_of_free_addresses(used: int, percent: int, expected: int) -> None:
    assert target({"highUtilizationPercent": percent}, used=used) == expected


@pytest.mark.parametrize(
    ("max_pods", "counts", "expected"),
    [
        pytest.param(None, {"used": 100}, 108, id="no allocatable.pods, no cap"),
        pytest.param(110, {"used": 105}, 110, id="headroom ends where the node runs no more pods"),
        pytest.param(110, {"used": 105, "cooling": 4}, 114, id="cooling addresses are beside the pods"),
        pytest.param(110, {"used": 120}, 120, id="what is used is never capped"),
        pytest.param(110, {"used": 100, "pending": 20}, 120, id="nor what is waited for"),
        pytest.param(-5, {}, 0, id="more host network pods than allocatable: no headroom"),
    ],
)
def test_headroom_is_capped_by_what_the_node_can_run(max_pods: int | None, counts: dict[str, Any], expected: int) -> None:
    assert target(max_pods=max_pods, **counts) == expected


def test_host_network_pods_need_no_address() -> None:
    pool = build.pool("default", "10.0.0.0/16")
    nodecidr = build.listing("n1", pool, {"10.0.0.16/28": 12}, host_network_pods=5)
    snapshot = build.snapshot([pool], [build.node(max_pods=20)], [nodecidr])
    assert plan(snapshot, build.NOW).targets == {KEY: 15}


@pytest.mark.parametrize(
    ("min_blocks", "pinned", "used", "expected"),
    [(0, False, 0, 0), (0, False, 1, 9), (1, False, 0, 8), (None, True, 0, 0), (None, True, 1, 9), (2, True, 0, 8)],
)
def test_a_class_without_minimum_and_without_need_has_no_target(min_blocks: int | None, pinned: bool, used: int, expected: int) -> None:
    scaling = {} if min_blocks is None else {"minBlocksPerNode": min_blocks}
    assert target(scaling, pinned=pinned, used=used) == expected


def test_headroom_and_ratios_are_those_of_the_first_pool_that_selects_the_node() -> None:
    only_big = {"matchLabels": {"size": "big"}}
    first = build.pool("first", "10.0.0.0/24", priority=9, scaling={"minFreeAddresses": 30}, nodeSelector=only_big)
    second = build.pool("second", "10.0.1.0/24", scaling={"minFreeAddresses": 3})
    nodes = [build.node("big", labels={"size": "big"}), build.node("small")]
    nodecidrs = [build.nodecidr("big", [], pools=("first", "second")), build.nodecidr("small", [], pools=("second",))]
    targets = plan(build.snapshot([second, first], nodes, nodecidrs), build.NOW).targets
    assert targets == {Key("big", AUTOMATIC, Family.IPV4): 30, Key("small", AUTOMATIC, Family.IPV4): 3}


def test_each_family_grows_by_blocks_of_its_own_size() -> None:
    pool = build.pool("default", "10.0.0.0/16", "fd00::/112", gateway="None")
    asked = tuple(Demand(("default",), family, pending=60) for family in Family)
    nodecidr = build.listing("n1", pool, {"10.0.0.16/28": 3, "fd00::/122": 3}, demand=asked)
    snapshot = build.snapshot([pool], [build.node()], [nodecidr])
    planned = plan(snapshot, build.NOW)
    assert planned.targets == {KEY: 71, Key("n1", AUTOMATIC, Family.IPV6): 71}
    assert planned.pending == {KEY: 60, Key("n1", AUTOMATIC, Family.IPV6): 60}
    claims = [("Claim", "n1", f"10.0.0.{low}/28") for low in (0, 32, 48, 64)]
    assert sorted(build.short(planned)) == [*claims, ("Claim", "n1", "fd00::40/122")]
