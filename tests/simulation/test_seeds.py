"""As many seeds as fit into the build's time; that a seed is what it was the last time; that deliberate bugs are caught."""

import os
import re
import subprocess
import sys

import pytest

from tests.cluster.program import ROOT

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
