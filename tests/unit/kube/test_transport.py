"""The real transport against a real HTTP server on the loopback."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable
from contextlib import aclosing
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from podcidr.kube import transport as module
from podcidr.kube.credentials import Credentials
from podcidr.kube.errors import Gone, OutcomeUnknown, Stalled, Unreachable
from podcidr.kube.transport import AiohttpTransport, LineSplitter, Reply


class Server:
    """Answers by path; counts connections' requests."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.token = "first"
        self.release = asyncio.Event()
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.handle)
        self.server = TestServer(app)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(f"{request.method} {request.path}")
        match request.path.strip("/").split("/")[-1]:
            case "cut":  # answered only by the end of the connection
                assert request.transport is not None
                request.transport.close()
                return web.Response()
            case "hang":
                await self.release.wait()
                return web.Response()
            case "token":
                good = request.headers.get("Authorization") == f"Bearer {self.token}"
                return web.Response(status=200 if good else 401)
            case "gone":
                return web.json_response({"kind": "Status", "reason": "Expired"}, status=410)
            case "lines":
                return await self.lines(request)
        return web.json_response({"body": (await request.read()).decode(), "type": request.headers.get("Content-Type")})

    async def lines(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b'{"small":1}\n{"large":"')
        await response.write(b"x" * (3 << 20) + b'"}\n')
        if "silent" in request.query:
            await self.release.wait()
        return response


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    await server.server.start_server()
    yield server
    server.release.set()
    await server.server.close()


@pytest.fixture
async def transport(server: Server) -> AsyncIterator[AiohttpTransport]:
    transport = AiohttpTransport(Credentials(str(server.server.make_url("")).rstrip("/")))
    yield transport
    await transport.close()


async def send(transport: AiohttpTransport, method: str, path: str, *, timeout_seconds: float = 5.0) -> Reply:
    return await transport.request(method, path, body=b"{}", content_type="application/json-patch+json", timeout_seconds=timeout_seconds)


async def test_body_and_content_type_arrive(transport: AiohttpTransport) -> None:
    reply = await send(transport, "PATCH", "/x?fieldManager=m")
    assert reply.status == 200
    assert reply.body == b'{"body": "{}", "type": "application/json-patch+json"}'


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_write_on_a_dead_connection_is_sent_once(transport: AiohttpTransport, server: Server, method: str) -> None:
    await send(transport, "GET", "/warm")  # the connection is kept, so the client could believe in a stale one
    with pytest.raises(OutcomeUnknown):
        await send(transport, method, "/cut")
    assert server.seen == ["GET /warm", f"{method} /cut"]


async def test_no_answer_in_time_is_unknown(transport: AiohttpTransport) -> None:
    with pytest.raises(OutcomeUnknown, match=r"no answer within 0\.1 s"):
        await send(transport, "POST", "/hang", timeout_seconds=0.1)


async def test_close_leaves_no_socket_of_a_request_that_was_given_up(transport: AiohttpTransport) -> None:
    with pytest.raises(OutcomeUnknown):
        await send(transport, "POST", "/hang", timeout_seconds=0.05)
    await send(transport, "GET", "/kept")
    sockets = list(transport._sockets)
    open_socket = next(made for made in sockets if made.fileno() != -1)
    assert open_socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    await transport.close()
    assert [made.fileno() for made in sockets] == [-1] * len(sockets)


async def test_nobody_listens_is_unreachable(server: Server) -> None:
    url = str(server.server.make_url("")).rstrip("/")
    await server.server.close()
    transport = AiohttpTransport(Credentials(url))
    with pytest.raises(Unreachable):
        await send(transport, "POST", "/x")
    with pytest.raises(Unreachable):
        await anext(transport.stream("/x", timeout_seconds=1, idle_seconds=1))
    await transport.close()


async def test_replaced_token_is_read_again_after_a_401(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first\n")
    transport = AiohttpTransport(Credentials(str(server.server.make_url("")).rstrip("/"), token_file=str(file)))
    assert (await send(transport, "GET", "/token")).status == 200
    server.token = "second"
    assert (await send(transport, "GET", "/token")).status == 401, "the file is the old one still"
    file.write_text("second\n")
    assert (await send(transport, "GET", "/token")).status == 200
    file.unlink()
    server.token = "third"
    with pytest.raises(Unreachable, match="token"):
        await send(transport, "GET", "/token")
    await transport.close()


async def test_lines_of_any_length(transport: AiohttpTransport) -> None:
    lines = [line async for line in transport.stream("/lines", timeout_seconds=10, idle_seconds=5)]
    assert [len(line) for line in lines] == [11, (3 << 20) + 12]


async def test_no_pause_within_a_line(transport: AiohttpTransport) -> None:
    asked = 0

    def between_reads() -> Awaitable[None]:
        nonlocal asked
        asked += 1
        return asyncio.sleep(0.01)

    lines = [line async for line in transport.stream("/lines", timeout_seconds=10, idle_seconds=5, between_reads=between_reads)]
    assert [len(line) for line in lines] == [11, (3 << 20) + 12]
    assert asked <= 2, "the large one came in many pieces"


async def test_silent_stream_is_stalled(transport: AiohttpTransport) -> None:
    async with aclosing(transport.stream("/lines?silent", timeout_seconds=10, idle_seconds=0.2)) as lines:
        assert [len(await anext(lines)), len(await anext(lines))] == [11, (3 << 20) + 12]
        with pytest.raises(Stalled):
            await anext(lines)


async def test_refused_stream_raises_its_status(transport: AiohttpTransport) -> None:
    with pytest.raises(Gone):
        await anext(transport.stream("/gone", timeout_seconds=1, idle_seconds=1))


async def test_a_storm_of_writes_does_not_hold_up_the_lease(
    transport: AiohttpTransport, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WRITE_CONNECTIONS", 2)
    storm = [asyncio.create_task(send(transport, "POST", "/hang")) for _ in range(8)]
    while len(server.seen) < 2:  # noqa: ASYNC110 - the server is a bystander here
        await asyncio.sleep(0)
    lease = "/apis/coordination.k8s.io/v1/namespaces/n/leases/l"
    assert (await send(transport, "PUT", lease)).status == 200
    assert server.seen == ["POST /hang"] * 2 + [f"PUT {lease}"]
    server.release.set()
    await asyncio.gather(*storm)


def test_splitter_joins_what_chunks_cut() -> None:
    splitter = LineSplitter()
    assert splitter.feed(b"a") == []
    assert splitter.feed(b"b\n\nc\nd") == [b"ab", b"c"]
    assert splitter.feed(b"\n") == [b"d"]
