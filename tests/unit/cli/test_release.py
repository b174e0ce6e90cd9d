"""`release`: what speaks against it, what it warns of, and the order of its two writes."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from podcidr.cli.main import main
from tests.unit.cli.objects import FakeApi, Object, lease, node, nodecidr, pod, small_cluster

World = dict[str, list[Object]]


class Recorder(FakeApi):
    """Remembers what it is asked to change."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.writes: list[tuple[str, str, Any]] = []

    def get(self, path: str) -> Object | None:
        if "/nodes/" in path:
            found = next((item for item in self.looks[0]["nodes"] if path.endswith(f"/{item['metadata']['name']}")), None)
            return found and {**found, "metadata": {**found["metadata"], "uid": "u", "resourceVersion": "7"}}
        return super().get(path)

    def merge(self, path: str, body: Object) -> Object | None:
        self.writes.append(("merge", path.rsplit("/", 2)[-2], body["metadata"]))
        return {}

    def delete(self, path: str, *, uid: str, resource_version: str | None = None) -> Object | None:
        self.writes.append(("delete", path.rsplit("/", 2)[-2], (uid, resource_version)))
        return {}


def burned_down() -> World:
    return small_cluster() | {"nodes": [node("n1", ready=False), node("n2")], "leases": [lease()]}


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], world: World, *words: str) -> tuple[int, Any, Recorder]:
    api = Recorder(world)
    monkeypatch.setattr("podcidr.cli.release.connect", lambda: api)
    status = main(["release", *words, "-o", "json"])
    captured = capsys.readouterr()
    return status, json.loads(captured.out) if captured.out else captured.err, api


def test_the_word_then_the_node(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    status, found, api = run(monkeypatch, capsys, burned_down(), "--node=n1", "--force", "--yes")
    assert (status, found["released"], found["addressesInUse"], found["pods"]) == (0, True, 13, ["default/a"])
    assert api.writes == [
        ("merge", "nodecidrs", {"uid": "uid-n1", "annotations": {"podcidr.io/machine-gone": "2026-01-01T00:00:00Z"}}),
        ("delete", "nodes", ("u", "7")),
    ]


def test_it_warns_in_words(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("podcidr.cli.release.connect", lambda: Recorder(burned_down()))
    assert main(["release", "--node=n1", "--force", "--yes"]) == 0
    warning = capsys.readouterr().err
    assert "WARNING: node n1 holds 1 blocks and last reported 13 addresses in use" in warning
    assert "two pods will then have one address: switch it off first, for good" in warning


@pytest.mark.parametrize(
    ("change", "words", "why"),
    [
        ({}, [], "--force is missing"),
        ({"nodes": [node("n1")]}, ["--force"], "node n1 is Ready: its kubelet is alive"),
        ({"nodes": [node("n1")]}, ["--dry-run"], "node n1 is Ready"),
    ],
)
def test_refusals(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], change: World, words: list[str], why: str) -> None:
    status, found, api = run(monkeypatch, capsys, burned_down() | change, "--node=n1", "--yes", *words)
    assert (status, found["released"], api.writes) == (1, False, [])
    assert any(reason.startswith(why) for reason in found["refusedBecause"])


def test_a_fresh_report_is_a_sign_of_life(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    world = burned_down()
    world["nodecidrs"][0]["status"]["reportedAt"] = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    status, found, api = run(monkeypatch, capsys, world, "--node=n1", "--force", "--yes")
    assert (status, api.writes) == (1, [])
    assert found["refusedBecause"][0].startswith("the agent of node n1 reported at")


def test_a_node_that_never_reported(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    world = burned_down() | {"nodes": [], "nodecidrs": [nodecidr("n1", {"10.64.0.0/28": 0}, reports=False)], "pods": [pod("a", "n1")]}
    status, _, api = run(monkeypatch, capsys, world, "--node=n1", "--force", "--yes")
    assert status == 0
    assert [write[2]["annotations"]["podcidr.io/machine-gone"] for write in api.writes] == ["never"]


def test_no_such_node(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    status, complaint, _ = run(monkeypatch, capsys, burned_down(), "--node=n9", "--force", "--yes")
    assert (status, "no such node: n9" in complaint) == (2, True)
