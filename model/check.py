"""Checks the models with spin, and that each rule is needed: with a guard removed a model must fail.

    model/check.py [--level smoke|quick|full] [--only MODEL] [--if-present]

Exit 0: every model held and every one without a guard failed. 1: not so. 2: spin or a C compiler is missing.
"""

import argparse
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
LEVELS = ("smoke", "quick", "full")
MEMORY_MIB = 7500
DEPTH = 20_000_000  # steps of one path: the models go round and round, so their paths are long
SHORT_DEPTH = 20_000  # a search that is cut off here proves nothing, but finds an error quickly


@dataclass(frozen=True)
class Run:
    """One check: a model, its -D switches, and whether it holds. `search` is for the search alone: it changes no verdict."""

    model: str
    switches: str = ""
    fails: bool = False
    level: str = "quick"
    limit_seconds: int = 900
    """Of CPU."""
    search: str = ""

    @property
    def depths(self) -> tuple[int, ...]:
        """How far a path is followed: to its end, where the answer is to be a proof."""
        return (SHORT_DEPTH, DEPTH) if self.fails else (DEPTH,)


@dataclass(frozen=True)
class Result:
    """What became of a run."""

    states: int
    seconds: float
    verdict: str
    as_expected: bool


def without(model: str, *guards: str, world: str = "", level: str = "quick", search: str = "") -> list[Run]:
    """The model in one world, with each of the guards removed."""
    return [Run(model, f"{world} {guard}".strip(), fails=True, level=level, search=search) for guard in guards]


BACKWARDS = "-DREVERSE"
"""Last process first: finds most errors of geometry.pml and restore.pml ten times as fast."""
DENSE = "-DCOLLAPSE"
"""A third of the memory, twice the time."""

RUNS = [
    Run("block", "OPERATORS=1", level="smoke"),
    Run("block", "PROMPT", level="smoke"),
    *without("block", "WITNESS", "NO_LOCK", "ENTER_LEFT", "NO_FENCE", "BLOCK_FIRST", "REREAD_BLOCK", world="PROMPT", level="smoke"),
    *without("block", "NO_EPOCH_TEST", "NO_RAISE", "ANY_REPORT", "FREE_ANY", "COUNT_FIRST", world="PROMPT", level="smoke"),
    Run("geometry", "LAZY NEW=1 MOVES=2", level="smoke"),
    *without("geometry", "WITNESS", "NO_READ", "NO_LIST_AGAIN", "LIST_FIRST", level="smoke", search=BACKWARDS),
    Run("restore", "PROMPT EPOCHS=3", level="smoke"),
    *without("restore", "WITNESS", "NO_QUESTION", "AHEAD_TELLS", world="PROMPT EPOCHS=5", level="smoke"),
    *without("restore", "CLAIM_AT_ONCE", "FILE_BACK", "NO_DRAIN", world="PROMPT EPOCHS=5", level="smoke", search=BACKWARDS),
    Run("restore", "PROMPT EPOCHS=4", search=DENSE),
    *without("restore", "NOT_STILL", "EQUAL_BACK", world="PROMPT EPOCHS=4", search=BACKWARDS),
    Run("block", search=DENSE),
    Run("block", "PROMPT AGAIN"),
    *without("block", "WITNESS", "NO_UID_TEST", "NO_TOUCH", "NO_ADOPT", "REPORT_ANY_UID", "NO_FENCE", world="PROMPT AGAIN"),
    Run("block", "PROMPT LOST"),
    *without("block", "WITNESS", "NO_NODE_READ", world="PROMPT LOST"),
    Run("block", "PROMPT LATE"),
    *without("block", "WITNESS", "ANY_REPORT", "NO_RAISE", "COUNT_FIRST", world="PROMPT LATE"),
    Run("block", "OPERATORS=1 TWO_AGENTS"),
    *without("block", "WITNESS", "FILE_BACK", "COUNT_FIRST", world="PROMPT TWO_AGENTS"),
    Run("geometry", "NEW=1"),
    *without("geometry", "OWN_POOL", "GENERATION", search=BACKWARDS),
    Run("block", "PROMPT LOST AGAIN", level="full", search=DENSE),
    *without("block", "NO_NODE_READ", world="PROMPT LOST AGAIN", level="full"),
    Run("block", "PROMPT AGAIN LATE", level="full", search=DENSE),
    Run("block", "PROMPT TWO_AGENTS", level="full", search=DENSE),
    Run("restore", "PROMPT EPOCHS=5", level="full", search=DENSE),
    Run("geometry", level="full", search=DENSE),
    Run("geometry", "ANY_VERSION", level="full", search=DENSE),
]


