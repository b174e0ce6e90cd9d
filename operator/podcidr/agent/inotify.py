"""Tells when something in a directory changed, at no cost while nothing does; polls where inotify is not to be had."""

import asyncio
import ctypes
import os
from collections.abc import Callable, Iterable
from pathlib import Path

POLL_SECONDS = 0.1
_CHANGES = 0x00000008 | 0x00000040 | 0x00000080 | 0x00000100 | 0x00000200  # close-write, moved out and in, create, delete
_ONCE = 0x80000000  # IN_ONESHOT: the watch ends with its first event
_BUFFER_BYTES = 65536


class Inotify:
    """One inotify instance (there are 128 a user) for some directories; `on_change` runs in the event loop.

    Of a directory in `once` the first change is told and no other until `rearm`: who knows that it has to be read gains
    nothing from being woken by each file of it. Whoever rearms and then reads it misses nothing.
    """

    def __init__(self, directories: Iterable[Path], on_change: Callable[[], None], *, once: Iterable[Path] = ()) -> None:
        self._once = tuple(once)
        self._directories = (*directories, *self._once)
        self._on_change = on_change
        self._fd = -1
        self._libc = ctypes.CDLL(None, use_errno=True)

    def start(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Begin; False if the kernel grants no instance, then `poll` does it."""
        fd = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if fd < 0:
            return False
        self._fd = fd
        if not self.renew():
            os.close(fd)
            self._fd = -1
            return False
        loop.add_reader(fd, self._drain)
        return True

    def renew(self) -> bool:
        """Watch the directories that are there now: one that was made again is another one."""
        return self._fd < 0 or all(self._watch(path) for path in self._directories)

    def rearm(self) -> None:
        """Tell of the next change of a directory in `once`. One that is gone is for `renew`, once it is made again."""
        if self._fd >= 0:
            for path in self._once:
                self._watch(path)

    def _watch(self, path: Path) -> bool:
        mask = _CHANGES | (_ONCE if path in self._once else 0)
        return int(self._libc.inotify_add_watch(self._fd, os.fsencode(path), ctypes.c_uint32(mask))) >= 0

    def close(self, loop: asyncio.AbstractEventLoop) -> None:
        """End; `start` may follow."""
        if self._fd >= 0:
            loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _drain(self) -> None:
        """What happened is of no interest, nor that the queue overflowed: the directories are read anew anyway."""
        try:
            os.read(self._fd, _BUFFER_BYTES)
        except BlockingIOError:
            return
        self._on_change()


async def poll(directories: Iterable[Path], on_change: Callable[[], None]) -> None:
    """The fallback: a stat of each directory every 100 ms. Ends by cancellation only."""
    watched = tuple(directories)
    before: tuple[int, ...] = ()
    while True:
        now = tuple(_changed_at(directory) for directory in watched)
        if now != before:
            on_change()
        # A change within the clock tick of the last one leaves no trace: such a stamp is not trusted yet.
        before = now if all(_is_old(stamp) for stamp in now) else ()
        await asyncio.sleep(POLL_SECONDS)


def _changed_at(directory: Path) -> int:
    try:
        return directory.stat().st_mtime_ns
    except FileNotFoundError:
        return -1


def _is_old(stamp: int) -> bool:
    import time

    return time.time_ns() - stamp > 20_000_000
