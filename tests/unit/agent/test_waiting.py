"""A node without a NodeCIDR is told of: late enough to be true, and rarely."""

import asyncio

import structlog

from podcidr.agent.waiting import ABSENT_SECONDS, REPEAT_SECONDS, Absence, change_or_timeout
from tests.unit.kube.fakes import VirtualClock, settle


def test_absence_is_told_after_a_while_and_rarely() -> None:
    absence = Absence("nodd-1")
    with structlog.testing.capture_logs() as logs:
        absence.look(present=False, now_seconds=100.0)
        assert absence.due_seconds(100.0) == ABSENT_SECONDS
        assert not logs
        absence.look(present=False, now_seconds=100.0 + ABSENT_SECONDS)
        assert "no NodeCIDR named nodd-1 yet; is --node-name right" in logs[0]["event"]
        absence.look(present=False, now_seconds=100.0 + REPEAT_SECONDS)
        assert len(logs) == 1
        absence.look(present=False, now_seconds=100.0 + ABSENT_SECONDS + REPEAT_SECONDS)
        assert len(logs) == 2


def test_a_short_absence_is_no_news() -> None:
    absence = Absence("n")
    with structlog.testing.capture_logs() as logs:
        absence.look(present=False, now_seconds=0.0)
        absence.look(present=True, now_seconds=1.0)
        assert absence.due_seconds(1.0) == float("inf")
        absence.look(present=False, now_seconds=ABSENT_SECONDS)
        assert not logs


async def test_a_change_or_so_long_whichever_is_first() -> None:
    changed, clock = asyncio.Event(), VirtualClock()
    waiting = asyncio.create_task(change_or_timeout(changed, clock, 5.0))
    await clock.advance(4.9)
    assert not waiting.done()
    await clock.advance(0.2)
    assert waiting.done()
    assert not changed.is_set(), "the time-out is no change"
    waiting = asyncio.create_task(change_or_timeout(changed, clock, 5.0))
    await clock.advance(1.0)
    changed.set()
    await settle()
    assert waiting.done()
    await clock.advance(10.0)
    assert not changed.is_set(), "what was waited for no more tells nothing"


async def test_both_at_one_moment_are_one() -> None:
    changed, clock = asyncio.Event(), VirtualClock()
    waiting = asyncio.create_task(change_or_timeout(changed, clock, 5.0))
    await settle()
    advancing = asyncio.create_task(clock.advance(5.0))
    await asyncio.sleep(0)
    changed.set()
    await advancing
    assert waiting.done()
    assert not changed.is_set()
