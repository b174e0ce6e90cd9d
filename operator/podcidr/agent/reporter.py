"""Sends reports: what matters at once, drift lazily, never more than the API server should bear."""

import asyncio
from bisect import bisect_right
from collections.abc import Callable, Mapping
from typing import Any

import structlog

from podcidr.agent.observed import Transitions
from podcidr.agent.report import Pools, Report
from podcidr.agent.waiting import change_or_timeout
from podcidr.api import names
from podcidr.core.prefix import Family
from podcidr.kube.client import KubeClient
from podcidr.kube.clock import Clock, rfc3339
from podcidr.kube.errors import Invalid, KubeError, NotFound
from podcidr.kube.resources import NODECIDRS
from podcidr.metrics import AgentMetrics

LAZY_SECONDS = 30.0  # drift of counts, at most so often
DRAINING_SECONDS = 50.0  # while a block is Draining the operator expects a report each minute
EMPTIED_SECONDS = 2.0  # a block could go that was in use, or that fewer pods now need: pods elsewhere may wait for it
HEADROOM_SECONDS = 1.0  # there is room for the pods at hand, but not for as many as may come at once
SERVED_SECONDS = 0.25  # fewer wait: no one waits for that news, and a burst is many of them
COALESCE_SECONDS = 0.02
RATE_PER_SECOND = 5.0  # of one node under churn, once the first few are out
RATE_BURST = 10
_BACKOFF_SECONDS = 10.0

Key = tuple[Pools, Family]
Peak = Mapping[Key, int]

log = structlog.get_logger("podcidr.agent.report")


def due_seconds(last: Report | None, new: Report, age_seconds: float, resync_seconds: float, peak: Peak | None = None) -> float:
    """In how many seconds the new report has to be sent, if the last one was sent `age_seconds` ago.

    `peak` is the highest level told since the node's blocks last changed: no lower one can make them grow.
    """
    if last is None or _is_urgent(last, new, peak or {}):
        return 0.0
    periods = [resync_seconds]
    if new.draining:
        periods.append(DRAINING_SECONDS)
    if any(_waiting(last, key) != _waiting(new, key) and _pending(last, key) != _pending(new, key) for key in _keys(last, new)):
        periods.append(SERVED_SECONDS)
    if any(need.spare < 0 and need.level > (peak or {}).get(key, 0) for key, need in new.needs.items()):
        periods.append(HEADROOM_SECONDS)
    if last.usage.keys() - new.usage.keys() or _spares_more(last, new):
        periods.append(EMPTIED_SECONDS)
    if new.body() != last.body():
        periods.append(LAZY_SECONDS)
    return max(0.0, min(periods) - age_seconds)


def is_news(report: Report, peak: Peak, arrived: int, now_seconds: float) -> bool:
    """Whether so many pods, come since the report was counted, may be news to the operator.

    Addresses that have cooled down since then are theirs: on a full node each pod takes the place of another.
    """
    return any(
        arrived - bisect_right(need.ends, now_seconds) > max(need.spare, peak.get(key, 0) - need.level)
        for key, need in report.needs.items()
    )


def _is_urgent(last: Report, new: Report, peak: Peak) -> bool:
    """A new uid or epoch, a waiting ADD more, pods that find no room, a Draining block that became empty, a condition that turned.

    An ADD that waits for a pod that was told as pending is no news: runtimes try again every few seconds, for hours.
    """
    return (
        (last.uid, last.epoch) != (new.uid, new.epoch)
        or any(_waiting(new, key) > _waiting(last, key) and _pending(new, key) > _pending(last, key) for key in new.needs)
        or any(need.level > max(need.room, peak.get(key, 0)) for key, need in new.needs.items())
        or bool((last.usage.keys() & new.draining) - new.busy)
        or any(holds != last.conditions[kind][0] for kind, (holds, _, _) in new.conditions.items())
    )


def _spares_more(last: Report, new: Report) -> bool:
    """Of an exhausted pool: fewer need its empty blocks here, so that one may go which was not to spare."""
    before = {key: need.level for key, need in last.needs.items()}
    return any(need.idle and before.get(key, 0) > max(need.level, need.room - need.idle) for key, need in new.needs.items())


def _keys(last: Report, new: Report) -> set[Key]:
    return {*last.needs, *new.needs}


def _waiting(report: Report, key: Key) -> int:
    return report.needs[key].waiting if key in report.needs else 0


def _pending(report: Report, key: Key) -> int:
    return report.demand[key][0] if key in report.demand else 0


