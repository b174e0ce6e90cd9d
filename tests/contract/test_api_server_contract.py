"""What the product relies on of an API server, on the real one and on the simulation's fake: one text for both."""

import asyncio
import http.client
import json
from collections.abc import AsyncIterator
from contextlib import aclosing, closing
from dataclasses import dataclass
from typing import Any

import pytest

from podcidr.kube.client import KubeClient, WatchEvent
from podcidr.kube.clock import SystemClock
from podcidr.kube.credentials import load
from podcidr.kube.errors import AlreadyExists, Conflict, Forbidden, Gone, Invalid, KubeError, NotFound
from podcidr.kube.resources import IPBLOCKS, IPPOOLS, LEASES, NODECIDRS
from podcidr.kube.transport import AiohttpTransport
from tests.cluster.control_plane import ControlPlane
from tests.simulation.fake_api import DirectTransport, FakeApi

Object = dict[str, Any]
FINALIZER = "podcidr.io/ledger"
BLOCK = {"cidr": "10.64.3.0/28", "pool": "p", "poolUID": "u", "node": "n1", "nodeCIDRUID": "c"}
ENTRY = {"cidr": "10.64.3.0/28", "pool": "p", "poolUID": "u", "poolGeneration": 1, "state": "Active"}


@dataclass
class Server:
    """Either of the two, behind the product's own client."""

    client: KubeClient
    fake: FakeApi | None = None
    plane: ControlPlane | None = None

    async def nodecidr(self, name: str = "n1", **spec: Any) -> Object:
        body = {"apiVersion": "podcidr.io/v1alpha1", "kind": "NodeCIDR", "metadata": {"name": name, "finalizers": [FINALIZER]}}
        return await self.client.create(NODECIDRS, {**body, "spec": {"epoch": 1, **spec}})

    async def block(self, name: str = "10-64-3-0-28", **extra: Any) -> Object:
        body = {"apiVersion": "podcidr.io/v1alpha1", "kind": "IPBlock", "metadata": {"name": name}, "spec": BLOCK}
        return await self.client.create(IPBLOCKS, {**body, **extra})

    async def pool(self) -> Object:
        spec = {"ipv4": {"cidrs": ["10.64.0.0/16"], "blockPrefixLength": 28}}
        body = {"apiVersion": "podcidr.io/v1alpha1", "kind": "IPPool", "metadata": {"name": "p"}, "spec": spec}
        return await self.client.create(IPPOOLS, body)

    async def events_since(self, resource: Any, version: str, count: int) -> list[WatchEvent]:
        found: list[WatchEvent] = []
        async with asyncio.timeout(20), aclosing(self.client.watch(resource, resource_version=version)) as events:
            async for event in events:
                if event.type != "BOOKMARK":
                    found.append(event)
                if len(found) == count:
                    break
        return found

    def compact(self) -> None:
        """etcd forgets what was."""
        if self.fake is not None:
            self.fake.compact()
            return
        assert self.plane is not None
        with closing(http.client.HTTPConnection("127.0.0.1", self.plane._etcd_port)) as connection:
            connection.request("POST", "/v3/kv/range", json.dumps({"key": "AA=="}))
            revision = json.loads(connection.getresponse().read())["header"]["revision"]
            connection.request("POST", "/v3/kv/compaction", json.dumps({"revision": revision, "physical": True}))
            connection.getresponse().read()


@pytest.fixture(params=["fake", "real"])
async def server(request: pytest.FixtureRequest) -> AsyncIterator[Server]:
    if request.param == "fake":
        fake = FakeApi()
        yield Server(KubeClient(DirectTransport(fake), SystemClock()), fake=fake)
        return
    plane: ControlPlane = request.getfixturevalue("clean_control_plane")
    transport = AiohttpTransport(load(str(plane.admin_kubeconfig)))
    try:
        yield Server(KubeClient(transport, SystemClock()), plane=plane)
    finally:
        await transport.close()


def version(obj: Object) -> int:
    return int(obj["metadata"]["resourceVersion"])


async def test_create_sets_identity_drops_the_status_and_is_a_lock(server: Server) -> None:
    made = await server.block(status={"state": "Quarantined"})
    assert "status" not in made
    assert made["metadata"]["uid"]
    assert made["metadata"]["creationTimestamp"]
    assert made["metadata"]["generation"] == 1
    with pytest.raises(AlreadyExists):
        await server.block()


