"""Attachments on disk, read from state directories (docs/state-dir.md). Takes no lock and changes nothing."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from podcidr import files
from podcidr.cli.reading import Address
from podcidr.core.errors import BadValue
from podcidr.core.prefix import parse_address

VERSION = 1


@dataclass(frozen=True, slots=True)
class Attachment:
    """An address that is held on a node: `addresses/IP` exists."""

    address: Address
    pod: str
    pool: str
    container: str

    def __str__(self) -> str:
        return f"attachment of {self.pod or 'container ' + self.container}"


@dataclass(frozen=True)
class StateDir:
    """One node's directory. `node` is empty where no allocation file names it."""

    path: str
    node: str = ""
    attachments: tuple[Attachment, ...] = ()
    containers: int = 0
    """Attachments that hold at least one address: a dual-stack one holds two."""
    problems: tuple[str, ...] = ()


def read_state_dirs(paths: Iterable[str]) -> list[StateDir]:
    """Each directory once, however often and by whatever path it was given."""
    real = dict.fromkeys(Path(path).resolve() for path in paths)
    return [read_state_dir(path) for path in real]


def read_state_dir(path: Path) -> StateDir:
    """What is held there. An attachment without its link in addresses/ holds nothing, so addresses/ alone counts."""
    try:
        entries = sorted(_entries(path / "addresses"))
    except FileNotFoundError:
        raise click.UsageError(f"--state-dir: {path}: no state directory (it has no addresses/); agents use /run/podcidr") from None
    except OSError as error:
        raise click.UsageError(f"--state-dir: {path}: {error.strerror}; it belongs to root") from error
    problems: list[str] = []
    held, inodes = [], set()
    for name, inode in entries:
        if attachment := _held(path, name, problems):
            held.append(attachment)
            inodes.add(inode)
    return StateDir(str(path), _node(path, problems), tuple(held), len(inodes), tuple(problems))


def _entries(directory: Path) -> Iterator[tuple[str, int]]:
    with os.scandir(directory) as found:
        for entry in found:
            if not (entry.name.startswith(".") or entry.name.endswith(".new")):
                yield entry.name, entry.inode()


def _held(path: Path, name: str, problems: list[str]) -> Attachment | None:
    """The address by the link's name: a record that can't be read still holds it."""
    try:
        address = Address(*parse_address(name))
    except BadValue:
        problems.append(f"{path}/addresses/{name}: no address")
        return None
    try:
        record = _record(path / "addresses" / name)
        pod = record.get("pod") or {}
        ips = {ip["address"]: ip for ip in record["ips"]}
        whose = f"{pod['namespace']}/{pod['name']}" if pod.get("name") else ""
        return Attachment(address, whose, ips[name].get("pool") or "", str(record["container"]))
    except FileNotFoundError:
        return None  # released between the two looks
    except (OSError, files.Damaged, *files.MALFORMED) as error:
        problems.append(f"{path}/addresses/{name}: not a record of version {VERSION} with this address ({type(error).__name__})")
        return Attachment(address, "", "", "unknown")


def _node(path: Path, problems: list[str]) -> str:
    try:
        return str(_record(path / "allocation.json")["node"])
    except FileNotFoundError:
        problems.append(f"{path}/allocation.json is missing: which node this is, is not known")
    except (OSError, files.Damaged, *files.MALFORMED) as error:
        problems.append(f"{path}/allocation.json: not an allocation file of version {VERSION} ({type(error).__name__})")
    return ""


def _record(path: Path) -> dict[str, Any]:
    document = files.document(path)
    if document.get("version") != VERSION:
        raise ValueError(f"version {document.get('version')!r}")
    return document
