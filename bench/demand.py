"""Demand to replay: which pods need an address on which node, when. From a recorded trace if there is one, else invented, seeded.

A trace is a CSV, gzipped or not, with the columns seconds, node, event (+1, −1) and pod, in order of time.
"""

import csv
import gzip
import random
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple


class Change(NamedTuple):
    """A pod comes to a node, or goes."""

    seconds: float
    node: str
    pod: str
    comes: bool


def read(path: Path) -> Iterator[Change]:
    """A recorded trace."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            yield Change(float(row["seconds"]), row["node"], row["pod"], row["event"] == "+1")


def invented(nodes: int, hours: float, seed: int = 7) -> list[Change]:
    """Gangs of equal pods on a few nodes each, and single pods, on top of services that stay."""
    chance = random.Random(seed)
    found: list[Change] = []
    names = [f"n{number:02}" for number in range(nodes)]

    def pod(node: str, at: float, lives: float) -> None:
        name = f"p{len(found)}"
        found.append(Change(at, node, name, True))
        found.append(Change(at + lives, node, name, False))

    for node in names:
        for _ in range(chance.randrange(1, 5)):
            pod(node, 0.0, 2 * hours * 3600)
    at = 0.0
    while (at := at + chance.expovariate(1 / 240)) < hours * 3600:
        lives = min(chance.lognormvariate(6.5, 1.0), 7200.0)
        for node in chance.sample(names, chance.randrange(1, 4)):
            for _ in range(chance.randrange(8, 40)):
                pod(node, at + chance.random() * 3, lives * chance.uniform(0.9, 1.1))
    return sorted(found)


def window(changes: Iterable[Change], nodes: int, begin_seconds: float, hours: float) -> list[Change]:
    """The busiest nodes of a part of a trace; who was there before is there at its second 0."""
    end = begin_seconds + hours * 3600
    cut = [change for change in changes if change.seconds < end]
    counts = Counter(change.node for change in cut if change.seconds >= begin_seconds)
    chosen = {node for node, _ in counts.most_common(nodes)}
    gone = {c.pod for c in cut if not c.comes and c.seconds < begin_seconds}
    return [
        change._replace(seconds=max(0.0, change.seconds - begin_seconds))
        for change in cut
        if change.node in chosen and change.pod not in gone
    ]


def thinned(changes: list[Change], peak: int) -> list[Change]:
    """Only so many pods (chosen by their names) that at most about `peak` run at once."""
    share = min(1.0, peak / highest(changes))
    return [change for change in changes if zlib.crc32(change.pod.encode()) < share * 2**32]


def highest(changes: Iterable[Change]) -> int:
    """Pods that run at once, at most."""
    running = most = 0
    for change in changes:
        running += 1 if change.comes else -1
        most = max(most, running)
    return most
