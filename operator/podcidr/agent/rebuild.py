"""After a loss of the state directory: who holds which address, from the runtime's results and running pods."""

import json
import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from podcidr import files
from podcidr.agent import records
from podcidr.agent.observed import PodSeen
from podcidr.agent.reclaim import is_gone
from podcidr.agent.records import RECOVERED_NETWORK, Address, PodRef
from podcidr.agent.statedir import StateDir
from podcidr.core.prefix import BITS, address_text, parse_address

log = structlog.get_logger("podcidr.agent.rebuild")


@dataclass(frozen=True, slots=True)
class Found:
    """One container interface with addresses, wherever they came from."""

    network: str
    container: str
    interface: str
    netns: str
    pod: PodRef
    addresses: tuple[Address, ...]

    @property
    def key(self) -> str:
        """The attachment's file name."""
        return f"{self.network}:{self.container}:{self.interface}"


def from_cache(directory: Path) -> Iterator[Found]:
    """Results that libcni keeps, of any IPAM type, whose network namespace is still there."""
    for found in _results(directory):
        if found.addresses and found.netns and _is_there(found.netns):
            yield found


def ended(directory: Path) -> set[tuple[str, Address]]:
    """Pod uid and address of cached results whose network namespace is gone for certain: a sandbox from before the reboot."""
    return {
        (found.pod.uid, address)
        for found in _results(directory)
        if found.netns and found.pod.uid and is_gone(found.netns)
        for address in found.addresses
    }


def from_pods(pods: Iterable[PodSeen], gone: Collection[tuple[str, Address]] = ()) -> Iterator[Found]:
    """Addresses that running pods have according to the API server; after a reboot it may not know better yet than the cache."""
    for pod in pods:
        if pod.live and not pod.host_network and pod.ips:
            listed = (Address(*parse_address(ip)) for ip in pod.ips)
            addresses = tuple(address for address in listed if (pod.uid, address) not in gone)
            ref = PodRef(pod.namespace, pod.name, pod.uid)
            yield Found(RECOVERED_NETWORK, pod.uid, "eth0", "", ref, addresses)


def recover(state: StateDir, found: Iterable[Found], state_id: str, now_seconds: float) -> int:
    """Write attachments for addresses that nobody holds yet, in the plugin's order, under its lock. Returns how many."""
    return sum(_recover(state, one, state_id, now_seconds) for one in found)


def rewrite(state: StateDir, found: Iterable[Found], state_id: str, now_seconds: float) -> list[str]:
    """Give attachments that are no document any more what a cached result tells of them, under the lock. Returns their keys."""
    return [one.key for one in found if _is_torn(state.attachments / one.key) and _rewrite(state, one, state_id, now_seconds)]


def _is_torn(path: Path) -> bool:
    """Not merely of another version: that is somebody's, and means something."""
    try:
        files.document(path, records.MAX_BYTES)
    except files.Damaged:
        return path.is_file() and not path.is_symlink()
    except OSError:
        pass
    return False


def _rewrite(state: StateDir, found: Found, state_id: str, now_seconds: float) -> bool:
    """Addresses first, the attachment last: a crash between leaves each address held, with a record that says whose it is."""
    target = state.attachments / found.key
    status = target.lstat()
    held = [address for address in found.addresses if _inode(state.addresses / _text(address)) == status.st_ino]
    if not held or status.st_nlink != len(held) + 1:  # it holds something that the result does not tell
        return False
    temporary, link = _written(state, _record(found, held, state_id, now_seconds)), state.root / ".recovered.link"
    for address in held:
        state.remove(link)
        os.link(temporary, link)
        link.replace(state.addresses / _text(address))
    temporary.replace(target)
    return True


def _inode(path: Path) -> int | None:
    try:
        return path.lstat().st_ino
    except FileNotFoundError:
        return None


def _is_there(netns: str) -> bool:
    """Or may be: one that can't be looked at is used."""
    try:
        Path(netns).stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:
        log.warning("a network namespace can't be looked at, so its addresses count as in use", netns=netns[:200], error=str(error)[:200])
    return True


def _results(directory: Path) -> Iterator[Found]:
    try:
        paths = sorted(directory.iterdir())
    except OSError:
        return
    for path in paths:
        try:
            yield files.parsed(path, _cached)
        except (OSError, files.Damaged):
            continue  # not ours to judge: libcni keeps other files there too


def _cached(data: bytes) -> Found:
    document = files.parse_object(data)
    if document.get("kind") != "cniCacheV1":
        raise ValueError("not a cached result")
    arguments = {entry[0]: entry[1] for entry in document.get("cniArgs") or ()}
    pod = PodRef(*(records.text(arguments.get(f"K8S_POD_{part}")) for part in ("NAMESPACE", "NAME", "UID")))
    found = Found(
        network=document["networkName"],
        container=document["containerId"],
        interface=document["ifName"],
        netns=records.text(document.get("netns")),
        pod=pod,
        addresses=tuple(dict.fromkeys(_addresses(document.get("result") or {}))),
    )
    records.key_of({"network": found.network, "container": found.container, "interface": found.interface})
    return found


def _addresses(result: dict[str, Any]) -> Iterator[Address]:
    """Of a result of CNI 0.3 and later, and of 0.2."""
    texts = [entry["address"] for entry in result.get("ips") or ()]
    texts += [result[key]["ip"] for key in ("ip4", "ip6") if result.get(key)]
    for text in texts:
        yield records.address(text.partition("/")[0])


def _recover(state: StateDir, found: Found, state_id: str, now_seconds: float) -> bool:
    free = [address for address in found.addresses if not os.path.lexists(state.addresses / _text(address))]
    target = state.attachments / found.key
    if not free or os.path.lexists(target):
        return False
    temporary = _written(state, _record(found, free, state_id, now_seconds))
    os.link(temporary, target)
    for address in free:
        os.link(temporary, state.addresses / _text(address))
    temporary.unlink()
    return True


def _written(state: StateDir, document: dict[str, Any]) -> Path:
    temporary = state.root / ".recovered.tmp"
    state.remove(temporary)  # perhaps a link of a live attachment: never written into
    temporary.touch(mode=0o600, exist_ok=False)
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(document, file)
    return temporary


def _record(found: Found, addresses: list[Address], state_id: str, now_seconds: float) -> dict[str, Any]:
    return {
        "version": 1,
        "stateID": state_id,
        "network": found.network,
        "container": found.container,
        "interface": found.interface,
        "netns": found.netns,
        "pod": {"namespace": found.pod.namespace, "name": found.pod.name, "uid": found.pod.uid},
        "ips": [
            {
                "address": _text(address),
                "pool": "",
                "block": f"{_text(address)}/{BITS[address.family]}",
                "cooldownSeconds": 0,
            }
            for address in sorted(addresses)
        ],
        "assignedAt": now_seconds,
    }


def _text(address: Address) -> str:
    return address_text(*address)
