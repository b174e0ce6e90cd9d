"""Waiting for a change or a moment, whichever is first."""

import asyncio

from podcidr.kube.clock import Clock


async def change_or_timeout(changed: asyncio.Event, clock: Clock, seconds: float) -> None:
    """Return when the event is set (it is cleared) or after so long; `inf` waits for the event alone."""
    if not changed.is_set() and seconds > 0:
        if seconds == float("inf"):
            await changed.wait()
        else:
            sleeper = asyncio.ensure_future(clock.sleep(seconds))
            waiter = asyncio.ensure_future(changed.wait())
            try:
                await asyncio.wait((sleeper, waiter), return_when=asyncio.FIRST_COMPLETED)
            finally:
                sleeper.cancel()
                waiter.cancel()
    changed.clear()
