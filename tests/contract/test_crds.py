"""What the API server makes of our CRDs: the message a person gets for each mistake, defaults, columns, limits."""

import json
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from podcidr.api import names
from podcidr.api.models.ippool import IPPoolSpec
from tests.cluster.control_plane import ApiError, ControlPlane
from tests.cluster.reset import reset
from tests.contract.pool_cases import BAD_POOLS, GOOD_POOLS, V4, V6

pytestmark = pytest.mark.cluster

CRDS = Path(__file__).resolve().parents[2] / "crds"
PLURALS = {"IPPool": "ippools", "NodeCIDR": "nodecidrs", "IPBlock": "ipblocks"}
BLOCK_SPEC = {"cidr": "10.64.3.0/28", "pool": "crd-a", "poolUID": "p1", "node": "crd-n1", "nodeCIDRUID": "c1"}
# What the server adds where a bound is broken.
NOT_ALL_CHECKED = (
    "<nil>: Invalid value: null: some validation rules were not checked because the object was invalid;"
    " correct the existing errors to complete validation"
)
Object = dict[str, Any]


class Server:
    """The three kinds on a real API server; a write returns the stored object, or raises ApiError."""

    def __init__(self, plane: ControlPlane) -> None:
        self.plane = plane

    def create(self, kind: str, name: str, spec: Object, *, dry_run: bool = False) -> Object:
        body = {"apiVersion": names.API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}
        return self.plane.request("POST", self.path(kind) + ("?dryRun=All" if dry_run else ""), body)

    def merge(self, kind: str, name: str, patch: Object, subresource: str = "") -> Object:
        return self.plane.request("PATCH", self.path(kind, name) + subresource, patch)

    def json_patch(self, kind: str, name: str, *operations: Object) -> Object:
        return self.plane.request("PATCH", self.path(kind, name), list(operations), content_type="application/json-patch+json")

    def path(self, kind: str, name: str = "") -> str:
        return f"/apis/{names.API_VERSION}/{PLURALS[kind]}" + (f"/{name}" if name else "")


def refusal(error: pytest.ExceptionInfo[ApiError]) -> str:
    """The causes, without what names the object: as kubectl prints them."""
    return error.value.message.split(" is invalid: ", 1)[-1]


@pytest.fixture(scope="module")
def server(control_plane: ControlPlane) -> Iterator[Server]:
    reset(control_plane)
    yield Server(control_plane)
    reset(control_plane)


def test_the_server_takes_the_crds_as_structural_and_establishes_them(server: Server) -> None:
    server.plane.install_crds(CRDS)
    crds = json.loads(server.plane.kubectl("get", "-f", CRDS, "-o", "json"))["items"]
    assert {crd["metadata"]["name"] for crd in crds} == {path.stem for path in CRDS.glob("*.yaml")}
    for crd in crds:
        conditions = {condition["type"]: condition["status"] for condition in crd["status"]["conditions"]}
        assert conditions == {"NamesAccepted": "True", "Established": "True"}, crd["metadata"]["name"]


@pytest.mark.parametrize("spec", GOOD_POOLS.values(), ids=GOOD_POOLS.keys())
def test_good_pools_are_accepted_and_read_the_same_by_the_models(server: Server, spec: Object) -> None:
    stored = server.create("IPPool", "crd-good", spec, dry_run=True)["spec"]
    assert IPPoolSpec.model_validate(stored).to_json() == stored
    assert IPPoolSpec.model_validate(spec).to_json() == stored, "the server fills in what the models fill in"


@pytest.mark.parametrize(("spec", "message"), BAD_POOLS.values(), ids=BAD_POOLS.keys())
def test_bad_pools_are_refused_with_field_value_and_remedy(server: Server, spec: Object, message: str) -> None:
    with pytest.raises(ApiError) as error:
        server.create("IPPool", "crd-bad", spec, dry_run=True)
    assert error.value.status == 422
    assert refusal(error) in (message, f"[{message}, {NOT_ALL_CHECKED}]"), "one mistake gives one message"


def test_each_mistake_is_told_at_once(server: Server) -> None:
    spec = {"ipv4": {"cidrs": ["10.1.2.3/16", "ten"]}, "reserved": ["junk"], "scaling": {"minFreeAddresses": 100}}
    with pytest.raises(ApiError) as error:
        server.create("IPPool", "crd-bad", spec, dry_run=True)
    for field in ("spec.ipv4.cidrs[0]", "spec.ipv4.cidrs[1]", "spec.reserved[0]", "spec.scaling.minFreeAddresses"):
        assert f"{field}: Invalid value" in refusal(error)


