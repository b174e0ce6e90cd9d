"""The state directory: the agent's side of docs/state-dir.md."""

import asyncio
import contextlib
import errno
import fcntl
import json
import os
import secrets
import stat
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from podcidr import files
from podcidr.files import Damaged
from podcidr.kube.clock import Clock

VERSION = 1
_DIRECTORIES = ("attachments", "addresses", "pending", "namespaces")
_RETRY_SECONDS = 0.2
_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode

log = structlog.get_logger("podcidr.agent.statedir")


class StateDirError(Exception):
    """The state directory can't be used; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Which NodeCIDR and epoch the allocation file on disk stands for."""

    uid: str
    epoch: int
    question: str = ""

    def outlasts(self, other: "Standing") -> bool:
        """Whether the other must not replace it: it is newer, or at the same epoch of a history that etcd lost."""
        return self.uid == other.uid and (self.epoch > other.epoch or (self.epoch == other.epoch and self.question != other.question))


class StateDir:
    """Paths, locks and whole-file writes. Files are replaced by rename, so a reader sees the old or the new one."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.attachments = root / "attachments"
        self.addresses = root / "addresses"
        self.pending = root / "pending"
        self.namespaces = root / "namespaces"
        self.index = root / "index"
        self.allocation = root / "allocation.json"
        self._lock_fd = -1
        self._agent_fd = -1
        self._ours = asyncio.Lock()  # a flock does not exclude another task of the same process

    def prepare(self) -> None:
        """Make the directory and its locks, for root's eyes only. What is in it is the business of who holds `agent.lock`."""
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock_fd = _open_lock(self.root / "lock")
            self._agent_fd = _open_lock(self.root / "agent.lock")
        except _NotOurs as error:
            raise StateDirError(f"--state-dir {self.root}: {error.filename} is not a regular file; remove it, it is made anew") from error
        except OSError as error:
            raise StateDirError(
                f"--state-dir {self.root}: {error.strerror} ({error.filename}); "
                "name a directory that this user can create and write, such as /run/podcidr"
            ) from error

    def make_directories(self) -> None:
        """Make those that are missing: records name pods, so for root's eyes only. What lies in their place goes aside."""
        for name in self.amiss():
            if os.path.lexists(self.root / name):
                self.set_aside(self.root / name)
        for name in self.missing():
            (self.root / name).mkdir(mode=0o700, exist_ok=True)

    def create(self) -> None:
        """Both, for a directory that is new."""
        self.prepare()
        self.make_directories()

    def missing(self) -> list[str]:
        """The directories that are not there."""
        return [path.name for path in (self.attachments, self.addresses, self.pending, self.namespaces) if not path.is_dir()]

    def amiss(self) -> list[str]:
        """Those, and the index where it is no file: the plugin can't read it then, and must not remove it."""
        return self.missing() + ([] if _kind(self.index) in (None, stat.S_IFREG) else [self.index.name])

    def set_aside(self, path: Path) -> None:
        """Move what is nothing of ours out of the way, whole, under a name that is nobody's data."""
        aside = self.root / f".{path.name}.{secrets.token_hex(4)}.aside"
        path.rename(aside)
        log.warning(
            "this does not belong in the state dir and was moved aside; remove it", path=files.shown(path), aside=files.shown(aside)
        )

    def remove(self, path: Path) -> None:
        """Unlink a file of ours, or what lies in its place."""
        if _kind(path) == stat.S_IFDIR:
            self.set_aside(path)
        else:
            path.unlink(missing_ok=True)

    def is_ours(self) -> bool:
        """Whether the lock that we hold is still the one that another agent would find."""
        return _is_at(self._agent_fd, self.root / "agent.lock")

    def try_agent_lock(self) -> bool:
        """Become the one agent of this directory, for life; False while another is."""
        return _try_lock(self._agent_fd)

    @contextlib.asynccontextmanager
    async def locked(self) -> AsyncGenerator[None, None]:
        """Hold the plugin's lock. The kernel queues us among the plugins, in a thread: the loop goes on."""
        async with self._ours:
            await self._lock()
            while not _is_at(self._lock_fd, self.root / "lock"):  # removed by hand: plugins use, or make, another one
                before, self._lock_fd = self._lock_fd, _open_lock(self.root / "lock")
                os.close(before)
                await self._lock()
            try:
                yield
            finally:
                fcntl.flock(self._lock_fd, fcntl.LOCK_UN)

    async def _lock(self) -> None:
        if not _try_lock(self._lock_fd):
            await asyncio.to_thread(fcntl.flock, self._lock_fd, fcntl.LOCK_EX)

    def close(self) -> None:
        """Give back both locks."""
        for fd in (self._lock_fd, self._agent_fd):
            if fd >= 0:
                os.close(fd)
        self._lock_fd = self._agent_fd = -1

    def read_ready(self) -> str | None:
        """The state's ID, or None where a rebuild is due: nothing there, torn, or of a version that is not ours."""
        try:
            document = self.read("ready") or {}
        except Damaged:
            return None
        state_id = document.get("stateID")
        return state_id if document.get("version") == VERSION and isinstance(state_id, str) and state_id else None

    def write_ready(self, state_id: str) -> None:
        """Written last: from here on the plugin answers."""
        self.replace(self.root / "ready", {"version": VERSION, "stateID": state_id})

    def read(self, name: str) -> dict[str, Any] | None:
        """A file of ours; None if there is none. Raises Damaged."""
        try:
            return files.document(self.root / name)
        except FileNotFoundError:
            return None

    def read_allocation(self) -> dict[str, Any] | None:
        """The allocation file; None if there is none. Raises Damaged."""
        document = self.read("allocation.json")
        if document is None:
            return None
        for key, kind in (("uid", str), ("epoch", int), ("pools", dict)):
            if not isinstance(document.get(key), kind):
                raise Damaged(f"{self.allocation}: no {key} in it")
        return document

    async def publish(self, document: Mapping[str, Any]) -> Standing:
        """Replace the allocation file, unless one is there that outlasts it. Returns what stands afterwards.

        Once this returns, no ADD works from an older file: the plugin reads it under the lock that was held here.
        """
        async with self.locked():
            standing, new = self._standing(), standing_of(document)
            if standing and standing.outlasts(new):
                return standing
            self.replace(self.allocation, document)
        return new

    def replace(self, path: Path, document: Mapping[str, Any]) -> None:
        """Write a whole file by rename. On a full disk the old one stays and OSError tells."""
        temporary = self.root / f".{path.name}.tmp"  # only one agent lives, so one name does
        try:
            self.remove(temporary)  # a crash's; or a FIFO, or a link, that some hand put there
            with open(temporary, "x", encoding="utf-8", opener=_private) as file:
                file.write(_encode(document))
            if _kind(path) == stat.S_IFDIR:
                self.set_aside(path)
            temporary.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise OSError(error.errno, error.strerror, str(path)) from error  # a write tells no name

    def stamp(self, path: Path) -> int | None:
        """Tells two states of a file apart; None if there is none."""
        try:
            status = path.lstat()
        except FileNotFoundError:
            return None
        return hash((status.st_ino, status.st_size, status.st_mtime_ns))

    def _standing(self) -> Standing | None:
        try:
            document = self.read_allocation()
        except Damaged:
            return None
        return standing_of(document) if document else None


