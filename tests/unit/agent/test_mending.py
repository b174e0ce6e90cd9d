"""What is gone from the state directory is told again, as long as something tells it; else the directory was lost."""

import fcntl
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from podcidr.agent import index, mending
from podcidr.agent.main import _begin
from podcidr.agent.observation import Observer
from podcidr.agent.records import address
from podcidr.agent.statedir import StateDir, StateDirError
from podcidr.config import Address, AgentConfig
from podcidr.kube.clock import SystemClock
from podcidr.metrics import AgentMetrics
from tests.unit.agent.objects import record
from tests.unit.agent.test_files import attach, write_index

FREE, HELD = index.FREE, index.HELD


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    """Two pods, one of them with two addresses."""
    state = StateDir(tmp_path / "state")
    state.create()
    assert state.try_agent_lock()
    attach(state, record("10.64.3.0", "fd00::1", container="c1"))
    attach(state, record("10.64.3.1", container="c2"))
    write_index(state, [HELD, HELD, *([FREE] * 14)])
    state.write_ready("s")
    return state


def links(state: StateDir) -> dict[str, set[str]]:
    """Attachment → the addresses that are the same file."""
    inodes = {path.stat().st_ino: path.name for path in state.attachments.iterdir()}
    found: dict[str, set[str]] = {name: set() for name in inodes.values()}
    for path in state.addresses.iterdir():
        found[inodes[path.stat().st_ino]].add(path.name)
    return found


WHOLE = {"net:c1:eth0": {"10.64.3.0", "fd00::1"}, "net:c2:eth0": {"10.64.3.1"}}


def clear(directory: Path) -> None:
    for path in directory.iterdir():
        path.unlink()


@pytest.mark.parametrize("lose", [shutil.rmtree, clear])
@pytest.mark.parametrize("name", ["addresses", "attachments"])
@pytest.mark.parametrize("with_index", [True, False])
async def test_a_start_links_anew_what_one_of_both_still_tells(state: StateDir, lose: Any, name: str, with_index: bool) -> None:
    lose(state.root / name)
    if not with_index:
        state.index.unlink()
    await begin(state)
    assert links(state) == WHOLE
    assert state.read_ready() == "s", "nothing was lost"


async def begin(state: StateDir) -> None:
    state.close()
    again = StateDir(state.root)
    again.prepare()
    config = AgentConfig(node_name="n", state_dir=str(state.root), cni_cache_dir=str(state.root / "none"), listen=Address("127.0.0.1", 0))
    await _begin(config, None, again, SystemClock(), AgentMetrics())  # type: ignore[arg-type]
    again.close()


@pytest.mark.parametrize("lose", [shutil.rmtree, clear])
async def test_where_nothing_tells_any_more_the_state_is_a_lost_one(state: StateDir, lose: Any) -> None:
    lose(state.addresses)
    lose(state.attachments)
    await begin(state)
    assert state.read_ready() is None, "so the plugin assigns nothing before the rebuild is done"
    assert not state.missing()


@pytest.mark.parametrize("name", ["addresses", "attachments"])
async def test_a_running_agent_makes_a_directory_again(state: StateDir, name: str) -> None:
    shutil.rmtree(state.root / name)
    assert await mending.Mender(state, "s").directories(1.0)
    assert links(state) == WHOLE
    assert not state.index.exists(), "DELs meanwhile left entries that say held"
    assert not await mending.Mender(state, "s").directories(1.0)


async def test_a_running_agent_links_anew_what_it_misses_twice(state: StateDir) -> None:
    observer, mender = Observer(state), mending.Mender(state, "s")
    (state.addresses / "fd00::1").unlink()
    (state.attachments / "net:c2:eth0").unlink()
    seen = observer.look("s", 1.0)
    assert set(seen.held) == {address(text) for text in ("10.64.3.0", "10.64.3.1", "fd00::1")}
    await mender.links(seen, 1.0)
    assert mender.due_seconds(seen, 1.0) == mending.SECOND_LOOK_SECONDS
    assert links_of(state) == {"10.64.3.0", "10.64.3.1"}, "an ADD under way looks so too"
    await mender.links(observer.look("s", 1.0), 1.0)
    assert links(state) == WHOLE
    seen = observer.look("s", 1.0)
    assert mender.due_seconds(seen, 1.0) == float("inf")


def links_of(state: StateDir) -> set[str]:
    return {path.name for path in state.addresses.iterdir()}


async def test_what_only_the_index_knows_counts_and_ends_the_agent(state: StateDir) -> None:
    observer, mender = Observer(state), mending.Mender(state, "s")
    clear(state.addresses)
    clear(state.attachments)
    for attempt in range(2):
        seen = observer.look("s", 1.0)
        assert set(seen.held) == {address("10.64.3.0"), address("10.64.3.1")}, "a report would call the block empty"
        if attempt == 0:
            await mender.links(seen, 1.0)
    with pytest.raises(StateDirError, match=r"10\.64\.3\.0 is held, says the index"):
        await mender.links(seen, 1.0)


async def test_both_directories_gone_end_the_agent(state: StateDir) -> None:
    shutil.rmtree(state.addresses)
    shutil.rmtree(state.attachments)
    with pytest.raises(StateDirError, match="attachments/ and addresses/ are gone"):
        await mending.Mender(state, "s").directories(1.0)


