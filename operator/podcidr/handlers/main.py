"""`podcidr operator`: wiring only. Every replica observes; the one that holds the Lease leads."""

import asyncio
import gc
import signal
import sys
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from podcidr import logs
from podcidr.api import names
from podcidr.config import OperatorConfig, parse_operator
from podcidr.endpoints import Endpoints, check_ready_file
from podcidr.handlers.pools import serve_pools
from podcidr.kube.client import KubeClient
from podcidr.kube.clock import Clock, SystemClock
from podcidr.kube.credentials import Credentials, CredentialsError, load
from podcidr.kube.errors import KubeError
from podcidr.kube.events import EventRecorder
from podcidr.kube.lease import Elector
from podcidr.kube.reflector import Reflector
from podcidr.kube.resources import CRDS
from podcidr.kube.transport import AiohttpTransport, Transport
from podcidr.metrics import OperatorMetrics
from podcidr.reconcile.observed import Observed
from podcidr.reconcile.rounds import Rounds, Settings

CRD_SECONDS = 60.0
DRAIN_SECONDS = 5.0
STALE_SECONDS = 240.0
"""Three times what a bookmark takes, and a bit: a watch silent for longer is dead."""
LAG_SECONDS = 5.0

_log = structlog.get_logger("podcidr.operator")


def main(argv: Sequence[str]) -> int:
    """Run the operator; the exit status tells whether Kubernetes should look at the logs."""
    config = parse_operator(argv)
    logs.configure(config.log_format, config.log_level)
    if not check_ready_file("podcidr operator", config.ready_file):
        return 2
    try:
        credentials = load(config.kubeconfig)
    except CredentialsError as error:
        print(f"podcidr operator: {error}", file=sys.stderr)
        return 2
    return asyncio.run(Operator(config, credentials).run())


