"""The commands that act, as people see them: every table and every last line, with what to do next."""

import pytest

from podcidr.cli import check as check_command
from podcidr.cli.main import main
from podcidr.cli.mending import Mending, Step, print_mending
from podcidr.cli.output import console
from podcidr.cli.repair import Untouched
from tests.unit.cli.objects import FakeApi, Object, lease, node, pool, small_cluster
from tests.unit.cli.test_release import Recorder as ReleaseApi
from tests.unit.cli.test_release import burned_down
from tests.unit.cli.test_uninstall import Recorder as UninstallApi
from tests.unit.cli.test_uninstall import empty_world

LOG = """2026-01-01T00:00:00Z claimed 10.64.0.0/28 default n1 need
2026-01-02T00:00:00Z draining 10.64.0.0/28 default n1 empty; the rest holds
2026-01-02T00:00:05Z released 10.64.0.0/28 default n1 reported empty
2026-01-02T00:05:05Z freed 10.64.0.0/28 default n1 its quarantine of 300 s is over
2026-01-03T00:00:00Z claimed 10.64.0.0/28 default n2 need
"""


class HistoryApi(FakeApi):
    """Has two segments, the second begun anew."""

    def get(self, path: str) -> Object | None:
        first, rest = LOG.split("\n", 1)
        segments = {"podcidr-history-15": ("15", first), "podcidr-history-00": ("16", rest)}
        for name, (number, log) in segments.items():
            if path == f"/api/v1/namespaces/podcidr-system/configmaps/{name}":
                return {"metadata": {"name": name}, "data": {"number": number, "log": log}}
        return super().get(path)


def out_of(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], api: object, *words: str, status: int = 0) -> str:
    monkeypatch.setattr(f"podcidr.cli.{words[0]}.connect", lambda: api)
    assert main(words) == status
    return capsys.readouterr().out


def test_history(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    api = HistoryApi({"leases": [lease()]})
    lines = out_of(monkeypatch, capsys, api, "history", "10.64.0.3").splitlines()
    assert lines[0].split()[:4] == ["SINCE", "UNTIL", "BLOCK", "NODE"]
    assert lines[1].startswith("2026-01-01 00:00:00  2026-01-02 00:00:05  10.64.0.0/28  n1")
    assert lines[1].endswith("empty; the rest holds")
    assert lines[2].startswith("2026-01-03 00:00:00  now                  10.64.0.0/28  n2")
    assert lines[3] == "The record reaches back to 2026-01-01T00:00:00Z."
    assert out_of(monkeypatch, capsys, api, "history", "n2").count("10.64.0.0/28") == 1
    assert "… and 1 older ones: --limit 2" in out_of(monkeypatch, capsys, api, "history", "default", "--limit", "1")
    assert "no line of the record names 10.64.1.0/28" in out_of(monkeypatch, capsys, api, "history", "10.64.1.0/28")
    assert out_of(monkeypatch, capsys, api, "history", "nosuch", status=2) == ""
    known = HistoryApi({"leases": [lease()], "nodes": [node("new")], "ippools": [pool("fresh")]})
    for name in ("new", "fresh"):
        assert f"no line of the record names {name}" in out_of(monkeypatch, capsys, known, "history", name)
    assert "There is no record yet" in out_of(monkeypatch, capsys, FakeApi({}), "history", "n1")


def test_uninstall(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    out = out_of(monkeypatch, capsys, UninstallApi(empty_world()), "uninstall", "--dry-run")
    assert out == "uninstall: would remove 1 ippools, 1 ipblocks, 1 nodecidrs, 1 configmaps; dry run: nothing was changed\n"
    out = out_of(monkeypatch, capsys, UninstallApi(empty_world()), "uninstall", "--yes")
    assert out.splitlines()[0] == "uninstall: removed 1 ippools, 1 ipblocks, 1 nodecidrs, 1 configmaps"
    assert "kubectl delete -f crds/" in out
    out = out_of(monkeypatch, capsys, UninstallApi(empty_world() | {"leases": [lease()]}), "uninstall", "--yes", status=1)
    assert out.splitlines()[0].startswith("in the way: operator operator-1 leads")
    assert out.splitlines()[1].startswith("  do: remove operator and agents first: helm uninstall")


def test_release(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    out = out_of(monkeypatch, capsys, ReleaseApi(burned_down()), "release", "--node=n1", "--dry-run")
    assert "warning: if the machine still runs, cut off from the API server alone, two pods will then have one address" in out
    assert out.splitlines()[-1] == "release: would give up node n1; dry run: nothing was changed"
    out = out_of(monkeypatch, capsys, ReleaseApi(burned_down()), "release", "--node=n1", status=1)
    assert "refused: --force is missing: it says that the machine is switched off for good" in out
    out = out_of(monkeypatch, capsys, ReleaseApi(burned_down()), "release", "--node=n1", "--force", "--yes")
    assert out.startswith("release: node n1 is given up; operator operator-1 takes 1 blocks back now\n")


def test_repair(capsys: pytest.CaptureFixture[str]) -> None:
    done = Step("Adopt", "n1", "10.64.0.0/28", "", "this command")
    refused = Step("Leave", "n2", "10.64.0.16/28", "", "this command", "409 Conflict")
    waits = Step("Drain", "n3", "10.64.0.32/28", "", "operator o")
    print_mending(console(), Mending((done, refused), (waits,), (Untouched("this", "of that", "such"),)))
    assert capsys.readouterr().out.splitlines()[1:] == [
        "repair: Adopt 10.64.0.0/28 of node n1: done by this command",
        "repair: Leave 10.64.0.16/28 of node n2: refused (409 Conflict)",
        ("repair: Drain 10.64.0.32/28 of node n3: the operator leads but has not done it yet: its log says why "
        "(it waits for reports, or is refused)"),
        "left alone: this", "  because: of that", "  do: such",
        "repair: 1 done, 1 pending, 1 left alone",
    ]  # fmt: skip


def test_a_repair_with_nothing_to_do_asks_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(check_command, "connect", lambda: FakeApi(small_cluster() | {"leases": [lease()]}))
    assert main(["check", "--repair"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "repair: 0 done, 0 pending, 0 left alone"


def test_the_operators_part_is_awaited_not_done(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A listed block without IPBlock: the operator that leads adopts it between two looks."""
    broken, mended = small_cluster() | {"leases": [lease()]}, small_cluster() | {"leases": [lease()]}
    broken["ipblocks"].pop(0)

    class Api(FakeApi):
        def custom(self, plural: str) -> list[Object]:
            return (mended if asked else broken).get(plural, [])

        def credentials(self) -> None:
            return None

    asked: list[bool] = []

    def mend(_credentials: object, _held: object, *, planned_too: bool) -> object:
        asked.append(planned_too)
        return type("Mended", (), {"done": [], "refused": []})()

    monkeypatch.setattr(check_command, "connect", lambda: Api(broken))
    monkeypatch.setattr("podcidr.cli.mending.mend", mend)
    assert main(["check", "--repair", "--yes", "--confirm-seconds=0"]) == 0
    captured = capsys.readouterr()
    assert "repair: Adopt 10.64.0.0/28 of node n1: it is listed, but its IPBlock is missing (by operator operator-1)" in captured.err
    assert "repair: Adopt 10.64.0.0/28 of node n1: done by operator operator-1" in captured.out
    assert asked == [False], "the operator's part is not done beside it"
