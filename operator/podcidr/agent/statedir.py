"""The state directory: the agent's side of docs/state-dir.md."""

import asyncio
import errno
import fcntl
import json
import os
import secrets
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from podcidr.kube.clock import Clock

VERSION = 1
_DIRECTORIES = ("attachments", "addresses", "pending", "namespaces")
_RETRY_SECONDS = 0.2
_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


class StateDirError(Exception):
    """The state directory can't be used; the text says what to do."""


class Corrupt(Exception):
    """A file of ours that is not what we write."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Which NodeCIDR and epoch the allocation file on disk stands for."""

    uid: str
    epoch: int


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
        except OSError as error:
            raise StateDirError(
                f"--state-dir {self.root}: {error.strerror} ({error.filename}); "
                "name a directory that this user can create and write, such as /run/podcidr"
            ) from error

    def make_directories(self) -> None:
        """Make those that are missing: records name pods, so for root's eyes only."""
        for name in _DIRECTORIES:
            (self.root / name).mkdir(mode=0o700, exist_ok=True)

    def create(self) -> None:
        """Both, for a directory that is new."""
        self.prepare()
        self.make_directories()

    def missing(self) -> list[str]:
        """The directories that are not there."""
        return [path.name for path in (self.attachments, self.addresses, self.pending, self.namespaces) if not path.is_dir()]

    def is_ours(self) -> bool:
        """Whether the lock that we hold is still the one that another agent would find."""
        return _is_at(self._agent_fd, self.root / "agent.lock")

    def try_agent_lock(self) -> bool:
        """Become the one agent of this directory, for life; False while another is."""
        return _try_lock(self._agent_fd)

    @asynccontextmanager
    async def locked(self) -> AsyncGenerator[None, None]:
        """Hold the plugin's lock. The kernel queues us among the plugins, in a thread: the loop goes on."""
        async with self._ours:
            await self._lock()
            while not _is_at(self._lock_fd, self.root / "lock"):  # removed by hand: plugins use, or make, another one
                os.close(self._lock_fd)
                self._lock_fd = _open_lock(self.root / "lock")
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
        except Corrupt:
            return None
        state_id = document.get("stateID")
        return state_id if document.get("version") == VERSION and isinstance(state_id, str) and state_id else None

    def write_ready(self, state_id: str) -> None:
        """Written last: from here on the plugin answers."""
        self.replace(self.root / "ready", {"version": VERSION, "stateID": state_id})

    def read(self, name: str) -> dict[str, Any] | None:
        """A file of ours; None if there is none. Raises Corrupt."""
        try:
            return _load(self.root / name)
        except FileNotFoundError:
            return None

    def read_allocation(self) -> dict[str, Any] | None:
        """The allocation file; None if there is none. Raises Corrupt."""
        document = self.read("allocation.json")
        if document is None:
            return None
        if not isinstance(document.get("uid"), str) or not isinstance(document.get("epoch"), int):
            raise Corrupt(f"{self.allocation}: no uid and epoch in it")
        return document

    async def publish(self, document: Mapping[str, Any]) -> Standing:
        """Replace the allocation file, unless a newer one of the same uid is there. Returns what stands afterwards.

        Once this returns, no ADD works from an older file: the plugin reads it under the lock that was held here.
        """
        async with self.locked():
            standing = self._standing()
            if standing and standing.uid == document["uid"] and standing.epoch > document["epoch"]:
                return standing
            self.replace(self.allocation, document)
        return Standing(document["uid"], document["epoch"])

    def replace(self, path: Path, document: Mapping[str, Any]) -> None:
        """Write a whole file by rename. On a full disk the old one stays and OSError tells."""
        temporary = self.root / f".{path.name}.tmp"  # only one agent lives, so one name does
        try:
            with open(temporary, "w", encoding="utf-8", opener=_private) as file:
                file.write(_encode(document))
            temporary.replace(path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise OSError(error.errno, error.strerror, str(path)) from error  # a write tells no name

    def stamp(self, path: Path) -> int | None:
        """Tells two states of a file apart; None if there is none."""
        try:
            stat = path.stat()
        except FileNotFoundError:
            return None
        return hash((stat.st_ino, stat.st_size, stat.st_mtime_ns))

    def _standing(self) -> Standing | None:
        try:
            document = self.read_allocation()
        except Corrupt:
            return None
        return Standing(document["uid"], document["epoch"]) if document else None


async def become_the_agent(state: StateDir, clock: Clock, waiting: Any) -> None:
    """Wait until no other agent holds the directory; `waiting` is called once if there is one."""
    if state.try_agent_lock():
        return
    waiting()
    while not state.try_agent_lock():
        await clock.sleep(_RETRY_SECONDS)


def new_state_id() -> str:
    """A random ID: files of different states must never be mixed."""
    return secrets.token_hex(16)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _open_lock(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _is_at(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise
    return True


def _load(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except ValueError as error:
        raise Corrupt(f"{path}: {error}") from error
    if not isinstance(document, dict):
        raise Corrupt(f"{path}: not a JSON object")
    return document