async def test_defaults_are_filled_in(server: Server) -> None:
    assert (await server.nodecidr())["spec"] == {"epoch": 1, "pools": [], "blocks": []}


async def test_a_version_in_a_create_is_refused(server: Server) -> None:
    with pytest.raises(KubeError) as error:
        await server.block(metadata={"name": "10-64-3-0-28", "resourceVersion": "5"})
    assert error.value.status == 500, "kube-apiserver says so"


async def test_rules_of_the_crds(server: Server) -> None:
    with pytest.raises(Invalid, match="without blocks"):
        await server.nodecidr(blocks=[ENTRY])
    with pytest.raises(Invalid, match="name"):
        await server.block("10-64-3-16-28")
    await server.block()
    with pytest.raises(Invalid, match="immutable"):
        await server.client.merge_patch(IPBLOCKS, "10-64-3-0-28", {"spec": {"node": "n2"}})
    await server.nodecidr()
    for epoch in (1, 0):
        with pytest.raises(Invalid):
            await server.client.merge_patch(NODECIDRS, "n1", {"spec": {"epoch": epoch, "blocks": [ENTRY]}})
    changed = await server.client.merge_patch(NODECIDRS, "n1", {"spec": {"epoch": 2, "blocks": [ENTRY]}})
    assert changed["metadata"]["generation"] == 2
    await server.pool()
    with pytest.raises(Invalid, match="immutable"):
        await server.client.merge_patch(IPPOOLS, "p", {"spec": {"ipv4": {"blockPrefixLength": 27}}})


async def test_a_json_patch_tests_and_does_all_or_nothing(server: Server) -> None:
    made = await server.nodecidr()

    def enter(uid: str, epoch: int) -> list[Object]:
        return [
            {"op": "test", "path": "/metadata/uid", "value": uid},
            {"op": "test", "path": "/spec/epoch", "value": epoch},
            {"op": "replace", "path": "/spec/epoch", "value": epoch + 1},
            {"op": "add", "path": "/spec/blocks", "value": [ENTRY]},
        ]

    for uid, epoch in (("other", 1), (made["metadata"]["uid"], 2)):
        with pytest.raises(Invalid):
            await server.client.json_patch(NODECIDRS, "n1", enter(uid, epoch))
    assert (await server.client.get(NODECIDRS, "n1")) == made
    patched = await server.client.json_patch(NODECIDRS, "n1", enter(made["metadata"]["uid"], 1))
    assert patched["spec"] == {"epoch": 2, "pools": [], "blocks": [ENTRY]}
    assert version(patched) > version(made)
    with pytest.raises(NotFound):
        await server.client.json_patch(NODECIDRS, "n9", enter("x", 1))


async def test_a_merge_patch_on_an_old_version_conflicts(server: Server) -> None:
    made = await server.block()
    old = {"resourceVersion": made["metadata"]["resourceVersion"]}
    await server.client.merge_patch(IPBLOCKS, "10-64-3-0-28", {"metadata": old, "status": {"touches": 1}}, subresource="status")
    for subresource in ("status", None):
        body: Object = {"metadata": {**old, "labels": {"a": "b"}}, "status": {"touches": 2}}
        with pytest.raises(Conflict):
            await server.client.merge_patch(IPBLOCKS, "10-64-3-0-28", body, subresource=subresource)
    assert (await server.client.get(IPBLOCKS, "10-64-3-0-28"))["status"] == {"touches": 1}


async def test_a_foreign_uid_is_overlooked_in_a_merge_patch_of_the_status_but_not_of_the_object(server: Server) -> None:
    await server.block()
    foreign: Object = {"metadata": {"uid": "other"}, "status": {"touches": 1}}
    patched = await server.client.merge_patch(IPBLOCKS, "10-64-3-0-28", foreign, subresource="status")
    assert patched["status"] == {"touches": 1}
    assert patched["metadata"]["uid"] != "other"
    with pytest.raises((Conflict, Invalid)):
        await server.client.merge_patch(IPBLOCKS, "10-64-3-0-28", {"metadata": {"uid": "other", "labels": {"a": "b"}}})


