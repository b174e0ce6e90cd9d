"""Verbs on objects as plain dicts, with typed errors, the fence, and no write ever repeated blindly."""

import json
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from podcidr.kube.clock import Clock
from podcidr.kube.errors import Fenced, KubeError, OutcomeUnknown, TooManyRequests, Unreachable, from_reply, from_status
from podcidr.kube.resources import Resource
from podcidr.kube.transport import BetweenReads, Reply, Transport

Object = dict[str, Any]
OnRequest = Callable[[str, str, str, float], None]  # verb, plural, code, seconds

REQUEST_SECONDS = 10.0
LIST_SECONDS = 60.0
WATCH_IDLE_SECONDS = 150.0  # an idle kind's first bookmark comes after 120 s, the next ones every 60 s
PAGE_LIMIT = 500
_READ_ATTEMPTS = 4
_JSON = "application/json"
_METADATA = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


@dataclass(frozen=True, slots=True)
class Listing:
    """A list, or one page of it."""

    items: list[Object]
    resource_version: str


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One line of a watch: ADDED, MODIFIED, DELETED or BOOKMARK."""

    type: str
    object: Object


class KubeClient:
    """One API server, one identity. `fence` tells for how many seconds this process may still write."""

    def __init__(
        self,
        transport: Transport,
        clock: Clock,
        *,
        fence: Callable[[], float] | None = None,
        program: str = "podcidr",
        on_request: OnRequest | None = None,
    ) -> None:
        self._transport = transport
        self._clock = clock
        self._fence = fence
        self._on_request = on_request
        self._manager = "?" + urlencode({"fieldManager": program})

    # Reads: never fenced, repeated a few times.

    async def get(self, resource: Resource, name: str, *, namespace: str | None = None, timeout_seconds: float = REQUEST_SECONDS) -> Object:
        """Return one object as it is now: without a resourceVersion the server asks etcd, not its cache."""
        return await self._read("get", resource, resource.path(name, namespace), timeout_seconds)

    async def list(
        self,
        resource: Resource,
        *,
        namespace: str | None = None,
        field_selector: str | None = None,
        label_selector: str | None = None,
        from_cache: bool = False,
        limit: int | None = None,
    ) -> Listing:
        """Return all objects as of one moment; `limit` stops after so many. Raises Gone if it takes too long."""
        items: list[Object] = []
        version = ""
        pages = self.pages(
            resource,
            namespace=namespace,
            field_selector=field_selector,
            label_selector=label_selector,
            from_cache=from_cache,
            page_limit=min(limit or PAGE_LIMIT, PAGE_LIMIT),
        )
        async with aclosing(pages):
            async for page in pages:
                items += page.items
                version = page.resource_version
                if limit is not None and len(items) >= limit:
                    return Listing(items[:limit], version)
        return Listing(items, version)

    async def pages(
        self,
        resource: Resource,
        *,
        namespace: str | None = None,
        field_selector: str | None = None,
        label_selector: str | None = None,
        from_cache: bool = False,
        page_limit: int = PAGE_LIMIT,
        metadata_only: bool = False,
    ) -> AsyncGenerator[Listing, None]:
        """Yield a list page by page (all of one moment), for those who keep only a part of each object."""
        accept = _METADATA if metadata_only else None
        query = _query(fieldSelector=field_selector, labelSelector=label_selector, limit=str(page_limit))
        if from_cache:
            query["resourceVersion"] = "0"
        path = resource.path(namespace=namespace)
        while True:
            page = await self._read("list", resource, f"{path}?{urlencode(query)}", LIST_SECONDS, accept)
            metadata = page["metadata"]
            for item in page["items"]:  # items of a list do not say what they are
                item.setdefault("kind", resource.kind)
                item.setdefault("apiVersion", resource.api_version)
            yield Listing(page["items"], metadata["resourceVersion"])
            if not metadata.get("continue"):
                return
            query.pop("resourceVersion", None)
            query["continue"] = metadata["continue"]

    async def watch(
        self,
        resource: Resource,
        *,
        resource_version: str,
        namespace: str | None = None,
        field_selector: str | None = None,
        between_reads: BetweenReads | None = None,
    ) -> AsyncGenerator[WatchEvent, None]:
        """Yield what happens after resource_version, bookmarks included, until the server ends the stream.

        Ends after 300 to 570 s by the server's hand, so that streams spread over API servers again.
        """
        seconds = int(300 + 270 * self._clock.random())
        query = _query(fieldSelector=field_selector, resourceVersion=resource_version, timeoutSeconds=str(seconds))
        path = f"{resource.path(namespace=namespace)}?watch=1&allowWatchBookmarks=true&{urlencode(query)}"
        started = self._clock.monotonic()
        code = "200"
        lines = self._transport.stream(path, timeout_seconds=seconds + 30.0, idle_seconds=WATCH_IDLE_SECONDS, between_reads=between_reads)
        try:
            async with aclosing(lines):
                async for line in lines:
                    yield _event(line)
        except KubeError as error:
            code = _code(error)
            raise
        finally:
            self._count("watch", resource, code, started)

    # Writes: fenced, sent once (a 429 did nothing, and is repeated).

    async def create(
        self,
        resource: Resource,
        body: Object,
        *,
        namespace: str | None = None,
        timeout_seconds: float = REQUEST_SECONDS,
    ) -> Object:
        """POST; AlreadyExists if the name is taken."""
        path = resource.path(namespace=namespace) + self._manager
        return await self._write("create", resource, "POST", path, _encode(body), _JSON, timeout_seconds)

    async def json_patch(
        self,
        resource: Resource,
        name: str,
        ops: Sequence[Object],
        *,
        subresource: str | None = None,
        namespace: str | None = None,
    ) -> Object:
        """PATCH by RFC 6902; Invalid if a `test` fails."""
        path = resource.path(name, namespace, subresource) + self._manager
        content_type = "application/json-patch+json"
        return await self._write("patch", resource, "PATCH", path, _encode(ops), content_type, REQUEST_SECONDS)

    async def merge_patch(
        self,
        resource: Resource,
        name: str,
        body: Object,
        *,
        subresource: str | None = None,
        namespace: str | None = None,
    ) -> Object:
        """PATCH by RFC 7396; with metadata.resourceVersion in it Conflict if that is not the object's."""
        path = resource.path(name, namespace, subresource) + self._manager
        content_type = "application/merge-patch+json"
        return await self._write("patch", resource, "PATCH", path, _encode(body), content_type, REQUEST_SECONDS)

    async def replace(
        self,
        resource: Resource,
        name: str,
        body: Object,
        *,
        subresource: str | None = None,
        namespace: str | None = None,
        timeout_seconds: float = REQUEST_SECONDS,
    ) -> Object:
        """PUT; Conflict if the body's resourceVersion is not the object's."""
        path = resource.path(name, namespace, subresource) + self._manager
        return await self._write("update", resource, "PUT", path, _encode(body), _JSON, timeout_seconds)

    async def delete(
        self,
        resource: Resource,
        name: str,
        *,
        uid: str | None = None,
        resource_version: str | None = None,
        namespace: str | None = None,
    ) -> Object:
        """DELETE on uid and resourceVersion where given; Conflict if either is not the object's."""
        preconditions = _query(uid=uid, resourceVersion=resource_version)
        options = {"kind": "DeleteOptions", "apiVersion": "v1"} | ({"preconditions": preconditions} if preconditions else {})
        path = resource.path(name, namespace)
        return await self._write("delete", resource, "DELETE", path, _encode(options), _JSON, REQUEST_SECONDS)

    async def close(self) -> None:
        """Close the transport."""
        await self._transport.close()

    async def _read(self, verb: str, resource: Resource, path: str, timeout_seconds: float, accept: str | None = None) -> Object:
        deadline = self._clock.monotonic() + timeout_seconds
        attempt = 0
        while True:
            attempt += 1
            try:
                return await self._send(verb, resource, "GET", path, None, None, deadline, fenced=False, accept=accept)
            except (OutcomeUnknown, Unreachable):
                pause = self._clock.random() * 0.1 * 3**attempt
                # With next to no time left another try would only hide what is wrong behind a time-out.
                if attempt >= _READ_ATTEMPTS or self._clock.monotonic() + pause >= deadline - timeout_seconds / 4:
                    raise
                await self._clock.sleep(pause)

    async def _write(
        self,
        verb: str,
        resource: Resource,
        method: str,
        path: str,
        body: str,
        content_type: str,
        timeout_seconds: float,
    ) -> Object:
        deadline = self._clock.monotonic() + timeout_seconds
        return await self._send(verb, resource, method, path, body.encode(), content_type, deadline, fenced=True)

    async def _send(
        self,
        verb: str,
        resource: Resource,
        method: str,
        path: str,
        body: bytes | None,
        content_type: str | None,
        deadline: float,
        *,
        fenced: bool,
        accept: str | None = None,
    ) -> Object:
        """Send until the answer is not a 429, or the deadline comes."""
        while True:
            started = self._clock.monotonic()
            left = self._seconds_left(deadline - started, fenced=fenced)
            try:
                reply = await self._transport.request(
                    method, path, body=body, content_type=content_type, accept=accept, timeout_seconds=left
                )
            except KubeError as error:
                self._count(verb, resource, _code(error), started)
                raise
            self._count(verb, resource, str(reply.status), started)
            if reply.status < 300:
                return _decode(reply)
            refusal = from_reply(reply.status, reply.body, reply.headers)
            if not isinstance(refusal, TooManyRequests):
                raise refusal
            pause = (refusal.retry_after_seconds or 0.5) * (1.0 + self._clock.random())
            if self._clock.monotonic() + pause >= deadline:
                raise refusal
            await self._clock.sleep(pause)

    def _seconds_left(self, left: float, *, fenced: bool) -> float:
        """Asked anew before every sending: the Lease may have been lost during a pause."""
        if not fenced or self._fence is None:
            return max(left, 0.001)
        writable = self._fence()
        if writable <= 0:
            raise Fenced("this process does not hold the Lease (any more): nothing was sent")
        return max(min(left, writable), 0.001)

    def _count(self, verb: str, resource: Resource, code: str, started: float) -> None:
        if self._on_request is not None:
            self._on_request(verb, resource.plural, code, self._clock.monotonic() - started)


def _query(**parameters: str | None) -> dict[str, str]:
    return {name: value for name, value in parameters.items() if value is not None}


def _code(error: KubeError) -> str:
    """Return the label of a request without an HTTP answer, or the code of an ERROR event."""
    if error.status:
        return str(error.status)
    return "unreachable" if isinstance(error, Unreachable) else "unknown"


def _decode(reply: Reply) -> Object:
    try:
        decoded: Object = json.loads(reply.body)
    except ValueError as error:
        raise OutcomeUnknown(f"answer is not JSON: {reply.body[:80]!r}", status=reply.status) from error
    return decoded


def _event(line: bytes) -> WatchEvent:
    try:
        event: Mapping[str, Any] = json.loads(line)
    except ValueError as error:  # the connection ended within a line
        raise OutcomeUnknown(f"watch: not JSON: {line[:80]!r}") from error
    if event["type"] == "ERROR":
        raise from_status(event["object"])
    return WatchEvent(event["type"], event["object"])
