"""Reserved addresses of a pool: disjoint sorted intervals of integers, and what they leave of a block."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from .errors import BadValue
from .prefix import Family, Prefix, parse_address, parse_prefix


class Interval(NamedTuple):
    """Addresses first to last, both included."""

    first: int
    last: int


class Intervals:
    """An immutable set of addresses of one family.

      |--a--|   |-b-|          given, in any order, overlapping or touching
    |---|             |--c--|
    |=======|   |===|=|=====|  kept: sorted, disjoint, merged where they touch
    """

    def __init__(self, intervals: Iterable[Interval] = ()) -> None:
        merged: list[Interval] = []
        for first, last in sorted(intervals):
            if merged and first <= merged[-1].last + 1:
                merged[-1] = Interval(merged[-1].first, max(last, merged[-1].last))
            else:
                merged.append(Interval(first, last))
        self._firsts = [i.first for i in merged]
        self._lasts = [i.last for i in merged]

    def within(self, prefix: Prefix) -> Iterator[Interval]:
        """Its parts inside the prefix, cut at the prefix's edges."""
        start = bisect_left(self._lasts, prefix.address)
        for index in range(start, bisect_right(self._firsts, prefix.last)):
            yield Interval(max(self._firsts[index], prefix.address), min(self._lasts[index], prefix.last))

    def count_within(self, prefix: Prefix) -> int:
        """How many of the prefix's addresses it has."""
        return sum(last - first + 1 for first, last in self.within(prefix))

    def end_of(self, prefix: Prefix) -> int | None:
        """The last address of the interval that has the whole prefix, or None: lets a search skip ahead."""
        index = bisect_left(self._lasts, prefix.last)
        if index < len(self._firsts) and self._firsts[index] <= prefix.address:
            return self._lasts[index]
        return None

    def __iter__(self) -> Iterator[Interval]:
        return map(Interval, self._firsts, self._lasts)

    def __contains__(self, address: int) -> bool:
        index = bisect_left(self._lasts, address)
        return index < len(self._firsts) and self._firsts[index] <= address

    def __len__(self) -> int:
        return len(self._firsts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Intervals) and self._firsts == other._firsts and self._lasts == other._lasts

    def __hash__(self) -> int:
        return hash((tuple(self._firsts), tuple(self._lasts)))

    def __repr__(self) -> str:
        return f"Intervals({list(self)})"


def parse_reserved(text: str, field: str = "reserved") -> tuple[Family, Interval]:
    """An address, a CIDR or `a-b`."""
    if "/" in text:
        prefix = parse_prefix(text, field)
        return prefix.family, Interval(prefix.address, prefix.last)
    first_text, dash, last_text = text.partition("-")
    family, first = parse_address(first_text.strip(), field)
    if not dash:
        return family, Interval(first, first)
    last_family, last = parse_address(last_text.strip(), field)
    if last_family != family:
        raise BadValue(field, text, "both ends must be of one address family")
    if last < first:
        raise BadValue(field, text, f"the ends are the wrong way round; did you mean {last_text}-{first_text}?")
    return family, Interval(first, last)
