"""JSON of the API → values. One bad pool says what is wrong with it, and stops no other."""

from typing import Any, ClassVar

import pytest

from podcidr.api import convert
from podcidr.core.model import Demand, Entry, Gateway, Node, Scaling, Usage
from podcidr.core.prefix import Family, parse_prefix
from podcidr.core.reserved import Interval

V4, V6 = Family.IPV4, Family.IPV6
OUTER = [(0, 0), (255, 255)]


def pool_object(spec: dict[str, Any], **meta: Any) -> dict[str, Any]:
    return {"metadata": {"name": "default", "uid": "u1", **meta}, "spec": spec}


class TestPool:
    def test_defaults(self) -> None:
        pool = convert.pool(pool_object({"ipv4": {"cidrs": ["10.64.0.0/14"]}, "ipv6": {"cidrs": ["fd00:64::/48"]}}))
        assert (pool.name, pool.uid, pool.generation, pool.accepted, pool.invalid) == ("default", "u1", 1, frozenset(), None)
        assert {family: (len(space.cidrs), space.block_length) for family, space in pool.spaces.items()} == {V4: (1, 28), V6: (1, 122)}
        assert (pool.gateway, pool.pinned, pool.disabled, pool.deleting, pool.priority) == (Gateway.POOL, False, False, False, 0)
        assert (pool.scaling, pool.quarantine_seconds, pool.min_blocks) == (Scaling(), 300, 1)
        assert pool.usable
        assert pool.node_selector.matches({})

    def test_everything(self) -> None:
        scaling = {
            "minFreeAddresses": 1, "maxFreeAddresses": 2, "highUtilizationPercent": 3, "lowUtilizationPercent": 4, "minBlocksPerNode": 5,
            "maxBlocksPerNode": 6, "stabilizationWindowSeconds": 7, "lastBlockDelaySeconds": 8, "somethingNewer": 9,
        }  # fmt: skip
        spec = {
            "ipv4": {"cidrs": ["10.64.0.0/24"], "blockPrefixLength": 26}, "gateway": "None", "allocation": "Pinned", "priority": -3,
            "nodeSelector": {"matchLabels": {"a": "b"}}, "scaling": scaling, "quarantineSeconds": 0, "reserved": ["10.64.0.9"],
        }  # fmt: skip
        obj = pool_object(spec, generation=4, resourceVersion="77", creationTimestamp="2026-01-01T00:00:00Z")
        pool = convert.pool(obj | {"status": {"acceptedCIDRs": ["10.64.0.0/24"]}})
        assert (pool.generation, pool.resource_version, pool.created) == (4, 77, "2026-01-01T00:00:00Z")
        assert (pool.pinned, pool.priority, pool.gateway, pool.quarantine_seconds) == (True, -3, Gateway.NONE, 0)
        assert pool.scaling == Scaling(1, 2, 3, 4, 5, 6, 7, 8)
        assert pool.accepted == {parse_prefix("10.64.0.0/24")}
        assert not pool.node_selector.matches({})

    def test_a_pinned_pool_asks_for_no_minimum(self) -> None:
        assert convert.pool(pool_object({"ipv4": {"cidrs": ["10.64.0.0/24"]}, "allocation": "Pinned"})).min_blocks == 0

    def test_deleting_and_disabled(self) -> None:
        spec = {"ipv4": {"cidrs": ["10.64.0.0/24"]}}
        assert not convert.pool(pool_object(spec, deletionTimestamp="2026-01-01T00:00:00Z")).usable
        assert not convert.pool(pool_object(spec | {"disabled": True})).usable

    @pytest.mark.parametrize(("gateway", "ends"), [("Pool", [(0, 1), (255, 255)]), ("Block", OUTER), ("None", OUTER)])
    def test_ends_of_the_cidr_are_reserved(self, gateway: str, ends: list[tuple[int, int]]) -> None:
        pool = convert.pool(pool_object({"ipv4": {"cidrs": ["10.64.0.0/24"]}, "gateway": gateway}))
        base = 0x0A400000
        assert list(pool.reserved[V4]) == [Interval(base + first, base + last) for first, last in ends]

    @pytest.mark.parametrize("entry", ["10.64.0.9", "10.64.0.0/28", "10.64.0.10-10.64.0.20", "10.64.0.250-10.64.1.5", "fd00::9"])
    def test_reserved_within_the_space(self, entry: str) -> None:
        spec = {"ipv4": {"cidrs": ["10.64.0.0/24", "10.64.1.0/24"]}, "ipv6": {"cidrs": ["fd00::/112"]}, "reserved": [entry]}
        assert convert.pool(pool_object(spec)).invalid is None

    @pytest.mark.parametrize(
        ("spec", "message"),
        [
            ({}, "spec: neither ipv4 nor ipv6 is set; a pool needs at least one"),
            ({"ipv4": {"cidrs": ["10.64.0.1/24"]}}, "spec.ipv4.cidrs: '10.64.0.1/24': host bits are set; did you mean 10.64.0.0/24?"),
            (
                {"ipv4": {"cidrs": ["10.64.0.0/29"]}},
                "spec.ipv4.cidrs: '10.64.0.0/29': smaller than a block of /28; widen it or create a pool with smaller blocks",
            ),
            ({"ipv4": {"cidrs": ["fd00::/64"]}}, "spec.ipv4.cidrs: 'fd00::/64': not an ipv4 CIDR"),
            ({"ipv6": {"cidrs": ["10.64.0.0/24"]}}, "spec.ipv6.cidrs: '10.64.0.0/24': not an ipv6 CIDR"),
            ({"ipv4": {"cidrs": ["10.64.0.0"]}}, "spec.ipv4.cidrs: '10.64.0.0': a CIDR needs a prefix length, such as /24"),
            ({"ipv4": {"cidrs": ["ten/24"]}}, "spec.ipv4.cidrs: 'ten': not an IP address"),
            (
                {"ipv4": {"cidrs": ["10.64.1.0/24", "10.64.0.0/16"]}},
                "spec.ipv4.cidrs: '10.64.1.0/24': overlaps 10.64.0.0/16; keep the larger one only",
            ),
            ({"reserved": ["10.65.0.1"]}, "spec.reserved: '10.65.0.1': outside the pool's CIDRs; remove it or correct it"),
            ({"reserved": ["fd00::1"]}, "spec.reserved: 'fd00::1': outside the pool's CIDRs; remove it or correct it"),
            (
                {"reserved": ["10.64.0.9-10.65.0.1"]},
                "spec.reserved: '10.64.0.9-10.65.0.1': outside the pool's CIDRs; remove it or correct it",
            ),
            (
                {"reserved": ["10.64.0.9-10.64.0.2"]},
                "spec.reserved: '10.64.0.9-10.64.0.2': the ends are the wrong way round; did you mean 10.64.0.2-10.64.0.9?",
            ),
            ({"reserved": ["router"]}, "spec.reserved: 'router': not an IP address"),
            ({"gateway": "Router"}, "spec.gateway: 'Router': use Pool, Block or None"),
            (
                {"nodeSelector": {"matchLabels": {"a": 1}}},
                "spec.nodeSelector: matchLabels[a] is 1; it must be a string, so write it in quotes",
            ),
            (
                {"namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "Is"}]}},
                "spec.namespaceSelector: matchExpressions[0].operator is 'Is'; use In, NotIn, Exists or DoesNotExist",
            ),
        ],
    )
    def test_what_cannot_be_used_is_said(self, spec: dict[str, Any], message: str) -> None:
        space = {} if not spec or spec.keys() & {"ipv4", "ipv6"} else {"ipv4": {"cidrs": ["10.64.0.0/16"]}}
        pool = convert.pool(pool_object(space | spec))
        assert pool.invalid == message
        assert not pool.usable

    def test_all_that_is_wrong_is_said_at_once(self) -> None:
        pool = convert.pool(pool_object({"ipv4": {"cidrs": ["10.64.0.1/24", "10.65.0.0/24"]}, "reserved": ["1.2.3.4"]}))
        assert pool.invalid
        assert len(pool.invalid.split("; ")) == 4  # two of them are part of the messages
        assert [str(cidr) for cidr in pool.spaces[V4].cidrs] == ["10.65.0.0/24"]


class TestNode:
    @pytest.mark.parametrize(
        ("pods", "expected"),
        [("110", 110), (110, 110), ("1k", 1000), ("2k", 2000), ("1Ki", 1024), ("0", 0), (None, None), ("many", None), ("1.5k", None)],
    )
    def test_allocatable_pods_is_a_quantity(self, pods: str | int | None, expected: int | None) -> None:
        status = {"allocatable": {} if pods is None else {"pods": pods}}
        assert convert.node({"metadata": {"name": "n1"}, "status": status}) == Node("n1", {}, expected)

    @pytest.mark.parametrize(("status", "ready"), [("True", True), ("False", False), ("Unknown", False)])
    def test_ready(self, status: str, ready: bool) -> None:
        conditions = [{"type": "MemoryPressure", "status": "True"}, {"type": "Ready", "status": status}]
        obj = {"metadata": {"name": "n1", "labels": {"a": "b"}}, "status": {"conditions": conditions}}
        assert convert.node(obj) == Node("n1", {"a": "b"}, None, ready)

    def test_its_own_addresses(self) -> None:
        addresses = [
            {"type": "InternalIP", "address": "10.1.2.3"},
            {"type": "ExternalIP", "address": "2001:db8::9"},
            {"type": "InternalIP", "address": "not yet"},
            {"type": "Hostname", "address": "10.9.9.9"},
        ]
        found = convert.node({"metadata": {"name": "n1"}, "status": {"addresses": addresses}}).addresses
        assert found == (parse_prefix("10.1.2.3/32"), parse_prefix("2001:db8::9/128"))


class TestNodeCIDR:
    spec: ClassVar[dict[str, Any]] = {
        "epoch": 7,
        "pools": ["default"],
        "blocks": [
            {"cidr": "10.64.0.0/28", "pool": "default", "poolUID": "u1", "poolGeneration": 3, "state": "Active"},
            {"cidr": "fd00::/122", "pool": "default", "poolUID": "u1", "poolGeneration": 3, "state": "Draining"},
        ],
    }
    status: ClassVar[dict[str, Any]] = {
        "observedUID": "n-uid",
        "observedEpoch": 7,
        "reportedAt": "2026-01-01T00:00:00Z",
        "blocks": [{"cidr": "10.64.0.0/28", "inUse": 4, "cooling": 1}, {"cidr": "192.0.2.1/32", "inUse": 1}],
        "demand": [{"name": "default", "pools": ["default"], "family": "ipv4", "pending": 2, "burst": 9}],
        "hostNetworkPods": 6,
    }

    def test_spec_and_report(self) -> None:
        obj = {"metadata": {"name": "n1", "uid": "n-uid", "resourceVersion": "5"}, "spec": self.spec, "status": self.status}
        nodecidr = convert.nodecidr(obj)
        assert (nodecidr.name, nodecidr.uid, nodecidr.resource_version) == ("n1", "n-uid", 5)
        assert (nodecidr.epoch, nodecidr.pools) == (7, ("default",))
        assert nodecidr.entries == (
            Entry(parse_prefix("10.64.0.0/28"), "default", "u1", 3),
            Entry(parse_prefix("fd00::/122"), "default", "u1", 3, draining=True),
        )
        assert nodecidr.report
        assert nodecidr.current is nodecidr.known is nodecidr.report
        assert nodecidr.report.blocks == {parse_prefix("10.64.0.0/28"): Usage(4, 1), parse_prefix("192.0.2.1/32"): Usage(1, 0)}
        assert nodecidr.report.demand == (Demand(("default",), V4, 2, 9),)
        assert nodecidr.report.host_network_pods == 6

    def test_an_entry_survives_its_json(self) -> None:
        entries = convert.nodecidr({"metadata": {"name": "n1", "uid": "x"}, "spec": self.spec}).entries
        assert [convert.entry_json(entry) for entry in entries] == self.spec["blocks"]

    def test_a_report_of_another_uid_is_not_known_and_one_of_another_epoch_not_current(self) -> None:
        meta = {"name": "n1", "uid": "n-uid", "deletionTimestamp": "2026-01-01T00:00:00Z"}
        other = convert.nodecidr({"metadata": meta, "spec": self.spec, "status": self.status | {"observedUID": "earlier"}})
        assert (other.known, other.current, other.deleting) == (None, None, True)
        late = convert.nodecidr({"metadata": meta, "spec": self.spec, "status": self.status | {"observedEpoch": 6}})
        assert (late.known, late.current) == (late.report, None)

    def test_without_report(self) -> None:
        nodecidr = convert.nodecidr({"metadata": {"name": "n1", "uid": "x"}, "status": {"inUse": 0}})
        assert (nodecidr.report, nodecidr.epoch, nodecidr.entries) == (None, 1, ())


class TestBlock:
    obj: ClassVar[dict[str, Any]] = {
        "metadata": {"name": "10-64-0-0-28", "uid": "b1", "resourceVersion": "9"},
        "spec": {"cidr": "10.64.0.0/28", "pool": "default", "poolUID": "u1", "node": "n1", "nodeCIDRUID": "n-uid"},
    }

    def test_without_status_it_is_claimed(self) -> None:
        block = convert.block(self.obj)
        assert (block.name, block.uid, block.resource_version, block.quarantined, block.touches) == ("10-64-0-0-28", "b1", 9, False, 0)
        assert (block.prefix, block.pool, block.pool_uid) == (parse_prefix("10.64.0.0/28"), "default", "u1")
        assert (block.node, block.nodecidr_uid) == ("n1", "n-uid")

    def test_quarantined(self) -> None:
        block = convert.block(self.obj | {"status": {"state": "Quarantined", "releasedAt": "2026-01-01T00:00:00Z", "touches": 2}})
        assert (block.quarantined, block.released_at, block.touches) == (True, "2026-01-01T00:00:00Z", 2)


@pytest.mark.parametrize(
    "status",
    [
        {"observedUID": "u", "blocks": [{"cidr": "nonsense"}]},
        {"observedUID": "u", "blocks": [{}]},
        {"observedUID": "u", "demand": [{"family": "ipx"}]},
    ],
)
def test_a_report_that_makes_no_sense_is_none(status: dict[str, object]) -> None:
    obj = {"metadata": {"name": "n1", "uid": "u"}, "spec": {"epoch": 1}, "status": status}
    assert convert.nodecidr(obj).report is None
