"""Waiting for a change or a moment, whichever is first."""

import asyncio

import structlog

from podcidr.kube.clock import Clock

ABSENT_SECONDS = 5.0  # the operator makes a NodeCIDR within a second of the Node
REPEAT_SECONDS = 600.0

log = structlog.get_logger("podcidr.agent")


class Absence:
    """Says that there is no NodeCIDR, once that is no matter of a moment: most often the name is wrong."""

    def __init__(self, node_name: str) -> None:
        self._node_name = node_name
        self._say_at: float | None = None

    def look(self, *, present: bool, now_seconds: float) -> None:
        """Take what a look at the NodeCIDRs gave."""
        if present:
            self._say_at = None
        elif self._say_at is None:
            self._say_at = now_seconds + ABSENT_SECONDS
        elif now_seconds >= self._say_at:
            self._say_at = now_seconds + REPEAT_SECONDS
            log.warning(f"no NodeCIDR named {self._node_name} yet; is --node-name right, and does the operator run?", node=self._node_name)

    def due_seconds(self, now_seconds: float) -> float:
        """In how long to look again."""
        return float("inf") if self._say_at is None else max(0.0, self._say_at - now_seconds)


async def change_or_timeout(changed: asyncio.Event, clock: Clock, seconds: float) -> None:
    """Return when the event is set (it is cleared) or after so long; `inf` waits for the event alone."""
    if not changed.is_set() and seconds > 0:
        if seconds == float("inf"):
            await changed.wait()
        else:
            await _set_within(changed, clock, seconds)
    changed.clear()


async def _set_within(changed: asyncio.Event, clock: Clock, seconds: float) -> None:
    """With one task, not two and a wait for either: this runs at every event of a pod."""
    waits = True

    def ring(_sleeper: object) -> None:
        if waits:
            changed.set()

    sleeper = asyncio.ensure_future(clock.sleep(seconds))
    sleeper.add_done_callback(ring)
    try:
        await changed.wait()
    finally:
        waits = False
        sleeper.cancel()