class Reporter:
    """Takes every report that is counted and sends the newest when it is due."""

    def __init__(
        self,
        client: KubeClient,
        node_name: str,
        *,
        clock: Clock,
        metrics: AgentMetrics,
        resync_seconds: float,
        on_foreign: Callable[[], None],
    ) -> None:
        self._client = client
        self._node_name = node_name
        self._clock = clock
        self._metrics = metrics
        self._resync_seconds = resync_seconds
        self._on_foreign = on_foreign
        self._offered: Report | None = None
        self._last: Report | None = None
        self._last_at = clock.monotonic()
        self._changed = asyncio.Event()
        self._tokens = float(RATE_BURST)
        self._refilled_at = clock.monotonic()
        self._transitions: dict[str, tuple[bool, str]] = {}
        self.peak: Peak = {}

    def offer(self, report: Report) -> None:
        """Give the newest count; it replaces one that has not been sent."""
        self._offered = report
        self._changed.set()

    def remember(self, transitions: Transitions) -> None:
        """Take over since when each condition is as an earlier agent reported it."""
        self._transitions = {**transitions, **self._transitions}

    def repeat(self) -> None:
        """Send again even if nothing changed: our watch began anew, so perhaps the server's data did."""
        self._last = None
        self._changed.set()

    async def run(self) -> None:
        """Send. Ends by cancellation only."""
        failures = 0
        while True:
            if self._offered is None:
                await change_or_timeout(self._changed, self._clock, float("inf"))
                continue
            age = self._clock.monotonic() - self._last_at
            wait = due_seconds(self._last, self._offered, age, self._resync_seconds, self.peak)
            if wait > 0:
                await change_or_timeout(self._changed, self._clock, wait)
                continue
            await self._clock.sleep(self._pause())
            failures = 0 if await self._send(self._offered) else failures + 1
            if failures:
                backoff = min(_BACKOFF_SECONDS, 0.05 * 2.0**failures)
                await self._clock.sleep(backoff * (0.5 + 0.5 * self._clock.random()))

    def _pause(self) -> float:
        """The leading edge goes at once, what follows is gathered for a moment; under churn a steady rate."""
        now = self._clock.monotonic()
        self._tokens = min(RATE_BURST, self._tokens + (now - self._refilled_at) * RATE_PER_SECOND)
        self._refilled_at = now
        self._tokens -= 1
        rate = max(0.0, -self._tokens / RATE_PER_SECOND)
        return max(rate, COALESCE_SECONDS - (now - self._last_at) if self._last is not None else 0.0, 0.0)

    async def _send(self, report: Report) -> bool:
        """One JSON patch that tests the uid: a merge patch with a wrong one would be accepted."""
        ops: list[dict[str, Any]] = [
            {"op": "test", "path": "/metadata/uid", "value": report.uid},
            {"op": "add", "path": "/status", "value": self._body(report)},
        ]
        try:
            await self._client.json_patch(NODECIDRS, self._node_name, ops, subresource="status")
        except KubeError as error:
            self._failed(error)
            return False
        self._metrics.reports.labels("done").inc()
        levels = {key: need.level for key, need in report.needs.items()}
        if self._last is None or (self._last.uid, self._last.epoch) != (report.uid, report.epoch):
            self.peak = levels
        else:
            self.peak = {key: max(level, self.peak.get(key, 0)) for key, level in levels.items()}
        self._last, self._last_at = report, self._clock.monotonic()
        return True

    def _failed(self, error: KubeError) -> None:
        foreign = isinstance(error, (NotFound, Invalid))  # gone, or another uid: our view is old
        outcome = "conflict" if foreign else "failed" if error.definite else "unknown"
        self._metrics.reports.labels(outcome).inc()
        log.warning("report not written, will be tried again", error=str(error))
        if foreign:
            self._on_foreign()

    def _body(self, report: Report) -> dict[str, Any]:
        now = rfc3339(self._clock.wall())
        for kind, (holds, _, _) in report.conditions.items():
            if self._transitions.get(kind, (None, ""))[0] is not holds:
                self._transitions[kind] = holds, now
        conditions = [
            {
                "type": kind,
                "status": names.STATUS_TRUE if holds else names.STATUS_FALSE,
                "reason": reason,
                "message": message[:4096],
                "lastTransitionTime": self._transitions[kind][1],
            }
            for kind, (holds, reason, message) in sorted(report.conditions.items())
        ]
        return report.body() | {"reportedAt": now, "conditions": conditions}
