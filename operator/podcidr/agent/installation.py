"""Puts plugin and network configuration where the runtime looks for them, and takes them away again."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

TYPE = "podcidr-ipam"  # the plugin's file name, and what a configuration calls it by
_SUFFIXES = (".conflist", ".conf", ".json")  # what runtimes read

log = structlog.get_logger("podcidr.agent.installation")


class InstallationError(Exception):
    """Something stands in the way; the text says what to do about it."""


@dataclass(frozen=True, slots=True)
class Installation:
    """Which files go where. Without a conflist the runtime's configuration is somebody else's."""

    plugin: Path
    bin_dir: Path
    conf_dir: Path
    conflist: Path | None = None

    def install(self) -> None:
        """Bring both up to date; the configuration last, for it must never name a program that is not there."""
        network = self._network()
        _put(self.plugin, self.bin_dir / TYPE, 0o755)
        if self.conflist is not None:
            _refuse_to_clobber(self.conf_dir / self.conflist.name, network)
            _put(self.conflist, self.conf_dir / self.conflist.name, 0o644)

    def uninstall(self, state_dir: Path) -> None:
        """Take away the configuration, then the plugin: but not while something calls it."""
        network = self._network()
        if self.conflist is not None:
            target = self.conf_dir / self.conflist.name
            if target.exists():
                _refuse_to_clobber(target, network)
                target.unlink()
                log.info("configuration removed", path=str(target))
        plugin = self.bin_dir / TYPE
        if users := [*_callers(self.conf_dir), *_attachments(state_dir)]:
            log.warning("plugin kept: it is still called, at the latest to release addresses; run this again", path=str(plugin), by=users)
        elif plugin.exists():
            plugin.unlink()
            log.info("plugin removed", path=str(plugin))

    def _network(self) -> str:
        """The name of the network in our conflist; raises if it is none, for then it would be no use to a runtime."""
        if self.conflist is None:
            return ""
        document = _read(self.conflist)
        if document is None or TYPE not in _ipam_types(document) or not document.get("name"):
            raise InstallationError(f'--conflist {self.conflist}: not a network configuration with a name and "ipam": {{"type": "{TYPE}"}}')
        return str(document["name"])


def _refuse_to_clobber(target: Path, network: str) -> None:
    """Only what is ours, by its network's name and its IPAM, may be replaced or removed; and an empty file, which is nobody's."""
    if not target.exists() or not target.read_bytes().strip():
        return
    document = _read(target)
    if document is None or document.get("name") != network or TYPE not in _ipam_types(document):
        what = f"network {document['name']!r}" if document and document.get("name") else "no configuration of ours"
        raise InstallationError(
            f"{target} holds {what}, not network {network!r} with podcidr: move it away, or install under another name (cni.conflist.name)"
        )


def _put(source: Path, target: Path, mode: int) -> None:
    """By a rename: a program that runs can't be overwritten ("text file busy"), and no runtime may find half of one."""
    try:
        content = source.read_bytes()
        if target.exists() and target.read_bytes() == content and target.stat().st_mode & 0o777 == mode:
            log.info("up to date", path=str(target))
            return
        temporary = target.with_name(f".{target.name}.new")
        temporary.unlink(missing_ok=True)  # of an installation that was killed
        with open(temporary, "xb", opener=lambda path, flags: os.open(path, flags | os.O_CLOEXEC, 0o600)) as file:
            file.write(content)
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())  # these directories outlive a loss of power, and the rename must not come first
        temporary.replace(target)
    except OSError as error:
        raise InstallationError(
            f"{error.filename or target}: {error.strerror}; --cni-bin-dir and --cni-conf-dir have to exist and be writable"
        ) from error
    log.info("installed", path=str(target))


def _callers(conf_dir: Path) -> Iterator[str]:
    """Configurations that call the plugin, whoever wrote them."""
    if conf_dir.is_dir():
        for path in sorted(conf_dir.iterdir()):
            if path.suffix in _SUFFIXES and TYPE in _ipam_types(_read(path) or {}):
                yield str(path)


def _attachments(state_dir: Path) -> Iterator[str]:
    """A runtime releases what runs with the configuration that it was attached with."""
    count = len(list((state_dir / "attachments").iterdir())) if (state_dir / "attachments").is_dir() else 0
    if count:
        yield f"{count} attachments in {state_dir}"


def _read(path: Path) -> dict[str, Any] | None:
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise InstallationError(f"{path}: {error.strerror}") from error
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def _ipam_types(document: dict[str, Any]) -> set[str]:
    """Of a list of plugins, or of a single one."""
    plugins = document.get("plugins", [document])
    found = (plugin.get("ipam") for plugin in plugins if isinstance(plugin, dict)) if isinstance(plugins, list) else iter(())
    return {str(ipam.get("type")) for ipam in found if isinstance(ipam, dict)}
