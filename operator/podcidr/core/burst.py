"""How many pods arrive at once on this node: the histogram behind a node's headroom."""

from collections import deque
from collections.abc import Mapping
from itertools import accumulate
from typing import Any

WINDOW_SECONDS = 2.5  # what a grant takes (2 s) and half a second: pods that come within it must find addresses already here
HALF_AT = 2_000  # arrivals after which the past counts half, so that the figure follows a changed load
MINIMUM_ARRIVALS = 16  # fewer say nothing about a 99th percentile
_QUANTILE_PERCENT = 99


class Burst:
    """At each arrival: how many arrived within the window, it included; `value` is their 99th percentile.

    Times are seconds of any clock that does not go back; the window is not kept over a restart, the histogram is.
    """

    def __init__(self) -> None:
        self._recent: deque[float] = deque()
        self._counts: dict[int, int] = {}
        self._total = 0

    def arrive(self, at_seconds: float) -> None:
        """Count one arrival."""
        while self._recent and self._recent[0] <= at_seconds - WINDOW_SECONDS:
            self._recent.popleft()
        self._recent.append(at_seconds)
        size = len(self._recent)
        self._counts[size] = self._counts.get(size, 0) + 1
        self._total += 1
        if self._total >= HALF_AT:
            self._halve()

    @property
    def value(self) -> int:
        """The 99th percentile over arrivals (nearest rank); 0 before there are enough of them."""
        if self._total < MINIMUM_ARRIVALS:
            return 0
        rank, sizes = -(-self._total * _QUANTILE_PERCENT // 100), sorted(self._counts)
        ranks = accumulate(self._counts[size] for size in sizes)
        return next(size for size, reached in zip(sizes, ranks, strict=True) if reached >= rank)

    def to_dict(self) -> dict[str, Any]:
        """The histogram as JSON-ready values."""
        return {"version": 1, "counts": {str(size): count for size, count in sorted(self._counts.items())}}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "Burst":
        """What `to_dict` gave; anything else is an empty histogram (it is only a forecast)."""
        burst = cls()
        counts = stored.get("counts")
        if stored.get("version") != 1 or not isinstance(counts, Mapping):
            return burst
        try:
            burst._counts = {int(size): int(count) for size, count in counts.items() if int(size) > 0 and int(count) > 0}
        except (TypeError, ValueError):
            return burst
        burst._total = sum(burst._counts.values())
        return burst

    def _halve(self) -> None:
        self._counts = {size: count // 2 for size, count in self._counts.items() if count > 1}
        self._total = sum(self._counts.values())
