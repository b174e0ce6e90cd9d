"""Kubernetes Events for people: counted instead of repeated, few, and never in anyone's way."""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass

from podcidr.kube.client import KubeClient, Object
from podcidr.kube.clock import Clock, rfc3339
from podcidr.kube.errors import KubeError, NotFound
from podcidr.kube.resources import EVENTS, Resource

QUEUE_LENGTH = 256
BURST = 25  # of one object, as client-go's spam filter has it
REFILL_SECONDS = 300.0
SERIES_SECONDS = 600.0  # the same again within this time is counted on the same Event
_REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """What an Event is about."""

    resource: Resource
    name: str
    uid: str = ""
    namespace: str | None = None


@dataclass(slots=True)
class _Series:
    name: str
    count: int
    last: float


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


_Key = tuple[ObjectRef, str, str, str]


class EventRecorder:
    """`post` only queues; `run` sends, one after the other."""

    def __init__(self, client: KubeClient, clock: Clock, component: str, *, instance: str = "") -> None:
        self._client = client
        self._clock = clock
        self._component = component
        self._instance = instance
        self._queue: asyncio.Queue[_Key] = asyncio.Queue(QUEUE_LENGTH)
        self._series: OrderedDict[_Key, _Series] = OrderedDict()
        self._buckets: OrderedDict[ObjectRef, _Bucket] = OrderedDict()
        self.dropped = 0

    def post(self, kind_ref: ObjectRef, type: str, reason: str, message: str) -> None:  # noqa: A002 - the API's word
        """Queue a Normal or Warning Event; drops it when the object has had too many or the queue is full."""
        if not self._allowed(kind_ref):
            self.dropped += 1
            return
        try:
            self._queue.put_nowait((kind_ref, type, reason, message[:1024]))
        except asyncio.QueueFull:
            self.dropped += 1

    async def run(self) -> None:
        """Send what is queued; an Event that fails is gone. Ends by cancellation only."""
        while True:
            key = await self._queue.get()
            try:
                await self._send(key)
            except KubeError:
                self.dropped += 1
            finally:
                self._queue.task_done()

    async def flush(self) -> None:
        """Wait until the queue is empty (needs `run`)."""
        await self._queue.join()

    def _allowed(self, ref: ObjectRef) -> bool:
        now = self._clock.monotonic()
        bucket = self._buckets.setdefault(ref, _Bucket(BURST, now))
        self._buckets.move_to_end(ref)
        if len(self._buckets) > _REMEMBERED:
            self._buckets.popitem(last=False)
        bucket.tokens = min(BURST, bucket.tokens + (now - bucket.at) / REFILL_SECONDS)
        bucket.at = now
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        return True

    async def _send(self, key: _Key) -> None:
        now = self._clock.monotonic()
        series = self._series.get(key)
        if series is not None and now - series.last < SERIES_SECONDS and await self._count(key, series):
            series.last = now
            return
        body = self._event(*key)
        await self._client.create(EVENTS, body, namespace=body["metadata"]["namespace"])
        self._series[key] = _Series(body["metadata"]["name"], 1, now)
        self._series.move_to_end(key)
        if len(self._series) > _REMEMBERED:
            self._series.popitem(last=False)

    async def _count(self, key: _Key, series: _Series) -> bool:
        """Raise the count of the Event that is there; False if the server has expired it."""
        patch = {"count": series.count + 1, "lastTimestamp": rfc3339(self._clock.wall())}
        try:
            await self._client.merge_patch(EVENTS, series.name, patch, namespace=_namespace(key[0]))
        except NotFound:
            return False
        series.count += 1
        return True

    def _event(self, ref: ObjectRef, event_type: str, reason: str, message: str) -> Object:
        wall = self._clock.wall()
        now = rfc3339(wall)
        unique = f"{int(wall.timestamp() * 1e6):x}{int(self._clock.random() * 0xFFFF):04x}"
        involved = {"apiVersion": ref.resource.api_version, "kind": ref.resource.kind, "name": ref.name}
        if ref.uid:
            involved["uid"] = ref.uid
        if ref.namespace:
            involved["namespace"] = ref.namespace
        source = {"component": self._component} | ({"host": self._instance} if self._instance else {})
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{ref.name[:200]}.{unique}", "namespace": _namespace(ref)},
            "involvedObject": involved,
            "type": event_type,
            "reason": reason,
            "message": message,
            "source": source,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }


def _namespace(ref: ObjectRef) -> str:
    """Events on cluster-scoped objects belong into `default`: the API server refuses them elsewhere."""
    return ref.namespace or "default"
