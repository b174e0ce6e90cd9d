"""Bad input gets the message that docs/pools.md shows, and stops nobody else: on the real server, operator and agent."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.control_plane import ApiError, ControlPlane
from tests.cluster.kubelet import Cluster, eventually
from tests.cluster.reset import SERVICE_CIDRS, reset
from tests.contract import bad_input
from tests.contract.bad_input import BAD_CHANGES, BAD_NAMES, BAD_PINS, IPBLOCKS, NODECIDRS, ODD_POOLS, POOLS, UNKNOWN_FIELDS, Change
from tests.contract.pool_cases import BAD_POOLS, V4, V6, Object

pytestmark = pytest.mark.cluster


def obj(kind: str, name: str, spec: Any) -> Object:
    return {"apiVersion": "podcidr.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def causes(error: ApiError) -> str:
    return error.message.split(" is invalid: ", 1)[-1].split("strict decoding error: ", 1)[-1]


@pytest.fixture(scope="module")
def plane(control_plane: ControlPlane) -> Iterator[ControlPlane]:
    reset(control_plane)
    control_plane.request("POST", POOLS, obj("IPPool", "d", {"ipv4": V4, "ipv6": V6}))
    control_plane.request("POST", NODECIDRS, obj("NodeCIDR", "n1", {"epoch": 1}))
    control_plane.request("POST", NODECIDRS, obj("NodeCIDR", "n3", {"epoch": 7}))
    control_plane.request("POST", IPBLOCKS, obj("IPBlock", "10-64-9-0-28", bad_input.BLOCK | {"cidr": "10.64.9.0/28"}))
    yield control_plane
    reset(control_plane)


def test_the_page_has_enough_rows() -> None:
    tables = (BAD_POOLS, BAD_NAMES, UNKNOWN_FIELDS, BAD_CHANGES, ODD_POOLS, BAD_PINS)
    assert sum(len(table) for table in tables) >= 100


@pytest.mark.parametrize(("name", "message"), BAD_NAMES.items())
def test_bad_names(plane: ControlPlane, name: str, message: str) -> None:
    with pytest.raises(ApiError) as error:
        plane.request("POST", f"{POOLS}?dryRun=All", obj("IPPool", name, {"ipv4": V4}))
    assert causes(error.value) == message


@pytest.mark.parametrize(("spec", "message"), UNKNOWN_FIELDS.values(), ids=UNKNOWN_FIELDS.keys())
def test_unknown_fields(plane: ControlPlane, spec: Object, message: str) -> None:
    with pytest.raises(ApiError) as error:
        plane.request("POST", f"{POOLS}?dryRun=All&fieldValidation=Strict", obj("IPPool", "p", spec))
    assert causes(error.value) == message


@pytest.mark.parametrize("change", BAD_CHANGES.values(), ids=BAD_CHANGES.keys())
def test_bad_changes(plane: ControlPlane, change: Change) -> None:
    with pytest.raises(ApiError) as error:
        plane.request(change.method, change.path, change.body)
    assert causes(error.value) == change.message


async def test_odd_pools_say_what_is_wrong_and_stop_no_other_pool(cluster: Cluster) -> None:
    await cluster.api.create(SERVICE_CIDRS, {"metadata": {"name": "odd"}, "spec": {"cidrs": [bad_input.SERVICE_CIDR]}})
    await cluster.api.create(POOLS, obj("IPPool", "good", bad_input.GOOD_POOL))
    operator = await cluster.start_operator()
    await eventually(lambda: accepted(cluster, "good"), "the good pool to be accepted")
    machine = await cluster.add_machine("n1")
    await machine.start_agent()  # a missing Lease puts the ledger in doubt until the nodes there are by then have told
    await eventually(lambda: has_block(cluster, "n1"), "the good pool to serve a node")
    own = [{"type": "InternalIP", "address": bad_input.NODE_ADDRESS}]
    await cluster.api.merge("/api/v1/nodes/n1/status", {"status": {"addresses": own}})
    await asyncio.gather(*(cluster.api.create(POOLS, obj("IPPool", name, odd.spec)) for name, odd in ODD_POOLS.items()))
    for name, odd in ODD_POOLS.items():
        await eventually(lambda name=name: accepted(cluster, name), f"pool {name} to be judged")  # type: ignore[misc]
        wanted = (odd.status, odd.reason, odd.message)
        await eventually(lambda name=name, wanted=wanted: says(cluster, name, wanted), f"{name} to say {wanted}")  # type: ignore[misc]
    await cluster.add_machine("n2")
    await eventually(lambda: has_block(cluster, "n2"), "the good pool to serve another node")
    assert operator.exit_code is None


async def accepted(cluster: Cluster, name: str) -> Object | None:
    status = (await cluster.api.get(f"{POOLS}/{name}")).get("status", {})
    return next((c for c in status.get("conditions", ()) if c["type"] == "Accepted"), None)


async def says(cluster: Cluster, name: str, wanted: tuple[str, str, str]) -> bool:
    """What it says instead is in the answer of a failure: kept by the last assert."""
    condition = await accepted(cluster, name)
    return condition is not None and (condition["status"], condition["reason"], condition["message"]) == wanted


async def has_block(cluster: Cluster, node: str) -> bool:
    found = await cluster.api.items(f"{NODECIDRS}?fieldSelector=metadata.name%3D{node}")
    return bool(found and found[0]["spec"]["blocks"])


async def test_bad_pins_fail_the_pod_by_name(cluster: Cluster) -> None:
    for name, spec in bad_input.PIN_POOLS.items():
        await cluster.api.create(POOLS, obj("IPPool", name, spec))
    for name, pin in BAD_PINS.items():
        await cluster.create_namespace(name, pin.annotations, **pin.labels)
    await cluster.start_operator()
    machine = await cluster.add_machine("n1")
    await machine.start_agent()
    told = {}
    for name, pin in BAD_PINS.items():
        file = machine.state_dir / "namespaces" / name

        async def resolved(file: Any = file) -> bool:
            return file.exists() and "error" in json.loads(file.read_text())

        await eventually(resolved, f"namespace {name} to have an error ({pin.message})")
        told[name] = json.loads(file.read_text())["error"]
    assert told == {name: pin.message for name, pin in BAD_PINS.items()}