def test_a_pool_name_has_to_fit_into_a_label(server: Server) -> None:
    server.create("IPPool", "p" * names.MAX_POOL_NAME, {"ipv4": V4}, dry_run=True)
    with pytest.raises(ApiError, match=r"metadata\.name is longer than 63 characters: choose a shorter one"):
        server.create("IPPool", "p" * (names.MAX_POOL_NAME + 1), {"ipv4": V4}, dry_run=True)


@pytest.fixture(scope="module")
def dual_pool(server: Server) -> str:
    server.create("IPPool", "crd-dual", {"ipv4": V4, "ipv6": V6})
    return "crd-dual"


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_a_family_cannot_be_removed(server: Server, dual_pool: str, family: str) -> None:
    with pytest.raises(ApiError) as error:
        server.merge("IPPool", dual_pool, {"spec": {family: None}})
    assert refusal(error) == (
        f"spec: Invalid value: {family} was set and can't be removed while its addresses may be in use:"
        " put it back, or disable the pool and make a new one"
    )


@pytest.mark.parametrize(("family", "length", "old"), [("ipv4", 27, 28), ("ipv6", 120, 122)])
def test_the_block_length_is_immutable(server: Server, dual_pool: str, family: str, length: int, old: int) -> None:
    with pytest.raises(ApiError) as error:
        server.merge("IPPool", dual_pool, {"spec": {family: {"blockPrefixLength": length}}})
    assert refusal(error) == (
        f"spec.{family}.blockPrefixLength: Invalid value: {length}: is immutable (the pool was made with {old}),"
        " for blocks of two lengths overlap: make a new pool for another length"
    )


def test_a_family_and_cidrs_may_be_added_and_cidrs_removed(server: Server) -> None:
    server.create("IPPool", "crd-grows", {"ipv4": V4})
    server.merge("IPPool", "crd-grows", {"spec": {"ipv6": V6, "ipv4": {"cidrs": ["10.64.0.0/16", "10.80.0.0/16"]}}})
    stored = server.merge("IPPool", "crd-grows", {"spec": {"ipv4": {"cidrs": ["10.80.0.0/16"]}}})
    assert stored["spec"]["ipv4"]["cidrs"] == ["10.80.0.0/16"]
    with pytest.raises(ApiError, match="is immutable"):
        server.merge("IPPool", "crd-grows", {"spec": {"ipv4": {"cidrs": ["10.96.0.0/16"], "blockPrefixLength": 26}}})


@pytest.mark.parametrize("form", ["address", "interval", "CIDR"])
def test_the_rules_fit_the_cost_limits_at_the_largest_pool(server: Server, form: str) -> None:
    """The dearest case: all reserved entries lie in the last CIDR, and texts are as long as they get."""
    cidrs = [f"fd00:1111:2222:3333:4444:5555:{0x1000 + i:x}:0/112" for i in range(names.MAX_FAMILY_CIDRS)]
    last = ip_network(cidrs[-1])
    forms: dict[str, Callable[[int], str]] = {
        "address": lambda i: str(last[0x1000 + i]),
        "interval": lambda i: f"{last[0x1000 + i]}-{last[0x8000 + i]}",
        "CIDR": lambda i: f"{last[0x1000 + 16 * i]}/124",
    }
    spec = {
        "ipv4": {"cidrs": [f"100.100.{100 + i}.0/24" for i in range(names.MAX_FAMILY_CIDRS)]},
        "ipv6": {"cidrs": cidrs},
        "reserved": [forms[form](i) for i in range(names.MAX_RESERVED)],
    }
    stored = server.create("IPPool", "crd-large", spec, dry_run=True)
    assert len(stored["spec"]["reserved"]) == names.MAX_RESERVED


def test_counts_stop_where_json_stays_exact(server: Server, dual_pool: str) -> None:
    status = {"observedGeneration": 1, "ipv6": {"capacity": names.MAX_COUNT}}
    stored = server.merge("IPPool", dual_pool, {"status": status}, "/status")
    assert stored["status"] == status, "status gets no defaults"
    with pytest.raises(ApiError, match=r"status.ipv6.capacity: Invalid value: 9007199254740992"):
        server.merge("IPPool", dual_pool, {"status": {"ipv6": {"capacity": names.MAX_COUNT + 1}}}, "/status")


def node_block(cidr: str) -> Object:
    return {"cidr": cidr, "pool": "crd-a", "poolUID": "p1", "poolGeneration": 1, "state": "Active"}


def enter(cidr: str, epoch: int) -> list[Object]:
    return [{"op": "add", "path": "/spec/blocks/-", "value": node_block(cidr)}, {"op": "replace", "path": "/spec/epoch", "value": epoch}]


