"""Every assignment on file, and the judge that reads nothing else: neither our objects nor our invariants."""

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self


@dataclass(frozen=True)
class Line:
    """An ADD has printed the address, or its DEL is about to start; seconds of one monotonic clock."""

    at: float
    what: str
    container: str
    node: str
    address: str


class Record:
    """Appends what the plugin printed, one JSON object a line: from the return of an ADD to the start of its first DEL."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.assignments = 0
        self._held: dict[str, list[tuple[str, str]]] = {}

    def __enter__(self) -> Self:
        self._file = self.path.open("w")
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def assigned(self, container: str, node: str, addresses: Iterable[str]) -> None:
        """An ADD returned these."""
        held = self._held[container] = [(node, address) for address in addresses]
        self.assignments += len(held)
        self._write("assigned", container)

    def released(self, container: str) -> None:
        """Its DEL is about to start, or its network namespace is gone: from here on the address may be another's."""
        if container in self._held:
            self._write("released", container)
            del self._held[container]

    def _write(self, what: str, container: str) -> None:
        for node, address in self._held[container]:
            line = {"at": time.monotonic(), "what": what, "container": container, "node": node, "address": address}
            self._file.write(json.dumps(line) + "\n")


def overlaps(path: Path) -> list[str]:
    """Each time that an address was assigned while another container held it, in words. [] is what has to be."""
    found = []
    held: dict[str, Line] = {}
    for line in _lines(path):
        holder = held.get(line.address)
        if line.what == "released":
            if holder is not None and holder.container == line.container:
                del held[line.address]
            continue
        if holder is not None:
            found.append(
                f"{line.address}: {line.container[:12]} on {line.node} at {line.at:.3f}, held since {holder.at:.3f} "
                f"by {holder.container[:12]} on {holder.node}"
            )
        held[line.address] = line
    return found


def moves(path: Path) -> int:
    """How often an address was assigned on another node than the time before: without any, the judge has seen nothing."""
    last: dict[str, str] = {}
    count = 0
    for line in _lines(path):
        if line.what == "assigned":
            count += last.get(line.address, line.node) != line.node
            last[line.address] = line.node
    return count


def _lines(path: Path) -> Iterator[Line]:
    with path.open() as file:
        for text in file:
            yield Line(**json.loads(text))
