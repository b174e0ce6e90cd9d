"""One leader by a Lease, for people who know that a lock with a time-out is none: it only spares work.

What keeps addresses single are the writes' own tests. Still, a leader stops writing well before another may begin.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from podcidr.kube.client import KubeClient, Object
from podcidr.kube.clock import Clock, parse_rfc3339, rfc3339_micro
from podcidr.kube.errors import AlreadyExists, Conflict, KubeError, NotFound
from podcidr.kube.resources import LEASES

_NEVER = float("-inf")

_log = structlog.get_logger("podcidr.kube.lease")


@dataclass(frozen=True, slots=True)
class LeaseHistory:
    """What the record said when we took it over."""

    holder: str  # "" if it was released
    unrenewed_seconds: float  # by the record's own renewTime and our wall clock: only to suspect a restored backup


class Elector:
    """Campaigns once, leads once: a lost Lease is final for the process, which then has to end."""

    def __init__(self, client: KubeClient, *, clock: Clock, namespace: str, name: str, identity: str, lease_seconds: float) -> None:
        self._client = client
        self._clock = clock
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._lease_seconds = lease_seconds
        self._writable_seconds = lease_seconds * 2 / 3
        self._retry_seconds = lease_seconds * 2 / 15
        self._record: Object | None = None  # as last read or written
        self._unchanged_since = 0.0
        self._valid_until = _NEVER
        self._busy = asyncio.Lock()  # one attempt at a time: a release waits for the one under way
        self._released = asyncio.Event()
        self.leading = asyncio.Event()
        self.transitions = 0
        self.previous: LeaseHistory | None = None
        self._reason = "it was not renewed in time (the process hung, or the API server did not answer)"
        self.lost: str | None = None  # why it ended, in words
        self.on_regression: Callable[[], None] = lambda: None

    def remaining_seconds(self) -> float:
        """Return for how long writing is safe: 2/3 of the lease, counted from before the renewal was sent.

        Others count all of it, from when they saw that renewal. A process that was stopped and wakes up asks the
        clock, not a flag that nobody was awake to clear.
        """
        return max(0.0, self._valid_until - self._clock.monotonic())

    async def run(self) -> None:
        """Wait for the Lease, hold it, return when it is lost or released."""
        while not self._released.is_set() and not await self._campaign():
            await self._pause(self._retry_seconds * (1.0 + 0.2 * self._clock.random()))
        if self._released.is_set():
            return
        self.leading.set()
        try:
            while self.remaining_seconds() > 0 and not self._released.is_set():
                await self._pause(min(self._retry_seconds, self.remaining_seconds()))
                await self._renew()
            if not self._released.is_set():
                self.lost = f"the Lease {self._namespace}/{self._name} was lost: {self._reason}; another process may lead now"
        finally:
            self._valid_until = _NEVER
            self.leading.clear()

    async def release(self) -> None:
        """Let a successor start at once. Only for a graceful stop, after the last write has been answered."""
        async with self._busy:
            self._released.set()
            remaining, self._valid_until = self.remaining_seconds(), _NEVER
            if remaining <= 0 or self._record is None:
                return  # lost, or never held: it is not ours to give away
            body = self._filled_in(self._record, holder="", seconds=1)
            try:
                await self._client.replace(LEASES, self._name, body, namespace=self._namespace, timeout_seconds=remaining)
            except KubeError:
                pass  # it expires by itself

    async def _pause(self, seconds: float) -> None:
        """Sleep on our clock, or until released."""
        sleep = asyncio.ensure_future(self._clock.sleep(seconds))
        released = asyncio.ensure_future(self._released.wait())
        try:
            await asyncio.wait({sleep, released}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleep.cancel()
            released.cancel()

    async def _campaign(self) -> bool:
        """Look, and take the Lease if it is free; any failure means: not yet."""
        async with self._busy:
            try:
                record = await self._read()
                if self._released.is_set() or (record is not None and not self._expired(record)):
                    return False
                return await self._acquire(record)
            except KubeError as error:
                _log.warning("campaign failed", lease=self._name, error=str(error))
                return False

    async def _read(self) -> Object | None:
        try:
            return await self._client.get(LEASES, self._name, namespace=self._namespace, timeout_seconds=self._attempt_seconds())
        except NotFound:
            return None

    def _expired(self, record: Object) -> bool:
        """Released, or unchanged for its whole duration while we looked on: no other machine's clock counts."""
        if self._record is None or _version(self._record) != _version(record):
            self._record, self._unchanged_since = record, self._clock.monotonic()
        spec = record.get("spec") or {}
        if not spec.get("holderIdentity"):
            return True
        duration = float(spec.get("leaseDurationSeconds") or self._lease_seconds)
        return self._clock.monotonic() - self._unchanged_since >= duration

    async def _acquire(self, old: Object | None) -> bool:
        started = self._clock.monotonic()
        spec = (old or {}).get("spec") or {}
        transitions = int(spec.get("leaseTransitions") or 0) + 1
        body = self._filled_in(old or self._blank(), holder=self._identity, seconds=self._lease_seconds)
        body["spec"] |= {"acquireTime": body["spec"]["renewTime"], "leaseTransitions": transitions}
        try:
            if old is None:
                self._record = await self._client.create(LEASES, body, namespace=self._namespace, timeout_seconds=self._attempt_seconds())
            else:
                self._record = await self._put(body, self._attempt_seconds())
        except (AlreadyExists, Conflict):
            return False
        self.transitions = transitions
        self.previous = None if old is None else self._history(spec)
        self._valid_until = started + self._writable_seconds
        return self.remaining_seconds() > 0

    async def _renew(self) -> None:
        """Try once. A failure changes nothing: validity simply runs out."""
        async with self._busy:
            remaining = self.remaining_seconds()
            if self._released.is_set() or remaining <= 0 or self._record is None:
                return
            started = self._clock.monotonic()
            body = self._filled_in(self._record, holder=self._identity, seconds=self._lease_seconds)
            try:
                self._record = await self._put(body, self._attempt_seconds())
            except Conflict:
                await self._reread()
                return
            except NotFound:
                self._valid_until, self._reason = _NEVER, "it was deleted"  # anyone may create it anew at this moment
                return
            except KubeError as error:
                _log.warning("renewal failed", lease=self._name, error=str(error), remaining_seconds=round(remaining, 1))
                await self._reread()  # it may have been written: the version is then another one
                return
            self._valid_until = started + self._writable_seconds

    async def _reread(self) -> None:
        """Find the version to write on next; another holder ends it all."""
        try:
            record = await self._read()
        except KubeError:
            return
        if record is None or (record.get("spec") or {}).get("holderIdentity") != self._identity:
            holder = (record or {}).get("spec", {}).get("holderIdentity") or "nobody"
            self._valid_until, self._reason = _NEVER, f"{holder} holds it"
        else:
            if self._record is not None and _is_older(record, self._record):
                _log.warning("the Lease is as it was before: etcd was restored from a backup", lease=self._name)
                self.on_regression()
            self._record = record

    async def _put(self, body: Object, timeout_seconds: float) -> Object:
        return await self._client.replace(LEASES, self._name, body, namespace=self._namespace, timeout_seconds=timeout_seconds)

    def _attempt_seconds(self) -> float:
        """Two attempts fit into the time for which a renewal is good, and none outlives it."""
        half = self._writable_seconds / 2
        return min(half, self.remaining_seconds() or half)

    def _blank(self) -> Object:
        return {
            "apiVersion": LEASES.api_version,
            "kind": LEASES.kind,
            "metadata": {"name": self._name, "namespace": self._namespace},
        }

    def _filled_in(self, record: Object, *, holder: str, seconds: float) -> Object:
        """Return the record with its resourceVersion: a PUT of it is the compare-and-swap."""
        now = rfc3339_micro(self._clock.wall())
        spec = {"holderIdentity": holder, "leaseDurationSeconds": max(1, round(seconds)), "renewTime": now}
        return {**record, "spec": {**(record.get("spec") or {}), **spec}}

    def _history(self, spec: Object) -> LeaseHistory:
        renewed = parse_rfc3339(spec["renewTime"]) if spec.get("renewTime") else datetime.fromtimestamp(0, UTC)
        age = (self._clock.wall() - renewed).total_seconds()
        return LeaseHistory(str(spec.get("holderIdentity") or ""), age)


def _is_older(record: Object, known: Object) -> bool:
    """Whether our own record went back: nobody else writes it, so by its version or by its time."""
    before = (known.get("spec") or {}).get("renewTime") or ""
    return int(_version(record)) < int(_version(known)) or ((record.get("spec") or {}).get("renewTime") or "") < before


def _version(record: Object) -> str:
    return str(record["metadata"]["resourceVersion"])
