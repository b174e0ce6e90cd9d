"""The plugin's rules in Python, on the same files: docs/state-dir.md, step by step, without the Go binary's speed.

Every verb is a generator that stops after each change of a file: whoever drives it holds the lock meanwhile, and may
drop it there, as kill -9 would. The same table of cases runs on this and on the binary (plugin_cases.yaml).
"""

import fcntl
import json
import math
import os
import struct
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from podcidr.core.errors import PodcidrError
from podcidr.core.prefix import BITS, Family, Prefix, address_text, parse_address, parse_prefix
from podcidr.core.reserved import parse_reserved

Object = dict[str, Any]
Steps = Generator[str, None, Object | None]
Address = tuple[Family, int]

TRY_AGAIN, BAD_CONFIG, NO_PLUGIN = 11, 7, 50
FREE, HELD = 0, 0xFFFFFFFF
_HEADER = struct.Struct("<8sIIQQQ24x64s")
_ROW = struct.Struct("<16sBB2xIQ")
_encode = json.JSONEncoder(separators=(",", ":")).encode


class CniError(Exception):
    """The plugin's error, by code."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{message} (code {code})")
        self.code = code


class NotReady(CniError):
    """The agent has not (or not completely) written the directory: whoever waits already goes on waiting."""


@dataclass(frozen=True)
class Call:
    """What the runtime says of one interface of one container."""

    container: str
    network: str = "podcidr"
    interface: str = "eth0"
    netns: str = ""
    namespace: str = ""
    pod: str = ""
    uid: str = ""
    pod_pools: tuple[str, ...] | None = None

    @property
    def key(self) -> str:
        return f"{self.network}:{self.container}:{self.interface}"


@dataclass(frozen=True)
class _Block:
    prefix: Prefix
    length: int
    gateway: Address | None
    reserved: tuple[tuple[Family, int, int], ...]

    def assignable(self, number: int) -> bool:
        if self.gateway == (self.prefix.family, number):
            return False
        return not any(family is self.prefix.family and first <= number <= last for family, first, last in self.reserved)


@dataclass(frozen=True)
class _Pool:
    name: str
    cooldown_seconds: int
    families: dict[Family, list[_Block]]


@dataclass(frozen=True)
class _View:
    """What the agent says: ready, allocation, one namespace (None: not known on this node)."""

    state_id: str
    pools: dict[str, _Pool]
    automatic: list[str]
    namespace: Object | None


class Plugin:
    """One state directory."""

    def __init__(self, root: Path, now: Callable[[], float]) -> None:
        self.root, self.now = root, now
        self._seen: tuple[Object, dict[str, _Pool]] | None = None

    def lock(self) -> int | None:
        """A descriptor that holds the lock, None while another does."""
        try:
            fd = os.open(self.root / "lock", os.O_RDWR | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            if not (self.root / "attachments").is_dir():
                raise self.no_dir() from None
            fd = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        return fd

    def no_dir(self) -> NotReady:
        return NotReady(TRY_AGAIN, f'{self.root} has no file "ready": no agent has prepared it')

    def status(self) -> None:
        """Raise where no ADD can succeed before an agent comes."""
        if not (self.root / "ready").exists():
            raise CniError(NO_PLUGIN, f'{self.root} has no file "ready"')

    def adding(self, call: Call) -> "Adding":
        """One ADD, which may take several attempts."""
        return Adding(self, call)

    def delete(self, call: Call) -> Steps:
        """DEL: free whatever the interface holds; finds nothing wrong with anything."""
        yield from self._release(call.key)
        return None

    def collect(self, network: str, valid: set[str], began: float) -> Iterator[tuple[str, Callable[[], Steps]]]:
        """GC: the keys to look at; each is released under a lock of its own."""
        for key in [*_names(self.root / "attachments"), *_names(self.root / "pending")]:
            if key.startswith(network + ":") and key not in valid:
                yield key, lambda key=key: self._collect(key, began)  # type: ignore[misc]

    def _collect(self, key: str, began: float) -> Steps:
        record = self._record(key)
        if record is not None and record.get("assignedAt", 0.0) > began:
            return None
        if record is None and float((_load(self.root / "pending" / key) or {}).get("since", 0)) > began:
            return None
        yield from self._release(key)
        return None

    # What is on disk

    def view(self, namespace: str) -> _View:
        ready = _load(self.root / "ready")
        if ready is None:
            raise self.no_dir()
        allocation = _load(self.root / "allocation.json")
        if allocation is None:
            raise NotReady(TRY_AGAIN, "allocation.json does not exist")
        if allocation["stateID"] != ready["stateID"]:
            raise NotReady(TRY_AGAIN, "allocation.json: stateID is not that of ready")
        pools = self._parsed(allocation)
        seen = _load(self.root / "namespaces" / namespace) if namespace else {}
        if namespace and seen is not None and seen["stateID"] != ready["stateID"]:
            seen = None
        return _View(ready["stateID"], pools, allocation["automatic"] or [], seen)

    def _parsed(self, allocation: Object) -> dict[str, _Pool]:
        """The pools; the last file's are kept, for most attempts see the same one."""
        if self._seen is None or self._seen[0] != allocation:
            self._seen = allocation, {name: _pool(name, pool) for name, pool in allocation["pools"].items()}
        return self._seen[1]

    def _record(self, key: str) -> Object | None:
        """What it says; one that can't be read lists nothing."""
        try:
            record = _load(self.root / "attachments" / key)
        except ValueError:
            return {"ips": []}
        return record if record is None or record.get("version") == 1 else {"ips": []}

    def _inode(self, key: str) -> int:
        return (self.root / "attachments" / key).stat().st_ino

    def holds(self, key: str, address: str) -> bool:
        """Whether the address is a link of this attachment."""
        try:
            return (self.root / "addresses" / address).stat().st_ino == self._inode(key)
        except FileNotFoundError:
            return False

    def _release(self, key: str) -> Steps:
        (self.root / "pending" / key).unlink(missing_ok=True)
        yield "mark removed"
        record = self._record(key)
        if record is None:
            return None
        held = [ip for ip in record["ips"] if self.holds(key, ip["address"])]
        if not record["ips"]:
            held = [{"address": name, "cooldownSeconds": 0} for name in _names(self.root / "addresses") if self.holds(key, name)]
        yield from self._cool_lapsed(key, [ip for ip in record["ips"] if ip not in held])
        yield from self._cool(held)
        for ip in held:
            (self.root / "addresses" / ip["address"]).unlink()
            yield f"{ip['address']} released"
        (self.root / "attachments" / key).unlink(missing_ok=True)
        yield "attachment removed"
        return None

    def _cool(self, held: list[Object]) -> Steps:
        resting = [ip for ip in held if ip["cooldownSeconds"]]
        ready = _load(self.root / "ready")
        index = Index.read(self.root, ready["stateID"] if ready else None, self.now())
        missing = [ip for ip in resting if index.row_of(_address(ip["address"])) is None]
        if ready and missing:
            with suppress(CniError):  # the cooldown is lost, never the release
                self._rebuild(index, [parse_prefix(ip["block"]) for ip in missing], ready["stateID"])
                yield "index built"
        for ip in held:
            cooldown = ip["cooldownSeconds"]
            index.set(self.root, _address(ip["address"]), math.ceil(self.now() + cooldown) if cooldown else FREE, self.now())
            yield f"{ip['address']} cools"
        return None

    def _cool_lapsed(self, key: str, listed: list[Object]) -> Steps:
        """Where only the index calls a listed address held: with this record goes the last that tells whose it was."""
        index = Index.read(self.root, None, self.now())
        for ip in listed:
            address = _address(ip["address"])
            if index.entry(address) != HELD or (self.root / "addresses" / ip["address"]).exists():
                continue
            others = [self._record(other) or {"ips": []} for other in _names(self.root / "attachments") if other != key]
            if all(other["ips"] and ip["address"] not in {one["address"] for one in other["ips"]} for other in others):
                index.set(self.root, address, math.ceil(self.now() + ip["cooldownSeconds"]) if ip["cooldownSeconds"] else FREE, self.now())
                yield f"{ip['address']} cools"
        return None

    def _rebuild(self, index: "Index", blocks: list[Prefix], state_id: str) -> None:
        """A new file: what is linked once every attachment has all it lists, and what the old file calls held."""
        held = self._held(has_index=bool(index.rows)) | index.held()
        index.add_rows(blocks, held, self.now())
        index.write(self.root, state_id, self.now())

    def _held(self, *, has_index: bool) -> set[Address]:
        addresses, attachments = self.root / "addresses", self.root / "attachments"
        linked = Counter((addresses / name).stat().st_ino for name in _names(addresses))
        for key in _names(attachments):
            path, record = attachments / key, self._record(key)
            unknown = record is not None and not record["ips"] and not linked[path.stat().st_ino]
            if unknown and not has_index:
                raise CniError(6, f"{path} can't be read, its links are gone and so is the index: any address could be its")
            for text in (ip["address"] for ip in record["ips"]) if record else ():
                if not (addresses / text).exists():
                    os.link(path, addresses / text)
        return {_address(name) for name in _names(addresses)}

    def index_for(self, view: _View) -> "Index":
        """The index with a row for every block of the file."""
        blocks = [block.prefix for pool in view.pools.values() for family in pool.families.values() for block in family]
        index = Index.read(self.root, view.state_id, self.now())
        if any(block not in index.rows for block in blocks):
            self._rebuild(index, blocks, view.state_id)
        return index