def test_a_node_cidr_changes_only_with_a_higher_epoch(server: Server) -> None:
    stored = server.create("NodeCIDR", "crd-epoch", {"epoch": 1})
    assert stored["spec"] == {"epoch": 1, "blocks": [], "pools": []}, "the lists are there for JSON patches to add to"
    stored = server.json_patch("NodeCIDR", "crd-epoch", *enter("10.64.3.0/28", 2))
    assert [block["cidr"] for block in stored["spec"]["blocks"]] == ["10.64.3.0/28"]
    for epoch in (2, 1):
        with pytest.raises(ApiError) as error:
            server.json_patch("NodeCIDR", "crd-epoch", *enter("10.64.3.16/28", epoch))
        assert refusal(error) == "spec: Invalid value: spec changed, but epoch did not grow: write one above 2"
    with pytest.raises(ApiError, match="epoch did not grow"):
        server.merge("NodeCIDR", "crd-epoch", {"spec": {"blocks": []}})


def test_a_report_leaves_the_epoch_alone(server: Server) -> None:
    server.create("NodeCIDR", "crd-report", {"epoch": 1})
    demand = {"name": "crd-a,crd-b", "family": "ipv4", "pools": ["crd-a", "crd-b"], "pending": 1, "burst": 3}
    status = {"observedUID": "u", "observedEpoch": 1, "inUse": 3, "hostNetworkPods": 2, "demand": [demand]}
    stored = server.merge("NodeCIDR", "crd-report", {"status": status}, "/status")
    assert stored["status"] == status
    assert stored["metadata"]["generation"] == 1


def test_a_node_cidr_is_created_without_blocks(server: Server) -> None:
    """A restored backup would else give a node blocks that others hold by now."""
    with pytest.raises(ApiError) as error:
        server.create("NodeCIDR", "crd-restored", {"epoch": 7, "blocks": [node_block("10.64.3.0/28")]})
    assert refusal(error) == (
        "spec: Invalid value: a NodeCIDR is created without blocks, which enter it later one by one"
        " (a restored backup could list another node's): remove spec.blocks"
    )


def test_a_block_is_listed_once_and_canonically(server: Server) -> None:
    server.create("NodeCIDR", "crd-twice", {"epoch": 1})
    server.json_patch("NodeCIDR", "crd-twice", *enter("10.64.3.0/28", 2))
    with pytest.raises(ApiError, match="Duplicate value"):
        server.json_patch("NodeCIDR", "crd-twice", *enter("10.64.3.0/28", 3))
    with pytest.raises(ApiError, match=r'"10\.64\.3\.1/28": is no CIDR in canonical form'):
        server.json_patch("NodeCIDR", "crd-twice", *enter("10.64.3.1/28", 3))


def test_the_largest_node_fits_the_cost_limits(server: Server) -> None:
    server.create("NodeCIDR", "crd-large", {"epoch": 1})
    blocks = [node_block(f"fd00:1111:2222:3333:4444:5555:{i:x}:0/122") for i in range(1, names.MAX_NODE_BLOCKS + 1)]
    stored = server.merge("NodeCIDR", "crd-large", {"spec": {"epoch": 2, "blocks": blocks}})
    assert len(stored["spec"]["blocks"]) == names.MAX_NODE_BLOCKS
    stored = server.json_patch(
        "NodeCIDR", "crd-large", {"op": "replace", "path": "/spec/blocks/0/state", "value": "Draining"},
        {"op": "replace", "path": "/spec/epoch", "value": 3},
    )  # fmt: skip
    assert stored["spec"]["blocks"][0]["state"] == "Draining"
    usage = [{"cidr": f"fd00:1111:2222:3333:4444:5555:{i:x}:0/122", "inUse": 64} for i in range(1, names.MAX_REPORTED_BLOCKS + 1)]
    stored = server.merge("NodeCIDR", "crd-large", {"status": {"observedEpoch": 3, "blocks": usage}}, "/status")
    assert len(stored["status"]["blocks"]) == names.MAX_REPORTED_BLOCKS
    with pytest.raises(ApiError, match=r"spec\.blocks: Too many: 1025: must have at most 1024 items"):
        server.merge("NodeCIDR", "crd-large", {"spec": {"epoch": 4, "blocks": [*blocks, node_block("10.0.0.0/28")]}})


def test_the_spec_of_an_ip_block_is_immutable(server: Server) -> None:
    server.create("IPBlock", "10-64-3-0-28", BLOCK_SPEC)
    for change in ({"node": "crd-n2"}, {"pool": "crd-b"}, {"nodeCIDRUID": "c2"}):
        with pytest.raises(ApiError) as error:
            server.merge("IPBlock", "10-64-3-0-28", {"spec": change})
        assert refusal(error) == (
            "spec: Invalid value: spec is immutable: a block changes hands only when its IPBlock is deleted and claimed again"
        )
    released = {"state": "Quarantined", "releasedAt": "2026-01-02T03:04:05Z", "touches": 1}
    assert server.merge("IPBlock", "10-64-3-0-28", {"status": released}, "/status")["status"] == released


