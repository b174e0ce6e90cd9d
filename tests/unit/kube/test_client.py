"""What each answer, or none, is made into; what is sent again and what never."""

import asyncio

import pytest

from podcidr.kube import errors
from podcidr.kube.client import KubeClient, WatchEvent
from podcidr.kube.resources import EVENTS, IPBLOCKS, NODECIDRS, NODES, PODS
from podcidr.kube.transport import Reply
from tests.unit.kube.fakes import Call, FakeTransport, VirtualClock, fail, ok, settle, status

BLOCK = {"metadata": {"name": "b", "resourceVersion": "7"}}


def client_of(transport: FakeTransport, **options: object) -> KubeClient:
    return KubeClient(transport, VirtualClock(), **options)  # type: ignore[arg-type]  # each test gives few


@pytest.mark.parametrize(
    ("code", "reason", "expected"),
    [
        (400, "BadRequest", errors.BadRequest),
        (401, "Unauthorized", errors.Unauthorized),
        (403, "Forbidden", errors.Forbidden),
        (404, "NotFound", errors.NotFound),
        (409, "Conflict", errors.Conflict),
        (409, "AlreadyExists", errors.AlreadyExists),
        (410, "Expired", errors.Gone),
        (422, "Invalid", errors.Invalid),
        (408, "Timeout", errors.OutcomeUnknown),
        (500, "InternalError", errors.OutcomeUnknown),
        (503, "ServiceUnavailable", errors.OutcomeUnknown),
        (504, "Timeout", errors.OutcomeUnknown),
        (415, "UnsupportedMediaType", errors.KubeError),
    ],
)
async def test_status_becomes_typed_error(code: int, reason: str, expected: type[errors.KubeError]) -> None:
    transport = FakeTransport(lambda call: status(code, reason))
    with pytest.raises(errors.KubeError) as caught:
        await client_of(transport).create(IPBLOCKS, BLOCK)
    assert type(caught.value) is expected
    assert (caught.value.status, caught.value.reason) == (code, reason)
    assert caught.value.definite == (expected is not errors.OutcomeUnknown)
    assert len(transport.calls) == 1, "a write is sent once"


async def test_answer_of_a_proxy_is_quoted() -> None:
    transport = FakeTransport(lambda call: Reply(502, {}, b"<html>bad gateway</html>"))
    with pytest.raises(errors.OutcomeUnknown, match="bad gateway"):
        await client_of(transport).create(IPBLOCKS, BLOCK)


async def test_write_with_unknown_outcome_is_not_repeated() -> None:
    transport = FakeTransport(fail(errors.OutcomeUnknown("lost")))
    with pytest.raises(errors.OutcomeUnknown):
        await client_of(transport).delete(IPBLOCKS, "b")
    assert len(transport.calls) == 1


async def test_read_is_repeated_a_few_times() -> None:
    clock = VirtualClock(chance=0.5)
    answers = [status(503), status(500), ok(BLOCK)]
    transport = FakeTransport(lambda call: answers.pop(0))
    client = KubeClient(transport, clock)

    reading = asyncio.create_task(client.get(IPBLOCKS, "b"))
    await clock.advance(5)
    assert await reading == BLOCK
    assert len(transport.calls) == 3


async def test_read_gives_up() -> None:
    clock = VirtualClock()

    transport = FakeTransport(fail(errors.Unreachable("refused")))
    reading = asyncio.create_task(KubeClient(transport, clock).get(IPBLOCKS, "b"))
    await clock.advance(60)
    with pytest.raises(errors.Unreachable):
        await reading
    assert len(transport.calls) == 4


async def test_too_many_requests_waits_as_told_and_sends_again() -> None:

    clock = VirtualClock(chance=0.5)
    busy = Reply(429, {"Retry-After": "2"}, b"{}")
    answers = [busy, ok(BLOCK, 201)]
    transport = FakeTransport(lambda call: answers.pop(0))
    writing = asyncio.create_task(KubeClient(transport, clock).create(IPBLOCKS, BLOCK))
    await clock.advance(2.9)
    assert len(transport.calls) == 1
    await clock.advance(0.2)
    assert await writing == BLOCK


async def test_too_many_requests_ends_within_the_time_out() -> None:
    transport = FakeTransport(lambda call: Reply(429, {"Retry-After": "60"}, b"{}"))
    with pytest.raises(errors.TooManyRequests):
        await client_of(transport).create(IPBLOCKS, BLOCK)
    assert len(transport.calls) == 1


async def test_fence_refuses_writes_and_no_reads() -> None:
    transport = FakeTransport(lambda call: ok(BLOCK))
    client = client_of(transport, fence=lambda: 0.0)
    for write in (
        client.create(IPBLOCKS, BLOCK),
        client.json_patch(NODECIDRS, "n", []),
        client.merge_patch(NODECIDRS, "n", {}),
        client.replace(NODECIDRS, "n", BLOCK),
        client.delete(IPBLOCKS, "b"),
    ):
        with pytest.raises(errors.Fenced):
            await write
    assert transport.calls == []
    assert await client.get(IPBLOCKS, "b") == BLOCK


