"""Whatever lies in the state directory, the agent goes on: what it can't read counts as in use, is told once, mended if it may be."""

import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from podcidr import files
from podcidr.agent import main, reclaim
from podcidr.agent.observation import Observation, Observer
from podcidr.agent.records import address
from podcidr.agent.service import Agent
from podcidr.agent.statedir import StateDir, StateDirError
from podcidr.config import Address, AgentConfig
from podcidr.core.prefix import parse_prefix
from podcidr.kube.client import KubeClient
from podcidr.metrics import AgentMetrics
from tests.unit.agent.objects import block, record
from tests.unit.agent.test_files import attach, cached, write_index
from tests.unit.agent.test_round import nodecidr
from tests.unit.kube.fakes import FakeTransport, VirtualClock

BLOCK = "10.64.3.0/28"
DEEP = "[" * 100_000


@pytest.fixture(autouse=True)
def no_hang() -> Iterator[None]:
    def ring(_number: int, _frame: object) -> None:
        raise TimeoutError("it hangs")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


def a_full_directory(path: Path) -> None:
    path.mkdir()
    (path / "precious").touch()


def a_huge_file(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 40)


KINDS: dict[str, Callable[[Path], object]] = {
    "fifo": os.mkfifo,
    "directory": Path.mkdir,
    "full directory": a_full_directory,
    "link": lambda path: path.symlink_to("/etc/passwd"),
    "dangling link": lambda path: path.symlink_to("nowhere"),
    "loop": lambda path: path.symlink_to(path.name),
    "socket": a_socket,
    "empty": Path.touch,
    "deep": lambda path: path.write_text(DEEP),
    "no object": lambda path: path.write_text("7"),
    "other object": lambda path: path.write_text('{"version": 1, "stateID": 5, "pools": 5, "bursts": 7, "error": {}, "ips": 3, "uid": 1}'),
    "no text": lambda path: path.write_bytes(b"\xff\xfe{"),
    "huge": a_huge_file,
}
RECORDS: dict[str, Any] = {
    "netns": [5, ["x"], "\ud800", {"a": 1}],
    "ips": [None, 5, "10.64.3.1", [None], [{"address": 5}], [{"address": "x"}], [{"address": "10.64.3.1", "cooldownSeconds": -1}]],
    "assignedAt": [float("nan"), float("inf"), -1, "x", 10**400, []],
    "pod": [5, [1], {"namespace": 5}, {"uid": ["x"]}],
    "network": [None, 5],
    "version": [2, "1", None],
}


class Node:
    """A node with one pod, and its agent up to the point where it talks to the API server."""

    def __init__(self, root: Path) -> None:
        self.state = StateDir(root)
        self.state.create()
        attach(self.state, record("10.64.3.1", netns=str(root)))
        write_index(self.state, [0, 0xFFFFFFFF, *([0] * 14)])
        self.state.write_ready("s")
        self.clock = VirtualClock()
        self.agent: Agent | None = None
        self.netns = root.parent / "netns"

    def cache(self, container: str, *addresses: str) -> None:
        """A result of the runtime's."""
        directory = self.state.root / "none"
        directory.mkdir(exist_ok=True)
        self.netns.touch()
        cached(directory, container, *addresses, netns=self.netns)

    async def seen(self) -> Observation:
        """The files as they are."""
        return Observer(self.state).look("s", 1.0)

    async def start(self) -> Agent:
        self.state.close()
        self.state.prepare()
        root = self.state.root
        config = AgentConfig("n1", state_dir=str(root), cni_cache_dir=str(root / "none"), listen=Address("127.0.0.1", 0))
        client = KubeClient(FakeTransport(), self.clock)
        agent = await main._begin(config, client, self.state, self.clock, AgentMetrics())
        spec = {"ipv4": {"cidrs": ["10.64.0.0/14"], "blockPrefixLength": 28}}
        agent.pools.observe({"metadata": {"name": "default", "uid": "default-uid", "generation": 1, "resourceVersion": "1"}, "spec": spec})
        meta = {"name": "default", "uid": "ns-uid", "resourceVersion": "1"}
        agent.namespaces.observe({"metadata": meta})
        agent.nodecidrs.observe(nodecidr(block(BLOCK)))
        agent.publisher.load()
        agent.arrivals.load()
        self.agent = agent
        return agent

    async def go_on(self) -> None:
        """What the agent does in a while: rounds, looks for what is amiss, for leaks."""
        agent = self.agent or await self.start()
        for _ in range(4):
            agent.files_changed()
            await agent._round()
            agent._is_amiss()
            await agent.reclaimer.round(await agent._look(), agent.pods.items, agent._state_id)
            await self.clock.advance(16)
        agent.arrivals.save(1.0)

    @property
    def in_use(self) -> int:
        assert self.agent
        report = self.agent.reporter._offered
        assert report is not None
        return report.usage[parse_prefix(BLOCK)][0]


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path / "s")


