"""python -m tests.mutants [NAME…] [--quick] [--workers N] [--without WORD] [--list]

Each mutant in a copy of the tree, its checks one after the other until one fails. Exit 0: all are killed. 1: one survives,
or a check fails without a mutant, or can't run. 2: usage.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue
from typing import TypeVar

from tests.mutants.catalogue import MUTANTS, QUICK
from tests.mutants.mutant import ROOT, Check, Mutant

T = TypeVar("T")
R = TypeVar("R")

LEFT_OUT = (".git", ".venv", "build", "__pycache__", ".*_cache", ".hypothesis", "node_modules")
CHECK_SECONDS = 900.0


@dataclass(frozen=True)
class Verdict:
    """What became of one mutant. `by`: the check that killed it, `where` it broke; None: it lives."""

    name: str
    by: Check | None
    seconds: float
    where: str = ""
    trouble: str = ""


class Tree:
    """A copy of the project, to be broken."""

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="podcidr-mutants-")) / "tree"
        try:
            shutil.copytree(ROOT, self.root, ignore=shutil.ignore_patterns(*LEFT_OUT))
        except BaseException:  # a full disk, Ctrl-C
            self.remove()
            raise
        # Compiled files go by a time stamp of seconds: of two mutants within one the second would run the first's.
        paths = {"PYTHONPATH": f"{self.root / 'operator'}:{self.root}", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONSAFEPATH": "1"}
        self.environment = {**os.environ, **paths, "PYTHONHASHSEED": "0"}

    def run(self, check: Check) -> tuple[int, str]:
        """Its status, and what it said."""
        try:
            done = subprocess.run(
                check.command,
                cwd=self.root / check.folder,
                env=self.environment,
                timeout=CHECK_SECONDS,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return 124, f"no end within {CHECK_SECONDS:.0f} s"
        return (2 if "[build failed]" in done.stdout else done.returncode), done.stdout

    def judge(self, mutant: Mutant) -> Verdict:
        """Break it, look who notices, mend it."""
        began = time.monotonic()
        whole = mutant.apply(self.root) if mutant.path else None
        try:
            for check in mutant.checks:
                status, said = self.run(check)
                if status == 1:
                    return Verdict(mutant.name, check, time.monotonic() - began, f": {_where(said)}")
                if status:
                    return Verdict(mutant.name, None, time.monotonic() - began, "", f"{check.name} ended with {status}:\n{said[-3000:]}")
            return Verdict(mutant.name, None, time.monotonic() - began)
        finally:
            if whole is not None:
                (self.root / mutant.path).write_text(whole)

    def remove(self) -> None:
        shutil.rmtree(self.root.parent, ignore_errors=True)


def _where(said: str) -> str:
    """The test that failed, or what the simulation found."""
    for line in said.splitlines():
        if line.startswith("FAILED "):
            return line.removeprefix("FAILED ").partition(" - ")[0].rpartition("/")[2]
        if line.lstrip().startswith("--- FAIL: "):
            return line.split()[2]
        if line.startswith("seed ") and " FAILED: " in line:
            return line.partition("\n")[0].replace(" FAILED", "")[:90]
    return "failed"


def _whole(trees: list[Tree], checks: list[Check]) -> bool:
    """Without a mutant every check that killed one passes: else it would kill whatever it is shown."""
    good = True
    for check, (status, said) in zip(checks, _side_by_side(trees, Tree.run, checks), strict=True):
        if status:
            good = False
            print(f"FAILED without a mutant: {check.name} (status {status})\n{said[-3000:]}", flush=True)
    return good


def _side_by_side(trees: list[Tree], work: Callable[[Tree, T], R], items: list[T]) -> Iterator[R]:
    """In their order, each in a tree that nobody else uses."""
    free: SimpleQueue[Tree] = SimpleQueue()
    for tree in trees:
        free.put(tree)

    def one(item: T) -> R:
        tree = free.get()
        try:
            return work(tree, item)
        finally:
            free.put(tree)

    with ThreadPoolExecutor(len(trees)) as pool:
        yield from pool.map(one, items)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants")
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these (default: all)")
    parser.add_argument("--quick", action="store_true", help="a few that unit and property tests kill, for every run of CI")
    parser.add_argument("--workers", type=int, choices=range(1, 65), metavar="N", default=2, help="trees side by side (default: 2)")
    parser.add_argument("--without", metavar="WORD", default="\0", help="leave out checks with this word in their names")
    parser.add_argument("--list", action="store_true", help="name them and what they break")
    options = parser.parse_args(argv)
    known = {mutant.name: mutant for mutant in MUTANTS}
    if unknown := [name for name in options.names if name not in known]:
        parser.error(f"{unknown[0]}: no mutant of this name; --list shows them")
    chosen = [_without(options.without, known[name]) for name in options.names or (QUICK if options.quick else known)]
    if options.list:
        print("\n".join(f"{mutant.name:36} {mutant.breaks}" for mutant in chosen))
        return 0
    trees = [Tree() for _ in range(options.workers)]
    try:
        return _run(trees, chosen)
    finally:
        for tree in trees:
            tree.remove()


def _without(word: str, mutant: Mutant) -> Mutant:
    return replace(mutant, checks=tuple(check for check in mutant.checks if word not in check.name))


def _run(trees: list[Tree], chosen: list[Mutant]) -> int:
    began = time.monotonic()
    print(f"{'mutant':36} {'s':>5}  killed by")
    survivors, killers = 0, dict[Check, None]()
    for verdict in _side_by_side(trees, Tree.judge, chosen):
        survivors += verdict.by is None
        killers |= {replace(verdict.by, command=verdict.by.clean): None} if verdict.by else {}
        print(f"{verdict.name:36} {verdict.seconds:5.0f}  {verdict.by.name if verdict.by else 'SURVIVED'}{verdict.where}", flush=True)
        if verdict.trouble:
            print(verdict.trouble, flush=True)
    print(f"{len(chosen)} mutants, {len(chosen) - survivors} killed, {survivors} survived, {time.monotonic() - began:.0f} s")
    return 0 if _whole(trees, list(killers)) and not survivors else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
