"""Mends what a hand, or a tool that tidies /run, took away under the agent.

Unknown means used: what only one of attachments/ and addresses/ still tells, the other is told again.
"""

import json
import os
from pathlib import Path

import structlog

from podcidr.agent import index, records
from podcidr.agent.observation import Observation
from podcidr.agent.records import Address, Attachment, Directory
from podcidr.agent.statedir import StateDir, StateDirError
from podcidr.core.errors import PodcidrError
from podcidr.core.prefix import address_text

log = structlog.get_logger("podcidr.agent.mend")
_HOLDERS = {"attachments", "addresses"}


class Mender:
    """What was amiss at the last look, for one look alone proves nothing: an ADD or DEL under way looks so too."""

    def __init__(self, state: StateDir, state_id: str) -> None:
        self._state = state
        self._state_id = state_id
        self._loose: frozenset[str] = frozenset()
        self._hopeless: frozenset[str] = frozenset()

    async def directories(self, now_seconds: float) -> bool:
        """Make missing directories, and fill them again. Raises StateDirError where nothing tells any more who holds what."""
        if not self._state.is_ours():
            raise StateDirError(f"the state directory {self._state.root} was lost or replaced; starting over")
        missing = self._state.missing()
        if not missing:
            return False
        async with self._state.locked():
            require(self._state, self._state_id, now_seconds)
            restored = restore(self._state)
        log.warning("directories of the state dir were gone and are made again", directories=missing, links=restored)
        return True

    async def links(self, observation: Observation, now_seconds: float) -> None:
        """Link anew what was seen without its other half twice. Raises as `directories` does."""
        twice = (observation.loose & self._loose) - self._hopeless
        self._loose = observation.loose
        if twice:
            async with self._state.locked():
                require(self._state, self._state_id, now_seconds)
                linked = relink(self._state)
            self._hopeless = twice  # if they are not whole now, they never will be: nobody can read the record
            log.warning("links were gone and are made again: an address stays held", links=linked, seen=sorted(twice)[:8])

    def pending(self, observation: Observation) -> bool:
        """Whether a second look is due."""
        return bool(observation.loose - self._hopeless)


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
    linked = relink(state)
    if holders_gone:  # DELs meanwhile found no link to free: the plugin is to look at addresses/
        state.index.unlink(missing_ok=True)
    return linked


def relink(state: StateDir) -> int:
    """Give every attachment the addresses that it lists and nobody holds, and every address its attachment. Under the lock."""
    attachments, addresses = _inodes(state.attachments), _inodes(state.addresses)
    directory = Directory(state.attachments, records.attachment)
    linked = 0
    for key in sorted(attachments):
        record = directory.load(key)
        for address in _texts(record) - addresses.keys():
            os.link(state.attachments / key, state.addresses / address)
            addresses[address] = attachments[key]
            linked += 1
    for address, inode in addresses.items():
        if inode not in attachments.values() and (whose := _key(state.addresses / address)) and whose not in attachments:
            os.link(state.addresses / address, state.attachments / whose)
            attachments[whose] = inode
            linked += 1
    return linked


def _told(state: StateDir) -> set[Address]:
    """Every address that a link or a record names."""
    told: set[Address] = set()
    for name in _inodes(state.addresses):
        try:
            told.add(records.address(name))
        except PodcidrError:
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
            return {entry.name: entry.inode() for entry in entries if not (entry.name.startswith(".") or entry.name.endswith(".new"))}
    except FileNotFoundError:
        return {}


def _key(path: Path) -> str | None:
    """The name of the attachment that the record is; None if it can't be read."""
    try:
        document = json.loads(path.read_bytes())
        key = f"{document['network']}:{document['container']}:{document['interface']}"
        records.attachment(key, document)
    except (OSError, KeyError, TypeError, ValueError, AttributeError, PodcidrError):
        return None
    return None if "/" in key else key
