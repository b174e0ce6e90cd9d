"""What the fakes beside this file take for granted, held against a real API server."""

import asyncio
import fcntl
import socket
import sys
import termios
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import aiohttp
import pytest

from podcidr.kube import errors, transport
from podcidr.kube.client import KubeClient, WatchEvent
from podcidr.kube.clock import SystemClock
from podcidr.kube.credentials import Credentials, load
from podcidr.kube.events import EventRecorder, ObjectRef
from podcidr.kube.lease import Elector
from podcidr.kube.reflector import Reflector
from podcidr.kube.resources import EVENTS, LEASES, NODES, Resource
from podcidr.kube.transport import AiohttpTransport
from tests.cluster.control_plane import ControlPlane

pytestmark = pytest.mark.cluster

CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap", namespaced=True)


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}, "data": data}


@pytest.fixture
async def client(control_plane: ControlPlane) -> AsyncIterator[KubeClient]:
    client = KubeClient(AiohttpTransport(load(str(control_plane.admin_kubeconfig))), SystemClock())
    yield client
    await client.close()


@asynccontextmanager
async def running(client: KubeClient, resource: Resource) -> AsyncIterator[Reflector[dict[str, str]]]:
    reflector = Reflector[dict[str, str]](client, resource, lambda obj: obj.get("data") or {}, clock=SystemClock(), namespace="default")
    task = asyncio.create_task(reflector.run())
    try:
        async with asyncio.timeout(10):
            await reflector.synced.wait()
        yield reflector
    finally:
        task.cancel()
        await asyncio.wait({task})


async def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> float:
    started = time.monotonic()
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - the server changes it, not a task of ours
            await asyncio.sleep(0.01)
    return time.monotonic() - started


async def test_answers_have_the_types_that_we_say(client: KubeClient) -> None:
    made = await client.create(CONFIG_MAPS, config_map("typed", a="1"), namespace="default")
    assert made["metadata"]["managedFields"][0]["manager"] == "podcidr"
    with pytest.raises(errors.AlreadyExists):
        await client.create(CONFIG_MAPS, config_map("typed"), namespace="default")
    newer = await client.merge_patch(CONFIG_MAPS, "typed", {"data": {"a": "2"}}, namespace="default")
    with pytest.raises(errors.Conflict):
        await client.replace(CONFIG_MAPS, "typed", made, namespace="default")
    test = {"op": "test", "path": "/metadata/uid", "value": "another"}
    with pytest.raises(errors.Invalid):
        await client.json_patch(CONFIG_MAPS, "typed", [test], namespace="default")
    with pytest.raises(errors.BadRequest):
        await client.create(CONFIG_MAPS, {"apiVersion": "v1", "kind": "Pod"}, namespace="default")
    with pytest.raises(errors.Conflict):
        await client.delete(CONFIG_MAPS, "typed", uid="another", namespace="default")
    with pytest.raises(errors.Conflict):
        await client.delete(CONFIG_MAPS, "typed", resource_version=made["metadata"]["resourceVersion"], namespace="default")
    metadata = newer["metadata"]
    await client.delete(CONFIG_MAPS, "typed", uid=metadata["uid"], resource_version=metadata["resourceVersion"], namespace="default")
    with pytest.raises(errors.NotFound):
        await client.get(CONFIG_MAPS, "typed", namespace="default")


async def test_strangers(control_plane: ControlPlane) -> None:
    admin = load(str(control_plane.admin_kubeconfig))
    stranger = KubeClient(AiohttpTransport(Credentials(admin.server, ca=admin.ca, token="wrong")), SystemClock())
    with pytest.raises(errors.Unauthorized):
        await stranger.get(NODES, "n")
    with pytest.raises(errors.Unauthorized):
        await anext(stranger.watch(NODES, resource_version="0"))
    await stranger.close()
    untrusting = KubeClient(AiohttpTransport(Credentials(admin.server, token=admin.token)), SystemClock())
    with pytest.raises(errors.Unreachable, match="certificate"):
        await untrusting.get(NODES, "n", timeout_seconds=1.0)
    await untrusting.close()