async def test_fence_shortens_the_time_out() -> None:
    transport = FakeTransport(lambda call: ok(BLOCK))
    await client_of(transport, fence=lambda: 3.5).create(IPBLOCKS, BLOCK)
    assert transport.calls[0].timeout_seconds == 3.5


async def test_fence_is_asked_again_after_a_pause() -> None:

    clock = VirtualClock()
    lost_at = clock.now + 1.0
    transport = FakeTransport(lambda call: Reply(429, {"Retry-After": "2"}, b"{}"))
    client = KubeClient(transport, clock, fence=lambda: lost_at - clock.now)
    writing = asyncio.create_task(client.create(IPBLOCKS, BLOCK))
    await clock.advance(3)
    with pytest.raises(errors.Fenced):
        await writing
    assert len(transport.calls) == 1


async def test_requests_as_the_api_server_wants_them() -> None:
    transport = FakeTransport(lambda call: ok(BLOCK))
    client = client_of(transport, program="podcidr-test")
    await client.json_patch(NODECIDRS, "n", [{"op": "test", "path": "/a", "value": 1}], subresource="status")
    await client.merge_patch(EVENTS, "e", {"count": 2}, namespace="default")
    await client.delete(IPBLOCKS, "b", uid="u", resource_version="7")
    patch, merge, delete = transport.calls
    assert patch.path == "/apis/podcidr.io/v1alpha1/nodecidrs/n/status"
    assert (patch.content_type, patch.query) == ("application/json-patch+json", {"fieldManager": "podcidr-test"})
    assert merge.path == "/api/v1/namespaces/default/events/e"
    assert merge.content_type == "application/merge-patch+json"
    assert delete.body["preconditions"] == {"uid": "u", "resourceVersion": "7"}


async def test_list_joins_pages_of_one_moment() -> None:
    def answer(call: Call) -> Reply:
        if "continue" in call.query:
            assert "resourceVersion" not in call.query
            return ok({"metadata": {"resourceVersion": "9"}, "items": [{"metadata": {"name": "c"}}]})
        metadata = {"resourceVersion": "9", "continue": "more"}
        return ok({"metadata": metadata, "items": [{"metadata": {"name": "a"}}, {"metadata": {"name": "b"}}]})

    transport = FakeTransport(answer)
    listing = await client_of(transport).list(NODES, from_cache=True, label_selector="a=b")
    assert [item["metadata"]["name"] for item in listing.items] == ["a", "b", "c"]
    assert (listing.resource_version, listing.items[0]["kind"]) == ("9", "Node")
    assert transport.calls[0].query == {"labelSelector": "a=b", "limit": "500", "resourceVersion": "0"}
    few = await client_of(transport).list(NODES, limit=1)
    assert len(few.items) == 1


async def test_watch_asks_for_bookmarks_and_raises_errors_of_the_stream() -> None:
    transport = FakeTransport()
    counted: list[tuple[str, str, str]] = []
    client = client_of(transport, on_request=lambda verb, plural, code, _: counted.append((verb, plural, code)))
    events = client.watch(PODS, resource_version="5", field_selector="spec.nodeName=n1")

    first = asyncio.ensure_future(anext(events))
    await settle()
    transport.emit("BOOKMARK", {"metadata": {"resourceVersion": "6"}})
    assert await first == WatchEvent("BOOKMARK", {"metadata": {"resourceVersion": "6"}})
    transport.emit("ERROR", {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"})
    with pytest.raises(errors.Gone):
        await anext(events)
    query = transport.calls[0].query
    assert (query["allowWatchBookmarks"], query["resourceVersion"]) == ("true", "5")
    assert query["fieldSelector"] == "spec.nodeName=n1"
    assert 300 <= int(query["timeoutSeconds"]) <= 570
    assert counted == [("watch", "pods", "410")]


async def test_line_that_was_cut_off_is_a_broken_stream() -> None:
    transport = FakeTransport()
    events = client_of(transport).watch(PODS, resource_version="5")

    first = asyncio.ensure_future(anext(events))
    await settle()
    transport.watches[-1][1].put_nowait(b'{"type": "ADD')
    with pytest.raises(errors.OutcomeUnknown, match="not JSON"):
        await first


async def test_every_request_is_counted() -> None:
    counted: list[tuple[str, str, str]] = []
    transport = FakeTransport(lambda call: ok(BLOCK) if call.method == "GET" else status(409, "Conflict"))
    client = client_of(transport, on_request=lambda verb, plural, code, _: counted.append((verb, plural, code)))
    await client.get(IPBLOCKS, "b")
    with pytest.raises(errors.Conflict):
        await client.delete(IPBLOCKS, "b")
    transport.answer = fail(errors.Unreachable("refused"))
    with pytest.raises(errors.Unreachable):
        await client.create(IPBLOCKS, BLOCK)
    assert counted == [("get", "ipblocks", "200"), ("delete", "ipblocks", "409"), ("create", "ipblocks", "unreachable")]


def test_paths_refuse_a_namespace_where_there_is_none() -> None:
    with pytest.raises(ValueError, match="cluster-scoped"):
        NODES.path("n", "default")
    with pytest.raises(ValueError, match="namespaced"):
        PODS.path("p")
    assert PODS.path() == "/api/v1/pods"