async def test_status_and_spec_are_written_apart(server: Server) -> None:
    made = await server.nodecidr()
    ops: list[Object] = [
        {"op": "add", "path": "/status", "value": {"observedEpoch": 1, "inUse": 3}},
        {"op": "replace", "path": "/spec/epoch", "value": 9},
    ]
    reported = await server.client.json_patch(NODECIDRS, "n1", ops, subresource="status")
    assert reported["status"] == {"observedEpoch": 1, "inUse": 3}
    assert reported["spec"] == made["spec"]
    assert reported["metadata"]["generation"] == 1
    changed = await server.client.merge_patch(NODECIDRS, "n1", {"spec": {"epoch": 2}, "status": {"inUse": 7}})
    assert changed["status"] == {"observedEpoch": 1, "inUse": 3}


async def test_a_write_that_changes_nothing_keeps_the_version_and_makes_no_event(server: Server) -> None:
    made = await server.nodecidr()
    same = await server.client.merge_patch(NODECIDRS, "n1", {"spec": {"epoch": 1}})
    assert version(same) == version(made)
    grown = await server.client.merge_patch(NODECIDRS, "n1", {"spec": {"epoch": 2}})
    [event] = await server.events_since(NODECIDRS, made["metadata"]["resourceVersion"], 1)
    assert version(event.object) == version(grown)


async def test_delete_on_uid_and_version(server: Server) -> None:
    made = await server.block()
    meta = made["metadata"]
    await server.client.merge_patch(IPBLOCKS, meta["name"], {"status": {"touches": 1}}, subresource="status")
    for uid, wanted in (("other", None), (meta["uid"], meta["resourceVersion"])):
        with pytest.raises(Conflict):
            await server.client.delete(IPBLOCKS, meta["name"], uid=uid, resource_version=wanted)
    now = await server.client.get(IPBLOCKS, meta["name"])
    answer = await server.client.delete(IPBLOCKS, meta["name"], uid=meta["uid"], resource_version=now["metadata"]["resourceVersion"])
    assert answer["kind"] == "Status"
    with pytest.raises(NotFound):
        await server.client.get(IPBLOCKS, meta["name"])
    events = await server.events_since(IPBLOCKS, meta["resourceVersion"], 2)
    assert [event.type for event in events] == ["MODIFIED", "DELETED"]
    assert version(events[1].object) > version(now), "a deletion has a version of its own"


async def test_a_finalizer_keeps_a_deleted_object_until_it_goes(server: Server) -> None:
    made = await server.pool()
    held = await server.client.merge_patch(IPPOOLS, "p", {"metadata": {"finalizers": [FINALIZER]}})
    assert held["metadata"]["generation"] == made["metadata"]["generation"]
    marked = await server.client.delete(IPPOOLS, "p", uid=made["metadata"]["uid"])
    assert marked["metadata"]["deletionTimestamp"]
    assert marked["metadata"]["generation"] == made["metadata"]["generation"] + 1
    with pytest.raises(Invalid, match="finalizer"):
        await server.client.merge_patch(IPPOOLS, "p", {"metadata": {"finalizers": [FINALIZER, "a.b/c"]}})
    body = {"metadata": {"resourceVersion": made["metadata"]["resourceVersion"], "finalizers": None}}
    with pytest.raises(Conflict):
        await server.client.merge_patch(IPPOOLS, "p", body)
    body["metadata"]["resourceVersion"] = marked["metadata"]["resourceVersion"]
    await server.client.merge_patch(IPPOOLS, "p", body)
    with pytest.raises(NotFound):
        await server.client.get(IPPOOLS, "p")
    last = (await server.events_since(IPPOOLS, marked["metadata"]["resourceVersion"], 1))[0]
    assert last.type == "DELETED"


async def test_a_nodecidr_with_blocks_may_not_be_deleted(server: Server) -> None:
    await server.nodecidr()
    await server.client.merge_patch(NODECIDRS, "n1", {"spec": {"epoch": 2, "blocks": [ENTRY]}})
    with pytest.raises((Forbidden, Invalid), match="still has 1 block"):
        await server.client.delete(NODECIDRS, "n1")


