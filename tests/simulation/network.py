"""Between a process and the API server: delay, loss, refusals, streams that break, replicas that lag. All of it from the seed."""

import asyncio
import contextvars
import random
from collections import Counter, deque
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field

from podcidr.kube.errors import OutcomeUnknown, Stalled, Unreachable, from_status
from podcidr.kube.transport import BetweenReads, Reply
from tests.simulation.fake_api import Change, FakeApi, Refused, Watcher, parse
from tests.simulation.loop import Due, Process, VirtualLoop

SERVER = contextvars.Context()
"""Of what happens outside every process: who is killed has still sent."""
BOOKMARK_SECONDS = 60.0
READ_FAULTS = ("too-many-requests", "server-error", "timeout", "unreachable")
WRITE_FAULTS = (
    *READ_FAULTS,
    "conflict",
    "server-error-after-write",
    "timeout-after-write",
    "write-delayed-past-its-timeout",
    "write-repeated",
)
_WEIGHTS = (1, 1, 1, 1, 1, 1, 1, 4, 3)
"""What few things survive comes more often."""
MESSAGE_FAULTS = ("message-delayed", "event-duplicated")


@dataclass
class Weather:
    """How bad the network is now: probabilities of one request, of one event, seconds of delay."""

    fault: float = 0.0
    duplicate: float = 0.0
    slow: float = 0.0
    delay_seconds: float = 0.004
    replica_lag_seconds: list[float] = field(default_factory=lambda: [0.0, 0.0])


@dataclass
class Network:
    """Everything between clients and the one API."""

    loop: VirtualLoop
    api: FakeApi
    rng: random.Random
    counts: Counter[str]
    weather: Weather = field(default_factory=Weather)
    cut_off: set[str] = field(default_factory=set)
    """Names of processes whose packets are lost."""
    streams: list["_Stream"] = field(default_factory=list)
    generation: int = 0
    """Grows when the API servers are restarted: what was on its way is lost."""
    writes: Counter[str] = field(default_factory=Counter)
    """Writes that the product made and the server carried out, by kind."""

    def delay(self) -> float:
        """One way of one message."""
        weather = self.weather
        if weather.slow and self.rng.random() < weather.slow:
            self.counts["message-delayed"] += 1
            return self.rng.uniform(0.1, 3.0)
        return weather.delay_seconds * (0.2 + self.rng.random())

    def pick_fault(self, *, writes: bool) -> str | None:
        """What becomes of this request, if not what should."""
        if self.weather.fault and self.rng.random() < self.weather.fault:
            kind = self.rng.choices(WRITE_FAULTS, _WEIGHTS)[0] if writes else self.rng.choice(READ_FAULTS)
            self.counts[kind] += 1
            return kind
        return None

    def cut_streams(self, process: Process | None = None, chance: float = 1.0) -> int:
        """Break watches: of one process, or of all."""
        broken = 0
        for stream in list(self.streams):
            if (process is None or stream.process is process) and self.rng.random() < chance:
                stream.fail(OutcomeUnknown("watch: connection lost"))
                broken += 1
        return broken

    def restart_servers(self) -> None:
        """What is on its way is lost, and every stream breaks."""
        self.generation += 1
        self.cut_streams()


