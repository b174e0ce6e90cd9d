"""One look at the node's files: who holds what, what cools, who waits."""

import fcntl
import os
from collections.abc import Mapping
from dataclasses import dataclass

from podcidr.agent import index, records
from podcidr.agent.records import Address, Attachment, Directory, Mark
from podcidr.agent.statedir import StateDir, StateDirError
from podcidr.core.errors import PodcidrError
from podcidr.core.prefix import Prefix, address_text


@dataclass(frozen=True, slots=True)
class Observation:
    """The files as of one moment. `held` has every address in use, with the block its record names."""

    attachments: Mapping[str, Attachment]
    held: Mapping[Address, Prefix | None]
    cooling: Mapping[Address, int]
    marks: tuple[Mark, ...]
    stale_marks: tuple[Mark, ...]
    loose: frozenset[str] = frozenset()  # attachments and addresses that lack each other: of a crash, of a moment, or of a loss


class Observer:
    """Looks; re-reads only files that are new."""

    def __init__(self, state: StateDir) -> None:
        self._state = state
        self._attachments = Directory(state.attachments, records.attachment)
        self._pending = Directory(state.pending, records.mark)

    def look(self, state_id: str, now_seconds: float) -> Observation:
        """Read it all. An address counts as held by its link, a record or the index: unknown means used."""
        try:
            return self._look(state_id, now_seconds)
        except FileNotFoundError as error:  # a count of what is left would call every block empty
            raise StateDirError(f"--state-dir {self._state.root} was lost: {error.filename} is gone; it has to be rebuilt") from error

    def _look(self, state_id: str, now_seconds: float) -> Observation:
        addresses = _addresses(self._state)  # first: an address that moves to another attachment meanwhile is seen twice
        attachments = self._attachments.scan()
        held: dict[Address, Prefix | None] = dict.fromkeys(addresses)
        for attachment in attachments.values():
            held |= {ip.address: ip.block for ip in attachment.ips}
        cooling, indexed = index.cooling_and_held(self._state.index, state_id, now_seconds)
        vanished = indexed - held.keys()  # whoever took the links and records away did not ask the pods
        held |= dict.fromkeys(vanished)
        marks = self._pending.scan()
        live = {name for name in marks if _is_locked(self._state, name)}
        return Observation(
            attachments=attachments,
            held=held,
            cooling={address: until for address, until in cooling.items() if address not in held},
            marks=tuple(mark for name, mark in marks.items() if name in live),
            stale_marks=tuple(mark for name, mark in marks.items() if name not in live),
            loose=self._loose(addresses, attachments) | {address_text(*address) for address in vanished},
        )

    def _loose(self, addresses: Mapping[Address, int], attachments: Mapping[str, Attachment]) -> frozenset[str]:
        inodes = self._attachments.inodes()
        without_attachment = {address_text(*address) for address, inode in addresses.items() if inode not in inodes}
        without_address = {key for key, one in attachments.items() if any(ip.address not in addresses for ip in one.ips)}
        return frozenset(without_attachment | without_address)

    @property
    def unreadable(self) -> list[str]:
        """Attachments that nobody can read, as of the last look."""
        return self._attachments.unreadable


def _addresses(state: StateDir) -> dict[Address, int]:
    """What is linked, and to which inode."""
    found = {}
    with os.scandir(state.addresses) as entries:
        for entry in entries:
            try:
                found[records.address(entry.name)] = entry.inode()
            except PodcidrError:
                continue
    return found


def _is_locked(state: StateDir, name: str) -> bool:
    """Whether the ADD that wrote the mark lives: it keeps the file locked."""
    try:
        fd = os.open(state.pending / name, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
