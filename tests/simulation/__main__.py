"""python -m tests.simulation --seeds 1000 [--start K] [--seconds S] [--workers 2] [--mutant NAME]

Exit 0: clean. 1: an invariant broke, a seed did not converge, or some kind of action or fault never occurred. 2: usage.
"""

import argparse
import json
import os
import selectors
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

COUNT_SEEDS = 100
"""From so many seeds on, every kind of action and of fault must have occurred."""
SAY_SECONDS = 15.0
SEED_SECONDS = 120.0
"""Of a processor: a seed that takes longer hangs."""


@dataclass
class Totals:
    """Sums over the seeds of a run."""

    seeds: int = 0
    steps: int = 0
    checks: int = 0
    assignments: int = 0
    hours: float = 0.0
    least_writes: int = 1 << 30
    least_faults: int = 1 << 30
    counts: dict[str, Counter[str]] = field(
        default_factory=lambda: {kind: Counter() for kind in ("faults", "messages", "actions", "writes")}
    )
    digests: set[int] = field(default_factory=set)

    def add(self, result: dict[str, Any]) -> None:
        self.seeds += 1
        self.steps += result["steps"]
        self.checks += result["checks"]
        self.assignments += result["assignments"]
        self.hours += result["virtual_seconds"] / 3600
        self.digests.add(result["digest"])
        for kind, counter in self.counts.items():
            counter.update(result[kind])
        if result["violation"] is None:
            self.least_faults = min(self.least_faults, sum(result["faults"].values()))
            self.least_writes = min(self.least_writes, sum(n for k, n in result["writes"].items() if k not in ("leases", "events")))

    def line(self, seconds: float) -> str:
        return (
            f"{self.seeds} seeds in {seconds:.0f} s, {self.steps:,} steps, {self.checks:,} checks, {self.assignments:,} assignments, "
            f"{self.hours:.0f} hours of cluster time, "
            + (f"{len(self.digests):,} histories" if len(self.digests) != 1 else f"history {self.digests.copy().pop():08x}")
        )

    def table(self) -> Iterator[str]:
        for kind, counter in self.counts.items():
            yield f"{kind}: " + ", ".join(f"{name} {count:,}" for name, count in sorted(counter.items()))


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--seeds", type=_positive, default=1000, help="how many (default: 1000)")
    parser.add_argument("--start", type=int, default=0, metavar="K", help="the first one (default: 0)")
    parser.add_argument("--seconds", type=_seconds, default=0.0, metavar="S", help="begin no seed after so long (default: no limit)")
    parser.add_argument("--workers", type=_positive, default=2, help="processes side by side (default: 2)")
    parser.add_argument("--faults", type=_numbers, default=None, metavar="N,N,…", help="of one seed: only the faults of these numbers")
    parser.add_argument("--mutant", default=None, metavar="NAME", help="run with a deliberate bug; --mutant list names them")
    parser.add_argument("--verbose", action="store_true", help="print the whole trace")
    parser.add_argument("--no-shrink", dest="shrink", action="store_false", help="on a failure do not look for fewer faults")
    options = parser.parse_args(argv)
    if os.environ.get("PYTHONHASHSEED") != "0":  # sets of strings must be walked in the same order each time
        os.execve(sys.executable, [sys.executable, "-m", "tests.simulation", *argv], {**os.environ, "PYTHONHASHSEED": "0"})
    from tests.simulation import mutants

    if options.mutant == "list":
        print("\n".join(f"{name:32} {mutant.__doc__}" for name, mutant in mutants.MUTANTS.items()))
        return 0
    if options.mutant is not None:
        if options.mutant not in mutants.MUTANTS:
            parser.error(f"--mutant {options.mutant}: not one of {', '.join(mutants.MUTANTS)}")
        mutants.MUTANTS[options.mutant]()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as an exception: what runs is ended, what lies about is removed
    try:
        return _run_all(options, options.faults)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{number}: one at least")
    return number


def _seconds(text: str) -> float:
    if (seconds := float(text)) < 0:
        raise argparse.ArgumentTypeError(f"{text}: not negative")
    return seconds


def _numbers(text: str) -> frozenset[int]:
    """None of them is fine: a seed without faults."""
    return frozenset(int(number) for number in text.split(",") if number)


_positive.__name__, _seconds.__name__, _numbers.__name__ = "number", "number of seconds", "list of numbers"  # as argparse names them


def _run_all(options: argparse.Namespace, keep: frozenset[int] | None) -> int:
    import tests.simulation.run  # noqa: F401 - once, before the forks

    totals, began = Totals(), time.monotonic()
    say_at = began + SAY_SECONDS
    seeds = iter(range(options.start, options.start + options.seeds))
    for result in _side_by_side(seeds, options, keep, began):
        totals.add(result)
        if result["violation"] is not None:
            _explain(result, options, keep)
            print(totals.line(time.monotonic() - began))
            return 1
        if time.monotonic() >= say_at:
            say_at = time.monotonic() + SAY_SECONDS
            print(_progress(totals.seeds, options.seeds, time.monotonic() - began), flush=True)
    print(totals.line(time.monotonic() - began))
    print(f"{_processor_seconds() / max(1, totals.seeds):.2f} s of a processor a seed")
    print(f"least of a seed: {totals.least_writes} API writes, {totals.least_faults} faults")
    print("\n".join(totals.table()))
    missing = [] if totals.seeds < COUNT_SEEDS else list(_missing(totals))
    if missing:
        print(f"FAILED: never occurred: {', '.join(missing)}")
    return 1 if missing else 0


