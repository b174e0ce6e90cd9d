"""What the plugin leaves, read: attachments, links, marks, index; and taking leaks back in its order."""

import asyncio
import fcntl
import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from podcidr import files
from podcidr.agent import index, inotify, rebuild, reclaim
from podcidr.agent.observation import Observer
from podcidr.agent.records import Address, Attachment, address
from podcidr.agent.statedir import StateDir
from podcidr.core.prefix import Family
from podcidr.kube.clock import SystemClock
from podcidr.kube.errors import NotFound
from tests.unit.agent.objects import pod, record


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    state = StateDir(tmp_path / "state")
    state.create()
    return state


def attach(state: StateDir, document: dict[str, Any]) -> str:
    key = f"{document['network']}:{document['container']}:{document['interface']}"
    (state.attachments / key).write_text(json.dumps(document))
    for ip in document["ips"]:
        os.link(state.attachments / key, state.addresses / ip["address"])
    return key


def write_index(state: StateDir, entries: list[int], *, first: str = "10.64.3.0", length: int = 28, changed_at: int = 1) -> None:
    row = struct.pack("<16sBB2xIQ", address(first).number.to_bytes(4), 4, length, len(entries), 192)
    body = row.ljust(64, b"\0") + struct.pack(f"<{len(entries)}I", *entries)
    header = struct.pack("<8sIIQQQ24x64s", b"podcidrX", 1, 1, 128 + len(body), 1, changed_at, b"s")
    state.index.write_bytes(header + body)


def test_look(state: StateDir) -> None:
    observer = Observer(state)
    key = attach(state, record("10.64.3.1"))
    (state.root / "attachment.new").write_text("half")
    (state.addresses / "10.64.3.2").write_text("not a record, but held")
    write_index(state, [0, index.HELD, 90, 50, 200, *([0] * 11)])
    seen = observer.look("s", 100.0)
    assert list(seen.attachments) == [key]
    assert set(seen.held) == {address("10.64.3.1"), address("10.64.3.2")}
    assert seen.cooling == {address("10.64.3.4"): 200}, "what is over, or held, does not cool"
    index.write(state.index, "s", address("10.64.3.1"), index.FREE, 100)
    (state.addresses / "10.64.3.1").unlink()
    (state.attachments / key).unlink()
    assert set(observer.look("s", 100.0).held) == {address("10.64.3.2")}


def test_an_attachment_counts_before_its_address_is_linked(state: StateDir) -> None:
    (state.attachments / "net:c1:eth0").write_text(json.dumps(record("10.64.3.1")))
    assert set(Observer(state).look("s", 0.0).held) == {address("10.64.3.1")}