@dataclass(eq=False)
class Adding:
    """One ADD."""

    plugin: Plugin
    call: Call
    why: str = ""
    mark_fd: int = -1
    _said: tuple[list[str], list[str]] | None = None
    _since: float = field(default=-1.0)

    def attempt(self, *, last: bool) -> Steps:
        """Assign, or say why not: None means wait. Under the lock."""
        if self.mark_fd >= 0 and not self.stands():
            raise CniError(TRY_AGAIN, "DEL, GC or a newer ADD ended this ADD while it waited; nothing was assigned")
        try:
            result = yield from self._attempt(last=last)
        except NotReady as error:
            if self.mark_fd < 0:
                raise
            self.why, result = str(error), None
            if last:
                self.drop_mark()
            return None
        except CniError:
            self.drop_mark()
            raise
        if last or result is not None:
            self.drop_mark()
            yield "mark removed"
        return result

    def stands(self) -> bool:
        """Whether nobody removed the mark."""
        return os.fstat(self.mark_fd).st_nlink > 0

    def drop_mark(self) -> None:
        """Take the mark away, if it is still ours."""
        if self.mark_fd >= 0 and self.stands():
            (self.plugin.root / "pending" / self.call.key).unlink(missing_ok=True)

    def end(self) -> None:
        """The process is gone: so is its flock."""
        if self.mark_fd >= 0:
            os.close(self.mark_fd)
            self.mark_fd = -1

    def _attempt(self, *, last: bool) -> Steps:
        plugin, call = self.plugin, self.call
        view = plugin.view(call.namespace)
        record = plugin._record(call.key)
        if record is not None:
            if "version" not in record:
                raise CniError(6, "a damaged attachment; a DEL of this interface frees what it holds")
            if record["ips"] and all(plugin.holds(call.key, ip["address"]) for ip in record["ips"]):
                if "result" not in record:
                    raise CniError(6, "a recovered attachment has no result; a DEL of this interface clears it")
                return record["result"]  # type: ignore[no-any-return]
            yield from plugin._release(call.key)
        if view.namespace is None:
            self.why = f"namespace {call.namespace} is not known on this node yet"
            yield from self._mark(last, [], [])
            return None
        pools = _pools_for(view, call)
        index = plugin.index_for(view)
        while True:
            chosen, short = _choose(pools, index, plugin.now())
            if not chosen:
                self.why = f"no free address; pools tried: {[pool.name for pool in pools]}"
                yield from self._mark(last, [pool.name for pool in pools], short)
                return None
            result = yield from self._claim(view, *chosen, index)
            if result is not None:
                return result

    def _mark(self, last: bool, pools: list[str], short: list[str]) -> Steps:
        if last or (self.mark_fd >= 0 and self._said == (pools, short)):
            return None
        if self._since < 0:
            self._since = self.plugin.now()
        pod = {"namespace": self.call.namespace, "name": self.call.pod, "uid": self.call.uid}
        body = {"version": 1, "pod": pod, "pools": pools, "families": short, "since": self._since}
        fresh = self.plugin.root / "pending.new"
        fd = _create(fresh, body)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield "mark written"
        fresh.rename(self.plugin.root / "pending" / self.call.key)
        self.end()
        self.mark_fd, self._said = fd, (pools, short)
        yield "mark placed"
        return None

    def _claim(self, view: _View, pool: _Pool, chosen: list[tuple[_Block, int]], index: "Index") -> Steps:
        """Attachment first, then its addresses, then the index. None: an address was held, choose again."""
        plugin, call = self.plugin, self.call
        ips = [
            {
                "address": address_text(block.prefix.family, number),
                "pool": pool.name,
                "block": str(block.prefix),
                "cooldownSeconds": pool.cooldown_seconds,
            }
            for block, number in chosen
        ]
        result: Object = {"cniVersion": "1.1.0", "ips": [_printed(block, number) for block, number in chosen], "dns": {}}
        record = {
            "version": 1,
            "stateID": view.state_id,
            "network": call.network,
            "container": call.container,
            "interface": call.interface,
            "netns": call.netns,
            "pod": {"namespace": call.namespace, "name": call.pod, "uid": call.uid},
            "ips": ips,
            "assignedAt": plugin.now(),
            "result": result,
        }
        fresh, attachment = plugin.root / "attachment.new", plugin.root / "attachments" / call.key
        os.close(_create(fresh, record))
        yield "attachment written"
        os.link(fresh, attachment)
        yield "attachment linked"
        linked: list[Path] = []
        for ip, (block, number) in zip(ips, chosen, strict=True):
            path = plugin.root / "addresses" / str(ip["address"])
            try:
                os.link(fresh, path)
            except FileExistsError:
                for done in linked:
                    done.unlink()
                attachment.unlink()
                fresh.unlink()
                index.set(plugin.root, (block.prefix.family, number), HELD, plugin.now())
                yield "address was held"
                return None
            linked.append(path)
            yield "address linked"
        for block, number in chosen:
            index.set(plugin.root, (block.prefix.family, number), HELD, plugin.now())
        yield "index set"
        fresh.unlink()
        yield "assigned"
        return result


