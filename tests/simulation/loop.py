"""An event loop on virtual time, whose callbacks belong to processes that can be killed or stopped between any two of them.

Time stands still while anything is ready and jumps to the next timer when nothing is. One thread, no real I/O: what runs
after what depends on nothing but the seed.
"""

import asyncio
import contextvars
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

PROCESS: contextvars.ContextVar["Process | None"] = contextvars.ContextVar("process", default=None)


class Due:
    """A callback that is to run: what asyncio's handles are, without what debugging needs."""

    __slots__ = ("args", "callback", "context", "dropped")

    def __init__(self, callback: Callable[..., object], args: tuple[Any, ...], context: contextvars.Context | None) -> None:
        self.callback, self.args = callback, args
        self.context = contextvars.copy_context() if context is None else context
        self.dropped = False

    def cancel(self) -> None:
        """It will not run."""
        self.dropped = True
        self.callback, self.args = _nothing, ()

    def cancelled(self) -> bool:
        """Whether it will not."""
        return self.dropped


def _nothing() -> None:
    pass


class Process:
    """One program of the cluster. All tasks and timers that begin in its context are its own."""

    def __init__(self, loop: "VirtualLoop", name: str) -> None:
        self.name = name
        self.alive = True
        self.stopped = False  # by SIGSTOP
        self.steps = 0
        self.on_death: list[Callable[[], None]] = []
        self.ended: BaseException | None = None
        self._loop = loop
        self._parked: list[Due] = []
        self._kept: set[asyncio.Task[Any]] = set()
        self._fuse = -1
        self._burn = self.kill
        self._context = contextvars.copy_context()
        self._context.run(PROCESS.set, self)

    def start(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run something in it."""
        return self._loop.create_task(work, context=self._context)

    def call_later(self, seconds: float, callback: Callable[[], Any]) -> None:
        """Have it called in the process, if that lives then."""
        self._loop.call_later(seconds, callback, context=self._context)

    def keep(self, task: asyncio.Task[Any]) -> None:
        """A killed process cleans nothing up: its coroutines must not be finalized while the simulation runs."""
        self._kept.add(task)
        if len(self._kept) > 256:
            self._kept = {task for task in self._kept if not task.done()}

    def kill(self) -> None:
        """As kill -9: nothing of it ever runs again. What it sent is on its way."""
        if self.alive:
            self.alive = False
            self._parked.clear()
            self._loop.graveyard.append(self._kept)
            for told in self.on_death:
                told()

    def kill_in(self, steps: int) -> None:
        """Kill it between two awaits, so many callbacks from now."""
        self._fuse, self._burn = steps, self.kill

    def stop_in(self, steps: int) -> None:
        """The same with SIGSTOP."""
        self._fuse, self._burn = steps, self.stop

    def stop(self) -> None:
        """As SIGSTOP."""
        self.stopped = True

    def resume(self) -> None:
        """As SIGCONT: what became due meanwhile runs now."""
        self.stopped = False
        parked, self._parked = self._parked, []
        self._loop.take_up(parked)

    def admits(self, handle: Due) -> bool:
        """Whether the callback may run now."""
        if not self.alive:
            return False
        if self.stopped:
            self._parked.append(handle)
            return False
        if self._fuse == 0:
            self._fuse = -1
            self._burn()
            return self.admits(handle)
        self._fuse -= 1
        self.steps += 1
        return True


class Deadlock(RuntimeError):
    """Nothing is ready and no timer runs."""


class VirtualLoop(asyncio.BaseEventLoop):
    """asyncio as it is, but for time and for whose callbacks run."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.steps = 0
        self.graveyard: list[set[asyncio.Task[Any]]] = []
        self.errors: list[tuple[str, BaseException | None]] = []
        self._timers: list[tuple[float, int, Due]] = []
        self._timers_made = 0
        self.set_task_factory(self._make_task)
        self.set_exception_handler(self._note_error)

    def time(self) -> float:
        """Virtual seconds."""
        return self.now

    def call_soon(self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None) -> Due:  # type: ignore[override]
        """As asyncio's, without its checks: it is called half a million times a minute."""
        handle = Due(callback, args, context)
        self._ready.append(handle)  # type: ignore[attr-defined]
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> Due:
        """In so many virtual seconds."""
        return self.call_at(self.now + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> Due:
        """What is due at the same time runs in the order in which it was asked for."""
        handle = Due(callback, args, context)
        self._timers_made += 1
        heapq.heappush(self._timers, (when, self._timers_made, handle))
        return handle

    def take_up(self, handles: list[Due]) -> None:
        """Run these next."""
        self._ready.extend(handles)  # type: ignore[attr-defined]

    @staticmethod
    def _make_task(loop: asyncio.AbstractEventLoop, work: Any, context: contextvars.Context | None = None) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(work, loop=loop, context=context)
        process = context.get(PROCESS) if context is not None else PROCESS.get()
        if process is not None:
            process.keep(task)
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        return task

    def _note_error(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.errors.append((context["message"], context.get("exception")))

    def _run_once(self) -> None:
        ready = self._ready  # type: ignore[attr-defined]
        if not ready:
            self._jump(ready)
        for _ in range(len(ready)):
            handle = ready.popleft()
            if handle.dropped:
                continue
            context = handle.context
            process = context.get(PROCESS)
            if process is None or process.admits(handle):
                self.steps += 1
                try:
                    context.run(handle.callback, *handle.args)
                except Exception as error:
                    self.errors.append((f"in callback {handle.callback}", error))

    def _jump(self, ready: deque[Due]) -> None:
        """To the next timer, and to those that are due with it."""
        timers = self._timers
        while timers and timers[0][2].dropped:
            heapq.heappop(timers)
        if not timers:
            raise Deadlock("nothing will ever happen again")
        self.now = max(self.now, timers[0][0])
        while timers and timers[0][0] <= self.now:
            ready.append(heapq.heappop(timers)[2])

    def _process_events(self, event_list: list[Any]) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """Nobody sleeps."""
