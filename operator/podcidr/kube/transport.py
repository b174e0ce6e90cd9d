"""HTTP to one API server: bytes in, bytes out. Nothing here knows what an object is."""

import asyncio
import contextlib
import socket
import sys
import time
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import aiohttp
from yarl import URL

from podcidr.kube.credentials import Credentials
from podcidr.kube.errors import OutcomeUnknown, Stalled, Unreachable, from_reply

CONNECT_SECONDS = 5.0
TOKEN_SECONDS = 60.0
WRITE_CONNECTIONS = 32  # more in flight only lengthens the API server's queue
_CLOSE_SECONDS = 1.0
_CHUNK_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer, whatever its status."""

    status: int
    headers: Mapping[str, str]
    body: bytes


# Asked when all that came is handed over: what to await before more is read, so that more comes at once. None: nothing.
BetweenReads = Callable[[], Awaitable[None] | None]


class Transport(Protocol):
    """What the client needs; tests and the simulation bring their own."""

    async def request(
        self, method: str, path: str, *, body: bytes | None, content_type: str | None, timeout_seconds: float, accept: str | None = None
    ) -> Reply:
        """Send once, never again by itself. Raises Unreachable (not sent) or OutcomeUnknown."""
        ...

    def stream(
        self, path: str, *, timeout_seconds: float, idle_seconds: float, between_reads: BetweenReads | None = None
    ) -> AsyncGenerator[bytes, None]:
        """Yield the lines of a watch. Raises the typed error of a status other than 200, Stalled when silent."""
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...


@dataclass
class _Token:
    """The bearer token: kubelet replaces the file before the token ends, nobody tells the reader."""

    credentials: Credentials
    value: str = ""
    read_at: float = field(default=-TOKEN_SECONDS)

    def headers(self) -> dict[str, str]:
        """Return the Authorization header, from a file read no longer than a minute ago."""
        if self.credentials.token_file and time.monotonic() - self.read_at >= TOKEN_SECONDS:
            self.reread()
        token = self.value or self.credentials.token
        return {"Authorization": f"Bearer {token}"} if token else {}

    def reread(self) -> bool:
        """Read the file now; says whether the token is another one."""
        if not self.credentials.token_file:
            return False
        self.read_at = time.monotonic()
        before = self.value
        try:
            self.value = Path(self.credentials.token_file).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise Unreachable(f"service account token {self.credentials.token_file}: {error.strerror}") from error
        return self.value != before


class AiohttpTransport:
    """The real one. Watches, requests and the Lease use connections of their own: no one can starve another."""

    def __init__(self, credentials: Credentials, *, user_agent: str = "podcidr") -> None:
        self._base = credentials.server
        self._ssl = credentials.ssl_context() or False
        self._token = _Token(credentials)
        self._user_agent = user_agent
        self._sessions: dict[str, aiohttp.ClientSession] = {}
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()

    async def request(
        self, method: str, path: str, *, body: bytes | None, content_type: str | None, timeout_seconds: float, accept: str | None = None
    ) -> Reply:
        """Send; after a 401 once more with a newly read token, which is safe: a 401 did nothing."""
        session = self._session("lease" if path.startswith("/apis/coordination.k8s.io/") else "requests")
        url = URL(self._base + path, encoded=True)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=min(CONNECT_SECONDS, timeout_seconds))
        headers = self._token.headers()
        if content_type is not None:
            headers["Content-Type"] = content_type
        if accept is not None:
            headers["Accept"] = accept
        try:
            async with asyncio.timeout(timeout_seconds):
                reply = await _send(session, method, url, headers, body, timeout)
                if reply.status == 401 and self._token.reread():
                    reply = await _send(session, method, url, headers | self._token.headers(), body, timeout)
                return reply
        except _UNSENT as error:
            raise Unreachable(f"{self._base}: {error}") from error
        except TimeoutError as error:
            raise OutcomeUnknown(f"{method} {url.path}: no answer within {timeout_seconds:.1f} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise OutcomeUnknown(f"{method} {url.path}: {type(error).__name__}: {error}") from error

    async def stream(
        self, path: str, *, timeout_seconds: float, idle_seconds: float, between_reads: BetweenReads | None = None
    ) -> AsyncGenerator[bytes, None]:
        """Yield lines until the server ends the stream."""
        url = URL(self._base + path, encoded=True)
        timeout = aiohttp.ClientTimeout(total=timeout_seconds, sock_connect=CONNECT_SECONDS, sock_read=idle_seconds)
        try:
            session = self._session("watches")
            async with session.get(url, headers=self._token.headers(), timeout=timeout) as response:
                if response.status != 200:
                    if response.status == 401:
                        self._token.reread()
                    raise from_reply(response.status, await response.read(), response.headers)
                splitter = LineSplitter()
                async for chunk in response.content.iter_any():
                    for line in splitter.feed(chunk):
                        yield line
                    if not splitter.unfinished and between_reads is not None and (pause := between_reads()) is not None:
                        await _unread(response, pause)
        except _UNSENT as error:
            raise Unreachable(f"{self._base}: {error}") from error
        except aiohttp.SocketTimeoutError as error:
            raise Stalled(f"watch {url.path}: silent for {idle_seconds:.0f} s") from error
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise OutcomeUnknown(f"watch {url.path}: {type(error).__name__}: {error}") from error

    async def close(self) -> None:
        """Close every connection."""
        sessions, self._sessions = self._sessions, {}
        for session in sessions.values():
            await session.close()
        # A request that was given up leaves TLS waiting half a minute for the server's farewell. Take it for said.
        for made in self._sockets:
            with contextlib.suppress(OSError):
                made.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                while any(made.fileno() != -1 for made in self._sockets):  # noqa: ASYNC110 - the loop's transports tell nobody
                    await asyncio.sleep(0.001)

    def _make_socket(self, address: aiohttp.AddrInfoType) -> socket.socket:
        """Have the kernel find a dead peer within 50 s: a watch is silent for longer than that when all is well."""
        family, kind, protocol, _, _ = address
        made = socket.socket(family, kind, protocol)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if sys.platform == "linux":
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 20)
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
        self._sockets.add(made)
        return made

    def _session(self, purpose: str) -> aiohttp.ClientSession:
        session = self._sessions.get(purpose)
        if session is None:
            session = self._sessions[purpose] = self._open(purpose)
        return session

    def _open(self, purpose: str) -> aiohttp.ClientSession:
        limit = {"requests": WRITE_CONNECTIONS, "lease": 2}.get(purpose, 0)
        connector = aiohttp.TCPConnector(
            limit=limit, ssl=self._ssl, keepalive_timeout=60.0, ttl_dns_cache=60, socket_factory=self._make_socket
        )
        session = aiohttp.ClientSession(
            connector=connector,
            headers={"User-Agent": self._user_agent, "Accept": "application/json", "Accept-Encoding": "identity"},
            cookie_jar=aiohttp.DummyCookieJar(),
            read_bufsize=_CHUNK_BYTES,
            auto_decompress=False,
        )
        # aiohttp would send a PUT or DELETE again when a kept connection turns out closed: the first may have been
        # carried out, and the second's 409 would say that it was not.
        session._retry_connection = False
        return session


async def _send(
    session: aiohttp.ClientSession,
    method: str,
    url: URL,
    headers: dict[str, str],
    body: bytes | None,
    timeout: aiohttp.ClientTimeout,
) -> Reply:
    async with session.request(method, url, headers=headers, data=body, timeout=timeout, allow_redirects=False) as response:
        return Reply(response.status, response.headers, await response.read())


async def _unread(response: aiohttp.ClientResponse, pause: Awaitable[None]) -> None:
    """Leave what comes during the pause to the kernel: it is not the bytes that cost, it is being woken for them.

    By SO_RCVLOWAT, for asyncio has no way to leave a TLS socket alone. More bytes than that, or the end, still wake us.
    """
    connection = response.connection
    made = connection.transport.get_extra_info("socket") if connection and connection.transport else None
    _wake_at(made, _CHUNK_BYTES)
    try:
        await pause
    finally:
        _wake_at(made, 1)


def _wake_at(made: Any, least_bytes: int) -> None:
    with contextlib.suppress(AttributeError, OSError):  # no socket any more, or a kernel that can't: woken too often, then
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, least_bytes)


class LineSplitter:
    """Lines of any length out of chunks: aiohttp's readline stops at 128 KiB, a Node or Pod may be larger."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []  # of the unfinished line: joined once, so no quadratic copying

    @property
    def unfinished(self) -> bool:
        """Whether the end of a line is still to come."""
        return bool(self._pieces)

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the lines that this chunk completes, without empty ones."""
        *ends, rest = chunk.split(b"\n")
        lines = []
        for end in ends:
            self._pieces.append(end)
            lines.append(b"".join(self._pieces))
            self._pieces.clear()
        if rest:
            self._pieces.append(rest)
        return [line for line in lines if line]


# Refused, no such host, TLS refused, or no connection in time: nothing was sent.
_UNSENT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL)
