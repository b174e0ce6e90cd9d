"""Few Events, counted, and never an exception."""

import asyncio

from podcidr.kube.client import KubeClient
from podcidr.kube.events import BURST, QUEUE_LENGTH, EventRecorder, ObjectRef
from podcidr.kube.resources import NODECIDRS, PODS
from podcidr.kube.transport import Reply
from tests.unit.kube.fakes import Call, FakeTransport, VirtualClock, ok, status

NODE = ObjectRef(NODECIDRS, "n1", "uid-1")


def recorder_of(transport: FakeTransport, clock: VirtualClock) -> EventRecorder:
    return EventRecorder(KubeClient(transport, clock), clock, "podcidr-operator")


async def drain(recorder: EventRecorder) -> None:
    task = asyncio.create_task(recorder.run())
    await recorder.flush()
    task.cancel()


async def test_event_of_a_cluster_scoped_object_goes_to_default() -> None:
    transport = FakeTransport(lambda call: ok(call.body))
    recorder = recorder_of(transport, VirtualClock())
    recorder.post(NODE, "Warning", "PoolExhausted", "pool a has no free block")
    recorder.post(ObjectRef(PODS, "p", namespace="team"), "Normal", "Reclaimed", "x")
    await drain(recorder)
    first, second = transport.calls
    assert first.path == "/api/v1/namespaces/default/events"
    assert first.body["involvedObject"] == {
        "apiVersion": "podcidr.io/v1alpha1",
        "kind": "NodeCIDR",
        "name": "n1",
        "uid": "uid-1",
    }
    assert (first.body["type"], first.body["reason"]) == ("Warning", "PoolExhausted")
    assert second.path == "/api/v1/namespaces/team/events"


async def test_repetition_is_counted_until_the_event_is_gone() -> None:
    answers: dict[str, Reply] = {}
    transport = FakeTransport(lambda call: answers.get(call.method) or ok(call.body))
    clock = VirtualClock()
    recorder = recorder_of(transport, clock)
    for _ in range(3):
        recorder.post(NODE, "Warning", "Silent", "no report")
    await drain(recorder)
    assert [call.method for call in transport.calls] == ["POST", "PATCH", "PATCH"]
    assert transport.calls[-1].body["count"] == 3
    answers["PATCH"] = status(404, "NotFound")
    recorder.post(NODE, "Warning", "Silent", "no report")
    await drain(recorder)
    assert transport.calls[-1].method == "POST"
    clock.now += 700
    recorder.post(NODE, "Warning", "Silent", "no report")
    await drain(recorder)
    assert [call.method for call in transport.calls[-2:]] == ["POST", "POST"], "an old series is not taken up again"


async def test_one_object_can_not_flood() -> None:
    transport = FakeTransport(lambda call: ok(call.body))
    clock = VirtualClock()
    recorder = recorder_of(transport, clock)
    for number in range(BURST + 10):
        recorder.post(NODE, "Normal", "Granted", f"block {number}")
    recorder.post(ObjectRef(NODECIDRS, "n2"), "Normal", "Granted", "block")
    await drain(recorder)
    assert (len(transport.calls), recorder.dropped) == (BURST + 1, 10)
    clock.now += 300
    recorder.post(NODE, "Normal", "Granted", "one more")
    await drain(recorder)
    assert len(transport.calls) == BURST + 2


async def test_failures_and_a_full_queue_are_swallowed() -> None:
    def answer(_call: Call) -> Reply:
        return status(403, "Forbidden")

    recorder = recorder_of(FakeTransport(answer), VirtualClock())
    for number in range(QUEUE_LENGTH + 3):
        recorder.post(ObjectRef(NODECIDRS, f"n{number}"), "Normal", "Granted", "x")
    assert recorder.dropped == 3
    await drain(recorder)
    assert recorder.dropped == QUEUE_LENGTH + 3
