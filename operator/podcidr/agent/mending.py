"""Mends what a hand, or a tool that tidies /run, took away under the agent.

Unknown means used: what only one of attachments/ and addresses/ still tells, the other is told again.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from podcidr import files
from podcidr.agent import index, records
from podcidr.agent.observation import Observation
from podcidr.agent.records import Address, Attachment, Directory
from podcidr.agent.statedir import StateDir, StateDirError
from podcidr.core.errors import PodcidrError
from podcidr.core.prefix import address_text

log = structlog.get_logger("podcidr.agent.mend")
_HOLDERS = {"attachments", "addresses"}
SECOND_LOOK_SECONDS = 2.0
RETRY_SECONDS = 15.0  # what stands in the way of a link may go


@dataclass(slots=True)
class Relinked:
    """What was linked anew, and what could not be, with the reason."""

    linked: list[str] = field(default_factory=list)
    stuck: dict[str, str] = field(default_factory=dict)


class Mender:
    """What was amiss at the last look, for one look alone proves nothing: an ADD or DEL under way looks so too."""

    def __init__(self, state: StateDir, state_id: str) -> None:
        self._state = state
        self._state_id = state_id
        self._loose: frozenset[str] = frozenset()
        self._stuck: Mapping[str, str] = {}
        self._again_at = 0.0

    async def directories(self, now_seconds: float) -> bool:
        """Make missing directories, and fill them again. Raises StateDirError where nothing tells any more who holds what."""
        if not self._state.is_ours():
            raise StateDirError(f"the state directory {self._state.root} was lost or replaced; starting over")
        missing = self._state.amiss()
        if not missing:
            return False
        async with self._state.locked():
            require(self._state, self._state_id, now_seconds)
            restored = restore(self._state)
        log.warning("directories of the state dir were gone and are made again", directories=missing, links=restored)
        return True

    async def links(self, observation: Observation, now_seconds: float) -> None:
        """Link anew what was seen without its other half twice. Raises as `directories` does."""
        twice = observation.loose & self._loose
        self._loose = observation.loose
        if twice <= self._stuck.keys() and now_seconds < self._again_at:
            return
        done = Relinked()
        if twice:
            async with self._state.locked():
                require(self._state, self._state_id, now_seconds)
                done = relink(self._state)
        if done.linked:
            log.warning("links were gone and are made again: an address stays held", links=len(done.linked), seen=sorted(done.linked)[:8])
        self._remember({name: done.stuck.get(name, "no such name any more") for name in sorted(twice) if name not in done.linked})
        self._again_at = now_seconds + RETRY_SECONDS

    def _remember(self, stuck: Mapping[str, str]) -> None:
        for name, why in stuck.items():
            if self._stuck.get(name) != why:
                log.warning(
                    "attachment and address can't be linked; the address counts as in use, and it is tried again", name=name, reason=why
                )
        self._stuck = stuck

    def due_seconds(self, observation: Observation, now_seconds: float) -> float:
        """In how long to look again: soon for a second look, later where something stands in the way."""
        if not observation.loose:
            return float("inf")
        return max(SECOND_LOOK_SECONDS, self._again_at - now_seconds) if observation.loose <= self._stuck.keys() else SECOND_LOOK_SECONDS


def require(state: StateDir, state_id: str, now_seconds: float) -> None:
    """Raise if the directory was lost: a new process rebuilds it from the runtime's cache and the API server."""
    if reason := lost(state, state_id, now_seconds):
        raise StateDirError(f"the state directory {state.root} was lost: {reason}; starting over")


def lost(state: StateDir, state_id: str, now_seconds: float) -> str | None:
    """Why nothing tells any more who holds what, or None. Under the lock, where the index is never ahead of the links."""
    if state.missing() and set(state.missing()) >= _HOLDERS:
        return "attachments/ and addresses/ are gone"
    vanished = index.cooling_and_held(state.index, state_id, now_seconds)[1] - _told(state)
    if vanished:
        return f"{address_text(*min(vanished))} is held, says the index, and nothing tells by whom"
    return None


def restore(state: StateDir) -> int:
    """Make missing directories and links, under the lock. Returns how many links."""
    holders_gone = not _HOLDERS.isdisjoint(state.missing())
    state.make_directories()
    linked = len(relink(state).linked)
    if holders_gone:  # DELs meanwhile found no link to free: the plugin is to look at addresses/
        state.index.unlink(missing_ok=True)
    return linked


def relink(state: StateDir) -> Relinked:
    """Give every attachment the addresses that it lists and nobody holds, and every address its attachment. Under the lock."""
    done = Relinked()
    attachments, addresses = _inodes(state.attachments), _inodes(state.addresses)
    directory = Directory(state.attachments, records.attachment)
    for key in sorted(attachments):
        for address in _texts(directory.load(key)) - addresses.keys():
            if _link(state.attachments / key, state.addresses / address, key, done):
                addresses[address] = attachments[key]
    whole = set(attachments.values())
    for address in sorted(address for address, inode in addresses.items() if inode not in whole):
        try:
            key = _key(state.addresses / address)
        except (files.Damaged, OSError) as error:
            done.stuck[address] = f"{error}; remove it if no pod here has that address"
            continue
        if key in attachments:
            done.stuck[address] = f"{key}, which its record names, holds other addresses by now: it is freed when that has ended"
        elif _link(state.addresses / address, state.attachments / key, address, done):
            attachments[key] = addresses[address]
    return done


def _link(source: Path, target: Path, name: str, done: Relinked) -> bool:
    try:
        os.link(source, target)
    except OSError as error:
        done.stuck[name] = f"{files.shown(target)}: {error.strerror}"
        return False
    done.linked.append(name)
    return True


def _told(state: StateDir) -> set[Address]:
    """Every address that a link or a record names."""
    told: set[Address] = set()
    for name in _inodes(state.addresses):
        try:
            told.add(records.address(name))
        except (PodcidrError, UnicodeError):
            continue
    directory = Directory(state.attachments, records.attachment)
    for key in _inodes(state.attachments):
        record = directory.load(key)
        told |= {held.address for held in record.ips} if record else set()
    return told


def _texts(record: Attachment | None) -> set[str]:
    return {address_text(*held.address) for held in record.ips} if record else set()


def _inodes(directory: Path) -> dict[str, int]:
    try:
        with os.scandir(directory) as entries:
            return {entry.name: entry.inode() for entry in entries if records.is_data(entry.name)}
    except OSError:
        if directory.is_dir():
            raise
        return {}


def _key(path: Path) -> str:
    """The name of the attachment that the record is. Raises Damaged or OSError."""

    def read(data: bytes) -> str:
        document = files.parse_object(data)
        key = records.key_of(document)
        records.attachment(key, document)
        return key

    return files.parsed(path, read, records.MAX_BYTES)
