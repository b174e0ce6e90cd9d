"""The agent's loop: whatever changed, bring the files up to date, then count, then report."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import structlog

from podcidr.agent import observed
from podcidr.agent.arrivals import Arrivals
from podcidr.agent.mending import Mender
from podcidr.agent.observation import Observation, Observer
from podcidr.agent.observed import NamespaceSeen, NodeCIDRSeen, PodSeen, PoolSeen
from podcidr.agent.publisher import Publisher
from podcidr.agent.rebuild import ended, from_cache, from_pods, recover, rewrite
from podcidr.agent.reclaim import Reclaimer
from podcidr.agent.records import Attachment
from podcidr.agent.report import Node, Pools, Report, count, pools_of
from podcidr.agent.reporter import Reporter, is_news
from podcidr.agent.resync import Resync
from podcidr.agent.statedir import StateDir, StateDirError
from podcidr.agent.waiting import Absence, change_or_timeout
from podcidr.api import names
from podcidr.config import AgentConfig
from podcidr.core.prefix import Family, address_text
from podcidr.kube.client import KubeClient
from podcidr.kube.clock import Clock
from podcidr.kube.errors import KubeError, NotFound
from podcidr.kube.events import EventRecorder, ObjectRef
from podcidr.kube.reflector import OnChange, Reflector
from podcidr.kube.resources import IPPOOLS, NAMESPACES, NODECIDRS, PODS, Resource
from podcidr.kube.transport import BetweenReads
from podcidr.metrics import AgentMetrics

V = TypeVar("V")
COALESCE_SECONDS = 0.02
RETRY_SECONDS = 5.0
MARKS_SECONDS = 2.0  # nothing tells that an ADD died: its mark's flock is free, that is all
COOLING_SECONDS = 2.0  # ends of cooldowns are gathered so long
# What nobody waits for is gathered so long, for each look costs as much as a pod. A mark, a pod more than there is room for, a
# change of NodeCIDR, IPPool or Namespace end it at once; while anything waits, a block drains or a file can't be written, there is none.
GATHER_SECONDS = 5.0
SCARCE_GATHER_SECONDS = 2.0  # a pool is exhausted: what falls empty here, pods elsewhere may wait for
# A pod that is replaced is four changes within a moment, and more where kubelet tells of its containers: the first is read at once,
# those of the next moment together. It is ADDs that wait, not pods: their marks are told meanwhile, and counted without the pods.
PODS_GATHER_SECONDS = 0.25
REMEDY = "It ends with a DEL or GC of its container (delete its pod); if there is none, and no pod here has its address, remove it"
PAGE_LIMITS = {PODS: 6, NAMESPACES: 100}  # 250 whole pods at once would double the agent's memory

log = structlog.get_logger("podcidr.agent")


class AgentReflector(Reflector[V]):
    """A reflector that lists while no other does, so that their peaks of memory do not add up, and says when it has."""

    turn: asyncio.Lock
    on_list: Callable[[], None]

    async def relist(self) -> None:
        """List when it is our turn, and say so."""
        async with self.turn:
            await super().relist()
        self.on_list()


class Agent:
    """One node's agent, once it holds the state directory."""

    def __init__(
        self,
        config: AgentConfig,
        client: KubeClient,
        state: StateDir,
        state_id: str,
        *,
        ready: bool,
        clock: Clock,
        metrics: AgentMetrics,
    ) -> None:
        self._config = config
        self._client = client
        self._state = state
        self._state_id = state_id
        self._clock = clock
        self._metrics = metrics
        self._dirty = asyncio.Event()  # look, in a moment
        self._urgent = asyncio.Event()  # look now
        self._watchful = True  # something on this node waits: every change may be the one
        self._counted: Report | None = None
        self._arrived = 0  # pods since then
        self._turn = asyncio.Lock()
        self._rebuild_due = not ready
        self._caught_up = False
        self._trouble: str | None = None
        self._damaged: Mapping[str, str] = {}
        self._relisting: asyncio.Future[None] | None = None
        self._uid = ""  # confirmed by a consistent read
        self._observer = Observer(state)
        self._mender = Mender(state, state_id)
        self._absence = Absence(config.node_name)
        self.claim: Callable[[str], bool] = lambda _uid: True
        self.on_directories_made: Callable[[], object] = lambda: None
        self.on_round: Callable[[], object] = lambda: None  # whatever changes from here on is news
        self.observation: Observation | None = None
        self.publisher = Publisher(state, config.node_name, state_id, ready=ready, metrics=metrics)
        self.arrivals = Arrivals(state, state_id)
        self.events = EventRecorder(client, clock, names.MANAGER_AGENT, instance=config.node_name)
        self.reporter = Reporter(
            client,
            config.node_name,
            clock=clock,
            metrics=metrics,
            resync_seconds=config.resync_seconds,
            on_foreign=self._look_again,
        )
        self.reclaimer = Reclaimer(client, state, clock=clock, grace_seconds=config.reclaim_grace_seconds, on_reclaim=self._reclaimed)
        self._watch(config)

    def _watch(self, config: AgentConfig) -> None:
        own, here = f"metadata.name={config.node_name}", f"spec.nodeName={config.node_name}"
        # A new list of our NodeCIDR: the server's data may have begun anew, so the report is due.
        self.nodecidrs = self._reflector(NODECIDRS, observed.nodecidr, self._changed, own, on_list=self.reporter.repeat, compares=True)
        self.pods = self._reflector(PODS, observed.pod, self._pod_changed, here, between_reads=self._gather_pods)
        self.pools: Reflector[PoolSeen] = self._reflector(IPPOOLS, observed.ippool, self._changed)
        self.namespaces = self._reflector(NAMESPACES, observed.namespace, self._namespace_changed)
        self.resync = Resync(
            self.pods,
            (self.nodecidrs, self.pools),
            (self.namespaces,),
            clock=self._clock,
            resync_seconds=config.resync_seconds,
            attachments=lambda: self.observation.attachments.values() if self.observation else (),
        )
        for reflector, kind in zip(self.reflectors, ("NodeCIDR", "Pod", "IPPool", "Namespace"), strict=True):
            self._show(kind, reflector)

    def _show(self, kind: str, reflector: Reflector[Any]) -> None:
        self._metrics.add_reflector(
            kind,
            lambda: self._clock.monotonic() - reflector.last_progress,
            lambda: reflector.lists,
            lambda: len(reflector.items),
        )

    def _reflector(
        self,
        resource: Resource,
        project: Callable[[dict[str, Any]], V | None],
        on_change: OnChange[V],
        field_selector: str | None = None,
        on_list: Callable[[], None] = lambda: None,
        compares: bool = False,
        between_reads: BetweenReads | None = None,
    ) -> Reflector[V]:
        reflector = AgentReflector(
            self._client,
            resource,
            project,
            clock=self._clock,
            on_change=on_change,
            field_selector=field_selector,
            page_limit=PAGE_LIMITS.get(resource, 10),
            compares=compares,
            on_regression=self._began_anew,
            between_reads=between_reads,
        )
        reflector.turn, reflector.on_list = self._turn, on_list
        return reflector

    @property
    def reflectors(self) -> tuple[Reflector[Any], ...]:
        """All four."""
        return self.nodecidrs, self.pods, self.pools, self.namespaces

    def trouble(self) -> str | None:
        """What keeps the agent from being ready, in words."""
        if not self.publisher.ready:
            missing = [
                kind
                for kind, reflector in zip(("NodeCIDR", "Pod", "IPPool", "Namespace"), self.reflectors, strict=True)
                if not reflector.synced.is_set()
            ]
            return self._trouble or (f"not listed yet: {', '.join(missing)}" if missing else "state dir not ready yet")
        return self._trouble

    def files_changed(self) -> None:
        """The plugin did something. An ADD that has to wait says so by a mark; the rest may be gathered."""
        try:
            urgent = bool(os.listdir(self._state.pending))  # noqa: PTH208 - at every change: as cheap as can be
        except OSError:  # the directory was lost: the next look finds out, soon
            urgent = True
        self._touch(urgent=urgent)

    def _touch(self, *, urgent: bool = True) -> None:
        self._dirty.set()
        if urgent or self._watchful:
            self._urgent.set()

    def _gather_pods(self) -> Awaitable[None] | None:
        """None while any pod may be the one that matters."""
        if self._watchful or self._is_news(self._arrived + 1, None):
            return None
        return self._clock.sleep(PODS_GATHER_SECONDS)

    def _is_news(self, arrived: int, pools: Pools | None) -> bool:
        """Whether so many pods since the last count, one of them of these pools, may be."""
        if self._counted is None or (pools and all(pools != counted for counted, _ in self._counted.needs)):
            return True
        return is_news(self._counted, self.reporter.peak, arrived, self._clock.monotonic())

    def _gather_seconds(self) -> float:
        exhausted = any(pool.exhausted for pool in self.pools.items.values())
        return SCARCE_GATHER_SECONDS if exhausted else GATHER_SECONDS

    async def run(self) -> None:
        """Everything, for ever. Ends by cancellation only."""
        self.publisher.load()
        self.arrivals.load()
        for reflector in self.reflectors:
            await reflector.synced.wait()
        while True:
            started = self._clock.monotonic()
            self._dirty.clear()
            self._urgent.clear()
            self.on_round()
            wake = await self._round()
            # The first change at once, those that follow it gathered for a moment.
            await self._clock.sleep(max(0.0, started + COALESCE_SECONDS - self._clock.monotonic()))
            await change_or_timeout(self._dirty, self._clock, wake)
            if not self._watchful:
                await change_or_timeout(self._urgent, self._clock, started + self._gather_seconds() - self._clock.monotonic())

    async def reclaim(self) -> None:
        """Look for leaks, and for files that are not as they were left, for ever."""
        while True:
            await self._clock.sleep(self.reclaimer.tick_seconds)
            try:
                if not self.publisher.ready or self._is_amiss():
                    self._touch()
                    continue
                observation = await self._look()
                await self.reclaimer.round(observation, self.pods.items, self._state_id)
            except OSError as error:
                self._failed(error)
                self._touch()

    def _is_amiss(self) -> bool:
        self._observer.forget_changed()
        return not self._state.is_ours() or bool(self._state.amiss()) or self.publisher.verify()

    async def _round(self) -> float:
        """One round; returns after how many seconds to look again without a change."""
        try:
            await self._restore()
            seen = await self._current()
            self._absence.look(present=seen is not None, now_seconds=self._clock.monotonic())
            if seen is not None and not self.claim(seen.uid):
                return self._not_alone()
            await self._rebuild()
            await self.publisher.publish(seen, self.pools.items, self.namespaces.items)
            self._trouble = None
        except KubeError as error:
            log.warning("NodeCIDR could not be read again", error=str(error))
            return RETRY_SECONDS
        except OSError as error:
            self._failed(error)
        # Counted after the publication: no address of a Draining block can be assigned any more.
        try:
            self.observation = await self._rewrite_damaged(await self._look())
            await self._mender.links(self.observation, self._clock.monotonic())
        except OSError as error:
            self._failed(error)
            return RETRY_SECONDS
        self._tell_damaged(self.observation)
        self._count_arrivals(self.observation)
        if (report := self._count(self.observation)) is not None:
            self.reporter.offer(report)
            self._measure(report)
            self._counted, self._arrived = report, 0
        self._watchful = report is None or bool(report.draining or self.observation.marks or self._trouble)
        return RETRY_SECONDS if self._trouble else self._next_look(report, self.observation)

    async def _look(self) -> Observation:
        """A directory may have gone since `_restore`: that is mended, or it was all that told who holds what."""
        try:
            return self._observer.look(self._state_id, self._clock.monotonic())
        except StateDirError:
            await self._restore()
            return self._observer.look(self._state_id, self._clock.monotonic())

    async def _restore(self) -> None:
        """Directories first: without them nothing can be written, nor counted."""
        if await self._mender.directories(self._clock.monotonic()):
            self.on_directories_made()
            self.publisher.verify()

    async def _current(self) -> NodeCIDRSeen | None:
        """The NodeCIDR to go by. One of another uid than the file's is taken after a consistent read only."""
        seen = self.nodecidrs.items.get(self._config.node_name)
        standing = self.publisher.standing
        if seen is None or standing is None or seen.uid in (standing.uid, self._uid):
            return seen
        try:
            obj = await self._client.get(NODECIDRS, self._config.node_name)
        except NotFound:
            return None
        if obj["metadata"]["uid"] != seen.uid:
            await self.nodecidrs.relist()
            return self.nodecidrs.items.get(self._config.node_name)
        log.info("the NodeCIDR was made again", uid=seen.uid, before=standing.uid)
        self._uid = seen.uid
        return seen

    async def _rebuild(self) -> None:
        """The half of a rebuild that needs the API server; the other was done before it was asked."""
        if self._rebuild_due:
            async with self._state.locked():
                found = from_pods(self.pods.items.values(), ended(Path(self._config.cni_cache_dir)))
                recovered = recover(self._state, found, self._state_id, self._clock.monotonic())
            self._rebuild_due = False
            self._metrics.rebuilds.inc()
            log.info("state dir rebuilt", from_pods=recovered)

    def _count(self, observation: Observation) -> Report | None:
        seen = self.nodecidrs.items.get(self._config.node_name)
        if seen is None or self.publisher.published is None:
            return None
        self.reporter.remember(seen.transitions)
        return count(
            Node(
                nodecidr=seen,
                published=self.publisher.published,
                pools=self.pools.items,
                namespaces=self.publisher.files.resolved,
                pods=tuple(self.pods.items.values()),
                observation=observation,
                bursts=self.arrivals.values,
                trouble=self._trouble,
            )
        )

    def _next_look(self, report: Report | None, observation: Observation) -> float:
        now = self._clock.monotonic()
        waits = [self._config.resync_seconds, self._absence.due_seconds(now)]
        waits.append(self._mender.due_seconds(observation, now))
        if observation.marks or observation.stale_marks:
            waits.append(MARKS_SECONDS)
        if observation.cooling:
            least = 0.0 if report and report.busy else COOLING_SECONDS
            waits.append(max(least, min(observation.cooling.values()) - now))
        return min(waits)

    def _changed(self, _name: str, _old: object, _new: object) -> None:
        self._touch()

    def _began_anew(self) -> None:
        self.resync.begin_anew()

    def _namespace_changed(self, name: str, _old: NamespaceSeen | None, _new: NamespaceSeen | None) -> None:
        self.publisher.namespace_changed(name)
        self._touch()

    def _pod_changed(self, _name: str, old: PodSeen | None, new: PodSeen | None) -> None:
        if old is not None or new is None or new.host_network or not new.live:
            self._touch(urgent=False)
            return
        pools = self._pools_of(new)
        self._arrived += 1
        self._touch(urgent=self._is_news(self._arrived, pools))
        # Pods that were here before us did not arrive now.
        if self._caught_up and pools:
            self.arrivals.arrive(pools, self._clock.monotonic())

    def _count_arrivals(self, observation: Observation) -> None:
        """Those of the time without an agent, once pins are resolved; and see that a restart forgets none."""
        now = self._clock.monotonic()
        if not self._caught_up and self.publisher.published is not None:
            self._caught_up = True
            self.arrivals.catch_up(observation.attachments.values(), self._pools_of_attachment, now)
        self.arrivals.save_if_due(now)

    def _pools_of(self, pod: PodSeen) -> Pools | None:
        seen = self.nodecidrs.items.get(self._config.node_name)
        return pools_of(pod, self.publisher.files.resolved, seen.pools if seen else ())

    def _pools_of_attachment(self, attachment: Attachment) -> Pools | None:
        ref = attachment.pod
        pod = self.pods.items.get(f"{ref.namespace}/{ref.name}")
        return self._pools_of(pod or PodSeen(ref.namespace, ref.name, ref.uid, host_network=False, live=True))

    def _look_again(self) -> None:
        """The server does not know the NodeCIDR that we reported to: what we hold is old."""
        self._relisting = asyncio.ensure_future(self._relist())  # kept: the loop holds tasks weakly

    async def _relist(self) -> None:
        try:
            await self.nodecidrs.relist()
        except KubeError as error:
            log.warning("NodeCIDR could not be listed", error=str(error))
        self._touch()

    def _not_alone(self) -> float:
        """Neither publish nor report: what the other one's plugin holds is not to be seen from here."""
        message = f"another agent of node {self._config.node_name} runs on this machine with another --state-dir; end one of the two"
        if self._trouble != message:
            log.error(message, state_dir=str(self._state.root))
        self._trouble = message
        return RETRY_SECONDS

    async def _rewrite_damaged(self, observation: Observation) -> Observation:
        """A record that came to harm, from what the runtime keeps of its container."""
        if observation.damaged.keys() <= self._damaged.keys():
            return observation
        async with self._state.locked():
            found = from_cache(Path(self._config.cni_cache_dir))
            keys = rewrite(self._state, found, self._state_id, self._clock.monotonic())
        if not keys:
            return observation
        log.warning("records were damaged and are written anew, from the runtime's cached results", attachments=keys)
        return await self._look()

    def _tell_damaged(self, observation: Observation) -> None:
        """Once for each: nothing mends it but a hand, or the end of its container."""
        for path, why in observation.damaged.items():
            if self._damaged.get(path) != why:
                message = f"{why}: what it holds stays in use. {REMEDY}"
                log.error("a file of the state dir is damaged", path=path, error=message)
                self._post("Warning", names.EVENT_STATE_FILE_DAMAGED, message[:1024])
        self._damaged = observation.damaged

    def _failed(self, error: OSError) -> None:
        message = f"{error.strerror} ({error.filename or self._state.root}): the files of --state-dir {self._state.root} stay as they were"
        if self._trouble != message:
            log.error("state dir could not be written, will be tried again", error=message)
            self._post("Warning", names.EVENT_STATE_DIR_NOT_WRITTEN, message)
        self._trouble = message

    def _reclaimed(self, attachment: Attachment) -> None:
        addresses = [address_text(*held.address) for held in attachment.ips]
        self._metrics.reclaims.inc()
        log.info("leaked attachment taken back", attachment=attachment.key, addresses=addresses)
        self._post("Normal", names.EVENT_ADDRESS_RECLAIMED, f"attachment {attachment.key} had neither pod nor network")
        self._touch(urgent=False)

    def _post(self, event_type: str, reason: str, message: str) -> None:
        standing = self.publisher.standing
        about = ObjectRef(NODECIDRS, self._config.node_name, standing.uid if standing else "")
        self.events.post(about, event_type, reason, message)

    def _measure(self, report: Report) -> None:
        for family in Family:
            usage = [counts for block, counts in report.usage.items() if block.family is family]
            self._metrics.addresses.labels(family, "in_use").set(sum(in_use for in_use, _ in usage))
            self._metrics.addresses.labels(family, "cooling").set(sum(cooling for _, cooling in usage))
            self._metrics.addresses.labels(family, "free").set(report.free[family])
            pending = (pending for (_, other), (pending, _) in report.demand.items() if other is family)
            self._metrics.pending.labels(family).set(sum(pending))
