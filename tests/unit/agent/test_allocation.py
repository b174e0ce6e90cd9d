"""allocation.json: gateways, reserved addresses, and which blocks may be in it."""

from dataclasses import replace
from typing import Any

import pytest

from podcidr.agent.allocation import Allocation, build
from podcidr.agent.observed import NodeCIDRSeen, PoolSeen
from tests.unit.agent.objects import block, nodecidr, pool


def allocate(seen: NodeCIDRSeen, *pools: PoolSeen) -> Allocation:
    return build("n1", seen, {one.pool.name: one for one in pools}, "s")


def entries(seen: NodeCIDRSeen, *pools: PoolSeen, family: str = "ipv4") -> Any:
    return allocate(seen, *pools).document["pools"]["default"][family]


def test_head() -> None:
    document = allocate(nodecidr(pools=("default", "second")), pool(addressCooldownSeconds=9)).document
    assert {key: document[key] for key in ("version", "stateID", "node", "uid", "epoch")} == {
        "version": 1, "stateID": "s", "node": "n1", "uid": "u1", "epoch": 7,
    }  # fmt: skip
    assert "question" not in document
    assert allocate(replace(nodecidr(), question="q"), pool()).document["question"] == "q"
    assert document["automatic"] == ["default"], "a pool that is not in the file would be an error to the plugin"
    assert document["pools"]["default"]["cooldownSeconds"] == 9


def test_mode_pool_has_an_entry_per_cidr() -> None:
    seen = nodecidr(block("10.64.3.16/28"), block("10.64.3.0/28"), block("10.80.0.0/28"))
    spec = {"cidrs": ["10.64.0.0/14", "10.80.0.0/24"], "blockPrefixLength": 28}
    assert entries(seen, pool(ipv4=spec, reserved=["10.64.3.7", "10.64.3.9-10.64.3.18"])) == [
        {
            "gateway": "10.64.0.1",
            "prefixLength": 14,
            "blocks": ["10.64.3.0/28", "10.64.3.16/28"],
            "reserved": ["10.64.3.7", "10.64.3.9-10.64.3.15", "10.64.3.16-10.64.3.18"],
        },
        {"gateway": "10.80.0.1", "prefixLength": 24, "blocks": ["10.80.0.0/28"], "reserved": ["10.80.0.0-10.80.0.1"]},
    ]


def test_mode_pool_reserves_the_broadcast_address() -> None:
    (entry,) = entries(nodecidr(block("10.67.255.240/28")), pool())
    assert entry["reserved"] == ["10.67.255.255"]


def test_mode_block_has_an_entry_per_block() -> None:
    seen = nodecidr(block("10.64.3.0/28"), block("10.64.3.16/28"))
    assert entries(seen, pool(gateway="Block")) == [
        {"gateway": "10.64.3.1", "prefixLength": 28, "blocks": ["10.64.3.0/28"], "reserved": ["10.64.3.0-10.64.3.1", "10.64.3.15"]},
        {"gateway": "10.64.3.17", "prefixLength": 28, "blocks": ["10.64.3.16/28"], "reserved": ["10.64.3.16-10.64.3.17", "10.64.3.31"]},
    ]


def test_mode_none_prints_a_host_route_and_no_gateway() -> None:
    (entry,) = entries(nodecidr(block("10.64.0.0/28")), pool(gateway="None"))
    assert entry == {"prefixLength": 32, "blocks": ["10.64.0.0/28"], "reserved": ["10.64.0.0"]}


def test_ipv6() -> None:
    dual = pool(ipv6={"cidrs": ["fd00:64::/48"], "blockPrefixLength": 122})
    (entry,) = entries(nodecidr(block("fd00:64::/122")), dual, family="ipv6")
    assert entry == {"gateway": "fd00:64::1", "prefixLength": 48, "blocks": ["fd00:64::/122"], "reserved": ["fd00:64::-fd00:64::1"]}


def test_a_pool_without_a_block_still_says_which_families_it_serves() -> None:
    for gateway in ("Pool", "Block", "None"):
        document = allocate(nodecidr(), pool(gateway=gateway)).document["pools"]["default"]
        assert [entry["blocks"] for entry in document["ipv4"]] == [[]]
        assert "ipv6" not in document


@pytest.mark.parametrize(
    ("entry", "seen_pool", "reason"),
    [
        (block("10.64.3.0/28", state="Draining"), pool(), ""),
        (block("10.64.3.0/28", "gone"), pool(), "is not known here"),
        (block("10.64.3.0/28", uid="old"), pool(), "is not known here"),
        (block("10.64.3.0/28", generation=3), pool(generation=2), "generation 3 of the pool has not been seen yet, only 2"),
        (block("10.64.3.0/28"), pool(disabled=True), "disabled"),
        (block("10.64.3.0/28"), pool(deleting=True), "being deleted"),
        (block("10.64.3.0/28"), pool(reserved=["nonsense"]), "invalid"),
        (block("10.9.0.0/28"), pool(), "no CIDR of the pool"),
    ],
)
def test_what_is_left_out(entry: dict[str, Any], seen_pool: PoolSeen, reason: str) -> None:
    allocation = allocate(nodecidr(entry), seen_pool)
    assert allocation.room == {}
    assert [reason in text for text in allocation.withheld.values()] == ([True] if reason else [])


def test_a_newer_generation_will_do() -> None:
    assert len(allocate(nodecidr(block("10.64.3.0/28", generation=1)), pool(generation=5)).room) == 1


def test_capacity_counts_what_pods_can_have() -> None:
    allocation = allocate(nodecidr(block("10.64.0.0/28"), block("10.64.0.16/28")), pool(reserved=["10.64.0.20-10.64.0.23"]))
    assert list(allocation.room.values()) == [14, 12]


def test_disabled_pools_are_not_offered_at_all() -> None:
    document = allocate(nodecidr(), pool(disabled=True)).document
    assert document["pools"] == {}
    assert document["automatic"] == []
