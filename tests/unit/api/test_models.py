"""The models read what the API server stores, and write what it takes."""

import subprocess
import sys

import pytest
from pydantic import BaseModel, ValidationError

from podcidr.api import names
from podcidr.api.models.ipblock import IPBlock
from podcidr.api.models.ippool import IPPool, IPPoolSpec, IPPoolStatus
from podcidr.api.models.nodecidr import NodeCIDR, NodeCIDRStatus
from podcidr.api.models.shape import Shape, json_name


@pytest.mark.parametrize(
    ("field", "key"),
    [
        ("cidrs", "cidrs"),
        ("block_prefix_length", "blockPrefixLength"),
        ("accepted_cidrs", "acceptedCIDRs"),
        ("node_cidr_uid", "nodeCIDRUID"),
        ("observed_uid", "observedUID"),
        ("pool_uid", "poolUID"),
        ("ipv4", "ipv4"),
    ],
)
def test_json_names_are_written_as_in_the_kubernetes_api(field: str, key: str) -> None:
    assert json_name(field) == key


def test_a_pool_of_one_family_gets_the_documented_defaults() -> None:
    assert IPPoolSpec.model_validate({"ipv4": {"cidrs": ["10.64.0.0/14"]}}).to_json() == {
        "ipv4": {"cidrs": ["10.64.0.0/14"], "blockPrefixLength": 28},
        "reserved": [],
        "gateway": "Pool",
        "allocation": "Automatic",
        "priority": 0,
        "disabled": False,
        "scaling": {
            "minFreeAddresses": 8,
            "maxFreeAddresses": 96,
            "highUtilizationPercent": 100,
            "lowUtilizationPercent": 75,
            "stabilizationWindowSeconds": 300,
            "lastBlockDelaySeconds": 3600,
        },
        "quarantineSeconds": 300,
        "addressCooldownSeconds": 120,
    }


def test_ipv6_blocks_are_122_by_default() -> None:
    spec = IPPoolSpec.model_validate({"ipv6": {"cidrs": ["fd00:64::/48"]}})
    assert spec.ipv6
    assert spec.ipv6.block_prefix_length == 122


def test_a_whole_object_makes_the_round_trip() -> None:
    block = {
        "metadata": {"name": "10-64-3-0-28", "uid": "u1", "resourceVersion": "7"},
        "spec": {"cidr": "10.64.3.0/28", "pool": "default", "poolUID": "p1", "node": "n1", "nodeCIDRUID": "c1"},
        "status": {"state": "Quarantined", "releasedAt": "2026-01-02T03:04:05Z", "touches": 2},
    }
    read = IPBlock.model_validate(block)
    assert read.spec.node_cidr_uid == "c1"
    written = read.to_json()
    assert written["spec"] == block["spec"]
    assert written["status"] == block["status"]


def test_fields_of_a_newer_version_are_ignored() -> None:
    obj = {"metadata": {"name": "n1", "selfLink": "x"}, "spec": {"epoch": 3, "mood": "good"}, "status": {"inUse": 4, "fans": 1}}
    node = NodeCIDR.model_validate(obj)
    assert node.status
    assert (node.spec.epoch, node.status.in_use) == (3, 4)
    assert "mood" not in node.to_json()["spec"]


def test_demand_of_the_agent_is_read() -> None:
    demand = {"name": "a,b", "pools": ["a", "b"], "family": "ipv6", "pending": 3, "burst": 9}
    assert NodeCIDRStatus.model_validate({"demand": [demand]}).demand[0].to_json() == demand


@pytest.mark.parametrize(
    ("model", "value"),
    [
        (IPPoolSpec, {"ipv4": {"cidrs": ["10.0.0.0/8"], "blockPrefixLength": 33}}),
        (IPPoolSpec, {"ipv4": {"cidrs": []}}),
        (IPPoolSpec, {"ipv6": {"cidrs": ["fd00::/48"], "blockPrefixLength": 64}}),
        (IPPoolSpec, {"gateway": "pool"}),
        (IPPoolSpec, {"quarantineSeconds": -1}),
        (IPPoolStatus, {"ipv6": {"capacity": names.MAX_COUNT + 1}}),
        (IPPool, {"metadata": {"name": "p"}}),
        (NodeCIDR, {"metadata": {"name": "n"}, "spec": {"epoch": 0}}),
    ],
)
def test_what_the_schema_refuses_the_models_refuse(model: type[BaseModel], value: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        model.model_validate(value)


def test_zero_is_allowed_where_it_switches_a_wait_off() -> None:
    scaling = {"minFreeAddresses": 0, "stabilizationWindowSeconds": 0, "lastBlockDelaySeconds": 0, "minBlocksPerNode": 0}
    spec = IPPoolSpec.model_validate({"scaling": scaling, "quarantineSeconds": 0, "addressCooldownSeconds": 0})
    assert spec.scaling.min_blocks_per_node == 0


def test_models_are_values() -> None:
    spec = IPPoolSpec.model_validate({"ipv4": {"cidrs": ["10.0.0.0/8"]}})
    assert isinstance(spec, Shape)
    with pytest.raises(ValidationError):
        spec.priority = 3


def test_names_cost_the_agent_no_dependency() -> None:
    code = "import sys, podcidr.api.names; print(sorted({'pydantic', 'yaml', 'aiohttp', 'kopf'} & sys.modules.keys()))"
    run = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": ":".join(sys.path)}, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
