"""A cache of one kind: list, watch, and what vanished in between (a watch never tells after a re-list)."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from typing import Generic, TypeVar

import structlog

from podcidr.kube.client import PAGE_LIMIT, KubeClient, Object
from podcidr.kube.clock import Clock
from podcidr.kube.errors import Gone, KubeError, NotFound, Stalled
from podcidr.kube.resources import Resource
from podcidr.kube.transport import BetweenReads

V = TypeVar("V")
T = TypeVar("T")
OnChange = Callable[[str, V | None, V | None], None]

_RECONNECT_SECONDS = 0.2
_FIRST_BACKOFF_SECONDS = 1.0
_LAST_BACKOFF_SECONDS = 10.0
_LIST_ATTEMPTS = 3
_COMPARE_PAGE_LIMIT = 100  # metadata is not as small as it looks: managedFields name every field

_log = structlog.get_logger("podcidr.kube.reflector")


class Reflector(Generic[V]):
    """Keeps `project(object)` by name, and each version, so that nothing ever goes back to an older one.

    Four sources feed it in no common order: the watch, lists (ours or the planner's), and what our own writes
    returned. One rule decides: of one name, the higher resourceVersion wins, a deletion's included. But if a list
    contradicts what is held of versions up to its own, etcd was restored from a backup, and the list is right.
    """

    def __init__(
        self,
        client: KubeClient,
        resource: Resource,
        project: Callable[[Object], V | None],
        *,
        clock: Clock,
        on_change: OnChange[V] | None = None,
        namespace: str | None = None,
        field_selector: str | None = None,
        from_cache: bool = False,
        page_limit: int = PAGE_LIMIT,
        compares: bool = False,
        on_regression: Callable[[], None] = lambda: None,
        between_reads: BetweenReads | None = None,
    ) -> None:
        self._client = client
        self._resource = resource
        self._project = project
        self._clock = clock
        self._on_change = on_change
        self._namespace = namespace
        self._field_selector = field_selector
        self._from_cache = from_cache
        self._page_limit = page_limit  # small pages keep small what a list needs at its peak
        self._compares = compares  # before each new watch: for what costs no more to list than to ask for its version
        self._on_regression = on_regression
        self._between_reads = between_reads
        self.items: dict[str, V] = {}
        self.synced = asyncio.Event()
        self.last_progress = clock.monotonic()
        self.lists = 0  # lists carried out, the first included
        self.regressed = False  # cleared by the owner
        self._behind = False  # the server's version is below ours: the next list is right, whatever its version is by then
        self._begun_anew = asyncio.Event()  # a watch from before tells nothing until the versions have come to where it stands
        self._versions: dict[str, int] = {}  # of what is in items
        self._removed: dict[str, int] = {}  # names taken out, at which version, until the watch is past it
        self._newest = 0  # of anything seen
        self._listed = 0  # the newest list: complete, so the watch has nothing to add up to here
        self._watched = 0  # how far the watch has come
        self._listing = asyncio.Lock()

    @property
    def resource_version(self) -> int:
        """The newest version seen of anything of this kind."""
        return self._newest

    async def run(self) -> None:
        """List, watch, list again when the watch can't go on. Ends by cancellation only."""
        failures = 0
        must_list = True
        while True:
            progress = self.last_progress
            pause_seconds = _RECONNECT_SECONDS
            try:
                if must_list:
                    await self.relist()
                elif self._compares:
                    await self.compare()
                must_list = await self._follow_this_history()
            except KubeError as error:
                must_list = not self.synced.is_set() or isinstance(error, (Gone, Stalled))
                pause_seconds = _FIRST_BACKOFF_SECONDS
                _log.warning("watch interrupted", kind=self._resource.kind, error=str(error), relist=must_list)
            failures = 0 if self.last_progress > progress else failures + 1
            # Jitter even after an ordinary end: thousands of agents lose their streams at one moment.
            await self._clock.sleep(self._clock.random() * min(_LAST_BACKOFF_SECONDS, pause_seconds * 2.0**failures))

    async def relist(self) -> None:
        """Read everything, consistently, now. May run beside the watch; raises what the list raises."""
        async with self._listing:
            newest_before = self._newest
            from_cache = self._from_cache and self.lists == 0  # later the cache could be behind what we hold
            fresh, version = await self._list(lambda: self._list_once(from_cache=from_cache))
            if not from_cache and (self._behind or version < newest_before or self._contradicts(fresh, version)):
                self._forget_versions()
            self._replace(fresh, version)
            self.lists += 1
            self._progress(version)
            self.synced.set()

    async def compare(self) -> None:
        """Read names and versions, consistently; list if they are not what we hold. Raises what the list raises.

        For what no watch tells: one that goes on above the versions of a restored etcd has a gap, and nobody says so.
        Only for a `project` that keeps every object: what it left out would look like a gap.
        """
        newest_before = self._newest
        versions, version = await self._list(self._list_versions)
        self._behind = self._behind or version < newest_before
        if self._behind or self._differs(versions, version):
            _log.warning("not as the watch told", kind=self._resource.kind, version=version, newest=newest_before)
            await self.relist()

    async def confirm(self, names: Iterable[str]) -> None:
        """Read these one by one; list if one is not what we hold. As `compare`, for objects of which even the names are dear."""
        for name in names:
            if not await self._is_as_held(name):
                _log.warning("not as the watch told", kind=self._resource.kind, name=name)
                await self.relist()
                return

    def observe(self, obj: Object) -> None:
        """Take what a write of ours returned, without waiting for the watch."""
        name, version = _key(obj), _version(obj)
        # A name that we do not hold: if the watch is past this version, it was there and is deleted by now.
        if name in self._versions or version > max(self._watched, self._listed):
            self._take(name, version, self._project(obj))

    def forget(self, name: str, resource_version: int | None = None) -> None:
        """Take out what we deleted ourselves, at its deletion's resourceVersion if the answer had one."""
        held = self._versions.get(name)
        if held is not None and (resource_version is None or resource_version >= held):
            self._remove(name, held if resource_version is None else resource_version)

    async def _list(self, read: Callable[[], Awaitable[T]]) -> T:
        for attempt in range(_LIST_ATTEMPTS):
            try:
                return await read()
            except Gone:  # the continue token outlived its revision: start over, not from the middle
                if attempt == _LIST_ATTEMPTS - 1:
                    raise
        raise AssertionError("unreachable")

    async def _list_once(self, *, from_cache: bool) -> tuple[dict[str, tuple[int, V]], int]:
        fresh: dict[str, tuple[int, V]] = {}
        version = 0
        pages = self._client.pages(
            self._resource,
            namespace=self._namespace,
            field_selector=self._field_selector,
            from_cache=from_cache,
            page_limit=self._page_limit,
        )
        async with aclosing(pages):
            async for page in pages:
                version = int(page.resource_version)
                for obj in page.items:
                    value = self._project(obj)
                    if value is not None:
                        fresh[_key(obj)] = _version(obj), value
        return fresh, version

    async def _is_as_held(self, key: str) -> bool:
        namespace, _, name = key.rpartition("/")
        try:
            version = _version(await self._client.get(self._resource, name, namespace=namespace or None))
        except NotFound:
            version = 0
        held = self._versions.get(key)
        return held is None or version == held or version > max(held, self._watched, self._listed)

    async def _list_versions(self) -> tuple[dict[str, int], int]:
        versions: dict[str, int] = {}
        version = 0
        pages = self._client.pages(
            self._resource,
            namespace=self._namespace,
            field_selector=self._field_selector,
            page_limit=_COMPARE_PAGE_LIMIT,
            metadata_only=True,
        )
        async with aclosing(pages):
            async for page in pages:
                version = int(page.resource_version)
                versions |= {_key(obj): _version(obj) for obj in page.items}
        return versions, version

    def _differs(self, versions: Mapping[str, int], version: int) -> bool:
        """Whether we hold what is gone, or not what the watch is past."""
        seen = max(self._watched, self._listed)
        return any(held <= version and name not in versions for name, held in self._versions.items()) or any(
            at <= seen and at != self._versions.get(name, 0) <= version for name, at in versions.items()
        )

    def _contradicts(self, fresh: Mapping[str, tuple[int, V]], version: int) -> bool:
        """Whether the list has something as it was before what we know of it, though it is newer than that."""
        return any(item_version < self._known(name) <= version for name, (item_version, _) in fresh.items())

    def _known(self, name: str) -> int:
        """At which version we know of it, a deletion included."""
        return max(self._versions.get(name, -1), self._removed.get(name, -1))

    def _replace(self, fresh: dict[str, tuple[int, V]], version: int) -> None:
        """In one go, so that no reader sees half a list."""
        for name in [n for n, held in self._versions.items() if held <= version and n not in fresh]:
            self._remove(name, version)
        for name, (item_version, value) in fresh.items():
            self._take(name, item_version, value)
        self._listed = max(self._listed, version)

    def _forget_versions(self) -> None:
        """Etcd was restored from a backup: versions begin anew, what is held means nothing."""
        self.regressed = True
        self._behind = False
        self._begun_anew.set()
        self._versions = dict.fromkeys(self._versions, 0)
        self._removed.clear()
        self._newest = self._listed = self._watched = 0
        self._on_regression()

    async def _follow_this_history(self) -> bool:
        """Watch until the stream ends, or a list found that it begins anew; says whether a new list is needed."""
        self._begun_anew.clear()
        following = asyncio.ensure_future(self._follow())
        anew = asyncio.ensure_future(self._begun_anew.wait())
        try:
            await asyncio.wait((following, anew), return_when=asyncio.FIRST_COMPLETED)
            return False if anew.done() else following.result()
        finally:
            following.cancel()
            anew.cancel()
            await asyncio.gather(following, anew, return_exceptions=True)

    async def _follow(self) -> bool:
        position = max(self._watched, self._listed)
        events = self._client.watch(
            self._resource,
            resource_version=str(position),
            namespace=self._namespace,
            field_selector=self._field_selector,
            between_reads=self._between_reads,
        )
        async with aclosing(events):
            async for event in events:
                version = _version(event.object)
                if self._begun_anew.is_set():
                    return False
                if version < position:
                    return True  # no stream goes back by itself: the server's data did
                position = version
                self._apply(event.type, event.object, version)
        return False

    def _apply(self, event_type: str, obj: Object, version: int) -> None:
        if event_type != "BOOKMARK" and version > self._listed:
            if event_type == "DELETED":
                name = _key(obj)
                if version >= self._versions.get(name, version):
                    self._remove(name, version)
            else:
                self._take(_key(obj), version, self._project(obj))
        self._watched = max(self._watched, version)
        self._progress(version)

    def _progress(self, version: int) -> None:
        self.last_progress = self._clock.monotonic()
        self._newest = max(self._newest, version)
        if self._removed and not self._listing.locked():
            seen = max(self._watched, self._listed)
            self._removed = {name: at for name, at in self._removed.items() if at > seen}

    def _take(self, name: str, version: int, value: V | None) -> None:
        if version <= self._known(name):
            return
        if value is None:
            self._remove(name, version)
            return
        old = self.items.get(name)
        self.items[name] = value
        self._versions[name] = version
        self._removed.pop(name, None)
        self._newest = max(self._newest, version)
        if old != value:
            self._changed(name, old, value)

    def _remove(self, name: str, version: int) -> None:
        self._removed[name] = max(version, self._removed.get(name, 0))
        self._newest = max(self._newest, version)
        self._versions.pop(name, None)
        old = self.items.pop(name, None)
        if old is not None:
            self._changed(name, old, None)

    def _changed(self, name: str, old: V | None, new: V | None) -> None:
        if self._on_change is not None:
            self._on_change(name, old, new)


def _key(obj: Object) -> str:
    metadata = obj["metadata"]
    namespace = metadata.get("namespace")
    name: str = metadata["name"]
    return f"{namespace}/{name}" if namespace else name


def _version(obj: Object) -> int:
    return int(obj["metadata"]["resourceVersion"])
