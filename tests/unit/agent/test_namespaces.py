"""The files in namespaces/ and the order in which they change."""

import json
from pathlib import Path
from typing import Any

import pytest

from podcidr.agent.namespaces import NamespaceFiles
from podcidr.agent.observed import NamespaceSeen
from podcidr.agent.statedir import StateDir
from tests.unit.agent.objects import pool

POOLS = {"default": pool(), "gold": pool("gold", namespaceSelector={"matchLabels": {"tier": "gold"}})}


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    state = StateDir(tmp_path)
    state.create()
    return state


def namespace(pin: str | None = None, **labels: str) -> NamespaceSeen:
    return NamespaceSeen(labels, {} if pin is None else {"podcidr.io/pools": pin})


def content(state: StateDir) -> dict[str, Any]:
    return {path.name: json.loads(path.read_text()) for path in state.namespaces.iterdir()}


def test_every_namespace_has_a_file(state: StateDir) -> None:
    files = NamespaceFiles(state)
    files.update(None, {"a": namespace(), "b": namespace("gold", tier="gold"), "c": namespace("absent")}, POOLS, ("default",))
    files.complete("s")
    found = content(state)
    assert found["a"] == {"stateID": "s"}
    assert found["b"] == {"stateID": "s", "pools": ["gold"]}
    assert found["c"]["error"].startswith('namespace c pins pool "absent", which does not exist')


def test_files_of_namespaces_that_are_gone_go(state: StateDir) -> None:
    files = NamespaceFiles(state)
    files.update(None, {"a": namespace(), "b": namespace()}, POOLS, ("default",))
    files.complete("s")
    files.update({"b"}, {"a": namespace()}, POOLS, ("default",))
    files.complete("s")
    assert set(content(state)) == {"a"}


def test_a_restart_rewrites_only_what_differs(state: StateDir) -> None:
    files = NamespaceFiles(state)
    files.update(None, {"a": namespace(), "b": namespace(), "gone": namespace()}, POOLS, ("default",))
    files.complete("s")
    inode = (state.namespaces / "a").stat().st_ino
    again = NamespaceFiles(state)
    again.load("s")
    again.update(None, {"a": namespace(), "b": namespace("default")}, POOLS, ("default",))
    again.complete("s")
    assert content(state) == {"a": {"stateID": "s"}, "b": {"stateID": "s", "pools": ["default"]}}
    assert (state.namespaces / "a").stat().st_ino == inode


def test_files_of_another_state_are_rewritten(state: StateDir) -> None:
    (state.namespaces / "a").write_text('{"stateID": "other"}')
    files = NamespaceFiles(state)
    files.load("s")
    files.update(None, {"a": namespace()}, POOLS, ("default",))
    files.complete("s")
    assert content(state) == {"a": {"stateID": "s"}}


def test_a_refusal_is_written_before_the_pool_is_published(state: StateDir) -> None:
    files = NamespaceFiles(state)
    files.update(None, {"a": namespace(), "b": namespace(tier="gold")}, POOLS, ("default",))
    files.complete("s")
    files.update(None, {"a": namespace(), "b": namespace("gold", tier="gold")}, POOLS, ("default", "gold"))
    files.restrict(["default"], "s")
    assert content(state) == {"a": {"stateID": "s", "pools": ["default"]}, "b": {"stateID": "s"}}, "b names a pool not yet published"
    files.complete("s")
    assert content(state)["b"] == {"stateID": "s", "pools": ["gold"]}
