"""Keeps IPPools: finalizer, accepted CIDRs, status. One pool that fails stops no other."""

import asyncio
from collections.abc import Awaitable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import structlog

from podcidr.api import names
from podcidr.core.acceptance import Acceptance, accept
from podcidr.core.model import IDLE, Pool
from podcidr.core.prefix import Family, Prefix
from podcidr.core.usage import PoolUsage, usages
from podcidr.kube.client import KubeClient
from podcidr.kube.clock import Clock, rfc3339
from podcidr.kube.errors import Conflict, Fenced, KubeError, NotFound
from podcidr.kube.events import EventRecorder, ObjectRef
from podcidr.kube.resources import IPPOOLS, PODS
from podcidr.metrics import OperatorMetrics
from podcidr.reconcile.apply import IN_FLIGHT
from podcidr.reconcile.forecast import Forecast
from podcidr.reconcile.observed import Observed
from podcidr.reconcile.status import PoolView, changed_conditions, pool_status

STATUS_SECONDS = 30.0
"""Counts alone are written at most so often: every agent watches the pools."""

EVENTS = {
    (names.CONDITION_ACCEPTED, names.STATUS_TRUE): ("Normal", names.EVENT_POOL_ACCEPTED),
    (names.CONDITION_ACCEPTED, names.STATUS_FALSE): ("Warning", names.EVENT_POOL_NOT_ACCEPTED),
    (names.CONDITION_NEAR_EXHAUSTION, names.STATUS_TRUE): ("Warning", names.EVENT_POOL_NEAR_EXHAUSTION),
    (names.CONDITION_EXHAUSTED, names.STATUS_TRUE): ("Warning", names.EVENT_POOL_EXHAUSTED),
    (names.CONDITION_DRAINED, names.STATUS_TRUE): ("Normal", names.EVENT_POOL_DRAINED),
}

_log = structlog.get_logger("podcidr.reconcile.pools")


