"""Keeps the record of who held which block: ConfigMaps beside the Lease, written at most every ten seconds, never in a round's way.

A lost line is no harm to any address: what an operator that was killed had not written, the next one finds in the ledger.
"""

from collections import deque
from collections.abc import Iterable, Mapping

import structlog

from podcidr.api import names
from podcidr.core.actions import Action, BlockAction
from podcidr.core.history import MAX_PENDING, SEGMENTS, Pages, Record, Segment, missed, parse, records_of
from podcidr.core.model import Snapshot
from podcidr.core.prefix import block_name
from podcidr.kube.client import KubeClient, Object
from podcidr.kube.clock import Clock, rfc3339
from podcidr.kube.errors import Fenced, KubeError, NotFound
from podcidr.kube.resources import CONFIGMAPS

WRITE_SECONDS, RETRY_SECONDS = 10.0, 60.0

_log = structlog.get_logger("podcidr.reconcile.history")


class History:
    """One leader's hand on the record. Without a namespace it keeps none."""

    def __init__(self, client: KubeClient, clock: Clock, namespace: str | None) -> None:
        self._client, self._clock, self._namespace = client, clock, namespace
        self._pending: deque[Record] = deque(maxlen=MAX_PENDING)
        self._pages: Pages | None = None
        self._versions: dict[int, str] = {}
        self._tried_at = float("-inf")

    def done(self, actions: Iterable[Action], snapshot: Snapshot) -> None:
        """Note what a round did."""
        if self._namespace is None:
            return
        acted = [action for action in actions if isinstance(action, BlockAction)]
        rows = (snapshot.blocks.get(block_name(action.prefix)) for action in acted)
        pools = {row.prefix: row.pool for row in rows if row}
        self._pending.extend(records_of(acted, pools, rfc3339(self._clock.wall())))

    @property
    def due_seconds(self) -> float:
        """When the next write is due; `inf`: nothing to write."""
        return max(0.0, self._tried_at + WRITE_SECONDS - self._clock.monotonic()) if self._pending else float("inf")

    async def keep(self, snapshot: Snapshot, *, at_once: bool = False) -> None:
        """Write what is pending, if it is time. The first time it reads the record, and adds what was missed."""
        waits = self.due_seconds > 0 if self._pages else self._clock.monotonic() - self._tried_at < WRITE_SECONDS
        if self._namespace is None or (waits and not (at_once and self._pending)):
            return
        self._tried_at = self._clock.monotonic()
        try:
            if self._pages is None:
                await self._load(snapshot)
            await self._write()
        except Fenced:
            raise
        except KubeError as error:
            self._pages = None  # another leader may have written: read again
            self._tried_at += RETRY_SECONDS - WRITE_SECONDS
            _log.warning("history not written; it is tried again", error=str(error), pending=len(self._pending))

    async def _load(self, snapshot: Snapshot) -> None:
        found = [segment for number in range(SEGMENTS) if (segment := await self._read(number))]
        found.sort(key=lambda segment: segment.number)
        records = [record for segment in found for line in segment.lines if (record := parse(line))]
        written = set(records)
        pending = [record for record in self._pending if parse(record.line()) not in written]  # a write that seemed to fail
        told = {(record.what, record.prefix) for record in pending}
        late = missed(records, snapshot.blocks, rfc3339(self._clock.wall()))
        self._pending.clear()
        self._pending.extend([*(record for record in late if (record.what, record.prefix) not in told), *pending])
        self._pages = Pages(found[-1] if found else Segment())

    async def _read(self, slot: int) -> Segment | None:
        assert self._namespace is not None, "without a namespace nothing is read"
        try:
            obj = await self._client.get(CONFIGMAPS, names.history_name(slot), namespace=self._namespace)
        except NotFound:
            self._versions.pop(slot, None)
            return None
        self._versions[slot] = obj["metadata"]["resourceVersion"]
        return segment_of(obj)

    async def _write(self) -> None:
        assert self._pages is not None, "it was loaded before"
        if not self._pending:
            return
        taken = list(self._pending)
        for segment in self._pages.add(taken):
            await self._put(segment)
        self._pending.clear()

    async def _put(self, segment: Segment) -> None:
        """At the version last seen: of two leaders the second is refused, and reads again."""
        assert self._namespace is not None, "without a namespace nothing is written"
        name = names.history_name(segment.slot)
        meta: Object = {"name": name, "namespace": self._namespace, "labels": names.HISTORY_LABELS}
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"number": str(segment.number), "log": segment.text}}
        if version := self._versions.get(segment.slot):
            meta["resourceVersion"] = version
            written = await self._client.replace(CONFIGMAPS, name, body, namespace=self._namespace)
        else:
            written = await self._client.create(CONFIGMAPS, body, namespace=self._namespace)
        self._versions[segment.slot] = written["metadata"]["resourceVersion"]


def segment_of(obj: Mapping[str, object]) -> Segment:
    """A ConfigMap's content; what somebody made unreadable counts as empty."""
    data = obj.get("data")
    data = data if isinstance(data, Mapping) else {}
    number = str(data.get("number", "0"))
    return Segment(int(number) if number.isdecimal() else 0, str(data.get("log", "")).splitlines())