@dataclass
class Index:
    """The whole file, read and written."""

    rows: dict[Prefix, list[int]]
    offsets: dict[Prefix, int] = field(default_factory=dict)

    @classmethod
    def read(cls, root: Path, state_id: str | None, now: float) -> "Index":
        """As it is, or empty where it can't be trusted."""
        try:
            data = (root / "index").read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return cls({})
        magic, version, count, size, _, changed_at, owner = _HEADER.unpack_from(data)
        foreign = state_id is not None and owner.rstrip(b"\0").decode() != state_id
        if magic != b"podcidrX" or version != 1 or size != len(data) or changed_at > now or foreign:
            return cls({})
        index = cls({})
        for number in range(count):
            first, family, length, entries, offset = _ROW.unpack_from(data, _HEADER.size + number * _ROW.size)
            family = Family.IPV4 if family == 4 else Family.IPV6
            prefix = Prefix(family, int.from_bytes(first[: BITS[family] // 8]), length)
            index.rows[prefix] = list(struct.unpack_from(f"<{entries}I", data, offset))
            index.offsets[prefix] = offset
        return index

    def row_of(self, address: Address) -> Prefix | None:
        """The row that an address is in."""
        family, number = address
        return next((p for p in self.rows if p.family is family and p.address <= number <= p.last), None)

    def entry(self, address: Address) -> int:
        """Its entry; without a row it is free."""
        row = self.row_of(address)
        return FREE if row is None else self.rows[row][address[1] - row.address]

    def held(self) -> set[Address]:
        """What it calls held."""
        return {(row.family, row.address + i) for row, entries in self.rows.items() for i, entry in enumerate(entries) if entry == HELD}

    def add_rows(self, blocks: list[Prefix], held: set[Address], now: float) -> None:
        """Rows for these; of the others only what holds or cools something stays. Cooling is carried over by address."""
        cooling = {
            (row.family, row.address + i): until
            for row, entries in self.rows.items()
            for i, until in enumerate(entries)
            if until not in (FREE, HELD) and until > now
        }
        kept = set(blocks)
        for row in self.rows:
            used = any((row.family, number) in cooling or (row.family, number) in held for number in range(row.address, row.last + 1))
            if used and not any(row.overlaps(other) for other in kept):
                kept.add(row)
        self.rows = {
            row: [
                HELD if (row.family, number) in held else cooling.get((row.family, number), FREE)
                for number in range(row.address, row.last + 1)
            ]
            for row in sorted(kept)
        }

    def write(self, root: Path, state_id: str, now: float) -> None:
        """Replace the file."""
        offset, table, body = _align(_HEADER.size + len(self.rows) * _ROW.size), b"", b""
        start = offset
        for row, entries in self.rows.items():
            self.offsets[row] = offset
            width = BITS[row.family] // 8
            table += _ROW.pack(row.address.to_bytes(width), 4 if row.family is Family.IPV4 else 6, row.length, len(entries), offset)
            packed = struct.pack(f"<{len(entries)}I", *entries)
            body += packed.ljust(_align(len(packed)), b"\0")
            offset = start + len(body)
        header = _HEADER.pack(b"podcidrX", 1, len(self.rows), start + len(body), int(now), int(now), state_id.encode())
        fresh = root / "index.new"
        fresh.unlink(missing_ok=True)
        fresh.write_bytes((header + table).ljust(start, b"\0") + body)
        fresh.rename(root / "index")

    def set(self, root: Path, address: Address, entry: int, now: float) -> None:
        """Change one entry in place, if it has a row."""
        row = self.row_of(address)
        if row is None:
            return
        position = address[1] - row.address
        self.rows[row][position] = entry
        fd = os.open(root / "index", os.O_WRONLY | os.O_CLOEXEC)
        os.pwrite(fd, struct.pack("<Q", int(now)), 32)
        os.pwrite(fd, struct.pack("<I", entry), self.offsets[row] + 4 * position)
        os.close(fd)


def _choose(pools: list[_Pool], index: Index, now: float) -> tuple[tuple[_Pool, list[tuple[_Block, int]]] | None, list[str]]:
    """The lowest usable addresses of the first pool that has one of every family it serves."""
    short: set[str] = set()
    for pool in pools:
        found = {family: _lowest(blocks, index, now) for family, blocks in pool.families.items()}
        short |= {str(family) for family, one in found.items() if one is None}
        if found and all(found.values()):
            return (pool, [found[family] for family in Family if family in found]), []  # type: ignore[misc]
    return None, sorted(short)


def _lowest(blocks: list[_Block], index: Index, now: float) -> tuple[_Block, int] | None:
    for block in sorted(blocks, key=lambda block: block.prefix):
        for i, entry in enumerate(index.rows[block.prefix]):
            if (entry == FREE or (entry != HELD and entry <= now)) and block.assignable(block.prefix.address + i):
                return block, block.prefix.address + i
    return None


def _pools_for(view: _View, call: Call) -> list[_Pool]:
    """Which pools the pod may use: its namespace's, and of those what the pod asks for."""
    seen = view.namespace or {}
    if seen.get("error"):
        raise CniError(BAD_CONFIG, seen["error"])
    allowed = view.automatic if seen.get("pools") is None else seen["pools"]
    names = allowed if call.pod_pools is None else call.pod_pools
    for name in names:
        if name not in allowed:
            raise CniError(BAD_CONFIG, f"pod annotation podcidr.io/pools: {name!r}: namespace {call.namespace!r} may use only {allowed}")
        if name not in view.pools:
            raise CniError(BAD_CONFIG, f"pool {name!r}, wanted for namespace {call.namespace!r}, does not exist on this node")
    return [view.pools[name] for name in names]


def _pool(name: str, document: Object) -> _Pool:
    families = {family: [block for entry in document[family] for block in _blocks(entry)] for family in Family if document.get(family)}
    return _Pool(name, document.get("cooldownSeconds", 0), families)


def _blocks(entry: Object) -> Iterator[_Block]:
    gateway = parse_address(entry["gateway"]) if entry.get("gateway") else None
    reserved = []
    for text in entry["reserved"]:
        family, interval = parse_reserved(text, "reserved")
        reserved.append((family, interval.first, interval.last))
    for text in entry["blocks"]:
        yield _Block(parse_prefix(text), entry["prefixLength"], gateway, tuple(reserved))


def _printed(block: _Block, number: int) -> Object:
    printed = {"address": f"{address_text(block.prefix.family, number)}/{block.length}"}
    return printed if block.gateway is None else {**printed, "gateway": address_text(*block.gateway)}


def _create(path: Path, document: Object) -> int:
    """A leftover of a crash is unlinked, never truncated: it may be a link of a live attachment."""
    path.unlink(missing_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    os.write(fd, _encode(document).encode())
    return fd


def _load(path: Path) -> Object | None:
    try:
        document: Object = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    return document


def _names(path: Path) -> list[str]:
    try:
        return [name for name in os.listdir(path) if not (name.startswith(".") or (name.endswith(".new") and ":" not in name))]  # noqa: PTH208
    except (FileNotFoundError, NotADirectoryError):
        return []


@lru_cache(maxsize=4096)
def _address(text: str) -> Address:
    try:
        return parse_address(text)
    except PodcidrError:
        return Family.IPV4, -1


def _align(offset: int) -> int:
    return (offset + 63) // 64 * 64