PLACES = [
    "attachments/foo:bar:eth0",
    "pending/foo:bar:eth0",
    "addresses/10.64.3.9",
    "addresses/garbage",
    "allocation.json",
    "index",
    "bursts.json",
    "namespaces/default",
    "namespaces/unheard-of",
    ".allocation.json.tmp",
    ".recovered.tmp",
]


@pytest.mark.parametrize("running", [False, True], ids=["start", "running"])
@pytest.mark.parametrize("kind", KINDS)
async def test_what_lies_there_ends_nobody(node: Node, kind: str, running: bool) -> None:
    if running:
        await node.go_on()
    for place in PLACES:
        node.state.remove(node.state.root / place)
        KINDS[kind](node.state.root / place)
    await node.go_on()
    assert node.in_use == 2, "the pod's address, and the one of which nobody knows who has it"
    assert node.state.read_ready() == "s"
    for name in ("allocation.json", "namespaces/default"):
        assert files.document(node.state.root / name)["stateID"] == "s", "mended, or as it was"
    assert not (node.state.namespaces / "unheard-of").exists()
    if kind == "full directory":
        assert len(list(node.state.root.rglob("precious"))) == len(PLACES), "nothing is removed that is not ours"


@pytest.mark.parametrize("running", [False, True], ids=["start", "running"])
@pytest.mark.parametrize("kind", set(KINDS) - {"directory", "full directory"})
@pytest.mark.parametrize("name", ["namespaces", "pending", "attachments", "addresses"])
async def test_a_file_in_place_of_a_directory_goes_aside(node: Node, name: str, kind: str, running: bool) -> None:
    if running:
        await node.go_on()
    (node.state.root / name).rename(node.state.root.parent / "away")
    KINDS[kind](node.state.root / name)
    await node.go_on()
    assert node.in_use == 1
    assert node.state.amiss() == []
    assert (node.state.addresses / "10.64.3.1").samefile(node.state.attachments / "net:c1:eth0")


@pytest.mark.parametrize("kind", KINDS)
async def test_without_a_readable_ready_the_state_begins_anew(node: Node, kind: str) -> None:
    node.state.remove(node.state.root / "ready")
    KINDS[kind](node.state.root / "ready")
    await node.go_on()
    assert node.in_use == 1
    assert node.state.read_ready() not in (None, "s")


@pytest.mark.parametrize("lock", ["lock", "agent.lock"])
@pytest.mark.parametrize("kind", ["fifo", "directory", "link", "dangling link", "loop"])
def test_a_lock_that_is_none_is_said_in_one_line(tmp_path: Path, lock: str, kind: str) -> None:
    KINDS[kind](tmp_path / lock)
    with pytest.raises(StateDirError, match=rf"{lock} is not a regular file; remove it"):
        StateDir(tmp_path).prepare()


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in RECORDS.items() for value in values])
async def test_a_record_with_another_type_in_it_is_damaged_and_counts(node: Node, field: str, value: object) -> None:
    (node.state.attachments / "net:c1:eth0").write_text(json.dumps(record("10.64.3.1") | {field: value}))
    with capture_logs() as told:
        await node.go_on()
    assert node.in_use == 1
    damaged = [one for one in told if one["event"] == "a file of the state dir is damaged"]
    assert [one["path"] for one in damaged] == [str(node.state.attachments / "net:c1:eth0")], "said once"
    assert "delete its pod" in damaged[0]["error"]
    assert node.agent
    assert node.agent.reporter._offered
    assert "net:c1:eth0" in node.agent.reporter._offered.conditions["Ready"][2]
    assert node.agent.events._queue.get_nowait()[2] == "StateFileDamaged"


async def test_a_record_truncated_under_a_running_agent_is_told_too(node: Node) -> None:
    await node.go_on()
    (node.state.attachments / "net:c1:eth0").write_text("")
    with capture_logs() as told:
        await node.go_on()
    assert node.in_use == 1
    assert [one["path"] for one in told if "damaged" in one["event"]] == [str(node.state.attachments / "net:c1:eth0")]


NETNS = ["/proc/1/ns/net", "/" + "x" * 6000, "a\0b", "relative/netns", "/dev/null/x"]


