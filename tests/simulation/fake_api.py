"""An API server in memory: the semantics that the product relies on, and nothing more.

Objects are never changed in place, so a snapshot, a page or an event is a reference. The contract tests run on this and
on kube-apiserver: what they do not say, nobody may rely on.
"""

import json
from bisect import bisect_right
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qs, urlsplit

from podcidr.kube.transport import BetweenReads, Reply
from tests.simulation.fake_rules import broken_rule, defaulted, forbidden_delete
from tests.simulation.patches import PatchFailed, json_patch, merge_patch

Object = dict[str, Any]
STATUS_KINDS = frozenset({"ippools", "nodecidrs", "ipblocks"})
GENERATED = STATUS_KINDS
_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


class Refused(Exception):
    """An answer of 300 or above."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code, self.reason, self.message = code, reason, message

    def body(self) -> bytes:
        status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": self.message}
        return _encode({**status, "reason": self.reason, "code": self.code}).encode()


@dataclass(slots=True)
class Stored:
    """An object and its JSON, made once."""

    value: Object
    encoded: bytes = b""

    def json(self) -> bytes:
        if not self.encoded:
            self.encoded = _encode(self.value).encode()
        return self.encoded

    @property
    def version(self) -> int:
        return int(self.value["metadata"]["resourceVersion"])


@dataclass(frozen=True, slots=True)
class Change:
    """One line of the watch log."""

    revision: int
    plural: str
    type: str
    key: str
    new: Stored
    old: Object | None

    def line(self) -> bytes:
        return b'{"type":"' + self.type.encode() + b'","object":' + self.new.json() + b"}"


@dataclass(frozen=True, slots=True)
class Target:
    """What a path names."""

    plural: str
    namespace: str
    name: str
    subresource: str
    query: dict[str, str]

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


@lru_cache(maxsize=8192)
def parse(path: str) -> Target:
    """Take a path with its query apart."""
    parts = urlsplit(path)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    words = parts.path.strip("/").split("/")
    words = words[2:] if words[0] == "api" else words[3:]
    namespace = ""
    if words[0] == "namespaces" and len(words) > 2:
        namespace, words = words[1], words[2:]
    words += ["", ""]
    return Target(words[0], namespace, words[1], words[2], query)


@dataclass
class Watcher:
    """One open watch; `emit` gets each change that it selects, `end` what ends it (None: nothing, it just ends)."""

    plural: str
    selected: Callable[[Object], bool]
    emit: Callable[[Change], None]
    end: Callable[[Refused | None], None]
    position: int


@dataclass
class FakeApi:
    """One etcd; `handle` is a request, `watch` opens a stream."""

    wall: Callable[[], str] = lambda: "2026-01-01T00:00:00Z"
    revision: int = 100
    compacted: int = 0
    objects: dict[str, dict[str, Stored]] = field(default_factory=dict)
    logs: dict[str, list[Change]] = field(default_factory=dict)
    """What happened, by kind."""
    watchers: dict[str, list[Watcher]] = field(default_factory=dict)
    on_change: Callable[[Change], None] = lambda change: None
    uids: int = 0
    _pages: dict[str, tuple[int, list[Stored]]] = field(default_factory=dict)

    # Requests

    def handle(self, method: str, path: str, body: bytes | None = None, content_type: str | None = None) -> Reply:
        """One request, at once."""
        target = parse(path)
        try:
            parsed = json.loads(body) if body else None
            return self._dispatch(method, target, parsed, content_type or "")
        except Refused as refused:
            return Reply(refused.code, {}, refused.body())

    def _dispatch(self, method: str, target: Target, body: Any, content_type: str) -> Reply:
        if method == "GET":
            return Reply(200, {}, self._held(target).json()) if target.name else self._list(target)
        if method == "POST":
            return Reply(201, {}, self._create(target, body).json())
        old = self._held(target)
        if method == "DELETE":
            return self._delete(target, old, body or {})
        return Reply(200, {}, self._update(target, old, self._wanted(method, old.value, body, content_type), method).json())

    def _held(self, target: Target) -> Stored:
        stored = self.objects.get(target.plural, {}).get(target.key)
        if stored is None:
            raise Refused(404, "NotFound", f'{target.plural} "{target.name}" not found')
        return stored

    def _list(self, target: Target) -> Reply:
        query = target.query
        if token := query.get("continue"):
            revision, rest = self._pages.get(token, (-1, []))
            if revision < self.compacted:
                raise Refused(410, "Expired", "The provided continue parameter is too old")
        else:
            selected = selector(query.get("fieldSelector"), target.namespace)
            kind = self.objects.get(target.plural, {})
            revision, rest = self.revision, [kind[key] for key in sorted(kind) if selected(kind[key].value)]
        limit = int(query.get("limit") or 0) or len(rest)
        page, rest = rest[:limit], rest[limit:]
        metadata: Object = {"resourceVersion": str(revision)}
        if rest:
            metadata["continue"] = f"{revision}-{len(self._pages)}-{len(rest)}"
            self._pages[metadata["continue"]] = (revision, rest)
        items = b",".join(stored.json() for stored in page)
        return Reply(200, {}, b'{"kind":"List","metadata":' + _encode(metadata).encode() + b',"items":[' + items + b"]}")

    def _create(self, target: Target, body: Object) -> Stored:
        metadata = body["metadata"]
        if metadata.get("resourceVersion"):
            raise Refused(500, "InternalError", "resourceVersion should not be set on objects to be created")
        key = f"{target.namespace}/{metadata['name']}" if target.namespace else metadata["name"]
        body = defaulted(target.plural, body)
        if target.plural in STATUS_KINDS:
            body = {name: value for name, value in body.items() if name != "status"}
        self._check(target.plural, None, body)
        if key in self.objects.get(target.plural, {}):
            raise Refused(409, "AlreadyExists", f'{target.plural} "{metadata["name"]}" already exists')
        self.uids += 1
        metadata = {**metadata, "uid": f"uid-{self.uids}", "creationTimestamp": self.wall()}
        if target.namespace:
            metadata["namespace"] = target.namespace
        if target.plural in GENERATED:
            metadata["generation"] = 1
        return self._commit(target.plural, key, "ADDED", None, {**body, "metadata": metadata})

    def _wanted(self, method: str, old: Object, body: Any, content_type: str) -> Object:
        if method == "PUT":
            wanted: Object = body
        elif "json-patch" in content_type:
            try:
                wanted = json_patch(old, body)
            except PatchFailed as error:
                raise Refused(422, "Invalid", f"the server rejected our request due to an error in our request: {error}") from error
        else:
            wanted = merge_patch(old, body)
        return wanted

    def _update(self, target: Target, stored: Stored, wanted: Object, method: str) -> Stored:
        old, meta, before = stored.value, dict(wanted["metadata"]), stored.value["metadata"]
        uid = meta.get("uid") or before["uid"]
        if uid != before["uid"] and method == "PUT":
            raise Refused(409, "Conflict", f"Precondition failed: UID in precondition: {uid}, UID in object meta: {before['uid']}")
        if (meta.get("resourceVersion") or before["resourceVersion"]) != before["resourceVersion"]:
            raise Refused(409, "Conflict", "the object has been modified; please apply your changes to the latest version and try again")
        if target.subresource == "status":
            new = {**old, "status": wanted["status"]} if "status" in wanted else {k: v for k, v in old.items() if k != "status"}
        else:
            if uid != before["uid"]:
                raise Refused(422, "Invalid", "metadata.uid: Invalid value: field is immutable")
            new = self._of_main(target.plural, old, defaulted(target.plural, wanted), meta)
        self._check(target.plural, old, new)
        if _same(old, new):
            return stored
        if new["metadata"].get("deletionTimestamp") and not new["metadata"].get("finalizers"):
            return self._commit(target.plural, target.key, "DELETED", old, new)
        return self._commit(target.plural, target.key, "MODIFIED", old, new)

    def _of_main(self, plural: str, old: Object, wanted: Object, meta: Object) -> Object:
        """The main resource keeps the status, and what the server owns of the metadata."""
        before = old["metadata"]
        for owned in ("uid", "creationTimestamp", "generation", "deletionTimestamp", "resourceVersion", "deletionGracePeriodSeconds"):
            meta.pop(owned, None)
            if owned in before:
                meta[owned] = before[owned]
        if not meta.get("finalizers"):
            meta.pop("finalizers", None)
        added = set(meta.get("finalizers", ())) - set(before.get("finalizers", ()))
        if "deletionTimestamp" in before and added:
            raise Refused(422, "Invalid", "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted")
        new = {**wanted, "metadata": meta}
        if plural in STATUS_KINDS:
            new.pop("status", None)
            if "status" in old:
                new["status"] = old["status"]
        if plural in GENERATED and new.get("spec") != old.get("spec"):
            meta["generation"] = before["generation"] + 1
        return new

    def _delete(self, target: Target, stored: Stored, options: Object) -> Reply:
        old = stored.value
        before = old["metadata"]
        for name, value in (options.get("preconditions") or {}).items():
            if before[name] != value:
                raise Refused(409, "Conflict", f"Precondition failed: {name} in precondition: {value}, in object meta: {before[name]}")
        if message := forbidden_delete(target.plural, old):
            raise Refused(403, "Forbidden", message)
        if before.get("finalizers"):
            if "deletionTimestamp" in before:
                return Reply(200, {}, stored.json())
            meta = {**before, "deletionTimestamp": self.wall(), "deletionGracePeriodSeconds": 0}
            meta["generation"] = before.get("generation", 0) + 1
            return Reply(200, {}, self._commit(target.plural, target.key, "MODIFIED", old, {**old, "metadata": meta}).json())
        self._commit(target.plural, target.key, "DELETED", old, old)
        details = {"name": target.name, "kind": target.plural, "uid": before["uid"]}
        return Reply(200, {}, _encode({"kind": "Status", "apiVersion": "v1", "status": "Success", "details": details}).encode())

    def _check(self, plural: str, old: Object | None, new: Object) -> None:
        if message := broken_rule(plural, old, new):
            raise Refused(422, "Invalid", f'{plural} "{new["metadata"]["name"]}" is invalid: {message}')

    # The log and those who watch it

    def _commit(self, plural: str, key: str, kind: str, old: Object | None, new: Object) -> Stored:
        self.revision += 1
        stored = Stored({**new, "metadata": {**new["metadata"], "resourceVersion": str(self.revision)}})
        if kind == "DELETED":
            del self.objects[plural][key]
        else:
            self.objects.setdefault(plural, {})[key] = stored
        change = Change(self.revision, plural, kind, key, stored, old)
        self.logs.setdefault(plural, []).append(change)
        for watcher in tuple(self.watchers.get(plural, ())):
            if watcher.selected(stored.value) and change.revision > watcher.position:
                watcher.emit(change)
        self.on_change(change)
        return stored

    def watch(self, path: str, emit: Callable[[Change], None], end: Callable[[Refused | None], None]) -> Watcher:
        """Open a watch: what is newer than its resourceVersion, then what comes. A resourceVersion of the future is silent."""
        target = parse(path)
        position = int(target.query.get("resourceVersion") or 0)
        watcher = Watcher(target.plural, selector(target.query.get("fieldSelector"), target.namespace), emit, end, position)
        if position < self.compacted:
            end(Refused(410, "Expired", f"too old resource version: {position} ({self.compacted})"))
            return watcher
        self.watchers.setdefault(target.plural, []).append(watcher)
        log = self.logs.get(target.plural, [])
        for change in log[bisect_right(log, position, key=lambda change: change.revision) :]:
            if watcher.selected(change.new.value):
                emit(change)
        return watcher

    def close(self, watcher: Watcher) -> None:
        """The client went away, or the server ended the stream."""
        of_kind = self.watchers.get(watcher.plural, [])
        if watcher in of_kind:
            of_kind.remove(watcher)

    def compact(self) -> None:
        """Forget how it came to be: older watches and pages are too old from here on."""
        self.compacted = self.revision
        self.logs.clear()

    # What a person or etcd does beside the API

    def snapshot(self) -> "Snapshot":
        """An etcd backup."""
        return Snapshot(self.revision, {plural: dict(kind) for plural, kind in self.objects.items()})

    def restore(self, snapshot: "Snapshot") -> None:
        """Put a backup in the place of everything: versions begin anew there, every stream ends with the API servers."""
        self.revision, self.objects = snapshot.revision, {plural: dict(kind) for plural, kind in snapshot.objects.items()}
        self.compact()
        self._pages.clear()
        watchers, self.watchers = self.watchers, {}
        for watcher in (watcher for of_kind in watchers.values() for watcher in of_kind):
            watcher.end(None)

    def values(self, plural: str) -> list[Object]:
        """All objects of a kind."""
        return [stored.value for stored in self.objects.get(plural, {}).values()]

    def find(self, plural: str, key: str) -> Object | None:
        """One object, or None."""
        stored = self.objects.get(plural, {}).get(key)
        return stored.value if stored else None

    def put(self, plural: str, key: str, obj: Object) -> None:
        """Write as the rest of the cluster does (kubelets, people): no rule of ours applies."""
        old = self.find(plural, key)
        meta = dict(obj["metadata"])
        if old is None:
            self.uids += 1
            meta = {"uid": f"uid-{self.uids}", "creationTimestamp": self.wall(), **meta}
            if plural in GENERATED:
                meta["generation"] = 1
        elif plural in GENERATED and obj.get("spec") != old.get("spec"):
            meta["generation"] = old["metadata"]["generation"] + 1
        self._commit(plural, key, "MODIFIED" if old else "ADDED", old, {**obj, "metadata": meta})

    def remove(self, plural: str, key: str) -> None:
        """Take an object away, whatever protects it."""
        if old := self.find(plural, key):
            self._commit(plural, key, "DELETED", old, old)


@dataclass(frozen=True)
class Snapshot:
    """All objects as of one revision."""

    revision: int
    objects: dict[str, dict[str, Stored]]


def _same(old: Object, new: Object) -> bool:
    """Whether nothing but the version differs: such a write is skipped."""
    if any(old.get(key) != new.get(key) for key in (old.keys() | new.keys()) - {"metadata"}):
        return False
    return bool(old["metadata"] == {**new["metadata"], "resourceVersion": old["metadata"]["resourceVersion"]})


def selector(text: str | None, namespace: str) -> Callable[[Object], bool]:
    """A field selector as a function."""
    if not text and not namespace:
        return lambda obj: True
    terms = [(field.split("."), value) for field, _, value in (term.partition("=") for term in (text or "").split(",") if term)]

    def selected(obj: Object) -> bool:
        if namespace and obj["metadata"].get("namespace") != namespace:
            return False
        return all(_field(obj, path) == value for path, value in terms)

    return selected


def _field(obj: Any, path: list[str]) -> str:
    for key in path:
        obj = obj.get(key) if isinstance(obj, dict) else None
    if obj is None:
        return "false" if path[-1] == "hostNetwork" else ""
    return str(obj).lower() if isinstance(obj, bool) else str(obj)


class DirectTransport:
    """The fake without a network: what the contract tests talk to."""

    def __init__(self, api: FakeApi) -> None:
        self._api = api

    async def request(
        self, method: str, path: str, *, body: bytes | None, content_type: str | None, timeout_seconds: float, accept: str | None = None
    ) -> Reply:
        """At once."""
        return self._api.handle(method, path, body, content_type)

    async def stream(
        self, path: str, *, timeout_seconds: float, idle_seconds: float, between_reads: BetweenReads | None = None
    ) -> AsyncGenerator[bytes, None]:
        """Yield what has happened; nothing new comes while nobody writes."""
        lines: list[bytes] = []
        ended: list[bytes] = []

        def end(refused: Refused | None) -> None:
            ended.extend([b'{"type":"ERROR","object":' + refused.body() + b"}"] if refused else [])

        watcher = self._api.watch(path, lambda change: lines.append(change.line()), end)
        try:
            while lines or ended:
                yield (lines or ended).pop(0)
        finally:
            self._api.close(watcher)

    async def close(self) -> None:
        """Nothing to close."""
