"""When a report is due."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from podcidr.agent.report import Need, Report
from podcidr.agent.reporter import (
    DRAINING_SECONDS,
    EMPTIED_SECONDS,
    HEADROOM_SECONDS,
    LAZY_SECONDS,
    SERVED_SECONDS,
    Reporter,
    due_seconds,
    is_news,
)
from podcidr.core.prefix import Family, parse_prefix
from podcidr.kube.client import KubeClient
from podcidr.kube.clock import SystemClock
from podcidr.kube.errors import Invalid, KubeError, NotFound, OutcomeUnknown
from podcidr.metrics import AgentMetrics
from tests.unit.kube.fakes import FakeTransport, VirtualClock, ok

A, B = parse_prefix("10.64.3.0/28"), parse_prefix("10.64.3.16/28")
KEY, GOLD = (("default",), Family.IPV4), (("gold",), Family.IPV4)
BASE = Report(
    uid="u1", epoch=7, usage={A: (3, 0), B: (1, 0)}, in_use=4, capacity=28, pending=0, host_network_pods=0,
    demand={KEY: (0, 2)}, conditions={"Ready": (True, "r", "m")}, listed=frozenset({A, B}),
    needs={KEY: Need(level=4, waiting=0, room=28, spare=16)},
)  # fmt: skip
RESYNC = 300.0


@pytest.mark.parametrize(
    "change",
    [
        {"epoch": 8},
        {"uid": "u2"},
        {"pending": 1, "demand": {KEY: (1, 2)}, "needs": {KEY: Need(level=5, waiting=1, room=28, spare=15)}},
        {"needs": {KEY: Need(level=29, waiting=0, room=28, spare=-9)}},
        {"needs": {KEY: Need(level=4, waiting=0, room=28, spare=16), GOLD: Need(level=1, waiting=0, room=0, spare=-9)}},
        {"conditions": {"Ready": (False, "r", "m")}},
        {"usage": {A: (3, 0)}, "draining": frozenset({B})},
    ],
)
def test_what_matters_is_sent_at_once(change: dict[str, object]) -> None:
    assert due_seconds(BASE, replace(BASE, **change), 0.0, RESYNC) == 0  # type: ignore[arg-type]


def test_the_first_report_is_sent_at_once() -> None:
    assert due_seconds(None, BASE, 0.0, RESYNC) == 0


def test_drift_waits() -> None:
    drifted = replace(BASE, usage={A: (4, 0), B: (1, 0)}, in_use=5)
    assert due_seconds(BASE, drifted, 1.0, RESYNC) == LAZY_SECONDS - 1
    assert due_seconds(BASE, drifted, LAZY_SECONDS + 1, RESYNC) == 0


def test_less_demand_waits_a_moment() -> None:
    before = replace(BASE, pending=5, demand={KEY: (5, 2)}, needs={KEY: Need(level=9, waiting=5, room=28, spare=9)})
    after = replace(BASE, pending=4, demand={KEY: (4, 2)}, needs={KEY: Need(level=9, waiting=4, room=28, spare=9)})
    assert due_seconds(before, after, 0.0, RESYNC) == SERVED_SECONDS


@pytest.mark.parametrize(("before", "after"), [(3, 4), (4, 3), (3, 0), (0, 3)])
def test_tries_of_pods_that_are_told_are_no_news(before: int, after: int) -> None:
    """A runtime tries again every few seconds for as long as the pool is empty: 20 such pods wrote 42 reports a minute, for an hour."""
    short = Need(level=48, waiting=before, room=28, spare=-30, short=20)
    last = replace(BASE, pending=20, demand={KEY: (20, 2)}, needs={KEY: short})
    new = replace(last, needs={KEY: replace(short, waiting=after)})
    assert due_seconds(last, new, 0.0, RESYNC, {KEY: 48}) == RESYNC


def test_pods_for_which_there_is_room_are_drift() -> None:
    """Else a node under churn would write at each pod that comes: the operator could do nothing with it."""
    bound = replace(BASE, pending=1, demand={KEY: (1, 2)}, needs={KEY: Need(level=5, waiting=0, room=28, spare=15)})
    assert due_seconds(BASE, bound, 0.0, RESYNC) == LAZY_SECONDS
    assert [is_news(bound, {KEY: 4}, arrived, 0.0) for arrived in (15, 16)] == [False, True]


def test_headroom_that_shrinks_is_told_soon_and_once() -> None:
    short = replace(BASE, needs={KEY: Need(level=25, waiting=0, room=28, spare=-5)})
    assert due_seconds(BASE, short, 0.0, RESYNC, {KEY: 4}) == HEADROOM_SECONDS
    assert due_seconds(short, short, 0.0, RESYNC, {KEY: 25}) == RESYNC, "the operator knows, and gave nothing: the node may be full"
    assert [is_news(short, {KEY: 25}, arrived, 0.0) for arrived in (0, 1)] == [False, True]
    full = replace(BASE, needs={KEY: Need(level=29, waiting=0, room=28, spare=-9)})
    assert due_seconds(short, full, 0.0, RESYNC, {KEY: 29}) == RESYNC


def test_pods_that_take_the_place_of_others_are_no_news() -> None:
    """A full node that was told so: each pod that is replaced adds one, and an address that has cooled down takes one away."""
    full = replace(BASE, needs={KEY: Need(level=27, waiting=0, room=28, spare=-7, ends=(100, 105, 105))})
    assert [is_news(full, {KEY: 27}, arrived, 99.9) for arrived in (0, 1)] == [False, True]
    assert [is_news(full, {KEY: 27}, arrived, 100.0) for arrived in (1, 2)] == [False, True]
    assert [is_news(full, {KEY: 28}, arrived, 105.0) for arrived in (4, 5)] == [False, True]
    other = replace(full, needs={**full.needs, GOLD: Need(level=1, waiting=0, room=0, spare=-1)})
    assert is_news(other, {KEY: 27, GOLD: 1}, 1, 100.0), "what is free again in one pool is none of another's"


async def test_a_level_is_news_again_after_the_blocks_changed() -> None:
    patches = Patches()
    reporter = Reporter(
        patches,  # type: ignore[arg-type]
        "n1", clock=SystemClock(), metrics=AgentMetrics(), resync_seconds=RESYNC, on_foreign=lambda: None,
    )  # fmt: skip
    sending = asyncio.create_task(reporter.run())
    try:
        for level, epoch, peak in ((25, 7, 25), (29, 7, 29), (10, 8, 10)):
            reporter.offer(replace(BASE, epoch=epoch, needs={KEY: Need(level=level, waiting=0, room=28, spare=20 - level)}))
            await asyncio.wait_for(patches.statuses.get(), 5)
            assert reporter.peak == {KEY: peak}
    finally:
        sending.cancel()


def test_an_active_block_that_emptied_waits_some_seconds() -> None:
    assert due_seconds(BASE, replace(BASE, usage={A: (3, 0)}, in_use=3), 0.0, RESYNC) == EMPTIED_SECONDS


@pytest.mark.parametrize(
    ("before", "level", "idle", "seconds"),
    [
        (29, 1, 28, EMPTIED_SECONDS),
        (15, 14, 14, EMPTIED_SECONDS),  # 14 in the other block: one of the 15 needed the empty one
        (14, 13, 14, LAZY_SECONDS),  # it was to spare before
        (15, 15, 14, LAZY_SECONDS),
        (14, 15, 14, LAZY_SECONDS),
        (29, 1, 0, LAZY_SECONDS),  # nothing is empty, or others still find blocks
    ],
)
def test_an_empty_block_that_fewer_need_is_told_where_others_find_none(before: int, level: int, idle: int, seconds: float) -> None:
    last = replace(BASE, pending=before, needs={KEY: Need(before, 0, 28, 28 - before, idle), GOLD: Need(0, 0, 0, 0)})
    new = replace(BASE, needs={KEY: Need(level, 0, 28, 28 - level, idle), GOLD: Need(0, 0, 0, 0)})
    assert due_seconds(last, new, 0.0, RESYNC, {KEY: 99}) == seconds


def test_while_draining_a_report_a_minute() -> None:
    draining = replace(BASE, draining=frozenset({B}))
    assert due_seconds(draining, draining, 0.0, RESYNC) == DRAINING_SECONDS < 60
    assert due_seconds(BASE, BASE, 0.0, RESYNC) == RESYNC


class Patches:
    """A client that takes every patch."""

    def __init__(self) -> None:
        self.statuses: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def json_patch(self, _resource: object, _name: str, ops: list[dict[str, Any]], *, subresource: str) -> None:
        assert subresource == "status"
        self.statuses.put_nowait(ops[-1]["value"])


async def test_a_condition_keeps_its_time_over_a_restart_of_the_agent() -> None:
    patches, long_ago = Patches(), "2020-01-01T00:00:00Z"
    reporter = Reporter(
        patches,  # type: ignore[arg-type]
        "n1", clock=SystemClock(), metrics=AgentMetrics(), resync_seconds=RESYNC, on_foreign=lambda: None,
    )  # fmt: skip
    reporter.remember({"Ready": (True, long_ago)})
    sending = asyncio.create_task(reporter.run())
    try:
        reporter.offer(BASE)
        first = await asyncio.wait_for(patches.statuses.get(), 5)
        reporter.remember({"Ready": (False, "2030-01-01T00:00:00Z")})  # what the server has is older than what we know
        reporter.offer(replace(BASE, epoch=8))
        second = await asyncio.wait_for(patches.statuses.get(), 5)
        reporter.offer(replace(BASE, epoch=9, conditions={"Ready": (False, "r", "m")}))
        third = await asyncio.wait_for(patches.statuses.get(), 5)
    finally:
        sending.cancel()
    times = [status["conditions"][0]["lastTransitionTime"] for status in (first, second, third)]
    assert times[:2] == [long_ago, long_ago]
    assert times[2] > long_ago


async def test_a_report_tests_the_uid_that_it_was_counted_for() -> None:
    """A merge patch, or one without the test, would land on a NodeCIDR that was made again."""
    clock, transport = VirtualClock(), FakeTransport(lambda call: ok({"metadata": {"resourceVersion": "1"}}))
    client = KubeClient(transport, clock)
    sender = Reporter(client, "n1", clock=clock, metrics=AgentMetrics(), resync_seconds=RESYNC, on_foreign=lambda: None)
    assert await sender._send(BASE)
    (call,) = transport.calls
    assert (call.method, call.content_type) == ("PATCH", "application/json-patch+json")
    assert call.body[0] == {"op": "test", "path": "/metadata/uid", "value": "u1"}
    assert call.path.endswith("/nodecidrs/n1/status")


@pytest.mark.parametrize(
    ("error", "listed"), [(NotFound("gone"), True), (Invalid("test failed"), True), (OutcomeUnknown("time-out"), False)]
)
async def test_a_report_on_a_nodecidr_that_is_no_more_has_it_listed_anew(error: KubeError, listed: bool) -> None:
    """Our watch may tell of the new one late, or never: until then nothing of this node is known."""

    class Refusing:
        async def json_patch(self, *_: object, subresource: str) -> None:
            raise error

    told: list[bool] = []
    reporter = Reporter(
        Refusing(),  # type: ignore[arg-type]
        "n1", clock=VirtualClock(), metrics=AgentMetrics(), resync_seconds=RESYNC, on_foreign=lambda: told.append(True),
    )  # fmt: skip
    assert not await reporter._send(BASE)
    assert bool(told) is listed
