"""Clocks that are wrong, each in its own way."""

import asyncio
import random
from datetime import UTC, datetime, timedelta

from tests.simulation.loop import VirtualLoop

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


LEAST_SECONDS = 1e-4


class SimulatedClock:
    """One machine's or process's clock: offset and rate against virtual time, a wall clock that is off, chance from the seed."""

    def __init__(self, loop: VirtualLoop, rng: random.Random, *, rate: float = 1.0, wall_skew_seconds: float = 0.0) -> None:
        self._loop = loop
        self._rng = rng
        self._rate = rate
        self._start = rng.uniform(100.0, 10_000.0)
        self._began = loop.now
        self.wall_skew_seconds = wall_skew_seconds

    def monotonic(self) -> float:
        """Seconds since some start of its own."""
        return self._start + (self._loop.now - self._began) * self._rate

    def wall(self) -> datetime:
        """What this machine takes for the time."""
        return EPOCH + timedelta(seconds=self._loop.now + self.wall_skew_seconds)

    async def sleep(self, seconds: float) -> None:
        """So long by its own rate. Never for no time at all: a wait of a rounding error would be waited for ever."""
        await asyncio.sleep(max(seconds / self._rate, LEAST_SECONDS if seconds > 0 else 0.0))

    def random(self) -> float:
        """From the seed."""
        return self._rng.random()
