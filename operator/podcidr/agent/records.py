"""What the plugin writes, as values: attachments, pending marks, held addresses (docs/state-dir.md)."""

import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from podcidr import files
from podcidr.core.errors import PodcidrError
from podcidr.core.prefix import Family, Prefix, parse_address, parse_prefix

T = TypeVar("T")
VERSION = 1
MAX_BYTES = 1 << 18
RECOVERED_NETWORK = "podcidr-recovered"  # of what only the API server told: no container is known
_KEY = re.compile(r"[A-Za-z0-9][\w.-]*:[A-Za-z0-9][\w.-]*:[^/:\s\0]+", re.ASCII)


class Address(NamedTuple):
    """An address as the planner has it."""

    family: Family
    number: int


@dataclass(frozen=True, slots=True)
class PodRef:
    """The pod that a file speaks of; uid is empty where the runtime did not tell."""

    namespace: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class Held:
    """An address of an attachment; `block` is what its record says, if it does. `pool` is empty in a recovered one."""

    address: Address
    block: Prefix | None = None
    cooldown_seconds: int = 0
    pool: str = ""


@dataclass(frozen=True, slots=True)
class Attachment:
    """One container interface with its addresses."""

    key: str
    network: str
    interface: str
    netns: str
    pod: PodRef
    ips: tuple[Held, ...]
    assigned_at: float

    @property
    def recovered(self) -> bool:
        """Written by the agent after a loss, not by the plugin."""
        return not any(held.pool for held in self.ips)


@dataclass(frozen=True, slots=True)
class Mark:
    """An ADD that waits, or waited, for an address."""

    key: str
    pod: PodRef
    pools: tuple[str, ...]
    families: tuple[Family, ...]
    since: float

    @property
    def place(self) -> tuple[str, str, str]:
        """Pod, network and interface: two ADDs for one place are one demand (the runtime has tried again)."""
        network, _, interface = self.key.split(":", 2) if self.key.count(":") >= 2 else (self.key, "", "")
        return self.pod.uid or f"{self.pod.namespace}/{self.pod.name}", network, interface


def attachment(key: str, document: dict[str, Any]) -> Attachment:
    """Read an attachment's record. Raises one of MALFORMED on anything else."""
    _require(document)
    return Attachment(
        key=key,
        network=_name(document["network"]),
        interface=_name(document["interface"]),
        netns=text(document.get("netns")),
        pod=_pod(document.get("pod") or {}),
        ips=tuple(_held(entry) for entry in document["ips"]),
        assigned_at=_seconds(document.get("assignedAt")),
    )


def mark(key: str, document: dict[str, Any]) -> Mark:
    """Read a pending mark. Raises as `attachment` does."""
    _require(document)
    return Mark(
        key=key,
        pod=_pod(document.get("pod") or {}),
        pools=tuple(text(name) for name in document.get("pools") or ()),
        families=tuple(Family(family) for family in document.get("families") or ()),
        since=_seconds(document.get("since")),
    )


def text(value: object) -> str:
    """Text that can be written down again (no half of a surrogate); what is absent is empty."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    value.encode()
    return value


def address(written: object) -> Address:
    """An address from its text."""
    return _address(text(written))


@lru_cache(maxsize=8192)
def _address(written: str) -> Address:
    """Each look has the names of all that are held, and lowest-first has the same ones come again and again."""
    return Address(*parse_address(written))


_prefix = lru_cache(maxsize=1024)(parse_prefix)


def _name(value: object) -> str:
    if not (name := text(value)):
        raise ValueError("a name is empty")
    return name


def key_of(document: Mapping[str, Any]) -> str:
    """The file name of the attachment that the record is. Raises one of MALFORMED where no plugin would write it."""
    key = ":".join(text(document[part]) for part in ("network", "container", "interface"))
    if not _KEY.fullmatch(key) or len(key.encode()) > 255:
        raise ValueError(f"{key[:300]!r} names no attachment")
    return key


def is_data(name: str) -> bool:
    """Whether a file may be a record: a KEY has two `:`, and may well end in `.new`, for so may an interface."""
    return not name.startswith(".") and (":" in name or not name.endswith(".new"))


class _Known(NamedTuple, Generic[T]):
    """A file as it was read; nothing in it where it can't be."""

    inode: int
    size: int
    value: T | None


class Directory(Generic[T]):
    """The records of one directory. A file is read once: names and inodes tell which are new (records never change)."""

    def __init__(self, path: Path, read: Callable[[str, dict[str, Any]], T]) -> None:
        self._path = path
        self._read = read
        self._cache: dict[str, _Known[T]] = {}
        self.damaged: dict[str, str] = {}  # path and why, of the last scan

    def scan(self) -> dict[str, T]:
        """All readable records by name, as of now."""
        found: dict[str, _Known[T]] = {}
        self.damaged = {}
        with os.scandir(self._path) as entries:
            for entry in entries:
                name = entry.name
                known = self._cache.get(name)
                if known is None or known.inode != entry.inode() or known.value is None:
                    if not is_data(name):
                        continue
                    known = self._know(name, entry.inode())
                found[name] = known
        self._cache = found
        return {name: known.value for name, known in found.items() if known.value is not None}

    def forget_changed(self) -> None:
        """Have the next scan read what has another size by now: no program of ours changes a record, but a hand may."""
        self._cache = {name: known for name, known in self._cache.items() if _size(self._path / name) == known.size}

    def inodes(self) -> set[int]:
        """The inodes of the last scan."""
        return {known.inode for known in self._cache.values()}

    def load(self, name: str) -> T | None:
        """One record, read now; None if it can't be: what it holds is seen in addresses/."""
        return self._know(name, 0).value

    def _know(self, name: str, inode: int) -> _Known[T]:
        path, size = self._path / name, 0

        def read(data: bytes) -> T:
            nonlocal size
            size = len(data)
            return self._read(name, files.parse_object(data))

        try:
            value = files.parsed(path, read, MAX_BYTES)
            return _Known(inode, size, value)
        except FileNotFoundError:
            pass  # gone meanwhile
        except (files.Damaged, OSError) as error:
            self.damaged[files.shown(path)] = str(error)
        return _Known(inode, size, None)


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return -1


def _require(document: dict[str, Any]) -> None:
    """Of a version that we do not know nothing is believed: what it holds is seen in addresses/."""
    if document["version"] != VERSION:
        raise ValueError(f"version {document['version']!r} is not known")


def _seconds(value: object) -> float:
    """A time, or how long; absent is 0."""
    if not isinstance(value, int | float | None):
        raise TypeError(f"{value!r} is no number")
    seconds = float(value or 0)
    if not (math.isfinite(seconds) and seconds >= 0):
        raise ValueError(f"{value!r} is no time")
    return seconds


def _pod(document: dict[str, Any]) -> PodRef:
    return PodRef(*(text(document.get(part)) for part in ("namespace", "name", "uid")))


def _held(entry: dict[str, Any]) -> Held:
    try:
        block = _prefix(entry["block"]) if entry.get("block") else None
    except PodcidrError:
        block = None
    return Held(address(entry["address"]), block, int(_seconds(entry.get("cooldownSeconds"))), text(entry.get("pool")))