def standing_of(document: Mapping[str, Any]) -> Standing:
    """What an allocation file stands for."""
    return Standing(document["uid"], document["epoch"], document.get("question", ""))


async def become_the_agent(state: StateDir, clock: Clock, waiting: Any) -> None:
    """Wait until no other agent holds the directory; `waiting` is called once if there is one.

    One that was lost meanwhile may have another agent already: the lock that we got is nobody's any more.
    """
    if not state.try_agent_lock():
        waiting()
        while not state.try_agent_lock():
            await clock.sleep(_RETRY_SECONDS)
    if not state.is_ours():
        raise StateDirError(f"the state directory {state.root} was lost or replaced while another agent held it; starting over")


def new_state_id() -> str:
    """A random ID: files of different states must never be mixed."""
    return secrets.token_hex(16)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


class _NotOurs(OSError):
    """A lock that is no regular file: whoever opens it would lock something else, or wait for ever."""


def _open_lock(path: Path) -> int:
    try:
        return files.open_regular(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except (Damaged, IsADirectoryError) as error:
        raise _NotOurs(errno.EINVAL, "not a regular file; remove it, it is made anew", str(path)) from error


def _is_at(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.lstat())
    except (FileNotFoundError, NotADirectoryError):
        return False


def _kind(path: Path) -> int | None:
    """What lies there, links not followed; None if nothing does."""
    try:
        return stat.S_IFMT(path.lstat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise
    return True
