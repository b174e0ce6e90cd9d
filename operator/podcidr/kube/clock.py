"""Time as a parameter, so that the same code runs on virtual time."""

import asyncio
import random
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What anything here may know of time and chance."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never goes back."""
        ...

    def wall(self) -> datetime:
        """Return now, aware, in UTC: for time stamps only, never for ages."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Let others run for so long."""
        ...

    def random(self) -> float:
        """Return a number in [0, 1)."""
        ...


class SystemClock:
    """The machine's own clock."""

    def monotonic(self) -> float:
        """CLOCK_BOOTTIME where there is one: it counts suspend, CLOCK_MONOTONIC does not.

        A virtual machine that was suspended for an hour would else wake and believe that its Lease is still good.
        """
        return time.clock_gettime(_SUSPEND_AWARE)

    def wall(self) -> datetime:
        """Return now in UTC."""
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        """Sleep on the event loop."""
        await asyncio.sleep(seconds)

    def random(self) -> float:
        """Jitter needs no secrecy."""
        return random.random()  # noqa: S311


_SUSPEND_AWARE: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def rfc3339_micro(moment: datetime) -> str:
    """Return a MicroTime: always six digits and Z, also at an exact second (isoformat drops them there)."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def rfc3339(moment: datetime) -> str:
    """Return a Time: whole seconds and Z."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_rfc3339(text: str) -> datetime:
    """Parse what the API server prints."""
    return datetime.fromisoformat(text)
