"""Brings the node's rights to the plugin: namespaces/, allocation.json, and `ready` last."""

from collections.abc import Mapping
from typing import Any

import structlog

from podcidr.agent.allocation import Allocation, build
from podcidr.agent.namespaces import NamespaceFiles
from podcidr.agent.observed import NamespaceSeen, NodeCIDRSeen, PoolSeen
from podcidr.agent.report import Published
from podcidr.agent.statedir import Standing, StateDir, standing_of
from podcidr.files import Damaged
from podcidr.metrics import AgentMetrics

log = structlog.get_logger("podcidr.agent.publish")


class Publisher:
    """Writes files when they differ; knows what stands on disk, also when a write failed."""

    def __init__(self, state: StateDir, node_name: str, state_id: str, *, ready: bool, metrics: AgentMetrics) -> None:
        self._state = state
        self._node_name = node_name
        self._state_id = state_id
        self._metrics = metrics
        self._document: Mapping[str, Any] | None = None  # on disk
        self._stamp: int | None = None  # of that file
        self._known: tuple[object, ...] = ()  # what the namespaces were last resolved with
        self._stale: set[str] = set()
        self._built: Allocation | None = None
        self._built_of: tuple[NodeCIDRSeen, Mapping[str, PoolSeen]] | None = None
        self.files = NamespaceFiles(state)
        self.published: Published | None = None
        self.ready = ready

    def load(self) -> None:
        """Learn what an earlier agent left. A corrupt file is replaced as soon as the NodeCIDR is read."""
        self.files.load(self._state_id)
        self._learn()

    def _learn(self) -> None:
        self._stamp, self._document = self._state.stamp(self._state.allocation), None
        try:
            self._document = self._state.read_allocation()
        except Damaged as error:
            log.error("allocation.json is corrupt; it will be replaced", error=str(error))

    def verify(self) -> bool:
        """Look whether the files are as they were written. True if the next `publish` has to write some anew."""
        document = self._document
        if self._state.stamp(self._state.allocation) != self._stamp:
            self._learn()
        if self.ready and self._state.read_ready() != self._state_id:
            self.ready = False
        amiss = self.files.verify(self._state_id) or self._document != document or not self.ready
        if amiss:
            log.warning("files of the state dir are not as they were written, and are written anew", state_dir=str(self._state.root))
        return amiss

    @property
    def standing(self) -> Standing | None:
        """Which NodeCIDR and epoch the file on disk stands for."""
        return standing_of(self._document) if self._document else None

    def namespace_changed(self, name: str) -> None:
        """Resolve it anew at the next `publish`."""
        self._stale.add(name)

    async def publish(self, seen: NodeCIDRSeen | None, pools: Mapping[str, PoolSeen], namespaces: Mapping[str, NamespaceSeen]) -> None:
        """Bring every file up to date. Raises OSError if one can't be written: the old ones stay and stay true."""
        self._resolve(seen, pools, namespaces)
        self.files.restrict(self._document["pools"] if self._document else (), self._state_id)
        try:
            if seen is not None:
                await self._publish(seen, pools)
        finally:
            self.files.complete(self._state_id)
        if not self.ready:
            self._state.write_ready(self._state_id)
            self.ready = True

    def _resolve(self, seen: NodeCIDRSeen | None, pools: Mapping[str, PoolSeen], namespaces: Mapping[str, NamespaceSeen]) -> None:
        automatic = seen.pools if seen else ()
        known = automatic, {name: pool.rule for name, pool in pools.items()}
        names, self._stale = self._stale, set()
        self.files.update(names if known == self._known else None, namespaces, pools, automatic)
        self._known = known

    async def _publish(self, seen: NodeCIDRSeen, pools: Mapping[str, PoolSeen]) -> None:
        allocation = self._build(seen, pools)
        if allocation.document != self._document:
            standing = await self._state.publish(allocation.document)
            if standing == standing_of(allocation.document):
                self._document, self._stamp = allocation.document, self._state.stamp(self._state.allocation)
                self._metrics.allocation_writes.inc()
                log.info("allocation published", epoch=seen.epoch, blocks=[str(block) for block in allocation.room])
            else:
                log.warning("a newer allocation file stands: left alone", epoch=seen.epoch, standing=standing.epoch)
        else:
            standing = standing_of(allocation.document)
        self._metrics.epoch.set(standing.epoch)
        problems = tuple(allocation.withheld.values())
        if problems and (self.published is None or self.published.problems != problems):
            log.warning("blocks are left out of the allocation file", blocks=problems)
        self.published = Published(
            standing=standing,
            automatic=tuple(allocation.document["automatic"]),
            room=allocation.room,
            problems=problems,
        )

    def _build(self, seen: NodeCIDRSeen, pools: Mapping[str, PoolSeen]) -> Allocation:
        """What the last round built, unless something changed: most rounds are about pods."""
        if self._built is None or self._built_of != (seen, pools):
            self._built_of = seen, dict(pools)
            self._built = build(self._node_name, seen, pools, self._state_id)
        return self._built
