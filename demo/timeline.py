"""The picture: a line whenever something changed, half a second apart at least. Lines only, so that a file reads as well."""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from demo.watch import DRAINING, FREED, GRANTED, LEFT, QUARANTINED, UNDRAINED, Change, Held, Watch
from podcidr.core.prefix import Prefix, parse_address

_EVERY_SECONDS = 0.5
_AT_LEAST_EVERY_SECONDS = 3.0
_WORDS = {GRANTED: "+", UNDRAINED: "keeps ", DRAINING: "drains ", LEFT: "-", FREED: "free again: "}
_BY_NODE = (GRANTED, UNDRAINED, DRAINING, LEFT)
_COLUMN = 23


def say(text: str = "") -> None:
    """One line, out at once: the output may be a pipe."""
    print(text, flush=True)


def _can_draw() -> bool:
    try:
        "▁█·↓".encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


class Timeline:
    """Nodes × blocks × use. Use is what the runtime was really given, not what anybody reports."""

    def __init__(
        self, nodes: Sequence[str], pool: str, watch: Watch, *, addresses: Callable[[], Mapping[str, str]], waiting: Callable[[], int]
    ) -> None:
        self._nodes, self._pool, self._watch = nodes, pool, watch
        self._addresses, self._waiting = addresses, waiting
        self._started = time.monotonic()
        self._told = 0
        self._last = ""
        self._last_at = 0.0
        self._levels, self._empty, self._drains = ("▁▂▃▄▅▆▇█", "·", "↓") if _can_draw() else ("12345678", ".", "v")

    @property
    def seconds(self) -> float:
        """Since the demo began."""
        return time.monotonic() - self._started

    def legend(self) -> None:
        """How to read it."""
        say(
            f"one character a block of 16 addresses: {self._levels} how full, {self._empty} empty, {self._drains} draining; "
            "after | the pinned pool's, of 8"
        )
        say("waits: pods without an address yet; rests: blocks in quarantine")

    def header(self) -> None:
        """Names of the columns."""
        say("   time  " + "".join(f"{node:<{_COLUMN}}" for node in self._nodes) + "waits rests  what happened")

    async def run(self) -> None:
        """Draw, for ever."""
        while True:
            await asyncio.sleep(_EVERY_SECONDS)
            self.draw()

    def draw(self) -> None:
        """A line, if there is something to tell."""
        new = self._watch.changes[self._told :]
        self._told += len(new)
        use = self._use()
        row = "".join(f"{self._node(node, use):<{_COLUMN}}" for node in self._nodes)
        row += f"{self._waiting():>5} {self._watch.resting:>5}"
        now = time.monotonic()
        if new or row != self._last or now - self._last_at >= _AT_LEAST_EVERY_SECONDS:
            say(f"{self.seconds:6.1f}s  {row}  {_happened(new)}".rstrip())
            self._last, self._last_at = row, now

    def _use(self) -> dict[str, list[Prefix]]:
        use: dict[str, list[Prefix]] = {node: [] for node in self._nodes}
        for address, node in self._addresses().items():
            family, number = parse_address(address)
            use[node].append(Prefix(family, number, 32))
        return use

    def _node(self, node: str, use: Mapping[str, Sequence[Prefix]]) -> str:
        blocks = self._watch.blocks(node)
        bars = {held: self._bar(held, use[node]) for held in blocks}
        own = "".join(bar for held, bar in bars.items() if held.pool == self._pool)
        pinned = "".join(bar for held, bar in bars.items() if held.pool != self._pool)
        capacity = sum(held.prefix.size for held in blocks)
        return f"{own}{'|' if pinned else ''}{pinned} {len(use[node])}/{capacity}"

    def _bar(self, held: Held, addresses: Sequence[Prefix]) -> str:
        used = sum(held.prefix.holds(address) for address in addresses)
        if held.draining:
            return self._drains
        return self._levels[-(-used * len(self._levels) // held.prefix.size) - 1] if used else self._empty


def _happened(changes: Sequence[Change]) -> str:
    """In words, alike things together; that a block which left now rests is in its own column."""
    told = [(change.node if change.what in _BY_NODE else "", change.what, change.block) for change in changes]
    counts = Counter((node, what) for node, what, _ in told)
    block = {(node, what): str(block) for node, what, block in told}
    parts = (
        f"{node} {_WORDS[what]}".lstrip() + (block[node, what] if count == 1 else f"{count} blocks")
        for (node, what), count in counts.items()
        if what != QUARANTINED
    )
    return ", ".join(parts)