@dataclass
class Operator:
    """One process: its caches, its Lease, its loop."""

    config: OperatorConfig
    credentials: Credentials
    clock: Clock = field(default_factory=SystemClock)
    lag_seconds: float = 0.0

    async def run(self) -> int:
        """Until the Lease is lost or somebody says stop. The first task to end ends all."""
        self.stopping, self.kopf_ready = asyncio.Event(), asyncio.Event()
        self._wire()
        await self.endpoints.start()
        _log.info("started", identity=self.config.identity, listen=self.endpoints.address)
        try:
            if not await self._wait_for_crds():
                return 3
            return await self._serve()
        finally:
            await self.endpoints.stop()
            await self.client.close()
            await self.lease_client.close()

    def transport(self) -> Transport:
        """A way of its own to the API server; a simulation brings another."""
        return AiohttpTransport(self.credentials, user_agent=names.MANAGER_OPERATOR)

    def _wire(self) -> None:
        config = self.config
        self.metrics = OperatorMetrics()
        self.lease_client = KubeClient(self.transport(), self.clock, program=names.MANAGER_OPERATOR)
        self.elector = Elector(
            self.lease_client,
            clock=self.clock,
            namespace=config.namespace,
            name=config.lease_name,
            identity=config.identity,
            lease_seconds=config.lease_seconds,
        )
        self.client = KubeClient(
            self.transport(),
            self.clock,
            fence=self.elector.remaining_seconds if config.leader_election else None,
            program=names.MANAGER_OPERATOR,
            on_request=self.metrics.on_request,
        )
        dirty = asyncio.Event()
        self.observed = Observed(self.client, self.clock, dirty.set)
        self.events = EventRecorder(self.client, self.clock, names.MANAGER_OPERATOR)
        settings = Settings(config.lost_node_seconds, config.resync_seconds, config.after_restore, config.namespace)
        self.rounds = Rounds(self.client, self.clock, self.observed, self.events, self.metrics, settings, dirty)
        for kind, reflector in self.observed.watched:
            self._show(kind, reflector)
        self.endpoints = Endpoints(
            config.listen.host,
            config.listen.port,
            registry=self.metrics.registry,
            healthy=self._health,
            ready=self._readiness,
            ready_file=config.ready_file,
        )

    def _show(self, kind: str, reflector: Reflector[Any]) -> None:
        self.metrics.add_reflector(
            kind,
            age_seconds=lambda: self.clock.monotonic() - reflector.last_progress,
            lists=lambda: reflector.lists,
            objects=lambda: len(reflector.items),
        )

    async def _wait_for_crds(self) -> bool:
        """kopf finds only what exists when it starts."""
        wanted = [f"{plural}.{names.GROUP}" for plural in (names.PLURAL_IPPOOLS, names.PLURAL_NODECIDRS, names.PLURAL_IPBLOCKS)]
        deadline = self.clock.monotonic() + CRD_SECONDS
        while True:
            try:
                missing = [name for name in wanted if not _established(await self.client.get(CRDS, name))]
            except KubeError as error:
                missing = [str(error)]
            if not missing:
                return True
            if self.clock.monotonic() >= deadline:
                _log.error("the CRDs are not served; run: kubectl apply -f crds/", missing=missing)
                return False
            _log.warning("waiting for the CRDs", missing=missing)
            await self.clock.sleep(1.0)

    async def _serve(self) -> int:
        # Before kopf, which cancels at its end whatever was created after its start.
        tasks = [
            *(self._task(reflector.run(), f"reflector-{kind}") for kind, reflector in self.observed.watched),
            self._task(self.events.run(), "events"),
            self._task(self._measure_lag(), "lag"),
        ]
        lead = self._task(self._lead(), "lead")
        kopf_task = self._task(serve_pools(self.credentials, self._on_pool, self.stopping, self.kopf_ready), "kopf")
        await self._own_signals(kopf_task)
        gc.freeze()  # what start-up made stays: the collector need not look at it again
        stop = self._task(self.stopping.wait(), "stop")
        done, _ = await asyncio.wait({lead, kopf_task, stop, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        graceful = stop in done
        for task in done - {stop}:
            _log.error("ended", task=task.get_name(), error=self._why(task))
        await self._shut_down(lead, kopf_task, tasks, graceful=graceful)
        return 0 if graceful else 1

    def _task(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        return asyncio.create_task(work, name=name)

    def _why(self, task: asyncio.Task[Any]) -> str:
        if task.cancelled():
            return "it was cancelled"
        if (error := task.exception()) is not None:
            return repr(error)
        return self.elector.lost or "it came to its end, which it never should"

    async def _own_signals(self, kopf_task: asyncio.Task[Any]) -> None:
        """kopf takes SIGTERM and SIGINT for itself when it starts; ours come after, so that writes end before the Lease goes."""
        started = self._task(self.kopf_ready.wait(), "kopf-ready")
        await asyncio.wait({started, kopf_task}, return_when=asyncio.FIRST_COMPLETED)
        started.cancel()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stopping.set)

    async def _lead(self) -> None:
        if not self.config.leader_election:
            self.metrics.leader.set(1)
            await self.rounds.run(None)
            return
        election = self._task(self.elector.run(), "elector")
        try:
            leading = self._task(self.elector.leading.wait(), "leading")
            await asyncio.wait({election, leading}, return_when=asyncio.FIRST_COMPLETED)
            if not self.elector.leading.is_set():
                return
            _log.info("leading", transitions=self.elector.transitions)
            self.metrics.leader.set(1)
            self.metrics.leader_transitions.set(self.elector.transitions)
            self.elector.on_regression = self.rounds.begun_anew
            rounds = self._task(self.rounds.run(self.elector.previous), "rounds")
            try:
                await asyncio.wait({election, rounds}, return_when=asyncio.FIRST_COMPLETED)
                if rounds.done():
                    rounds.result()  # raises what ended it
                    await self.elector.release()  # nothing is under way any more: a successor may begin at once
            finally:
                await _cancelled(rounds)
                self.metrics.leader.set(0)
        finally:
            await _cancelled(election)

    async def _shut_down(
        self, lead: asyncio.Task[Any], kopf_task: asyncio.Task[Any], tasks: list[asyncio.Task[Any]], *, graceful: bool
    ) -> None:
        """Writes first, then the Lease, then kopf: a successor must not begin while a write is under way."""
        if graceful and self.elector.leading.is_set():
            self.rounds.halt()
            await asyncio.wait({lead}, timeout=DRAIN_SECONDS)
        await _cancelled(lead)
        self.stopping.set()
        for task in tasks:
            await _cancelled(task)
        await asyncio.wait({kopf_task}, timeout=DRAIN_SECONDS)
        await _cancelled(kopf_task)
        _log.info("stopped")

    def _on_pool(self, event_type: str | None, obj: dict[str, Any]) -> None:
        if event_type == "DELETED":
            self.observed.pools.forget(obj["metadata"]["name"], int(obj["metadata"]["resourceVersion"]))
        else:
            self.observed.pools.observe(obj)

    async def _measure_lag(self) -> None:
        while True:
            before = self.clock.monotonic()
            await self.clock.sleep(1.0)
            self.lag_seconds = max(0.0, self.clock.monotonic() - before - 1.0)
            self.metrics.loop_lag_seconds.set(self.lag_seconds)
            self.metrics.events_dropped.inc(self.events.dropped)
            self.events.dropped = 0

    def _health(self) -> str | None:
        if self.lag_seconds > LAG_SECONDS:
            return f"the event loop lags by {self.lag_seconds:.1f} s"
        for kind, reflector in self.observed.watched:
            age = self.clock.monotonic() - reflector.last_progress
            if age > STALE_SECONDS:
                return f"the watch of {kind} has been silent for {age:.0f} s"
        return None

    def _readiness(self) -> str | None:
        waiting = [kind for kind, reflector in self.observed.watched if not reflector.synced.is_set()]
        if waiting:
            return f"not listed yet: {', '.join(waiting)}"
        return None if self.kopf_ready.is_set() else "kopf has not started yet"


def _established(crd: dict[str, Any]) -> bool:
    conditions = crd.get("status", {}).get("conditions", ())
    return any(c["type"] == "Established" and c["status"] == "True" for c in conditions)


async def _cancelled(task: asyncio.Task[Any]) -> None:
    """Cancel and wait for the end, whatever it was."""
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()  # taken note of
