"""The highest target of the last seconds, a class at a time: what shrinking waits for.

A deque a class, targets falling from left to right: the leftmost is the highest that still counts, an entry's time is
when it was last true. Constant cost a round and class, however long the window.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping

from .model import Key


class TargetWindow:
    """Remembers targets; the caller brings the time. A leader's own: it is not written anywhere."""

    def __init__(self) -> None:
        self._series: dict[Key, deque[tuple[int, float]]] = {}
        self._needed_at: dict[Key, float] = {}

    def record(self, targets: Mapping[Key, int], needed: Iterable[Key], now: float) -> None:
        """Take in a round's targets; classes that are no more are forgotten."""
        for key in self._series.keys() - targets.keys():
            del self._series[key]
            self._needed_at.pop(key, None)
        for key, target in targets.items():
            series = self._series.setdefault(key, deque())
            if series:  # what held until this round was true until now
                series[-1] = (series[-1][0], now)
            while series and series[-1][0] <= target:
                series.pop()
            series.append((target, now))
        self._needed_at.update((key, now) for key in needed if key in self._series)

    def highest(self, window_seconds: Callable[[Key], float], now: float) -> dict[Key, int]:
        """The highest target of each class within its window."""
        found = {}
        for key, series in self._series.items():
            oldest = now - window_seconds(key)
            while len(series) > 1 and series[0][1] < oldest:
                series.popleft()
            found[key] = series[0][0]
        return found

    @property
    def needed_at(self) -> dict[Key, float]:
        """When each class last had somebody who used or awaited an address."""
        return dict(self._needed_at)