async def test_pages_are_of_one_moment(client: KubeClient) -> None:
    for number in range(7):
        await client.create(CONFIG_MAPS, config_map(f"page-{number}"), namespace="default")
    names = []
    pages = client.pages(CONFIG_MAPS, namespace="default", page_limit=3)
    async with aclosing(pages):
        async for page in pages:
            names += [item["metadata"]["name"] for item in page.items]
            if len(names) == 3:
                await client.create(CONFIG_MAPS, config_map("page-9"), namespace="default")
    assert [name for name in names if name.startswith("page-")] == [f"page-{n}" for n in range(7)]
    cached = await client.list(CONFIG_MAPS, namespace="default", from_cache=True)
    assert len(cached.items) >= 7


async def test_reflector_follows_large_objects_and_deletions(client: KubeClient) -> None:
    async with running(client, CONFIG_MAPS) as reflector:
        large = "x" * (512 << 10)
        await client.create(CONFIG_MAPS, config_map("large", a=large), namespace="default")
        await eventually(lambda: "default/large" in reflector.items)
        assert reflector.items["default/large"] == {"a": large}
        await client.delete(CONFIG_MAPS, "large", namespace="default")
        await eventually(lambda: "default/large" not in reflector.items)
        assert reflector.lists == 1


async def test_what_comes_during_a_pause_is_read_after_it_at_once(client: KubeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is woken for it meanwhile, and after the pause nothing is held back, however large."""
    names, asked, sockets = list[str](), 0, list[socket.socket]()
    release = asyncio.Event()
    unread = transport._unread

    async def note(response: aiohttp.ClientResponse, pause: Awaitable[None]) -> None:
        assert response.connection is not None
        assert response.connection.transport is not None
        sockets.append(response.connection.transport.get_extra_info("socket"))
        await unread(response, pause)

    def between_reads() -> Awaitable[None] | None:
        nonlocal asked
        asked += 1
        return wait() if asked == 1 else None

    async def wait() -> None:
        await release.wait()

    monkeypatch.setattr(transport, "_unread", note)

    async def follow(version: str) -> None:
        events = client.watch(CONFIG_MAPS, resource_version=version, namespace="default", between_reads=between_reads)
        async with aclosing(events):
            names.extend([event.object["metadata"]["name"] async for event in _until(events, "paused-large")])

    begun = await client.create(CONFIG_MAPS, config_map("paused-0"), namespace="default")
    following = asyncio.create_task(follow(str(int(begun["metadata"]["resourceVersion"]) - 1)))
    await eventually(lambda: asked == 1)
    for number in range(1, 20):
        await client.create(CONFIG_MAPS, config_map(f"paused-{number}"), namespace="default")
    await eventually(lambda: _bytes_in_the_kernel(sockets[0]) > 15 * 300)
    assert asked == 1
    release.set()
    await eventually(lambda: asked > 1)
    asked_after = asked
    await client.create(CONFIG_MAPS, config_map("paused-large", a="x" * (512 << 10)), namespace="default")
    await asyncio.wait_for(following, 10)
    assert names == [*(f"paused-{number}" for number in range(20)), "paused-large"]
    assert asked_after <= 3, "one read, or two where the server wrote so"


def _bytes_in_the_kernel(of: socket.socket) -> int:
    return int.from_bytes(fcntl.ioctl(of.fileno(), termios.FIONREAD, bytes(4)), sys.byteorder)


async def _until(events: AsyncIterator[WatchEvent], name: str) -> AsyncIterator[WatchEvent]:
    async for event in events:
        yield event
        if event.object["metadata"]["name"] == name:
            return


async def test_write_through_and_watch_agree(client: KubeClient) -> None:
    async with running(client, CONFIG_MAPS) as reflector:
        for number in range(50):
            name = f"mine-{number % 5}"
            reflector.observe(await client.create(CONFIG_MAPS, config_map(name, n=str(number)), namespace="default"))
            assert reflector.items[f"default/{name}"] == {"n": str(number)}
            answer = await client.delete(CONFIG_MAPS, name, namespace="default")
            version = answer["metadata"].get("resourceVersion")
            reflector.forget(f"default/{name}", int(version) if version else None)
            assert f"default/{name}" not in reflector.items
        last = await client.create(CONFIG_MAPS, config_map("last"), namespace="default")
        await eventually(lambda: reflector._watched >= int(last["metadata"]["resourceVersion"]))
        assert not [name for name in reflector.items if "mine-" in name]


async def test_version_from_before_the_servers_memory_is_gone(client: KubeClient, control_plane: ControlPlane) -> None:
    old = (await client.create(CONFIG_MAPS, config_map("old"), namespace="default"))["metadata"]["resourceVersion"]
    for number in range(3):
        await client.merge_patch(CONFIG_MAPS, "old", {"data": {"n": str(number)}}, namespace="default")
    await asyncio.to_thread(control_plane.restart)
    with pytest.raises(errors.Gone):
        await anext(client.watch(CONFIG_MAPS, resource_version=old, namespace="default"))


async def test_restart_of_the_api_server_loses_nothing(client: KubeClient, control_plane: ControlPlane) -> None:
    await client.create(CONFIG_MAPS, config_map("before"), namespace="default")
    async with running(client, CONFIG_MAPS) as reflector:
        await asyncio.to_thread(control_plane.restart)
        # Not by our client: its kept connections are dead, and a write on one of them has no known outcome.
        control_plane.request("POST", CONFIG_MAPS.path(namespace="default"), config_map("after"))
        control_plane.request("DELETE", CONFIG_MAPS.path("before", "default"))
        await eventually(lambda: "default/after" in reflector.items, 30)
        await eventually(lambda: "default/before" not in reflector.items)
        assert not reflector.regressed


def elector(client: KubeClient, identity: str, name: str, lease_seconds: float = 3.0) -> Elector:
    return Elector(
        client,
        clock=SystemClock(),
        namespace="default",
        name=name,
        identity=identity,
        lease_seconds=lease_seconds,
    )


async def test_lease_is_handed_over_at_once(client: KubeClient) -> None:
    first, second = elector(client, "first", "hand-over"), elector(client, "second", "hand-over")
    running_first = asyncio.create_task(first.run())
    await asyncio.wait_for(first.leading.wait(), 5)
    running_second = asyncio.create_task(second.run())
    await eventually(lambda: second._record is not None)
    await first.release()
    assert first.remaining_seconds() == 0.0
    await asyncio.wait_for(second.leading.wait(), 2)
    await asyncio.wait_for(running_first, 2)
    assert second.transitions == 2
    assert second.previous is not None
    assert second.previous.holder == ""
    record = await client.get(LEASES, "hand-over", namespace="default")
    assert record["spec"]["holderIdentity"] == "second"
    assert record["spec"]["leaseDurationSeconds"] == 3
    running_second.cancel()
    await asyncio.wait({running_second})


async def test_leader_gives_up_before_a_hanging_server_comes_back(client: KubeClient, control_plane: ControlPlane) -> None:
    first = elector(client, "first", "hang")
    running_first = asyncio.create_task(first.run())
    await asyncio.wait_for(first.leading.wait(), 5)
    control_plane.child("kube-apiserver").pause()
    try:
        assert await eventually(lambda: first.remaining_seconds() == 0.0, 5) <= 2.1
        await asyncio.wait_for(running_first, 2)
        assert not first.leading.is_set()
    finally:
        control_plane.child("kube-apiserver").resume()
    record = await client.get(LEASES, "hang", namespace="default")
    assert record["spec"]["holderIdentity"] == "first", "a lost Lease is not released: it may be another's by now"


async def test_event_of_a_cluster_scoped_object_is_accepted_and_counted(client: KubeClient) -> None:
    recorder = EventRecorder(client, SystemClock(), "podcidr-operator", instance="pod-1")
    task = asyncio.create_task(recorder.run())
    for _ in range(2):
        recorder.post(ObjectRef(NODES, "worker", "uid-1"), "Warning", "Tested", "said twice")
    await asyncio.wait_for(recorder.flush(), 10)
    task.cancel()
    assert recorder.dropped == 0
    events = await client.list(EVENTS, namespace="default", field_selector="reason=Tested")
    assert [(item["count"], item["message"]) for item in events.items] == [(2, "said twice")]
    assert events.items[0]["involvedObject"]["name"] == "worker"
