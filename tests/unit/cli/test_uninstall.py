"""What stands in the way of `uninstall`, and that a refusal changes nothing. The real API server: tests/contract."""

import json
from typing import Any

import pytest

from podcidr.cli.main import main
from tests.unit.cli.objects import FakeApi, Object, block, lease, nodecidr, pod, pool

World = dict[str, list[Object]]


class Recorder(FakeApi):
    """Remembers what it is asked to change."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.writes: list[str] = []

    def all_of(self, path: str) -> list[Object]:
        return self.looks[0].get("policies" if "policies" in path else "history" if "component%3Dhistory" in path else "ours", [])

    def merge(self, path: str, body: Object) -> Object | None:
        self.writes.append(f"finalizers of {path.rsplit('/', 2)[-2]}/{path.rsplit('/', 1)[-1]}")
        assert body["metadata"]["finalizers"] is None
        return {}

    def delete(self, path: str, *, uid: str, resource_version: str | None = None) -> Object | None:
        assert uid
        self.writes.append(f"delete {path.rsplit('/', 2)[-2]}/{path.rsplit('/', 1)[-1]}")
        return {}


def empty_world() -> World:
    """A pool, a node that has reported nothing in use, its block."""
    a_pool = pool("default", "10.64.0.0/24")
    a_pool["metadata"]["finalizers"] = ["podcidr.io/ledger"]
    return {
        "ippools": [a_pool],
        "nodecidrs": [nodecidr("n1", {"10.64.0.0/28": 0})],
        "ipblocks": [block("10.64.0.0/28", "n1")],
        "leases": [lease(age_seconds=60)],
        "history": [{"metadata": {"namespace": "podcidr-system", "name": "podcidr-history-00", "uid": "h"}}],
    }


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], world: World, *words: str) -> tuple[int, Any, list[str]]:
    api = Recorder(world)
    monkeypatch.setattr("podcidr.cli.uninstall.connect", lambda: api)
    status = main(["uninstall", *words, "-o", "json"])
    out = capsys.readouterr().out
    return status, json.loads(out) if out else None, api.writes


def test_finalizers_first_and_nodecidrs_last(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    status, found, writes = run(monkeypatch, capsys, empty_world(), "--yes")
    assert (status, found["removed"], found["obstacles"]) == (0, True, [])
    assert writes == [
        "finalizers of ippools/default",
        "delete ippools/default",
        "delete ipblocks/10-64-0-0-28",
        "delete nodecidrs/n1",
        "delete configmaps/podcidr-history-00",
    ]


def test_a_dry_run_changes_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    status, found, writes = run(monkeypatch, capsys, empty_world(), "--dry-run", "--yes")
    assert (status, found["removed"], writes) == (0, False, [])
    assert found["objects"] == {"ippools": 1, "ipblocks": 1, "nodecidrs": 1, "configmaps": 1}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"pods": [pod("a", "n1", "10.64.0.2")]}, "1 pods have addresses of pools: Pod default/a"),
        ({"pods": [pod("a", "gone", "10.64.0.2")]}, "1 pods have addresses of pools"),
        ({"nodecidrs": [nodecidr("n1", {"10.64.0.0/28": 2})]}, "node n1 reports 2 addresses in use"),
        ({"nodecidrs": [nodecidr("n1", {"10.64.0.0/28": 0}, reports=False)]}, "node n1 holds blocks and has not reported"),
        ({"leases": [lease("op-7", age_seconds=-3600)]}, "operator op-7 leads"),
        (
            {"ours": [{"metadata": {"namespace": "podcidr-system", "name": "agent-x"}}]},
            "1 pods of podcidr are there (podcidr-system/agent-x)",
        ),
        ({"policies": [{"metadata": {"name": "podcidr-nodecidr-goes-last"}}]}, "admission policies guard the records"),
    ],
)
def test_refusals(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], change: World, reason: str) -> None:
    status, found, writes = run(monkeypatch, capsys, empty_world() | change, "--yes")
    assert (status, found["removed"], writes) == (1, False, [])
    assert len(found["obstacles"]) == 1
    assert found["obstacles"][0]["reason"].startswith(reason)
    assert found["obstacles"][0]["remedy"]


def test_addresses_outside_pools_do_not_matter(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, writes = run(monkeypatch, capsys, empty_world() | {"pods": [pod("a", "n1", "192.168.0.2")]}, "--yes")
    assert status == 0
    assert len(writes) == 5


def test_nobody_to_ask(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, writes = run(monkeypatch, capsys, empty_world())
    assert (status, writes) == (2, [])
