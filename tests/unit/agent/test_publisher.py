"""The order of the files, and what stands when a write fails."""

from pathlib import Path
from typing import Any

import pytest

from podcidr.agent.allocation import build
from podcidr.agent.observed import NamespaceSeen
from podcidr.agent.publisher import Publisher
from podcidr.agent.statedir import Standing, StateDir
from podcidr.metrics import AgentMetrics
from tests.unit.agent.objects import block, nodecidr, pool

POOLS = {"default": pool()}
NAMESPACES = {"a": NamespaceSeen({}, {})}
BLOCK = block("10.64.3.0/28")


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    state = StateDir(tmp_path)
    state.create()
    return state


def publisher(state: StateDir, *, ready: bool = False) -> Publisher:
    made = Publisher(state, "n1", "s", ready=ready, metrics=AgentMetrics())
    made.load()
    return made


async def test_ready_is_written_last(state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    original = StateDir.replace

    def spy(self: StateDir, path: Path, document: Any) -> None:
        written.append(path.name)
        original(self, path, document)

    monkeypatch.setattr(StateDir, "replace", spy)
    await publisher(state).publish(nodecidr(BLOCK), POOLS, NAMESPACES)
    assert written == ["allocation.json", "a", "ready"]
    assert state.read_ready() == "s"


@pytest.mark.parametrize("left", [None, "{", '{"version":1,"stateID":"other"}'])
async def test_a_ready_file_that_a_hand_took_or_changed_is_written_again(state: StateDir, left: str | None) -> None:
    """Without it no pod of the node starts any more, until its agent does."""
    made = publisher(state)
    await made.publish(nodecidr(BLOCK), POOLS, NAMESPACES)
    assert not made.verify()
    (state.root / "ready").unlink()
    if left is not None:
        (state.root / "ready").write_text(left)
    assert made.verify()
    await made.publish(nodecidr(BLOCK), POOLS, NAMESPACES)
    assert state.read_ready() == "s"
    assert not made.verify()


async def test_a_namespace_is_bound_before_new_blocks_are_offered(state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else its pods get addresses of a pool that was never theirs."""
    made = publisher(state)
    await made.publish(nodecidr(BLOCK, epoch=7), POOLS, NAMESPACES)
    written: list[str] = []
    original = StateDir.replace

    def spy(self: StateDir, path: Path, document: Any) -> None:
        written.append(path.name)
        original(self, path, document)

    monkeypatch.setattr(StateDir, "replace", spy)
    made.namespace_changed("a")
    pinned = {"a": NamespaceSeen({}, {"podcidr.io/pools": "default"})}
    await made.publish(nodecidr(BLOCK, block("10.64.4.0/28"), epoch=8), POOLS, pinned)
    assert written == ["a", "allocation.json"]


async def test_without_a_nodecidr_nothing_is_published_but_the_plugin_may_answer(state: StateDir) -> None:
    made = publisher(state)
    await made.publish(None, POOLS, NAMESPACES)
    assert state.read_allocation() is None
    assert made.published is None
    assert made.ready


async def test_nothing_is_written_when_nothing_changed(state: StateDir) -> None:
    await publisher(state).publish(nodecidr(BLOCK), POOLS, NAMESPACES)
    inode = (state.root / "allocation.json").stat().st_ino
    again = publisher(state, ready=True)
    await again.publish(nodecidr(BLOCK), POOLS, NAMESPACES)
    assert (state.root / "allocation.json").stat().st_ino == inode
    assert again.published is not None
    assert list(again.published.room.values()) == [16]


async def test_on_a_full_disk_the_old_epoch_stands_until_there_is_room(state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    made = publisher(state)
    await made.publish(nodecidr(BLOCK, epoch=7), POOLS, NAMESPACES)
    with monkeypatch.context() as patch:

        def full(*_: object, **__: object) -> int:
            raise OSError(28, "No space left on device", str(state.root))

        patch.setattr("podcidr.agent.statedir._encode", full)
        with pytest.raises(OSError, match="No space left"):
            await made.publish(nodecidr(epoch=8), POOLS, NAMESPACES)
    assert made.published is not None
    assert made.published.standing == made.standing == Standing("u1", 7), "a report must not claim epoch 8"
    await made.publish(nodecidr(epoch=8), POOLS, NAMESPACES)
    assert made.published.standing == Standing("u1", 8)


async def test_a_newer_file_is_left_alone_and_reported(state: StateDir) -> None:
    await publisher(state).publish(nodecidr(BLOCK, epoch=9), POOLS, NAMESPACES)
    behind = publisher(state, ready=True)
    await behind.publish(nodecidr(epoch=4), POOLS, NAMESPACES)
    assert behind.published is not None
    assert behind.published.standing == Standing("u1", 9)
    assert (state.read_allocation() or {})["epoch"] == 9


async def test_what_changes_is_built_anew_and_only_that(state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[int] = []

    def spy(node: str, seen: Any, *rest: Any) -> Any:
        built.append(seen.epoch)
        return build(node, seen, *rest)

    monkeypatch.setattr("podcidr.agent.publisher.build", spy)
    made, pools = publisher(state), dict(POOLS)
    for _ in range(3):
        await made.publish(nodecidr(BLOCK), pools, NAMESPACES)
    assert len(built) == 1
    pools["default"] = pool(reserved=["10.64.3.7"])
    await made.publish(nodecidr(BLOCK), pools, NAMESPACES)
    await made.publish(nodecidr(), pools, NAMESPACES)
    assert len(built) == 3
    assert made.published is not None
    assert not made.published.room
