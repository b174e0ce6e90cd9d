"""What the plugin writes, as values: attachments, pending marks, held addresses (docs/state-dir.md)."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from podcidr.core.errors import PodcidrError
from podcidr.core.prefix import Family, Prefix, parse_address, parse_prefix

T = TypeVar("T")
VERSION = 1
RECOVERED_NETWORK = "podcidr-recovered"  # of what only the API server told: no container is known


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
    """Read an attachment's record. Raises KeyError, TypeError, ValueError or PodcidrError on anything else."""
    _require(document)
    return Attachment(
        key=key,
        network=document["network"],
        interface=document["interface"],
        netns=document.get("netns") or "",
        pod=_pod(document.get("pod") or {}),
        ips=tuple(_held(entry) for entry in document["ips"]),
        assigned_at=float(document.get("assignedAt") or 0),
    )


def mark(key: str, document: dict[str, Any]) -> Mark:
    """Read a pending mark. Raises as `attachment` does."""
    _require(document)
    return Mark(
        key=key,
        pod=_pod(document.get("pod") or {}),
        pools=tuple(document.get("pools") or ()),
        families=tuple(Family(family) for family in document.get("families") or ()),
        since=float(document.get("since") or 0),
    )


def address(text: str) -> Address:
    """An address from its text."""
    return Address(*parse_address(text))


class Directory(Generic[T]):
    """The records of one directory. A file is read once: names and inodes tell which are new (records never change)."""

    def __init__(self, path: Path, read: Callable[[str, dict[str, Any]], T]) -> None:
        self._path = path
        self._read = read
        self._cache: dict[str, tuple[int, T | None]] = {}

    def scan(self) -> dict[str, T]:
        """All readable records by name, as of now."""
        found: dict[str, tuple[int, T | None]] = {}
        with os.scandir(self._path) as entries:
            for entry in entries:
                if entry.name.startswith(".") or entry.name.endswith(".new"):
                    continue  # nobody's data
                held = self._cache.get(entry.name)
                if held is None or held[0] != entry.inode() or held[1] is None:
                    held = entry.inode(), self.load(entry.name)
                found[entry.name] = held
        self._cache = found
        return {name: value for name, (_, value) in found.items() if value is not None}

    @property
    def unreadable(self) -> list[str]:
        """Files that are no record, as of the last scan."""
        return [name for name, (_, value) in self._cache.items() if value is None]

    def inodes(self) -> set[int]:
        """The inodes of the last scan."""
        return {inode for inode, _ in self._cache.values()}

    def load(self, name: str) -> T | None:
        """One record, read now; None if it can't be."""
        try:
            return self._read(name, json.loads((self._path / name).read_bytes()))
        except (OSError, KeyError, TypeError, ValueError, AttributeError, PodcidrError):
            return None  # gone meanwhile, half written, or foreign: what it holds is seen in addresses/


def _require(document: dict[str, Any]) -> None:
    """Of a version that we do not know nothing is believed: what it holds is seen in addresses/."""
    if document["version"] != VERSION:
        raise ValueError(f"version {document['version']!r} is not known")


def _pod(document: dict[str, Any]) -> PodRef:
    return PodRef(document.get("namespace") or "", document.get("name") or "", document.get("uid") or "")


def _held(entry: dict[str, Any]) -> Held:
    try:
        block = parse_prefix(entry["block"]) if entry.get("block") else None
    except PodcidrError:
        block = None
    return Held(address(entry["address"]), block, int(entry.get("cooldownSeconds") or 0), entry.get("pool") or "")