@pytest.mark.parametrize("netns", NETNS)
async def test_a_network_namespace_that_cannot_be_looked_at_is_not_gone(node: Node, netns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stat = Path.stat

    def refuse(path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        if str(path) == "/proc/1/ns/net":
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(Path, "stat", refuse)
    attach(node.state, record("10.64.3.2", container="c2", pod="gone", netns=netns))
    with capture_logs() as told:
        await node.go_on()
    assert not reclaim.is_gone(netns)
    assert node.in_use == 2
    said = [one for one in told if "network namespace can't be looked at" in one["event"]]
    assert len(said) == (netns != "relative/netns"), "once"


@pytest.mark.parametrize("name", ["../../elsewhere", "a/b", "x" * 300, "a\0b", "", 5])
@pytest.mark.parametrize("part", ["networkName", "containerId", "ifName"])
async def test_a_cached_result_names_no_file_elsewhere(node: Node, part: str, name: object) -> None:
    cache = node.state.root / "none"
    cache.mkdir()
    cached(cache, "c2", "10.64.3.2/24", "10.64.3.2/24", netns=cache)
    foreign = json.loads((cache / "net-c2-eth0").read_text()) | {part: name}
    (cache / "foreign").write_text(json.dumps(foreign))
    node.state.remove(node.state.root / "ready")
    before = set(node.state.root.parent.iterdir())
    await node.go_on()
    assert node.in_use == 2
    assert set(node.state.root.parent.iterdir()) == before
    assert sorted(path.name for path in node.state.attachments.iterdir()) == ["net:c1:eth0", "net:c2:eth0"]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_cache_that_is_none_of_the_runtimes_says_nothing(node: Node, kind: str) -> None:
    cache = node.state.root / "none"
    cache.mkdir()
    KINDS[kind](cache / "foreign")
    (cache / "short").write_text('{"kind": "cniCacheV1", "cniArgs": [[]]}')
    node.state.remove(node.state.root / "ready")
    (node.state.addresses / "10.64.3.2").symlink_to("nowhere")
    cached(cache, "c2", "10.64.3.2/24", netns=cache)
    await node.go_on()
    assert node.in_use == 2


@pytest.mark.parametrize("running", [False, True], ids=["start", "running"])
async def test_a_torn_record_is_written_anew_from_the_runtimes_result(node: Node, running: bool) -> None:
    node.cache("c1", "10.64.3.1/24")
    if running:
        await node.go_on()
    path = node.state.attachments / "net:c1:eth0"
    path.write_text("")
    with capture_logs() as told:
        await node.go_on()
    assert [one["attachments"] for one in told if "written anew, from" in one["event"]] == [["net:c1:eth0"]]
    assert not [one for one in told if one["event"] == "a file of the state dir is damaged"]
    seen = await node.seen()
    assert [held.address for held in seen.attachments["net:c1:eth0"].ips] == [address("10.64.3.1")]
    assert seen.attachments["net:c1:eth0"].pod.uid == "web-uid"
    assert not seen.loose
    assert path.samefile(node.state.addresses / "10.64.3.1")
    assert not list(node.state.root.glob(".recovered*"))


@pytest.mark.parametrize("why", ["another version", "other address", "namespace gone", "another container"])
async def test_no_record_is_guessed(node: Node, why: str) -> None:
    text = json.dumps(record("10.64.3.1", version=2)) if why == "another version" else "torn"
    node.cache("c9" if why == "another container" else "c1", "10.64.3.7/24" if why == "other address" else "10.64.3.1/24")
    if why == "namespace gone":
        node.netns.unlink()
    path = node.state.attachments / "net:c1:eth0"
    path.write_text(text)
    await node.go_on()
    assert path.read_text() == text
    assert path.samefile(node.state.addresses / "10.64.3.1")
    assert node.in_use == 1


@pytest.mark.parametrize("step", range(3))
async def test_a_crash_while_a_record_is_written_anew_frees_nothing(node: Node, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    (node.state.attachments / "net:c1:eth0").unlink()
    (node.state.addresses / "10.64.3.1").unlink()
    attach(node.state, record("10.64.3.1", "fd00::1"))
    (node.state.attachments / "net:c1:eth0").write_text("")
    node.cache("c1", "10.64.3.1/24", "fd00::1/64")
    steps = iter(range(9))
    replace = Path.replace

    def crash(path: Path, target: Path) -> Path:
        if path.name.startswith(".recovered") and next(steps) == step:
            raise KeyboardInterrupt
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", crash)
    with pytest.raises(KeyboardInterrupt):
        await node.go_on()
    held = {address("10.64.3.1"), address("fd00::1")}
    assert held == (await node.seen()).held.keys()
    node.agent = None
    await node.go_on()
    assert held == (await node.seen()).held.keys()
    (node.state.attachments / "net:c1:eth0").unlink()  # what any DEL or GC ends with
    for path in node.state.addresses.iterdir():
        assert path.read_text(), "says whose it is, so it can be linked and taken back"
