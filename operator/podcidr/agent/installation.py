"""Puts plugin and network configuration where the runtime looks for them, and takes them away again."""

import contextlib
import errno
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from podcidr import files
from podcidr.agent.records import is_data

TYPE = "podcidr-ipam"  # the plugin's file name, and what a configuration calls it by
_SUFFIXES = (".conflist", ".conf", ".json")  # what runtimes read
_TRY_SECONDS = 10.0
_REMEDIES = {
    errno.ENOSPC: "make room on that file system",
    errno.EDQUOT: "make room within the quota",
    errno.EROFS: "that file system is mounted read-only: mount it writable, or name other directories",
    errno.EISDIR: "a directory stands there: move it away",
}

_WANTED = "name the program podcidr-ipam, built for this machine"

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
        _put(self.plugin, self.bin_dir / TYPE, 0o755, _require_plugin)
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
        if users := [*_callers(self.conf_dir), *_held(state_dir)]:
            log.warning("plugin kept: it is or may be called, if only to release addresses; run this again", path=str(plugin), by=users)
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


def _put(source: Path, target: Path, mode: int, require: Callable[[Path, Path], None] = lambda _source, _made: None) -> None:
    """By a rename: a program that runs can't be overwritten ("text file busy"), and no runtime may find half of one."""
    temporary = target.with_name(f".{target.name}.new")
    try:
        content = source.read_bytes()
        if _is_there(target, content, mode):
            log.info("up to date", path=str(target))
            return
        temporary.unlink(missing_ok=True)  # of an installation that was killed
        with open(temporary, "xb", opener=lambda path, flags: os.open(path, flags | os.O_CLOEXEC, 0o600)) as file:
            file.write(content)
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())  # these directories outlive a loss of power, and the rename must not come first
        require(source, temporary)
        temporary.replace(target)
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0, "--cni-bin-dir and --cni-conf-dir have to exist and be writable")
        raise InstallationError(f"{error.filename or target}: {error.strerror}; {remedy}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    log.info("installed", path=str(target))


def _is_there(target: Path, content: bytes, mode: int) -> bool:
    try:
        return target.lstat().st_mode & 0o777 == mode and files.content(target, len(content)) == content
    except (FileNotFoundError, files.Damaged):
        return False


def _require_plugin(source: Path, made: Path) -> None:
    """Ask it for its versions, where it will stand: a runtime that finds something else attaches no pod."""
    command: dict[str, str] = {"CNI_COMMAND": "VERSION", "PATH": "/usr/bin:/bin"}
    try:
        done = subprocess.run([made], input=b'{"cniVersion":"1.1.0"}', env=command, capture_output=True, timeout=_TRY_SECONDS, check=True)
        answers = bool(files.parse_object(done.stdout)["supportedVersions"])
    except (OSError, subprocess.SubprocessError, *files.MALFORMED) as error:
        raise InstallationError(f"--plugin {source}: it does not answer CNI's VERSION in {made.parent} ({error}); {_WANTED}") from error
    if not answers:
        raise InstallationError(f"--plugin {source}: it supports no version of CNI; {_WANTED}")


def _callers(conf_dir: Path) -> Iterator[str]:
    """Configurations that call the plugin, whoever wrote them; and such as can't be read, for they may."""
    if not conf_dir.is_dir():
        return
    for path in sorted(conf_dir.iterdir()):
        if path.suffix in _SUFFIXES and path.is_file():  # what else a runtime can't read
            try:
                if _calls(json.loads(path.read_bytes() or b"{}")):
                    yield str(path)
            except (OSError, *files.MALFORMED) as error:
                yield f"{path}, perhaps: it can't be read ({error})"


def _calls(document: Any) -> bool:
    """Whether anything in it, however deep, is of our type: a meta plugin keeps its delegates where it likes."""
    left = [document]
    while left:
        one = left.pop()
        if isinstance(one, dict):
            if one.get("type") == TYPE:
                return True
            left += one.values()
        elif isinstance(one, list):
            left += one
    return False


def _held(state_dir: Path) -> Iterator[str]:
    """A runtime releases what runs with the configuration that it was attached with."""
    for name in ("attachments", "addresses"):
        try:
            count = sum(is_data(found) for found in os.listdir(state_dir / name))  # noqa: PTH208 - names are all it takes
        except FileNotFoundError:
            continue
        except OSError as error:
            yield f"whatever {state_dir / name} holds: it can't be read ({error.strerror})"
            continue
        if count:
            yield f"{count} {name} in {state_dir}"
            return


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return files.parse_object(path.read_bytes())
    except OSError as error:
        raise InstallationError(f"{path}: {error.strerror}; move it away, or make it readable") from error
    except files.MALFORMED:
        return None


def _ipam_types(document: dict[str, Any]) -> set[str]:
    """Of a list of plugins, or of a single one."""
    plugins = document.get("plugins", [document])
    found = (plugin.get("ipam") for plugin in plugins if isinstance(plugin, dict)) if isinstance(plugins, list) else iter(())
    return {str(ipam.get("type")) for ipam in found if isinstance(ipam, dict)}
