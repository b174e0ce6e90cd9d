"""observe: what the API server holds of the five kinds, as core values, and the snapshot of it."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import structlog

from podcidr.api import convert
from podcidr.core.model import Block, Geometry, Memory, Node, NodeCIDR, Pool, Snapshot
from podcidr.core.prefix import Prefix
from podcidr.kube.client import KubeClient, Object
from podcidr.kube.clock import Clock
from podcidr.kube.errors import KubeError, NotFound
from podcidr.kube.reflector import Reflector
from podcidr.kube.resources import IPBLOCKS, IPPOOLS, NODECIDRS, NODES, SERVICE_CIDRS, SERVICES

_log = structlog.get_logger("podcidr.reconcile.observed")


class Observed:
    """The caches. Pools are fed by kopf's events and our own lists, the others by list and watch."""

    def __init__(self, client: KubeClient, clock: Clock, changed: Callable[[], None]) -> None:
        self.pool_objects: dict[str, dict[str, Any]] = {}
        """metadata and status of each pool as last seen: what a write of its status is based on."""
        self.services: tuple[Prefix, ...] = ()
        """Service CIDRs as of the last list."""
        self._client = client

        def on_change(_name: str, _old: object, _new: object) -> None:
            changed()

        self.pools: Reflector[Pool] = Reflector(client, IPPOOLS, self._pool, clock=clock, on_change=on_change)
        self.nodes: Reflector[Node] = Reflector(client, NODES, convert.node, clock=clock, on_change=on_change)
        self.nodecidrs: Reflector[NodeCIDR] = Reflector(client, NODECIDRS, convert.nodecidr, clock=clock, on_change=on_change)
        self.blocks: Reflector[Block] = Reflector(client, IPBLOCKS, convert.block, clock=clock, on_change=on_change)

    def _pool(self, obj: Object) -> Pool:
        meta = obj["metadata"]
        known = self.pool_objects.get(meta["name"])
        if known is None or int(known["metadata"]["resourceVersion"]) <= int(meta["resourceVersion"]):
            self.pool_objects[meta["name"]] = {"metadata": meta, "status": obj.get("status", {})}
        return convert.pool(obj)

    @property
    def watched(self) -> Iterator[tuple[str, Reflector[Any]]]:
        """The reflectors that watch by themselves (kopf watches the pools)."""
        yield from (("Node", self.nodes), ("NodeCIDR", self.nodecidrs), ("IPBlock", self.blocks))

    @property
    def regressed(self) -> bool:
        """Whether some list came with an older version than one seen before: etcd was restored."""
        return any(reflector.regressed for _, reflector in (*self.watched, ("IPPool", self.pools)))

    def clear_regressed(self) -> None:
        """The suspicion has been taken up."""
        for _, reflector in (*self.watched, ("IPPool", self.pools)):
            reflector.regressed = False

    @property
    def geometries(self) -> set[Geometry]:
        """Those of the pools, as cached."""
        return {pool.geometry for pool in self.pools.items.values()}

    async def relist(self) -> set[Geometry]:
        """Consistent reads of everything the ledger rests on: pools first, *then* blocks (geometry rule).

        Returns the pools' geometries as read before the blocks: only for these the list of blocks is new enough.
        """
        await self.pools.relist()
        geometries = self.geometries
        await asyncio.gather(self.blocks.relist(), self.nodecidrs.relist(), self.nodes.relist(), self._relist_services())
        return geometries

    async def _relist_services(self) -> None:
        """Service CIDRs; from a server older than 1.33, the one address known to be a Service's. A warning's worth: it stops nothing."""
        try:
            try:
                objects = (await self._client.list(SERVICE_CIDRS)).items
            except NotFound:
                objects = [await self._client.get(SERVICES, "kubernetes", namespace="default")]
        except KubeError as error:
            _log.warning("Service CIDRs are not known: pools are not compared with them", error=str(error))
            return
        self.services = tuple(sorted(prefix for obj in objects for prefix in convert.service_prefixes(obj)))

    def unlisted(self) -> tuple[str, ...]:
        """Kinds of which nothing is known yet: from a partial view nothing is planned."""
        kinds = (("IPPool", self.pools), *self.watched)
        return tuple(kind for kind, reflector in kinds if not reflector.synced.is_set())

    def snapshot(self, memory: Memory, held: str | None, lost_node_seconds: float) -> Snapshot:
        """Everything as of now: the values are immutable, so copying the maps freezes them."""
        return Snapshot(
            pools=dict(self.pools.items),
            nodes=dict(self.nodes.items),
            nodecidrs=dict(self.nodecidrs.items),
            blocks=dict(self.blocks.items),
            memory=memory,
            unlisted=self.unlisted(),
            held=held,
            services=self.services,
            lost_node_seconds=lost_node_seconds,
        )
