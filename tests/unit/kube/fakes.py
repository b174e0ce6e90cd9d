"""A clock that tests move, and a transport that answers out of memory: for faults and for time, not for semantics."""

import asyncio
import heapq
import itertools
import json
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

from podcidr.kube.errors import OutcomeUnknown
from podcidr.kube.transport import BetweenReads, Reply

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


async def settle() -> None:
    """Let every task run until it waits: nothing here does real I/O, so a few turns of the loop are all."""
    for _ in range(50):
        await asyncio.sleep(0)


class VirtualClock:
    def __init__(self, *, chance: float = 0.0) -> None:
        self.now = 1000.0
        self.chance = chance
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> datetime:
        return EPOCH + timedelta(seconds=self.now)

    def random(self) -> float:
        return self.chance

    async def sleep(self, seconds: float) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.now + seconds, next(self._numbers), future))
        await future

    async def advance(self, seconds: float) -> None:
        """Wake who is due, each at its own moment."""
        await settle()
        end = self.now + seconds
        while self._sleepers and self._sleepers[0][0] <= end:
            when, _, future = heapq.heappop(self._sleepers)
            if not future.done():
                self.now = max(self.now, when)
                future.set_result(None)
                await settle()
        self.now = end


def status(code: int, reason: str = "", message: str = "said the fake") -> Reply:
    body = {"kind": "Status", "code": code, "reason": reason, "message": message}
    return Reply(code, {}, json.dumps(body).encode())


def ok(obj: dict[str, Any], code: int = 200) -> Reply:
    return Reply(code, {}, json.dumps(obj).encode())


@dataclass
class Call:
    method: str
    path: str
    query: dict[str, str]
    body: Any
    content_type: str | None
    timeout_seconds: float
    accept: str | None = None


@dataclass
class FakeTransport:
    """`answer` gets each request; watches are queues: lines, None for the end, or an exception."""

    answer: Callable[[Call], Reply] = lambda call: status(404)
    calls: list[Call] = field(default_factory=list)
    watches: list[tuple[Call, "asyncio.Queue[bytes | Exception | None]"]] = field(default_factory=list)
    clock: VirtualClock | None = None
    hanging: bool = False

    async def request(
        self, method: str, path: str, *, body: bytes | None, content_type: str | None, timeout_seconds: float, accept: str | None = None
    ) -> Reply:
        call = self._record(method, path, body, content_type, timeout_seconds, accept)
        if self.hanging:
            assert self.clock is not None
            await self.clock.sleep(timeout_seconds)
            raise OutcomeUnknown("no answer")
        await asyncio.sleep(0)
        return self.answer(call)

    async def stream(
        self, path: str, *, timeout_seconds: float, idle_seconds: float, between_reads: BetweenReads | None = None
    ) -> AsyncGenerator[bytes, None]:
        call = self._record("WATCH", path, None, None, timeout_seconds)
        queue: asyncio.Queue[bytes | Exception | None] = asyncio.Queue()
        self.watches.append((call, queue))
        while (line := await queue.get()) is not None:
            if isinstance(line, Exception):
                raise line
            yield line

    async def close(self) -> None:
        pass

    def emit(self, event_type: str, obj: dict[str, Any]) -> None:
        """Send an event on the newest watch."""
        self.watches[-1][1].put_nowait(json.dumps({"type": event_type, "object": obj}).encode())

    def end(self, error: Exception | None = None) -> None:
        self.watches[-1][1].put_nowait(error)

    def _record(
        self, method: str, path: str, body: bytes | None, content_type: str | None, timeout_seconds: float, accept: str | None = None
    ) -> Call:
        parts = urlsplit(path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        parsed = None if body is None else json.loads(body)
        call = Call(method, parts.path, query, parsed, content_type, timeout_seconds, accept)
        self.calls.append(call)
        return call


def fail(error: Exception) -> Callable[[Call], Reply]:
    def answer(_call: Call) -> Reply:
        raise error

    return answer
