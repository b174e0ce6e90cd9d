"""What people see of a round is bounded: a shortage is told when it begins, when its cause changes, and rarely again."""

import pytest
from structlog.testing import capture_logs

from podcidr.core.actions import RaiseEpoch
from podcidr.core.model import Key, Snapshot
from podcidr.core.plan import Plan
from podcidr.core.prefix import Family
from podcidr.kube.client import KubeClient
from podcidr.kube.events import EventRecorder, ObjectRef
from podcidr.metrics import OperatorMetrics
from podcidr.reconcile.apply import Outcome
from podcidr.reconcile.tell import CHANGED_SECONDS, REPEAT_SECONDS, Teller
from tests.unit.kube.fakes import FakeTransport, VirtualClock, ok

HOUR = 3600


class Posted(EventRecorder):
    """Keeps what is posted."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(KubeClient(FakeTransport(lambda call: ok(call.body)), clock), clock, "podcidr-operator")
        self.posts: list[tuple[str, str, str]] = []

    def post(self, kind_ref: ObjectRef, type: str, reason: str, message: str) -> None:  # noqa: A002 - the API's word
        self.posts.append((f"{kind_ref.resource.kind}/{kind_ref.name}", reason, message))


def key(number: int) -> Key:
    return Key(f"n{number}", "", Family.IPV4)


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


def test_a_shortage_is_told_on_the_node_with_its_remedy(clock: VirtualClock) -> None:
    events = Posted(clock)
    Teller(events, OperatorMetrics(), clock).planned(Snapshot(), Plan(unserved={key(1): "no block is free: append a CIDR"}))
    assert events.posts == [("Node/n1", "NodeShortOfAddresses", "pods wait for an ipv4 address; no block is free: append a CIDR")]


def test_an_exhausted_pool_makes_no_storm(clock: VirtualClock) -> None:
    """20 nodes wait for an hour while the operator plans four times a second: 7 Events and lines a node, not 14,400."""
    events = Posted(clock)
    teller = Teller(events, OperatorMetrics(), clock)
    exhausted = Plan(unserved={key(number): "no block is free" for number in range(20)})
    with capture_logs() as lines:
        for _ in range(4 * HOUR):
            teller.planned(Snapshot(), exhausted)
            clock.now += 0.25
    assert len(events.posts) == len(lines) == 20 * HOUR / REPEAT_SECONDS


def test_a_refusal_that_comes_back_is_one_line_a_minute(clock: VirtualClock) -> None:
    teller = Teller(Posted(clock), OperatorMetrics(), clock)
    with capture_logs() as lines:
        for second in range(HOUR):
            why = "422 Invalid: epoch" if second < HOUR - 1 else "422 Invalid: something else"
            teller.applied(Snapshot(), Outcome(refused=[(RaiseEpoch(f"n{n}", ""), why) for n in range(2)]))
            clock.now += 1
    assert len(lines) == 2 * (HOUR / CHANGED_SECONDS + 1), "and another one is told at once"


def test_a_shortage_that_flickers_is_no_storm_either(clock: VirtualClock) -> None:
    events = Posted(clock)
    teller = Teller(events, OperatorMetrics(), clock)
    plans = [Plan(unserved={key(1): "no block is free"}), Plan(), Plan(unserved={key(1): "the node is at its cap"})]
    for second in range(HOUR):
        teller.planned(Snapshot(), plans[second % len(plans)])
        clock.now += 1
    assert HOUR / REPEAT_SECONDS <= len(events.posts) <= HOUR / CHANGED_SECONDS + 1
