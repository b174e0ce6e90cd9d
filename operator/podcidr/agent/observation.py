"""One look at the node's files: who holds what, what cools, who waits."""

import fcntl
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from podcidr import files
from podcidr.agent import index, records
from podcidr.agent.records import Address, Attachment, Directory, Mark
from podcidr.agent.statedir import StateDir, StateDirError
from podcidr.core.errors import PodcidrError
from podcidr.core.prefix import Prefix, address_text
from podcidr.files import Damaged


@dataclass(frozen=True, slots=True)
class Observation:
    """The files as of one moment. `held` has every address in use, with the block its record names."""

    attachments: Mapping[str, Attachment]
    held: Mapping[Address, Prefix | None]
    cooling: Mapping[Address, int]
    marks: tuple[Mark, ...]
    stale_marks: tuple[Mark, ...]
    loose: frozenset[str] = frozenset()  # attachments and addresses that lack each other: of a crash, of a moment, or of a loss
    damaged: Mapping[str, str] = field(default_factory=dict)  # path and why: what nobody can read; what it holds counts as in use


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
        except OSError as error:  # a count of what is left would call every block empty
            if not self._state.missing():
                raise
            raise StateDirError(f"--state-dir {self._state.root} was lost: {error.filename} is gone; it has to be rebuilt") from error

    def forget_changed(self) -> None:
        """Have the next look read records anew that a hand has changed."""
        self._attachments.forget_changed()

    def _look(self, state_id: str, now_seconds: float) -> Observation:
        addresses, foreign = _addresses(self._state)  # first: an address that moves to another attachment meanwhile is seen twice
        attachments = self._attachments.scan()
        held: dict[Address, Prefix | None] = dict.fromkeys(addresses)
        for attachment in attachments.values():
            for ip in attachment.ips:
                held[ip.address] = ip.block
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
            damaged=foreign | self._attachments.damaged | self._pending.damaged,
        )

    def _loose(self, addresses: Mapping[Address, int], attachments: Mapping[str, Attachment]) -> frozenset[str]:
        inodes = self._attachments.inodes()
        without_attachment = {address_text(*address) for address, inode in addresses.items() if inode not in inodes}
        without_address = {key for key, one in attachments.items() if any(ip.address not in addresses for ip in one.ips)}
        return frozenset(without_attachment | without_address)


def _addresses(state: StateDir) -> tuple[dict[Address, int], dict[str, str]]:
    """What is linked, and to which inode; and what can be no link of an attachment."""
    found, foreign = dict[Address, int](), dict[str, str]()

    def object_to(name: str, why: str) -> None:
        path = files.shown(state.addresses / name)
        foreign[path] = f"{path}: {why}"

    with os.scandir(state.addresses) as entries:
        for entry in entries:
            try:
                found[records.address(entry.name)] = entry.inode()
            except (PodcidrError, UnicodeError):
                if records.is_data(entry.name):
                    object_to(entry.name, "not named by an address")
                continue
            if not entry.is_file(follow_symlinks=False):
                object_to(entry.name, "not a regular file")
    return found, foreign


def _is_locked(state: StateDir, name: str) -> bool:
    """Whether the ADD that wrote the mark lives: it keeps the file locked."""
    try:
        fd = files.open_regular(state.pending / name)
    except (Damaged, OSError):
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
