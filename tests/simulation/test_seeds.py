"""As many seeds as fit into the build's time; that a seed is what it was the last time; that deliberate bugs are caught."""

import argparse
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.program import ROOT
from tests.simulation import __main__ as command_line

BUDGET_SECONDS = 150
SEEDS = 20
"""Those that were seen clean: a change that breaks one of them is to blame. Others are looked for by `make simulate`."""
FIRST = int(os.environ.get("SEED_START", "0"))


def simulate(*arguments: str, limit_seconds: float) -> subprocess.CompletedProcess[str]:
    """`python -m tests.simulation`, in a process of its own: it changes asyncio for itself."""
    command = [sys.executable, "-m", "tests.simulation", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=limit_seconds, check=False)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_seeds() -> None:
    done = simulate("--seeds", str(SEEDS), "--start", str(FIRST), "--seconds", str(BUDGET_SECONDS), limit_seconds=850)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_a_seed_is_the_same_again() -> None:
    """The digest is over every change of every object, with its time."""
    histories = [
        re.search(r"history [0-9a-f]{8}", simulate("--seeds", "1", "--start", "3", "--workers", "1", limit_seconds=250).stdout)
        for _ in "ab"
    ]
    assert histories[0] is not None
    assert histories[1] is not None
    assert histories[0][0] == histories[1][0]


@pytest.mark.slow
@pytest.mark.parametrize("mutant", ["skip-quarantine", "ignore-observed-epoch"])
def test_a_deliberate_bug_is_caught(mutant: str) -> None:
    done = simulate("--seeds", "20", "--mutant", mutant, "--no-shrink", limit_seconds=280)
    assert done.returncode == 1
    assert "FAILED: invariant" in done.stdout


@pytest.mark.parametrize("wrong", ["--seeds=0", "--seeds=-3", "--workers=0", "--seconds=-1", "--faults=foo"])
def test_nothing_run_is_not_clean(wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command_line.main([wrong])
    assert ended.value.code == 2
    assert wrong.partition("=")[0] in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_is_stopped_leaves_nothing(number: signal.Signals, tmp_path: Path) -> None:
    """Its workers end with it, and their files go: state directories in memory."""
    command = [sys.executable, "-m", "tests.simulation", "--seeds", "4", "--start", "77"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True) as running:
        deadline = time.monotonic() + 100
        while not list(tmp_path.glob("podcidr-sim-*/seed-*/n0")):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        running.send_signal(number)
        assert running.stderr
        said = running.stderr.read()
        assert running.wait(20) == {signal.SIGINT: 130, signal.SIGTERM: 143}[number]
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ProcessLookupError):
        os.killpg(running.pid, 0)


@pytest.mark.parametrize("needed", [set(), {3}, {0, 19}, {4, 5, 6}])
def test_a_failure_is_shrunk_to_the_faults_that_it_takes(monkeypatch: pytest.MonkeyPatch, needed: set[int]) -> None:
    def run(seed: int, keep: frozenset[int], _options: argparse.Namespace) -> dict[str, Any]:
        violation = "invariant 1: x" if needed <= keep else "invariant 5: another" if keep else None
        return {"seed": seed, "violation": violation, "fault_numbers": sorted(keep)}

    monkeypatch.setattr(command_line, "_run_one", run)
    found = {"seed": 7, "violation": "invariant 1: y", "fault_numbers": list(range(20))}
    shrunk = command_line._shrink(found, argparse.Namespace())
    assert shrunk["violation"] == "invariant 1: x"
    assert shrunk["fault_numbers"] == sorted(needed)


@pytest.mark.slow
def test_what_is_printed_replays() -> None:
    """The last line is a command that ends in the same violation, though all that does not matter is left out."""
    done = simulate("--seeds", "1", "--start", "1", "--workers", "1", "--mutant", "skip-quarantine", limit_seconds=250)
    violation = re.findall(r"^seed 1 FAILED: .*$", done.stdout, re.MULTILINE)[-1]
    replay = shlex.split(re.findall(r"^replay: \S+ -m tests.simulation (.*--faults=.*)   \(", done.stdout, re.MULTILINE)[0])
    again = simulate(*replay, limit_seconds=100)
    assert again.returncode == 1
    assert violation in again.stdout