def test_files_are_read_once(state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    attach(state, record("10.64.3.1"))
    observer = Observer(state)
    observer.look("s", 0.0)
    read: list[str] = []
    original = files.content

    def spy(path: Path, max_bytes: int) -> bytes:
        read.append(path.name)
        return original(path, max_bytes)

    monkeypatch.setattr(files, "content", spy)
    attach(state, record("10.64.3.2", container="c2"))
    assert len(observer.look("s", 0.0).attachments) == 2
    assert read.count("net:c1:eth0") == 0
    assert read.count("net:c2:eth0") == 1


def test_marks_count_while_their_add_lives(state: StateDir) -> None:
    path = state.pending / "net:c1:eth0"
    path.write_text(json.dumps({"version": 1, "pod": {}, "pools": ["default"], "families": ["ipv4"], "since": 1}))
    add = os.open(path, os.O_RDWR)
    fcntl.flock(add, fcntl.LOCK_EX)
    observer = Observer(state)
    seen = observer.look("s", 0.0)
    assert [mark.pools for mark in seen.marks] == [("default",)]
    os.close(add)
    seen = observer.look("s", 0.0)
    assert not seen.marks
    assert len(seen.stale_marks) == 1


@pytest.mark.parametrize("spoil", [{"state_id": "other"}, {"changed_at": 200}, {"cut": 100}, {"cut": 140}])
def test_a_foreign_index_says_nothing(state: StateDir, spoil: dict[str, Any]) -> None:
    write_index(state, [200] * 16, changed_at=spoil.get("changed_at", 1))
    state.index.write_bytes(state.index.read_bytes()[: spoil.get("cut")])
    assert index.cooling(state.index, spoil.get("state_id", "s"), 100.0) == {}


def test_release_goes_in_the_plugins_order(state: StateDir) -> None:
    key = attach(state, record("10.64.3.1"))
    write_index(state, [index.HELD] * 16)
    attachment = Observer(state).look("s", 0.0).attachments[key]
    reclaim.release(state, attachment, "s", 100.2)
    assert index.cooling(state.index, "s", 100.2) == {address("10.64.3.1"): 106}
    assert not list(state.addresses.iterdir())
    assert not list(state.attachments.iterdir())


def test_release_leaves_an_address_that_another_holds(state: StateDir) -> None:
    (state.attachments / "net:c1:eth0").write_text(json.dumps(record("10.64.3.1")))
    attach(state, record("10.64.3.1", container="c2"))
    attachment = Observer(state).look("s", 0.0).attachments["net:c1:eth0"]
    reclaim.release(state, attachment, "s", 100.0)
    assert [path.name for path in state.addresses.iterdir()] == ["10.64.3.1"]
    assert [path.name for path in state.attachments.iterdir()] == ["net:c2:eth0"]


def test_suspects_need_both_signs(state: StateDir) -> None:
    attach(state, record("10.64.3.1", container="gone", pod="gone"))
    attach(state, record("10.64.3.2", container="lives", pod="lives"))
    attach(state, record("10.64.3.3", container="netns", pod="gone", netns="here"))
    attach(state, record("10.64.3.4", container="old", pod="twice", assigned_at=1.0))
    attach(state, record("10.64.3.5", container="new", pod="twice", assigned_at=2.0))
    pods = {f"default/{name}": pod(name) for name in ("lives", "twice")}
    found = reclaim.suspects(Observer(state).look("s", 0.0), pods, gone=lambda netns: netns != "here")
    assert {attachment.key for attachment in found} == {"net:gone:eth0", "net:old:eth0"}


def test_a_sandbox_that_waits_tells_that_the_old_one_ended(state: StateDir) -> None:
    """Else a pod whose address leaked would wait for it: on a node, or in a pool, that is full."""
    attach(state, record("10.64.3.1", container="old", assigned_at=1.0))
    attach(state, record("10.64.3.2", container="other", pod="other", assigned_at=1.0))
    observer, pods = Observer(state), {f"default/{name}": pod(name) for name in ("web", "other")}
    assert not reclaim.suspects(observer.look("s", 0.0), pods, gone=lambda _: True)
    path = state.pending / "net:new:eth0"
    path.write_text(json.dumps({"version": 1, "pod": record()["pod"], "pools": ["default"], "families": ["ipv4"], "since": 2.0}))
    with path.open() as add:
        fcntl.flock(add, fcntl.LOCK_EX)
        seen = observer.look("s", 0.0)
        assert [found.key for found in reclaim.suspects(seen, pods, gone=lambda _: True)] == ["net:old:eth0"]
        assert not reclaim.suspects(seen, pods, gone=lambda _: False), "its network namespace is still there"


def test_what_the_api_server_told_it_can_take_back(state: StateDir) -> None:
    before = [pod("moved", podIPs=[{"ip": "10.64.3.1"}, {"ip": "fd00::1"}]), pod("stays", podIPs=[{"ip": "10.64.3.2"}])]
    rebuild.recover(state, rebuild.from_pods(before), "s", 5.0)
    seen = Observer(state).look("s", 0.0)
    unknown = {"default/moved": pod("moved"), "default/stays": pod("stays")}
    assert not reclaim.suspects(seen, unknown), "no address in the status says nothing"
    now = {"default/moved": pod("moved", podIPs=[{"ip": "10.64.3.9"}, {"ip": "fd00::9"}]), "default/stays": before[1]}
    assert [found.pod.name for found in reclaim.suspects(seen, now)] == ["moved"]


class OnePod:
    """A client that knows one pod (None: not any more), and runs something before it answers."""

    def __init__(self, status: dict[str, Any] | None, meanwhile: Callable[[], object] = lambda: None) -> None:
        self.status, self.meanwhile, self.asked = status, meanwhile, 0

    async def get(self, _resource: object, name: str, *, namespace: str) -> dict[str, Any]:
        self.asked += 1
        self.meanwhile()
        if self.status is None:
            raise NotFound("no such pod")
        return {"metadata": {"namespace": namespace, "name": name, "uid": f"{name}-uid"}, "status": self.status}


class ManualClock(SystemClock):
    """Time stands until it is moved."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.mark.parametrize(("listed", "kept"), [("10.64.3.9", False), ("10.64.3.1", True)])
async def test_a_cache_is_not_believed(state: StateDir, listed: str, kept: bool) -> None:
    """Seen twice, a grace apart, and then the API server itself is asked."""
    rebuild.recover(state, rebuild.from_pods([pod("web", podIPs=[{"ip": "10.64.3.1"}])]), "s", 5.0)
    client, clock, told = OnePod({"podIPs": [{"ip": listed}]}), ManualClock(), list[Attachment]()
    reclaimer = reclaim.Reclaimer(client, state, clock=clock, grace_seconds=60.0, on_reclaim=told.append)  # type: ignore[arg-type]
    pods = {"default/web": pod("web", podIPs=[{"ip": "10.64.3.9"}])}
    for seconds, times in ((0.0, 0), (59.0, 0), (1.0, 1)):
        clock.now += seconds
        await reclaimer.round(Observer(state).look("s", 0.0), pods, "s")
        assert client.asked == times
    assert bool(list(state.addresses.iterdir())) is kept
    assert bool(told) is not kept


async def test_a_container_attached_anew_meanwhile_is_left_alone(state: StateDir) -> None:
    key = attach(state, record("10.64.3.1", netns=str(state.root / "gone")))

    def attach_anew() -> None:
        (state.attachments / key).unlink()
        (state.addresses / "10.64.3.1").unlink()
        attach(state, record("10.64.3.1", netns=str(state.root / "gone"), assigned_at=2.0))

    client, clock, told = OnePod(None, attach_anew), ManualClock(), list[Attachment]()
    reclaimer = reclaim.Reclaimer(client, state, clock=clock, grace_seconds=1.0, on_reclaim=told.append)  # type: ignore[arg-type]
    for _ in range(2):
        clock.now += 1
        await reclaimer.round(Observer(state).look("s", 0.0), {}, "s")
    assert [path.name for path in state.addresses.iterdir()] == ["10.64.3.1"]
    assert not told


async def test_a_mark_whose_add_has_begun_since_stays(state: StateDir) -> None:
    path = state.pending / "net:c1:eth0"
    path.write_text(json.dumps({"version": 1, "pod": {}, "pools": ["default"], "families": ["ipv4"], "since": 1}))
    seen = Observer(state).look("s", 0.0)
    assert seen.stale_marks
    reclaimer = reclaim.Reclaimer(OnePod(None), state, clock=ManualClock(), grace_seconds=1.0, on_reclaim=lambda _: None)  # type: ignore[arg-type]
    with path.open() as add:
        fcntl.flock(add, fcntl.LOCK_EX)
        await reclaimer.round(seen, {}, "s")
        assert path.exists()
    await reclaimer.round(seen, {}, "s")
    assert not path.exists()


@pytest.mark.parametrize("version", [2, None, "1"])
def test_records_of_another_version_are_not_believed_but_held(state: StateDir, version: object) -> None:
    attach(state, record("10.64.3.1", version=version))
    seen = Observer(state).look("s", 0.0)
    assert not seen.attachments
    assert set(seen.held) == {address("10.64.3.1")}
    assert list(seen.damaged) == [str(state.attachments / "net:c1:eth0")]


def test_a_pod_made_again_is_another_pod(state: StateDir) -> None:
    attach(state, record("10.64.3.1", pod="web"))
    assert reclaim.suspects(Observer(state).look("s", 0.0), {"default/web": pod("web", uid="second")}, gone=lambda _: True)


def test_network_namespaces_that_cannot_be_seen_are_not_gone(tmp_path: Path) -> None:
    (tmp_path / "cni-1").touch()
    assert not reclaim.is_gone(str(tmp_path / "cni-1"))
    assert reclaim.is_gone(str(tmp_path / "cni-2"))
    assert not reclaim.is_gone(str(tmp_path / "not-mounted" / "cni-2"))


def cached(directory: Path, container: str, *addresses: str, netns: Path, result: dict[str, Any] | None = None) -> None:
    document = {
        "kind": "cniCacheV1",
        "containerId": container,
        "ifName": "eth0",
        "networkName": "net",
        "netns": str(netns),
        "cniArgs": [["K8S_POD_NAMESPACE", "default"], ["K8S_POD_NAME", "web"], ["K8S_POD_UID", "web-uid"]],
        "result": result or {"cniVersion": "1.0.0", "ips": [{"address": text} for text in addresses]},
    }
    (directory / f"net-{container}-eth0").write_text(json.dumps(document))


def test_rebuild_from_what_the_runtime_keeps(state: StateDir, tmp_path: Path) -> None:
    cache, netns = tmp_path / "cache", tmp_path / "netns"
    cache.mkdir()
    netns.touch()
    cached(cache, "c1", "10.64.3.1/24", "fd00::0:1/64", netns=netns)
    cached(cache, "c2", "10.64.3.2/24", netns=tmp_path / "gone")
    cached(cache, "c3", netns=netns, result={"cniVersion": "0.2.0", "ip4": {"ip": "10.1.0.9/16"}})
    (cache / "junk").write_text("{")
    assert rebuild.recover(state, rebuild.from_cache(cache), "s", 5.0) == 2
    assert {path.name for path in state.addresses.iterdir()} == {"10.64.3.1", "fd00::1", "10.1.0.9"}
    seen = Observer(state).look("s", 0.0)
    assert seen.attachments["net:c1:eth0"].pod.uid == "web-uid"
    assert not list(state.root.glob("*.tmp"))


def test_rebuild_from_pods_takes_only_what_nobody_holds(state: StateDir) -> None:
    attach(state, record("10.64.3.1"))
    pods = [
        pod("held", podIPs=[{"ip": "10.64.3.1"}]),
        pod("web", podIPs=[{"ip": "10.64.3.2"}]),
        pod("host", podIPs=[{"ip": "192.0.2.1"}], spec={"hostNetwork": True}),
        pod("done", podIPs=[{"ip": "10.64.3.3"}], phase="Succeeded"),
    ]
    assert rebuild.recover(state, rebuild.from_pods(pods), "s", 5.0) == 1
    assert rebuild.recover(state, rebuild.from_pods(pods), "s", 5.0) == 0
    assert {path.name for path in state.addresses.iterdir()} == {"10.64.3.1", "10.64.3.2"}
    assert Observer(state).look("s", 0.0).held[Address(Family.IPV4, address("10.64.3.2").number)] is not None


def test_after_a_reboot_the_cache_knows_what_ended(state: StateDir, tmp_path: Path) -> None:
    """The API server still lists the addresses of sandboxes that are no more: each pod would hold two."""
    cache = tmp_path / "cache"
    cache.mkdir()
    cached(cache, "c1", "10.64.3.1/24", "fd00::1/64", netns=tmp_path / "gone")
    pods = [pod("web", podIPs=[{"ip": "10.64.3.1"}, {"ip": "fd00::1"}]), pod("other", podIPs=[{"ip": "10.64.3.2"}])]
    gone = rebuild.ended(cache)
    assert rebuild.recover(state, rebuild.from_pods(pods, gone), "s", 5.0) == 1
    assert [path.name for path in state.addresses.iterdir()] == ["10.64.3.2"]
    cached(cache, "c1", "10.64.3.1/24", netns=tmp_path / "not-mounted" / "cni-1")
    assert not rebuild.ended(cache), "where it can't be seen, it may live"


@pytest.mark.parametrize("by_inotify", [True, False])
async def test_changes_are_told(state: StateDir, by_inotify: bool) -> None:
    changed = asyncio.Event()
    loop = asyncio.get_running_loop()
    directories = (state.attachments, state.pending)
    watcher = inotify.Inotify(directories, changed.set)
    polling: asyncio.Task[None] | None = None
    if by_inotify:
        assert watcher.start(loop)
    else:
        polling = asyncio.create_task(inotify.poll(directories, changed.set))
        await asyncio.wait_for(changed.wait(), 5)
        await asyncio.sleep(3 * inotify.POLL_SECONDS)
        changed.clear()
    try:
        (state.root / "pending.new").write_text("{}")
        (state.root / "pending.new").rename(state.pending / "net:c1:eth0")
        await asyncio.wait_for(changed.wait(), 5)
    finally:
        watcher.close(loop)
        if polling:
            polling.cancel()


async def test_one_change_is_told_until_it_is_asked_for_another(state: StateDir) -> None:
    """Who has to read a directory anyway is not woken by each file of it, and misses none that comes after `rearm`."""
    told = 0
    changed = asyncio.Event()

    def on_change() -> None:
        nonlocal told
        told += 1
        changed.set()

    async def change(directory: Path, *files: str) -> None:
        for name in files:
            (directory / name).write_text("{}")
            await asyncio.sleep(0.02)

    loop = asyncio.get_running_loop()
    watcher = inotify.Inotify([state.pending], on_change, once=[state.attachments])
    assert watcher.start(loop)
    try:
        await change(state.attachments, "net:c1:eth0", "net:c2:eth0", "net:c3:eth0")
        assert told == 1
        watcher.rearm()
        await change(state.attachments, "net:c4:eth0", "net:c5:eth0")
        assert told == 2
        changed.clear()
        await change(state.pending, "net:c6:eth0")  # of marks each is told
        await asyncio.wait_for(changed.wait(), 5)
        changed.clear()
        await change(state.pending, "net:c7:eth0")
        await asyncio.wait_for(changed.wait(), 5)
        (state.attachments / "net:c1:eth0").rename(state.root / "away")
        state.attachments.rename(state.root / "elsewhere")
        state.attachments.mkdir()
        assert watcher.renew()
        changed.clear()
        await change(state.attachments, "net:c8:eth0")
        await asyncio.wait_for(changed.wait(), 5)
    finally:
        watcher.close(loop)