@dataclass
class PoolKeeper:
    """Runs within the leader's rounds, never beside them."""

    client: KubeClient
    clock: Clock
    observed: Observed
    events: EventRecorder
    metrics: OperatorMetrics
    _written_at: dict[str, float] = field(default_factory=dict)
    _forecasts: dict[tuple[str, Family], Forecast] = field(default_factory=dict)
    _has_pods: bool = False
    _postponed: bool = False

    async def keep(self) -> bool:
        """Bring finalizers, accepted CIDRs and status up to date; says whether counts wait to be written later."""
        self._postponed = False
        await self._side_by_side(self._tended(pool) for pool in list(self.observed.pools.items.values()))
        waiting_for = await self._unreported_nodes()
        acceptance = accept(self.observed.pools.items, import_pending=bool(waiting_for))
        pools = {p.name: replace(p, accepted=frozenset(acceptance.accepted[p.name])) for p in self.observed.pools.items.values()}
        counts = usages(pools, self.observed.nodecidrs.items, self.observed.blocks.items)
        usage = {pool.name: {family: counts[pool.name, family] for family in pool.spaces} for pool in pools.values()}
        for pool in pools.values():
            self._measure(pool, usage[pool.name])
        await self._side_by_side(self._told(pool, usage[pool.name], acceptance, waiting_for) for pool in pools.values())
        return self._postponed

    async def _side_by_side(self, steps: Iterable[Awaitable[None]]) -> None:
        """One after the other, a thousand new pools took minutes. All to their end: none is left running behind our back."""
        slots = asyncio.Semaphore(IN_FLIGHT)

        async def slotted(step: Awaitable[None]) -> None:
            async with slots:
                await step

        for result in await asyncio.gather(*map(slotted, steps), return_exceptions=True):
            if isinstance(result, BaseException):
                raise result

    async def _told(self, pool: Pool, usage: Mapping[Family, PoolUsage], acceptance: Acceptance, waiting_for: tuple[str, ...]) -> None:
        try:
            await self._write_status(pool, usage, acceptance, waiting_for)
        except Fenced:
            raise
        except KubeError as error:
            self._postponed = True
            _log.warning("status of pool not written", pool=pool.name, error=str(error))

    async def _tended(self, pool: Pool) -> None:
        """A pool in use can't vanish: its finalizer goes when a list made after its deletion shows no block of it."""
        meta = self.observed.pool_objects[pool.name]["metadata"]
        held = names.FINALIZER in meta.get("finalizers", ())
        try:
            if pool.deleting and held and not await self._blocks_of(pool):
                await self._set_finalizers(pool, [f for f in meta["finalizers"] if f != names.FINALIZER])
            elif not pool.deleting and not held:
                await self._set_finalizers(pool, [*meta.get("finalizers", ()), names.FINALIZER])
        except Fenced:
            raise
        except NotFound:
            self.observed.pools.forget(pool.name)
        except KubeError as error:
            _log.warning("finalizer of pool not written", pool=pool.name, error=str(error))
            await self._reread(pool)

    async def _blocks_of(self, pool: Pool) -> int:
        """First by the cache; only if that shows none, by a consistent list."""
        if count := self._count_blocks(pool):
            return count
        await self.observed.blocks.relist()
        return self._count_blocks(pool)

    def _count_blocks(self, pool: Pool) -> int:
        return sum(block.pool_uid == pool.uid for block in self.observed.blocks.items.values())

    async def _set_finalizers(self, pool: Pool, finalizers: list[str]) -> None:
        body = {"metadata": {"resourceVersion": str(pool.resource_version), "finalizers": finalizers or None}}
        patched = await self.client.merge_patch(IPPOOLS, pool.name, body)
        if pool.deleting and not finalizers:
            self.observed.pools.forget(pool.name)
        else:
            self.observed.pools.observe(patched)

    async def _unreported_nodes(self) -> tuple[str, ...]:
        """While a CIDR is new: Ready nodes of a cluster with pods whose agents have said nothing yet."""
        pools = self.observed.pools.items.values()
        if all(cidr in pool.accepted for pool in pools for space in pool.spaces.values() for cidr in space.cidrs):
            return ()
        nodecidrs = self.observed.nodecidrs.items
        ready = sorted(name for name, node in self.observed.nodes.items.items() if node.ready)
        silent = tuple(name for name in ready if name not in nodecidrs or nodecidrs[name].known is None)
        return silent if silent and await self._cluster_has_pods() else ()

    async def _cluster_has_pods(self) -> bool:
        """Pods with addresses of their own; once seen it stays true for this process."""
        if not self._has_pods:
            running = "spec.hostNetwork=false,status.phase=Running"
            self._has_pods = bool((await self.client.list(PODS, field_selector=running, limit=1)).items)
        return self._has_pods

    async def _write_status(
        self, pool: Pool, usage: Mapping[Family, PoolUsage], acceptance: Acceptance, waiting_for: tuple[str, ...]
    ) -> None:
        old = self.observed.pool_objects[pool.name]["status"]
        view = PoolView(
            pool=pool,
            usage=usage,
            accepted=acceptance.accepted[pool.name],
            refused=acceptance.refused[pool.name],
            waiting=acceptance.waiting[pool.name],
            waiting_for=waiting_for,
            foreign=self._nodes_inside(acceptance.accepted[pool.name]),
            services=tuple(s for s in self.observed.services if any(s.overlaps(cidr) for cidr in acceptance.accepted[pool.name])),
            holders=self._holders(pool) if pool.disabled or pool.deleting else {},
            seconds_to_exhaustion=self._forecast(pool),
        )
        now = self.clock.monotonic()
        status = pool_status(view, old, rfc3339(self.clock.wall()))
        changed = changed_conditions(old.get("conditions", ()), status["conditions"])
        urgent = changed or any(old.get(key) != status[key] for key in ("acceptedCIDRs", "observedGeneration"))
        recent = now - self._written_at.get(pool.uid, float("-inf")) < STATUS_SECONDS
        if all(old.get(key) == value for key, value in status.items()):
            return
        if recent and not urgent:
            self._postponed = True
            return
        body = {"metadata": {"resourceVersion": str(pool.resource_version)}, "status": status}
        try:
            self.observed.pools.observe(await self.client.merge_patch(IPPOOLS, pool.name, body, subresource="status"))
        except (Conflict, NotFound):
            await self._reread(pool)
            return
        self._written_at[pool.uid] = now
        self._tell(pool, changed)

    def _nodes_inside(self, cidrs: tuple[Prefix, ...]) -> tuple[str, ...]:
        """Nodes with an own address in one of the CIDRs."""
        nodes = self.observed.nodes.items.values()
        return tuple(sorted(n.name for n in nodes if any(cidr.holds(own) for cidr in cidrs for own in n.addresses)))

    def _holders(self, pool: Pool) -> dict[str, tuple[int, int]]:
        found: dict[str, tuple[int, int]] = {}
        for nodecidr in self.observed.nodecidrs.items.values():
            held = [entry.prefix for entry in nodecidr.entries if entry.pool_uid == pool.uid]
            if held:
                counted = nodecidr.known.blocks if nodecidr.known else {}
                found[nodecidr.name] = len(held), sum(sum(counted.get(prefix, IDLE)) for prefix in held)
        return found

    def _tell(self, pool: Pool, changed: list[Mapping[str, Any]]) -> None:
        for condition in changed:
            kind_and_reason = EVENTS.get((condition["type"], condition["status"]))
            if condition["reason"] == names.REASON_DELETION_WAITS:
                kind_and_reason = ("Normal", names.EVENT_POOL_DELETION_WAITS)
            if kind_and_reason:
                self.events.post(ObjectRef(IPPOOLS, pool.name, pool.uid), *kind_and_reason, condition["message"])

    async def _reread(self, pool: Pool) -> None:
        try:
            self.observed.pools.observe(await self.client.get(IPPOOLS, pool.name))
        except NotFound:
            self.observed.pools.forget(pool.name)

    def _forecast(self, pool: Pool) -> int | None:
        """Of the family that is exhausted first."""
        found = (self._forecasts[pool.uid, family].seconds_to_exhaustion() for family in pool.spaces)
        return min((seconds for seconds in found if seconds is not None), default=None)

    def _measure(self, pool: Pool, usage: Mapping[Family, PoolUsage]) -> None:
        for family, counts in usage.items():
            self._forecasts.setdefault((pool.uid, family), Forecast()).add(self.clock.monotonic(), counts.blocks_free)
            for state, blocks in (
                ("total", counts.blocks_total),
                ("claimed", counts.blocks_claimed),
                ("quarantined", counts.blocks_quarantined),
                ("barred", counts.blocks_barred),
                ("free", counts.blocks_free),
            ):
                self.metrics.pool_blocks.labels(pool.name, family, state).set(blocks)
            for state, addresses in (
                ("capacity", counts.capacity),
                ("reserved", counts.reserved),
                ("in_use", counts.in_use),
                ("cooling", counts.cooling),
                ("free", counts.free),
            ):
                self.metrics.pool_addresses.labels(pool.name, family, state).set(addresses)
            taken = counts.in_use + counts.cooling
            self.metrics.pool_utilization.labels(pool.name, family).set(taken / counts.capacity if counts.capacity else 0)