def _progress(done: int, wanted: int, seconds: float) -> str:
    minutes_left = (wanted - done) * seconds / done / 60
    pace = f"{60 * done / seconds:.0f} a minute, {minutes_left:.0f} min left"
    return f"{done} of {wanted} seeds clean, {pace}; {_processor_seconds() / done:.2f} s of a processor each"


def _processor_seconds() -> float:
    spent = os.times()
    return spent.children_user + spent.children_system


def _missing(totals: Totals) -> Iterator[str]:
    from tests.simulation.faults import FAULTS
    from tests.simulation.network import MESSAGE_FAULTS, WRITE_FAULTS
    from tests.simulation.world import ACTIONS

    yield from (name for name in FAULTS if not totals.counts["faults"][name])
    yield from (name for name in (*WRITE_FAULTS, *MESSAGE_FAULTS) if not totals.counts["messages"][name])
    yield from (name for name in ACTIONS if not totals.counts["actions"][name])


def _side_by_side(seeds: Iterator[int], options: argparse.Namespace, keep: frozenset[int] | None, began: float) -> Iterator[dict[str, Any]]:
    """Each seed in a process of its own, so that nothing of one is left for the next."""
    memory = "/dev/shm" if "TMPDIR" not in os.environ and os.access("/dev/shm", os.W_OK) else None
    directory = tempfile.mkdtemp(prefix="podcidr-sim-", dir=memory)
    selector = selectors.DefaultSelector()
    running: dict[int, tuple[int, bytearray, int]] = {}
    try:
        while True:
            while len(running) < options.workers and (not options.seconds or time.monotonic() - began < options.seconds):
                seed = next(seeds, None)
                if seed is None:
                    break
                fd, pid = _fork(seed, keep, Path(directory), verbose=options.verbose)
                running[fd] = (pid, bytearray(), seed)
                selector.register(fd, selectors.EVENT_READ)
            if not running:
                return
            for key, _ in selector.select():
                fd = int(key.fd)
                pid, content, seed = running[fd]
                if chunk := os.read(fd, 1 << 20):
                    content += chunk
                    continue
                selector.unregister(fd)
                os.close(fd)
                os.waitpid(pid, 0)
                del running[fd]
                yield json.loads(bytes(content) or json.dumps(_died(seed)))
    finally:
        for pid, _, _ in running.values():
            os.kill(pid, 9)
            os.waitpid(pid, 0)
        shutil.rmtree(directory, ignore_errors=True)


def _died(seed: int) -> dict[str, Any]:
    from tests.simulation.run import Result

    return Result(seed, violation=f"the simulation itself ended (or took more than {SEED_SECONDS:.0f} s); see above").as_json()


def _fork(seed: int, keep: frozenset[int] | None, directory: Path, *, verbose: bool) -> tuple[int, int]:
    reader, writer = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        os.close(writer)
        return reader, pid
    os.close(reader)
    status = 1
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_PROF, SEED_SECONDS)
        from tests.simulation.run import run_seed

        data = json.dumps(run_seed(seed, keep, directory, verbose=verbose).as_json()).encode()
        while data:
            data = data[os.write(writer, data) :]
        status = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(status)


def _run_one(seed: int, keep: frozenset[int] | None, options: argparse.Namespace) -> dict[str, Any]:
    single = argparse.Namespace(**{**vars(options), "workers": 1, "seconds": 0.0})
    return next(_side_by_side(iter([seed]), single, keep, 0.0))


def _explain(result: dict[str, Any], options: argparse.Namespace, keep: frozenset[int] | None) -> None:
    """Say what broke, with as few faults as it takes."""
    seed = result["seed"]
    print(f"seed {seed} FAILED: {result['violation']}")
    if keep is None and options.shrink:
        result = _shrink(result, options)
    print("\n".join(result["trace"]))
    print(f"seed {seed} FAILED: {result['violation']}")
    numbers = ",".join(str(number) for number in sorted(result["fault_numbers"]))
    mutant = f" --mutant {options.mutant}" if options.mutant else ""
    again = f"replay: {os.path.relpath(sys.executable)} -m tests.simulation --seeds 1 --start {seed}{mutant}"
    print(f"{again}   (all faults)")
    print(f"{again} --faults='{numbers}'   (as above)", flush=True)


def _shrink(result: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """Drop all, then halves, quarters, single faults, as long as the same kind of failure stays. At most 60 runs."""
    kind = result["violation"].partition(":")[0]
    best, kept, runs = result, sorted(result["fault_numbers"]), 0
    size = len(kept) or 1  # first of all: does it break without any?
    while runs < 60:
        for at in range(0, len(kept), size):
            fewer = kept[:at] + kept[at + size :]
            runs += 1
            tried = _run_one(result["seed"], frozenset(fewer), options)
            if tried["violation"] and tried["violation"].partition(":")[0] == kind:
                best, kept = tried, fewer
                break
        else:
            if size == 1:
                break
            size = (size + 1) // 2
        if not kept:
            break
        size = min(size, len(kept))
    print(f"shrunk from {len(result['fault_numbers'])} faults to {len(kept)} in {runs} runs")
    best["fault_numbers"] = kept
    return best


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