def test_creation_drops_a_status_so_absent_means_claimed(server: Server) -> None:
    body = {"apiVersion": names.API_VERSION, "kind": "IPBlock", "metadata": {"name": "10-64-4-0-28"}}
    body |= {"spec": BLOCK_SPEC | {"cidr": "10.64.4.0/28"}, "status": {"state": "Quarantined"}}
    assert "status" not in server.plane.request("POST", server.path("IPBlock"), body)


@pytest.mark.parametrize(
    ("name", "cidr"),
    [
        ("10-64-5-0-28", "10.64.5.0/28"),
        ("fd00-0064-0000-0000-0000-0000-0000-0040-122", "fd00:64::40/122"),
        ("0064-0000-0000-0000-0000-0000-0000-0000-128", "64::/128"),
    ],
)
def test_one_cidr_has_one_name(server: Server, name: str, cidr: str) -> None:
    """Else CREATE would lock nothing."""
    server.create("IPBlock", name, BLOCK_SPEC | {"cidr": cidr}, dry_run=True)
    for wrong in (name[:-1] + "1", "x" + name, name.replace("-0000", ""), "crd-" + name):
        if wrong == name:
            continue
        with pytest.raises(ApiError) as error:
            server.create("IPBlock", wrong, BLOCK_SPEC | {"cidr": cidr}, dry_run=True)
        assert f"metadata.name {wrong} is not the one of CIDR {cidr}: write it as" in refusal(error)


def test_the_cidr_of_an_ip_block_is_canonical(server: Server) -> None:
    with pytest.raises(
        ApiError, match=r'spec\.cidr: Invalid value: "10\.64\.6\.1/28": is not in its canonical form: write 10\.64\.6\.0/28'
    ):
        server.create("IPBlock", "10-64-6-1-28", BLOCK_SPEC | {"cidr": "10.64.6.1/28"}, dry_run=True)


def test_kubectl_get_answers_how_full(server: Server) -> None:
    server.create("IPPool", "crd-shown", {"ipv4": V4, "ipv6": V6})
    condition = {"status": "True", "reason": "Accepted", "message": "", "lastTransitionTime": "2026-01-02T03:04:05Z"}
    usage = {"capacity": 65533, "utilizationPercent": 63, "blocks": {"total": 4096, "claimed": 2601}, "addresses": {"inUse": 41285}}
    status = {
        "ipv4": usage,
        "ipv6": usage | {"utilizationPercent": 7},
        "conditions": [condition | {"type": "Accepted"}, condition | {"type": "Exhausted", "status": "False"}],
    }
    server.merge("IPPool", "crd-shown", {"status": status}, "/status")
    header, row = (line.split() for line in server.plane.kubectl("get", "ipp", "crd-shown").splitlines())
    assert header == ["NAME", "CAPACITY", "IN", "USE", "UTIL%", "CLAIMED", "BLOCKS", "ACCEPTED", "EXHAUSTED", "AGE"]
    assert row[:-1] == ["crd-shown", "65533", "41285", "63", "2601", "4096", "True", "False"]

    server.create("IPPool", "crd-six", {"ipv6": V6})
    server.merge("IPPool", "crd-six", {"status": {"ipv6": usage | {"capacity": 1234}}}, "/status")
    assert "1234" in server.plane.kubectl("get", "ipp", "crd-six"), "a pool of IPv6 alone fills the same columns"


def test_blocks_are_found_by_node_and_pool(server: Server) -> None:
    server.create("IPBlock", "10-64-7-0-28", BLOCK_SPEC | {"cidr": "10.64.7.0/28", "node": "crd-n7", "pool": "crd-p7"})
    for selector in ("spec.node=crd-n7", "spec.pool=crd-p7"):
        found = json.loads(server.plane.kubectl("get", "ipb", "--field-selector", selector, "-o", "json"))["items"]
        assert [block["metadata"]["name"] for block in found] == ["10-64-7-0-28"]
    header, row = (line.split() for line in server.plane.kubectl("get", "ipb", "10-64-7-0-28").splitlines())
    assert header == ["NAME", "CIDR", "POOL", "NODE", "STATE", "AGE"]
    assert row[:4] == ["10-64-7-0-28", "10.64.7.0/28", "crd-p7", "crd-n7"]


def test_kubectl_explains_and_lists_by_category(server: Server) -> None:
    explained = server.plane.kubectl("explain", "ippools.podcidr.io.spec.ipv4.blockPrefixLength")
    assert "28 means 16 addresses. Immutable." in " ".join(explained.split())
    server.create("IPPool", "crd-listed", {"ipv4": V4})
    assert "ippool.podcidr.io/crd-listed" in server.plane.kubectl("get", "podcidr", "-o", "name")
