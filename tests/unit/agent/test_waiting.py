"""A node without a NodeCIDR is told of: late enough to be true, and rarely."""

import structlog

from podcidr.agent.waiting import ABSENT_SECONDS, REPEAT_SECONDS, Absence


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