@pytest.mark.parametrize("lose", [shutil.rmtree, lambda root: (root / "agent.lock").unlink()])
async def test_a_directory_that_another_agent_could_take_ends_this_one(state: StateDir, lose: Any) -> None:
    lose(state.root)
    with pytest.raises(StateDirError, match="lost or replaced"):
        await mending.Mender(state, "s").directories(1.0)


async def test_an_address_that_went_to_another_stays_there(state: StateDir) -> None:
    """An ADD that crashed left an attachment without its address, which another got since."""
    (state.attachments / "net:crashed:eth0").write_text(json.dumps(record("10.64.3.1", "10.64.3.9", container="crashed")))
    done = mending.relink(state)
    assert (done.linked, done.stuck) == (["net:crashed:eth0"], {})
    assert links(state) == WHOLE | {"net:crashed:eth0": {"10.64.3.9"}}


async def test_a_record_that_nobody_can_read_is_not_tried_all_the_time(state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    (state.addresses / "10.64.3.5").write_text("by hand")
    observer, mender = Observer(state), mending.Mender(state, "s")
    tries: list[float] = []
    relink, now = mending.relink, 1.0

    def spy(state: StateDir) -> mending.Relinked:
        tries.append(now)
        return relink(state)

    monkeypatch.setattr(mending, "relink", spy)
    with capture_logs() as told:
        for now in (1.0, 2.0, 3.0, 15.0, 17.0, 18.0):
            await mender.links(observer.look("s", now), now)
    assert tries == [2.0, 17.0]
    assert mender.due_seconds(observer.look("s", now), 20.0) == 12.0
    assert [one["name"] for one in told] == ["10.64.3.5"], "said once"
    assert f"{state.addresses}/10.64.3.5" in told[0]["reason"]
    assert "remove it" in told[0]["reason"]


async def test_an_address_whose_container_has_another_by_now_is_freed_after_it(state: StateDir) -> None:
    """The record was removed by hand and the container attached anew: its first address must not leak."""
    (state.attachments / "net:c2:eth0").unlink()
    again = record("10.64.3.2", container="c2")
    (state.attachments / "net:c2:eth0").write_text(json.dumps(again))
    os.link(state.attachments / "net:c2:eth0", state.addresses / "10.64.3.2")
    observer, mender = Observer(state), mending.Mender(state, "s")
    with capture_logs() as told:
        for now in (1.0, 2.0):
            await mender.links(observer.look("s", now), now)
    assert ["freed when that has ended" in one.get("reason", "") for one in told] == [True], "nothing was made again, and so it says"
    (state.addresses / "10.64.3.2").unlink()
    (state.attachments / "net:c2:eth0").unlink()
    await mender.links(observer.look("s", 16.0), 16.0)
    assert address("10.64.3.1") in observer.look("s", 16.0).held
    await mender.links(observer.look("s", 17.0), 17.0)
    seen = observer.look("s", 17.0)
    assert links(state) == WHOLE, "so the agent can take it back"
    assert not seen.loose


@pytest.mark.parametrize("interface", ["eth0.new", "a.new"])
async def test_an_interface_may_be_named_as_it_likes(state: StateDir, interface: str) -> None:
    key = f"net:c3:{interface}"
    (state.attachments / "attachment.new").write_text("half")
    (state.attachments / key).write_text(json.dumps(record("10.64.3.7", container="c3", interface=interface)))
    os.link(state.attachments / key, state.addresses / "10.64.3.7")
    observer, mender = Observer(state), mending.Mender(state, "s")
    for now in (1.0, 2.0):
        seen = observer.look("s", now)
        await mender.links(seen, now)
    assert (seen.loose, seen.damaged) == (frozenset(), {})
    assert key in seen.attachments
    assert mending.relink(state) == mending.Relinked()
    (state.addresses / "10.64.3.7").unlink()
    assert mending.relink(state).linked == [key]


async def test_a_name_that_stands_in_the_way_ends_nobody(state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    (state.attachments / "net:c2:eth0").unlink()
    monkeypatch.setattr(os, "link", no_link)
    observer, mender = Observer(state), mending.Mender(state, "s")
    with capture_logs() as told:
        for now in (1.0, 2.0):
            await mender.links(observer.look("s", now), now)
    assert [one["reason"] for one in told] == [f"{state.attachments}/net:c2:eth0: File exists"]


def no_link(_source: Path, _target: Path) -> None:
    raise FileExistsError(17, "File exists")


@pytest.mark.parametrize("part", ["network", "container", "interface"])
@pytest.mark.parametrize("name", ["../../x", "a\0b", "a:b", "x" * 300, "", 5, None, "\ud800"])
def test_no_record_names_a_file_elsewhere(state: StateDir, part: str, name: object) -> None:
    (state.addresses / "10.64.3.9").write_text(json.dumps(record("10.64.3.9") | {part: name}))
    done = mending.relink(state)
    assert (done.linked, list(done.stuck)) == ([], ["10.64.3.9"])


async def test_a_lock_removed_by_hand_is_taken_where_the_plugin_looks(state: StateDir) -> None:
    (state.root / "lock").unlink()
    async with state.locked():
        plugin = os.open(state.root / "lock", os.O_RDWR)
        with pytest.raises(BlockingIOError):
            fcntl.flock(plugin, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(plugin)