class Failed(Exception):
    """A tool did not do its part: no verdict."""


def check(run: Run, folder: Path) -> Result:
    """Translate, compile, search."""
    source = HERE / f"{run.model}.pml"
    if unknown := {switch.partition("=")[0] for switch in run.switches.split()} - set(re.findall(r"\w+", source.read_text())):
        raise Failed(f"{source.name} knows nothing of {', '.join(unknown)}: what is switched off there is nothing")
    defines = [f"-D{switch}" for switch in run.switches.split()]
    _call(["spin", "-a", *defines, str(source)], folder)
    _call(["gcc", "-O2", "-w", "-DSAFETY", f"-DMEMLIM={MEMORY_MIB}", *run.search.split(), "-o", "pan", "pan.c"], folder)
    before = _cpu_seconds()
    for depth in run.depths:
        said = _search(folder, depth, run.limit_seconds)
        result = judge(run, said, _cpu_seconds() - before)
        if result.as_expected:
            break
    return result


def _cpu_seconds() -> float:
    """Of the tools that ran so far: wall time says as much about who else uses the machine."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _search(folder: Path, depth: int, limit_seconds: int) -> str:
    """What pan said; nothing if it came to the end of its CPU time."""
    command = ["nice", "prlimit", f"--cpu={limit_seconds}", "./pan", "-n", "-E", f"-m{depth}", "-w25"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False).stdout


def judge(run: Run, said: str, seconds: float) -> Result:
    """Read what pan said. Only a search that was neither cut off nor short of memory proves anything."""
    states = int(match[1]) if (match := re.search(r"(\d+) states, stored", said)) else 0
    violated = re.search(r"assertion violated (.+?) \(at depth (\d+)\)", said)
    if violated:
        return Result(states, seconds, f"fails after {violated[2]} steps", as_expected=run.fails)
    cut_off = "max search depth too small" in said or "not completed" in said or "out of memory" in said
    if not said:
        return Result(0, seconds, f"unfinished after {run.limit_seconds} s", as_expected=False)
    if cut_off or "errors: 0" not in said or not states:
        verdict = "no error found" if run.fails else "unfinished"
        return Result(states, seconds, verdict, as_expected=False)
    return Result(states, seconds, "holds", as_expected=not run.fails)


def _call(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"{' '.join(command)}: {done.stdout}{done.stderr}")


def missing() -> str | None:
    """What has to be installed first, in words."""
    packages = {"spin": "spin", "gcc": "gcc libc6-dev"}
    absent = [packages[tool] for tool in packages if shutil.which(tool) is None]
    return f"the models need {' and '.join(absent)}: apt-get install {' '.join(absent)}" if absent else None


def _show(run: Run, result: Result) -> None:
    mark = "" if result.as_expected else f"  <- expected: {'fails' if run.fails else 'holds'}"
    print(f"{run.model:<10}{run.switches or '-':<44}{result.states:>12,} {result.seconds:>7.1f}  {result.verdict}{mark}", flush=True)


def main() -> int:
    """All runs of the level, as a table."""
    parser = argparse.ArgumentParser(description="check the models with spin")
    parser.add_argument("--level", choices=LEVELS, default="quick")
    parser.add_argument("--only", metavar="MODEL", help="this model alone")
    parser.add_argument("--if-present", action="store_true", help="without spin or gcc say so and succeed")
    args = parser.parse_args()
    if why := missing():
        print(f"models: not checked; {why}" if args.if_present else why, file=sys.stderr)
        return 0 if args.if_present else 2
    runs = [run for run in RUNS if LEVELS.index(run.level) <= LEVELS.index(args.level) and args.only in (None, run.model)]
    print(f"{'model':<10}{'switches':<44}{'states':>12} {'CPU s':>7}  verdict")
    good, started = 0, time.monotonic()
    for run in runs:
        try:
            with tempfile.TemporaryDirectory() as folder:
                result = check(run, Path(folder))
        except (Failed, OSError) as error:
            print(f"no verdict on {run.model} {run.switches}: {error}", file=sys.stderr)
            return 2
        _show(run, result)
        good += result.as_expected
    print(f"{good} of {len(runs)} as expected in {time.monotonic() - started:.0f} s")
    return 0 if runs and good == len(runs) else 1


if __name__ == "__main__":
    sys.exit(main())