async def test_a_lease_is_replaced_by_compare_and_swap(server: Server) -> None:
    body = {
        "apiVersion": LEASES.api_version,
        "kind": "Lease",
        "metadata": {"name": "l", "namespace": "default"},
        "spec": {"holderIdentity": "a"},
    }
    made = await server.client.create(LEASES, body, namespace="default")
    try:
        taken = await server.client.replace(LEASES, "l", {**made, "spec": {"holderIdentity": "b"}}, namespace="default")
        assert version(taken) > version(made)
        with pytest.raises(Conflict):
            await server.client.replace(LEASES, "l", {**made, "spec": {"holderIdentity": "c"}}, namespace="default")
        body["metadata"] = {**taken["metadata"], "uid": "other"}
        with pytest.raises(Conflict):
            await server.client.replace(LEASES, "l", body, namespace="default")
    finally:
        await server.client.delete(LEASES, "l", namespace="default")


async def test_pages_are_of_one_moment(server: Server) -> None:
    for name in ("a", "b", "c"):
        await server.nodecidr(name)
    pages = server.client.pages(NODECIDRS, page_limit=2)
    async with aclosing(pages):
        first = await anext(pages)
        await server.client.merge_patch(NODECIDRS, "c", {"spec": {"epoch": 2}})
        await server.nodecidr("d")
        second = await anext(pages)
    assert [item["metadata"]["name"] for item in (*first.items, *second.items)] == ["a", "b", "c"]
    assert second.items[0]["spec"]["epoch"] == 1
    assert first.resource_version == second.resource_version


async def test_a_watch_tells_what_came_after_its_version_in_order(server: Server) -> None:
    made = await server.nodecidr()
    since = (await server.client.list(NODECIDRS)).resource_version
    assert int(since) >= version(made)
    await server.client.merge_patch(NODECIDRS, "n1", {"spec": {"epoch": 2}})
    await server.block()
    await server.nodecidr("n2")
    events = await server.events_since(NODECIDRS, since, 2)
    assert [(event.type, event.object["metadata"]["name"]) for event in events] == [("MODIFIED", "n1"), ("ADDED", "n2")]
    assert int(since) < version(events[0].object) < version(events[1].object)


async def test_field_selectors(server: Server) -> None:
    for name in ("a", "b"):
        await server.nodecidr(name)
    found = await server.client.list(NODECIDRS, field_selector="metadata.name=b")
    assert [item["metadata"]["name"] for item in found.items] == ["b"]


async def test_a_watch_from_before_the_log_is_gone(server: Server) -> None:
    await server.nodecidr()
    server.compact()
    with pytest.raises(Gone):
        await server.events_since(NODECIDRS, "1", 1)


async def test_a_watch_from_the_future_is_silent_until_then(server: Server) -> None:
    """After etcd was restored from a backup, a client's position is one that the server has not reached yet."""
    made = await server.nodecidr()
    ahead = str(version(made) + 2)

    async def write() -> int:
        epoch = 1
        while version(await server.client.merge_patch(NODECIDRS, "n1", {"spec": {"epoch": epoch}})) <= int(ahead):
            epoch += 1
        return epoch

    if server.fake is not None:
        epoch = await write()
        # The fake's stream tells at once what is there: the log knows no client that waits.
        [event] = await server.events_since(NODECIDRS, ahead, 1)
    else:
        reading = asyncio.ensure_future(server.events_since(NODECIDRS, ahead, 1))
        await asyncio.sleep(0.3)  # the stream has to be open: nothing can be awaited that would tell
        epoch = await write()
        [event] = await reading
    assert event.object["spec"]["epoch"] == epoch


async def test_a_list_of_names_and_versions_is_that_of_the_objects(server: Server) -> None:
    await server.block()
    await server.nodecidr("n1")
    await server.nodecidr("n2")
    for resource, fields in ((NODECIDRS, None), (NODECIDRS, "metadata.name=n2"), (IPBLOCKS, None)):
        whole = await server.client.list(resource, field_selector=fields)
        pages = server.client.pages(resource, field_selector=fields, page_limit=1, metadata_only=True)
        async with aclosing(pages):
            items = [item async for page in pages for item in page.items]
        assert [(item["metadata"]["name"], version(item)) for item in items] == [
            (item["metadata"]["name"], version(item)) for item in whole.items
        ]
        if server.plane is not None:  # the fake gives more
            assert all("spec" not in item for item in items)