class SimulatedTransport:
    """A process's way to one of the replicas."""

    def __init__(
        self, network: Network, process: Process, replica: int, on_send: Callable[[str, str, bytes], float | None] | None = None
    ) -> None:
        self._net, self._process, self._replica, self._on_send = network, process, replica, on_send

    async def request(
        self, method: str, path: str, *, body: bytes | None, content_type: str | None, timeout_seconds: float, accept: str | None = None
    ) -> Reply:
        """Send once; the answer may never come, and what it did may come later than that."""
        held_back = self._on_send(method, path, body or b"") if self._on_send is not None else None
        answer: asyncio.Future[Reply] = self._net.loop.create_future()
        _Exchange(self._net, self._process, answer, method, path, body, content_type).send(timeout_seconds, held_back)
        return await answer

    async def stream(
        self, path: str, *, timeout_seconds: float, idle_seconds: float, between_reads: BetweenReads | None = None
    ) -> AsyncGenerator[bytes, None]:
        """Yield the lines of a watch."""
        stream = _Stream(self._net, self._process, self._replica, path, idle_seconds)
        self._process.on_death.append(stream.close)
        try:
            await stream.open()
            while (line := await stream.next()) is not None:
                yield line
                if stream.is_read and between_reads is not None and (pause := between_reads()) is not None:
                    await pause
        finally:
            stream.close()
            if stream.close in self._process.on_death:
                self._process.on_death.remove(stream.close)

    async def close(self) -> None:
        """Nothing to close."""


@dataclass(slots=True)
class _Exchange:
    """One request and its answer."""

    net: Network
    process: Process
    answer: asyncio.Future[Reply]
    method: str
    path: str
    body: bytes | None
    content_type: str | None
    patience: Due | None = None

    def send(self, timeout_seconds: float, held_back: float | None = None) -> None:
        net, kind = self.net, self.net.pick_fault(writes=self.method != "GET")
        there: float | None = net.delay()
        if held_back is not None:
            kind, there = None, held_back
        elif self.process.name in net.cut_off or kind == "timeout":
            there = None
        elif kind == "write-delayed-past-its-timeout":
            there = timeout_seconds * net.rng.uniform(1.0, 4.0)
        if there is not None:
            net.loop.call_later(there, self._arrive, kind, net.generation, context=SERVER)
        self.patience = net.loop.call_later(timeout_seconds, self._give_up, context=SERVER)

    def _arrive(self, kind: str | None, generation: int) -> None:
        net = self.net
        if generation != net.generation:
            return
        if kind == "unreachable":
            self._fail(Unreachable("connection refused"))
        elif kind == "too-many-requests":
            self._answer(Reply(429, {"Retry-After": "1"}, Refused(429, "TooManyRequests", "try again later").body()))
        elif kind == "server-error":
            self._answer(Reply(500, {}, Refused(500, "InternalError", "etcdserver: no leader").body()))
        elif kind == "conflict":
            self._answer(Reply(409, {}, Refused(409, "Conflict", "the object has been modified; please apply your changes again").body()))
        else:
            self._answer(self._carry_out(kind), lost=kind == "timeout-after-write")

    def _carry_out(self, kind: str | None) -> Reply:
        reply = self._handle()
        if kind == "write-repeated":  # by a proxy that had no answer: the client sees the second one's
            reply = self._handle()
        if kind == "server-error-after-write":
            reply = Reply(500, {}, Refused(500, "InternalError", "etcdserver: request timed out").body())
        return reply

    def _handle(self) -> Reply:
        reply = self.net.api.handle(self.method, self.path, self.body, self.content_type)
        if self.method != "GET" and reply.status < 300:
            self.net.writes[parse(self.path).plural] += 1
        return reply

    def _answer(self, reply: Reply, *, lost: bool = False) -> None:
        if not lost and self.process.name not in self.net.cut_off:
            self.net.loop.call_later(self.net.delay(), self._deliver, reply, context=SERVER)

    def _deliver(self, reply: Reply) -> None:
        if not self.answer.done():
            self._settle()
            self.answer.set_result(reply)

    def _fail(self, error: Exception) -> None:
        if not self.answer.done():
            self._settle()
            self.answer.set_exception(error)

    def _settle(self) -> None:
        if self.patience is not None:
            self.patience.cancel()

    def _give_up(self) -> None:
        self._fail(OutcomeUnknown(f"{self.method} {self.path}: no answer"))


