"""The state directory in a real directory: locks, epochs, what an interrupted writer leaves."""

import asyncio
import fcntl
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from podcidr.agent.observation import Observer
from podcidr.agent.statedir import Standing, StateDir, StateDirError, become_the_agent
from podcidr.files import Damaged
from podcidr.kube.clock import SystemClock


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    state = StateDir(tmp_path / "run" / "podcidr")
    state.create()
    return state


def document(epoch: int, uid: str = "u1", **extra: Any) -> dict[str, Any]:
    return {"version": 1, "stateID": "s", "uid": uid, "epoch": epoch, "pools": {}} | extra


def test_create_makes_private_directories(state: StateDir) -> None:
    state.create()
    for name in ("attachments", "addresses", "pending", "namespaces"):
        assert (state.root / name).stat().st_mode & 0o777 == 0o700
    state.write_ready("s")
    assert (state.root / "ready").stat().st_mode & 0o777 == 0o600


def test_create_says_what_it_could_not_make(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateDirError, match=r"--state-dir .*file/x: .*name a directory"):
        StateDir(tmp_path / "file" / "x").create()


async def test_never_goes_back_an_epoch(state: StateDir) -> None:
    assert await state.publish(document(7)) == Standing("u1", 7)
    assert await state.publish(document(6)) == Standing("u1", 7)
    assert state.read_allocation() == document(7)
    assert await state.publish(document(7, more=1)) == Standing("u1", 7)
    assert state.read_allocation() == document(7, more=1)


async def test_a_file_of_the_same_epoch_of_a_lost_history_is_left_alone(state: StateDir) -> None:
    await state.publish(document(7, question="lost"))
    assert await state.publish(document(7, question="now")) == Standing("u1", 7, "lost")
    assert await state.publish(document(7)) == Standing("u1", 7, "lost")
    assert await state.publish(document(8, question="now")) == Standing("u1", 8, "now")


async def test_another_uid_replaces_whatever_its_epoch(state: StateDir) -> None:
    await state.publish(document(7))
    assert await state.publish(document(1, uid="u2")) == Standing("u2", 1)


async def test_publication_waits_for_the_plugins_lock(state: StateDir) -> None:
    plugin = os.open(state.root / "lock", os.O_RDWR)
    fcntl.flock(plugin, fcntl.LOCK_EX)
    publishing = asyncio.ensure_future(state.publish(document(1)))
    done, _ = await asyncio.wait({publishing}, timeout=0.1)
    assert not done
    assert state.read_allocation() is None
    os.close(plugin)
    await asyncio.wait_for(publishing, 5)
    assert state.read_allocation() == document(1)


async def test_our_own_tasks_exclude_each_other(state: StateDir) -> None:
    async with state.locked():
        publishing = asyncio.ensure_future(state.publish(document(1)))
        await asyncio.sleep(0.02)
        assert not publishing.done()
    await publishing


async def test_a_second_agent_waits(state: StateDir) -> None:
    said: list[str] = []
    second = StateDir(state.root)
    second.create()
    await become_the_agent(state, SystemClock(), lambda: said.append("first"))
    waiting = asyncio.ensure_future(become_the_agent(second, SystemClock(), lambda: said.append("second")))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    assert said == ["second"]
    state.close()
    await asyncio.wait_for(waiting, 5)


@pytest.mark.parametrize("made_again", [False, True])
async def test_the_lock_of_a_directory_that_was_lost_is_nobodys(state: StateDir, *, made_again: bool) -> None:
    """In a rolling update the next agent waits for it: it would begin beside whoever holds the new one."""
    second = StateDir(state.root)
    second.prepare()
    await become_the_agent(state, SystemClock(), lambda: None)
    waiting = asyncio.ensure_future(become_the_agent(second, SystemClock(), lambda: None))
    await asyncio.sleep(0)
    shutil.rmtree(state.root)
    if made_again:
        StateDir(state.root).create()
    state.close()
    with pytest.raises(StateDirError, match="was lost or replaced while another agent held it; starting over"):
        await asyncio.wait_for(waiting, 5)


async def test_corrupt_files_are_told_and_replaced(state: StateDir) -> None:
    (state.root / "allocation.json").write_text('{"epoch": 7')
    with pytest.raises(Damaged, match=r"allocation\.json"):
        state.read_allocation()
    assert await state.publish(document(1)) == Standing("u1", 1)
    (state.root / "ready").write_text("{}")
    assert state.read_ready() is None


async def test_a_failed_write_leaves_the_old_file(state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    await state.publish(document(7))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "allocation.json")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        await state.publish(document(8))
    assert json.loads((state.root / "allocation.json").read_text())["epoch"] == 7
    assert not list(state.root.glob(".*.tmp"))


async def test_a_full_disk_names_the_file(state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> str:
        raise OSError(28, "No space left on device")  # write(2) tells no name

    monkeypatch.setattr("podcidr.agent.statedir._encode", full)
    with pytest.raises(OSError, match=r"No space left on device: .*/allocation\.json"):
        await state.publish(document(8))


@pytest.mark.parametrize("content", ['{"version": 2, "stateID": "s"}', '{"stateID": "s"}', '{"version": 1, "stateID": ""}', "{", "[]"])
def test_a_ready_file_of_another_version_begins_a_new_state(state: StateDir, content: str) -> None:
    (state.root / "ready").write_text(content)
    assert state.read_ready() is None
    state.write_ready("s")
    assert state.read_ready() == "s"


def test_a_lost_directory_is_no_empty_one(state: StateDir) -> None:
    """Counting what is left would report every block empty."""
    state.addresses.rmdir()
    with pytest.raises(StateDirError, match="was lost"):
        Observer(state).look("s1", 0.0)
