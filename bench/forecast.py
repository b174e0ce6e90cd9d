"""How good a pool's forecast is: the operator's own, fed minute by minute from traces of demand.

Each pool is as large as its demand is at one moment of the trace (90, 95 and 99 % of the highest), so it is exhausted
for the first time at a moment that the forecast does not know. Looked at so long before: how far off was it? And how
often did it say "within the hour" while the pool lasted three hours more?
"""

import argparse
import math
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from bench import demand
from bench.demand import Change
from bench.machine import percentile, report
from podcidr.reconcile.forecast import Forecast

BLOCK, HEADROOM, MINUTE, HOUR = 16, 8, 60.0, 3600.0
LEADS_HOURS = (6.0, 3.0, 1.0, 0.5)
FILLS_PERCENT = (85, 90, 95, 99)
SOON_SECONDS, LASTED_SECONDS = HOUR, 3 * HOUR


class Series(NamedTuple):
    """Blocks that the nodes of a trace hold, minute by minute."""

    name: str
    blocks: list[int]


def series(name: str, changes: Iterable[Change]) -> Series:
    """What use and headroom come to in blocks, node by node. The pool's own dynamics (windows, quarantine) only smooth it."""
    pods: Counter[str] = Counter()
    total, found, following = 0, [], MINUTE
    for change in changes:
        while change.seconds >= following:
            found.append(total)
            following += MINUTE
        before = _blocks(pods[change.node])
        pods[change.node] += 1 if change.comes else -1
        total += _blocks(pods[change.node]) - before
    return Series(name, found)


def _blocks(pods: int) -> int:
    return math.ceil((pods + HEADROOM) / BLOCK) if pods else 0


class Look(NamedTuple):
    """The forecast at one moment, and what came true."""

    lead_hours: float
    predicted_seconds: int | None
    actual_seconds: float


def looks(of: Series, size: int) -> tuple[list[Look], int, int]:
    """At each lead before the exhaustion; then how many minutes said "soon", and how many of those in vain."""
    end = next(minute for minute, blocks in enumerate(of.blocks) if blocks >= size)
    forecast, found, soon, vain = Forecast(), [], 0, 0
    leads = {end - round(hours * 60): hours for hours in LEADS_HOURS}
    for minute in range(end):
        forecast.add(minute * MINUTE, size - of.blocks[minute])
        said = forecast.seconds_to_exhaustion()
        actual = (end - minute) * MINUTE
        if minute in leads:
            found.append(Look(leads[minute], said, actual))
        if said is not None and said <= SOON_SECONDS:
            soon += 1
            vain += actual > LASTED_SECONDS
    return found, soon, vain


def sizes(of: Series) -> list[int]:
    """Pools that are exhausted late enough to have been watched."""
    warm = of.blocks[: round(max(LEADS_HOURS) * 60) + 30]
    highest = max(of.blocks)
    return sorted({size for percent in FILLS_PERCENT if (size := highest * percent // 100) > max(warm)})


def invented() -> Iterator[Series]:
    """A rhythm of a day that grows by the day, and a roll-out that never ends."""
    day = [500 + minute // 20 + round(180 * math.sin((minute / 1440 - 0.35) * 2 * math.pi)) for minute in range(3 * 1440)]
    yield Series("invented day", day)
    yield Series("invented growth", [200 + minute // 7 for minute in range(1440)])


def recorded(traces: Path) -> Iterator[Series]:
    """Each trace of the folder."""
    for path in sorted(traces.glob("demand-*.csv.gz")):
        yield series(path.name.removeprefix("demand-").removesuffix(".csv.gz"), demand.read(path))


def table(all_series: Iterable[Series]) -> list[str]:
    """One line a trace and lead; the error is predicted − actual."""
    lines = [
        "| trace | pools | looked, h before | said something | error p50, h | within half to double | ≤ 1 h said in vain, minutes |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for of in all_series:
        results = [looks(of, size) for size in sizes(of)]
        soon, vain = sum(r[1] for r in results), sum(r[2] for r in results)
        for hours in LEADS_HOURS:
            at = [look for r in results for look in r[0] if look.lead_hours == hours]
            said = [(look.predicted_seconds, look.actual_seconds) for look in at if look.predicted_seconds is not None]
            errors = [(predicted - actual) / HOUR for predicted, actual in said]
            close = sum(actual / 2 <= predicted <= actual * 2 for predicted, actual in said)
            middle = f"{percentile(errors, 50):+.1f}" if errors else "–"
            lines.append(
                f"| {of.name} | {len(results)} | {hours:g} | {len(said)} of {len(at)} | {middle} | {close} of {len(at)}"
                f" | {vain} of {soon} |"
            )
    return lines


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser("bench.forecast", description=__doc__)
    parser.add_argument("--traces", type=Path, help="a folder with recorded traces; without it series are invented")
    parser.add_argument("--write", action="store_true", help="keep the figures in bench/results/forecast.md")
    options = parser.parse_args()
    report("forecast", table(recorded(options.traces) if options.traces else invented()), write=options.write)
    return 0


if __name__ == "__main__":
    sys.exit(main())
