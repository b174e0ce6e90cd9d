"""The commands from argv to exit status, on objects of a fake API; the real one is asked in the contract tests."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from podcidr.cli import page
from podcidr.cli.connect import Refused
from podcidr.cli.main import cli, main
from tests.unit.cli.objects import FakeApi, Object, block, node, nodecidr, pod, small_cluster

World = dict[str, list[Object]]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """The objects that the commands see."""
    found = small_cluster()
    serve(monkeypatch, FakeApi(found))
    return found


def serve(monkeypatch: pytest.MonkeyPatch, api: object) -> None:
    for command in ("show", "check", "plan"):
        monkeypatch.setattr(f"podcidr.cli.{command}.connect", lambda: api)


def run(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(words) == 0
    return capsys.readouterr().out


def document(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(capsys, *words, "-o", "json"))
    assert found["apiVersion"] == "cli.podcidr.io/v1"
    return found


def test_overview(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    out = run(capsys, "show")
    assert out.startswith("1 pool · 2 nodes · 4 blocks (1 Draining, 1 Quarantined) · 14 addresses in use · 0 pods waiting\n")
    assert [line.split()[0] for line in out.splitlines() if line][1:] == [
        "POOL", "default", "NODE", "n1", "n2", "BLOCK", "10.64.0.0/28", "10.64.0.16/28", "10.64.0.32/28", "10.64.0.48/28",
    ]  # fmt: skip
    assert "\x1b" not in out


def test_a_large_cluster_is_summed_up(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world["nodes"] += [node(f"w{number:03}") for number in range(100)]
    out = run(capsys, "show")
    assert "… and 72 more: podcidr show nodes" in out
    assert len(run(capsys, "show", "nodes").splitlines()) == 103


def test_a_cluster_without_pools_is_told_what_to_do(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world["ippools"].clear()
    assert "There is no IPPool yet" in run(capsys, "show")


def test_marks(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world["ipblocks"].append(block("10.99.0.0/28", "n1", pool="old"))
    world["nodes"].append(node("n3"))
    world["nodecidrs"].append(nodecidr("n3", {"10.64.0.0/28": 1}, pending=4))
    out = run(capsys, "show")
    assert "4 blocks" not in out
    assert "5 blocks (1 Draining, 1 Quarantined, 1 orphan, 1 in conflict)" in out
    assert "CONFLICT: block 10.64.0.0/28 is listed by nodes n1, n3" in out
    assert "ORPHAN: pool old is gone" in out
    rows = {row["name"]: row for row in document(capsys, "show", "nodes")["items"]}
    assert (rows["n3"]["pending"], rows["n3"]["conflicts"], rows["n2"]["conflicts"]) == (4, 1, 0)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["nodes", "n2"], ["n2"]),
        (["blocks", "10.64.0.0/28"], ["10-64-0-0-28"]),
        (["blocks", "10-64-0-0-28"], ["10-64-0-0-28"]),
        (["blocks", "n2"], ["10-64-0-16-28", "10-64-0-48-28"]),
        (["pools", "default"], ["default"]),
    ],
)
def test_by_name(world: World, capsys: pytest.CaptureFixture[str], words: list[str], found: list[str]) -> None:
    assert [row["name"] for row in document(capsys, "show", *words)["items"]] == found


def test_figures_of_pools_and_nodes(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    (row,) = document(capsys, "show", "pools")["items"]
    assert (row["capacity"], row["inUse"], row["free"], row["utilizationPercent"]) == (253, 14, 239, 6)
    assert (row["blocksTotal"], row["blocksClaimed"], row["blocksQuarantined"], row["blocksFree"]) == (16, 3, 1, 12)
    first, second = document(capsys, "show", "nodes")["items"]
    assert (first["inUse"], first["capacity"], first["utilizationPercent"]) == (13, 14, 93)
    assert (second["blocksActive"], second["blocksDraining"]) == (1, 1)


@pytest.mark.parametrize(
    "words",
    [["nonsense"], ["show", "things"], ["show", "nodes", "n9"], ["check", "--state-dir", "/does/not/exist"], ["show", "-o", "xml"],
     ["show", "--kubeconfig", "/does/not/exist"], ["completion", "tcsh"]],
)  # fmt: skip
def test_wrong_usage_is_2_with_words(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    if "/does/not/exist" not in words:
        serve(monkeypatch, FakeApi(small_cluster()))
    assert main(words) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("Error: ")


def test_no_way_to_a_cluster_is_3(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    assert main(["show"]) == 3
    assert capsys.readouterr().err == (
        f"podcidr: no way to an API server: {tmp_path}/.kube/config does not exist. Give --kubeconfig FILE, or set KUBECONFIG\n"
    )


def test_a_context_that_is_not_there_is_2(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "config").write_text("apiVersion: v1\nkind: Config\ncontexts: []\nclusters: []\nusers: []\n")
    assert main(["--kubeconfig", str(tmp_path / "config"), "--context", "moon", "show"]) == 2
    assert "has no context of this name" in capsys.readouterr().err


def test_check_reads_again_before_it_reports(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    wrong, right = small_cluster(), small_cluster()
    wrong["pods"].append(pod("x", "n1", "10.64.0.200"))
    serve(monkeypatch, FakeApi(wrong, right))
    assert main(["check", "--confirm-seconds", "0"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("check: 0 violations (")
    serve(monkeypatch, FakeApi(wrong, wrong))
    assert main(["check", "--confirm-seconds", "0"]) == 1
    out = capsys.readouterr().out
    assert "VIOLATION of invariant 7: address 10.64.0.200 of Pod default/x lies in no block of its node n1, nor of another" in out
    assert "  do: restart the pod" in out
    assert out.splitlines()[-1].startswith("check: 1 violation (")


def test_check_without_leave_to_list_pods(world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    class Blind(FakeApi):
        def pods(self) -> list[Object]:
            super().pods()
            raise Refused("no leave to list pods")

    serve(monkeypatch, Blind(world))
    out = run(capsys, "check")
    assert "1  no two live attachments hold one address: not checked: no leave to list pods" in out
    assert out.splitlines()[-1].endswith("; not checked: 1)")


def test_a_file_that_is_no_kubeconfig(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes").write_text("root:x:0:0")
    assert main(["--kubeconfig", str(tmp_path / "notes"), "show"]) == 2
    assert "is no kubeconfig; kubectl config view --raw prints the one that kubectl uses" in capsys.readouterr().err


def test_plan_says_what_and_why(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world["nodes"].append(node("n3"))
    found = document(capsys, "plan", "--dry-run")
    assert found["assumes"].startswith("a leader that has just begun")
    actions = {(row["action"], row["node"]): row for row in found["items"]}
    assert actions["CreateNodeCIDR", "n3"]["pool"] == "default"
    assert actions["Claim", "n1"]["pool"] == "default"
    assert actions["Leave", "n2"]["block"] == "10.64.0.48/28"
    assert actions["Free", "n1"]["reason"] == "its quarantine of 300 s is over"


def test_plan_shrinks_only_if_told_that_the_windows_have_run_out(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world["ipblocks"].append(block("10.64.0.64/28", "n2"))
    world["nodecidrs"][1] = nodecidr("n2", {"10.64.0.16/28": 1, "10.64.0.64/28": 0})
    world["ipblocks"] = [row for row in world["ipblocks"] if row["spec"]["cidr"] != "10.64.0.48/28"]
    drained = [("Drain", "n2", "10.64.0.64/28")]
    for words, expected in (([], []), (["--assume-settled"], drained)):
        rows = document(capsys, "plan", *words)["items"]
        assert [(row["action"], row["node"], row["block"]) for row in rows if row["action"] == "Drain"] == expected


def test_plan_accepts_new_cidrs_as_the_operator_would(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world["ippools"][0]["status"] = {}
    world["ippools"][0]["spec"]["ipv4"]["cidrs"] = ["10.64.0.0/24"]
    first = document(capsys, "plan")["items"][0]
    assert (first["action"], first["block"]) == ("Accept", "10.64.0.0/24")
    world["nodes"].append(node("silent"))
    assert document(capsys, "plan")["items"][0]["action"] == "Wait"


def test_plan_of_a_conflict_freezes_it(world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("podcidr.cli.plan.CONFIRM_SECONDS", 0)
    world["nodes"].append(node("n3"))
    world["nodecidrs"].append(nodecidr("n3", {"10.64.0.0/28": 1}))
    found = document(capsys, "plan")
    assert found["violations"] == ["block 10.64.0.0/28 is listed by nodes n1, n3"]
    drains = [(row["action"], row["node"]) for row in found["items"] if row["block"] == "10.64.0.0/28"]
    assert drains == [("Drain", "n1"), ("Drain", "n3")]


def test_version_and_completion(capsys: pytest.CaptureFixture[str]) -> None:
    assert yaml.safe_load(run(capsys, "version", "-o", "yaml"))["kind"] == "Version"
    for shell in ("bash", "zsh", "fish"):
        assert "_PODCIDR_COMPLETE" in run(capsys, "completion", shell)


def test_a_reader_that_has_seen_enough_is_no_violation() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as closed:
        done = subprocess.run([sys.executable, "-m", "podcidr", "version"], stdout=closed, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_full_disk_is_one_line() -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123, RUF100 - a device
        done = subprocess.run([sys.executable, "-m", "podcidr", "version"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (4, "podcidr: output not written: No space left on device\n")


def test_a_closed_standard_output_is_one_line() -> None:
    done = subprocess.run(["/bin/sh", "-c", '"$0" -m podcidr version >&-', sys.executable], stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (4, "podcidr: standard output is closed: nothing was done\n")


SIGNALLED = """
import os, signal, sys
from importlib.abc import MetaPathFinder
class Late(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == sys.argv[2]:
            print("seen", flush=False)
            os.kill(os.getpid(), int(sys.argv[1]))
sys.meta_path.insert(0, Late())
from podcidr.cli.ending import run
sys.exit(run(["version"]))
"""


@pytest.mark.parametrize("module", ["podcidr.cli.check", "click"])
@pytest.mark.parametrize(("number", "status", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")])
def test_a_signal_is_one_line_at_imports_too(module: str, number: int, status: int, word: str) -> None:
    command = [sys.executable, "-c", SIGNALLED, str(int(number)), module]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    line = f"podcidr: {word}; what was done stays done; the same command goes on from there\n"
    assert (done.returncode, done.stdout, done.stderr) == (status, "seen\n", line)


def test_help_orients_a_newcomer(capsys: pytest.CaptureFixture[str]) -> None:
    out = run(capsys)
    assert out == run(capsys, "--help")
    for word in ("IPPool", "NodeCIDR", "IPBlock", "podcidr show", "podcidr check", "podcidr plan", "podcidr operator", "Exit status"):
        assert word in out


@pytest.mark.parametrize("name", cli.commands)
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = run(capsys, name, "--help")
    assert out.startswith(f"Usage: podcidr {name} ")
    assert f"podcidr {name} " in out.split("\n", 1)[1], "an example"


def test_the_page_is_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "cli.md"
    assert page.main(["--check", str(path)]) == 1
    assert page.main([str(path)]) == 0
    assert page.main(["--check", str(path)]) == 0
    path.write_text(path.read_text() + "by hand\n")
    assert page.main(["--check", str(path)]) == 1
    assert "make generate" in capsys.readouterr().err
