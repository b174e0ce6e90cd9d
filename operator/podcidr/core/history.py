"""Who held which block when: lines of a record that the operator keeps, in a ring of segments of bounded size. Pure.

2026-11-21T14:49:10Z claimed 10.64.3.0/28 default n1 the automatic pools: 4 in use, …
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from .actions import Action, Adopt, Claim, Drain, Free, Leave, Undrain
from .errors import BadValue
from .model import Block
from .prefix import Prefix, parse_prefix

SEGMENTS = 16
SEGMENT_BYTES = 60_000
"""16 × 60 kB: under 1 MB in etcd, some ten thousand lines; each write replaces one segment."""
MAX_PENDING = 4_000
REASON_CHARACTERS = 100
CLOCK_SKEW = timedelta(seconds=60)
"""Between the API server's stamps (creation) and the operators' (everything else)."""

CLAIMED, ADOPTED, DRAINING, UNDRAINED, RELEASED, FREED = "claimed", "adopted", "draining", "undrained", "released", "freed"
HOLDS = (CLAIMED, ADOPTED, DRAINING, UNDRAINED)
"""After one of these the node has the block."""
WORDS: Mapping[type[Action], str] = {
    Claim: CLAIMED, Adopt: ADOPTED, Drain: DRAINING, Undrain: UNDRAINED, Leave: RELEASED, Free: FREED,
}  # fmt: skip


class Record(NamedTuple):
    """One line."""

    at: str
    what: str
    prefix: Prefix
    pool: str
    node: str
    reason: str = ""

    def line(self) -> str:
        """As it is kept: five words, then the reason up to the line's end."""
        reason = " ".join(self.reason.split())[:REASON_CHARACTERS]
        return f"{self.at} {self.what} {self.prefix} {self.pool or '-'} {self.node} {reason}".rstrip()


def parse(line: str) -> Record | None:
    """None: not a line of ours."""
    words = line.split(" ", 5)
    if len(words) < 5 or words[1] not in WORDS.values():
        return None
    try:
        prefix = parse_prefix(words[2])
        datetime.fromisoformat(words[0])
    except (BadValue, ValueError):
        return None
    return Record(words[0], words[1], prefix, "" if words[3] == "-" else words[3], words[4], words[5] if len(words) > 5 else "")


def records_of(actions: Iterable[Action], blocks: Mapping[Prefix, str], at: str) -> Iterator[Record]:
    """Lines for what was done. `blocks`: the pool of each block, as before."""
    for action in actions:
        if isinstance(action, Claim | Adopt):
            yield Record(at, WORDS[type(action)], action.prefix, action.pool, action.node, action.reason)
        elif isinstance(action, Drain | Undrain | Leave | Free):
            yield Record(at, WORDS[type(action)], action.prefix, blocks.get(action.prefix, ""), action.node, action.reason)


@dataclass
class Segment:
    """One object's worth of lines. `number` only grows; its place in the ring is number modulo SEGMENTS."""

    number: int = 0
    lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._bytes = sum(len(line.encode()) + 1 for line in self.lines)

    @property
    def slot(self) -> int:
        """Which object of the ring it is."""
        return self.number % SEGMENTS

    @property
    def text(self) -> str:
        """As it is written."""
        return "".join(f"{line}\n" for line in self.lines)

    def take(self, line: str) -> bool:
        """Append the line, if the segment has room for it."""
        grown = self._bytes + len(line.encode()) + 1
        if self.lines and grown > SEGMENT_BYTES:
            return False
        self.lines.append(line)
        self._bytes = grown
        return True


@dataclass
class Pages:
    """The segment being written, and lines that are not written yet."""

    current: Segment = field(default_factory=Segment)

    def add(self, records: Iterable[Record]) -> list[Segment]:
        """Append; the segments that have to be written, the oldest first."""
        changed = [self.current]
        for record in records:
            line = record.line()
            if not self.current.take(line):
                self.current = Segment(self.current.number + 1, [line])
                changed.append(self.current)
        return changed[-SEGMENTS:]


def missed(records: Sequence[Record], blocks: Mapping[str, Block], now: str) -> list[Record]:
    """What happened since the last line and nobody wrote down (an operator was killed), by the ledger's own times.

    Older blocks are left out: their lines have gone round the ring, and to write them again would push out newer ones.
    """
    newest = _before(records[-1].at) if records else ""
    last = {record.prefix: record for record in records}
    present = {block.prefix: block for block in blocks.values()}
    found = []
    for prefix, block in present.items():
        known = last.get(prefix)
        holds = known is not None and known.what in HOLDS and known.node == block.node
        if not holds and block.created >= newest and not (known and known.what == RELEASED and known.at >= block.created):
            found.append(Record(block.created or now, CLAIMED, prefix, block.pool, block.node, "found in the ledger"))
            holds = True
        if block.quarantined and holds:
            found.append(Record(block.released_at or now, RELEASED, prefix, block.pool, block.node, "found in the ledger"))
    for prefix, known in last.items():
        if prefix not in present and known.what != FREED:
            found.append(Record(now, FREED, prefix, known.pool, known.node, "found gone from the ledger; when it went is not known"))
    return sorted(found)[-MAX_PENDING:]


def _before(at: str) -> str:
    return (datetime.fromisoformat(at) - CLOCK_SKEW).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True, slots=True)
class Holding:
    """A block in one node's hands. Empty times: not recorded, or not yet."""

    prefix: Prefix
    pool: str
    node: str
    since: str
    draining_since: str = ""
    until: str = ""
    free_since: str = ""
    reason: str = ""
    """Why it began."""
    end_reason: str = ""


def holdings(records: Iterable[Record]) -> list[Holding]:
    """The lines as spans of time, in the order of their beginnings. What began before the first line has no beginning."""
    spans: list[_Span] = []
    last: dict[Prefix, _Span] = {}
    for record in records:
        span = last.get(record.prefix)
        begins = record.what in HOLDS and (span is None or span.until or span.node != record.node)
        if begins or span is None:
            began = record.at if record.what in (CLAIMED, ADOPTED) else ""
            span = last[record.prefix] = _Span(record.prefix, record.pool, record.node, began, reason=record.reason if began else "")
            spans.append(span)
        span.take(record)
    return [span.value() for span in spans]


@dataclass
class _Span:
    prefix: Prefix
    pool: str
    node: str
    since: str
    draining_since: str = ""
    until: str = ""
    free_since: str = ""
    reason: str = ""
    end_reason: str = ""

    def take(self, record: Record) -> None:
        """One more line of this block, while this node has it."""
        if record.what == DRAINING:
            self.draining_since, self.end_reason = record.at, record.reason
        elif record.what == UNDRAINED:
            self.draining_since = self.end_reason = ""
        elif record.what == RELEASED:
            self.until, self.end_reason = record.at, self.end_reason or record.reason
        elif record.what == FREED:
            self.free_since = record.at
            self.until = self.until or record.at

    def value(self) -> Holding:
        """As it is told."""
        return Holding(
            self.prefix, self.pool, self.node, self.since, self.draining_since, self.until, self.free_since, self.reason, self.end_reason
        )