class _Stream:
    """One watch: lines in order, each with its delay."""

    def __init__(self, net: Network, process: Process, replica: int, path: str, idle_seconds: float) -> None:
        self.process = process
        self._net, self._replica, self._path, self._idle = net, replica, path, idle_seconds
        self._watcher: Watcher | None = None
        self._lines: deque[bytes | Exception | None] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._last_at = 0.0  # lines do not overtake each other
        self._heard_at = net.loop.now
        self._newest = 0
        self._closed = False

    async def open(self) -> None:
        """Ask for the watch."""
        net = self._net
        await asyncio.sleep(net.delay())
        if self.process.name in net.cut_off:
            await asyncio.sleep(5.0)
            raise Unreachable("watch: no connection")
        if net.pick_fault(writes=False):
            raise from_status({"code": 500, "message": "watch: internal error"})
        net.streams.append(self)
        self._watcher = net.api.watch(self._path, self._emit, self._end)
        self._newest = self._watcher.position
        net.loop.call_later(BOOKMARK_SECONDS, self._bookmark, context=SERVER)
        net.loop.call_later(self._idle, self._look_whether_silent, context=SERVER)
        seconds = float(self._path.rpartition("timeoutSeconds=")[2].partition("&")[0])
        net.loop.call_later(seconds, self._deliver, None, context=SERVER)

    async def next(self) -> bytes | None:
        """The next line, or None at the end."""
        while not self._lines:
            self._waiter = self._net.loop.create_future()
            await self._waiter
        line = self._lines.popleft()
        if isinstance(line, Exception):
            raise line
        return line

    @property
    def is_read(self) -> bool:
        """Whether all that came is handed over."""
        return not self._lines

    def fail(self, error: Exception) -> None:
        """The connection breaks; what was on its way is lost."""
        self._detach()
        self._lines.clear()
        self._put(error)

    def close(self) -> None:
        """The client goes away."""
        self._closed = True
        self._detach()

    def _detach(self) -> None:
        if self._watcher is not None:
            self._net.api.close(self._watcher)
        if self in self._net.streams:
            self._net.streams.remove(self)

    def _emit(self, change: Change) -> None:
        net = self._net
        self._newest = change.revision
        self._later(change.line())
        if net.weather.duplicate and net.rng.random() < net.weather.duplicate:
            net.counts["event-duplicated"] += 1
            self._later(change.line())

    def _later(self, line: bytes | None) -> None:
        net = self._net
        self._last_at = max(self._last_at, net.loop.now + net.delay() + net.weather.replica_lag_seconds[self._replica])
        net.loop.call_at(self._last_at, self._deliver, line, context=SERVER)

    def _end(self, refused: Refused | None) -> None:
        if refused is None:  # the API server itself goes
            self.fail(OutcomeUnknown("watch: connection lost"))
        else:
            self._later(b'{"type":"ERROR","object":' + refused.body() + b"}")
            self._later(None)

    def _bookmark(self) -> None:
        if self._watcher is None or self not in self._net.streams:
            return
        if self._watcher.position <= self._net.api.revision:  # one from the future gets none
            kind = self._watcher.plural.encode()
            version = str(max(self._newest, self._net.api.revision)).encode()
            self._later(b'{"type":"BOOKMARK","object":{"kind":"' + kind + b'","metadata":{"resourceVersion":"' + version + b'"}}}')
        self._net.loop.call_later(BOOKMARK_SECONDS, self._bookmark, context=SERVER)

    def _deliver(self, line: bytes | None) -> None:
        if self not in self._net.streams:
            return
        if self.process.name in self._net.cut_off:
            self._detach()  # packets are lost and nobody says so: the client finds out by the silence
            return
        if line is None:
            self._detach()
        self._put(line)

    def _put(self, line: bytes | Exception | None) -> None:
        if self._closed:
            return
        self._heard_at = self._net.loop.now
        self._lines.append(line)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _look_whether_silent(self) -> None:
        if self._closed:
            return
        left = self._heard_at + self._idle - self._net.loop.now
        if left <= 0:
            self.fail(Stalled(f"watch: silent for {self._idle:.0f} s"))
        else:
            self._net.loop.call_later(left + 0.001, self._look_whether_silent, context=SERVER)
