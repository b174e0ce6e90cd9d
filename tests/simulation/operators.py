"""One replica of the operator: the real wiring, reflectors, elector, rounds and writes; kopf is a plain watch of the pools."""

import asyncio
import random
from collections.abc import Callable

from podcidr.config import Address, OperatorConfig
from podcidr.handlers.main import Operator
from podcidr.kube.credentials import Credentials
from podcidr.kube.errors import KubeError
from podcidr.kube.resources import IPPOOLS
from podcidr.kube.transport import Transport
from tests.simulation.clocks import SimulatedClock
from tests.simulation.loop import Process
from tests.simulation.network import SERVER, Network, SimulatedTransport
from tests.simulation.witness import Witness

NOWHERE = Address("127.0.0.1", 0)
ENTER = ("PATCH", "/nodecidrs/", b'"Active"')
FREE = ("DELETE", "/ipblocks/", b"")
"""Writes that can be held back: method, part of the path, part of the body."""


class SimulatedOperator(Operator):
    """The process's own code, on another transport and without sockets and signals."""

    def __init__(self, config: OperatorConfig, clock: SimulatedClock, connect: Callable[[], Transport]) -> None:
        super().__init__(config, Credentials("http://nowhere"), clock)
        self._connect = connect

    def transport(self) -> Transport:
        return self._connect()

    async def run(self) -> int:
        """As the process does, until the Lease is lost or `stopping` is set."""
        self.stopping, self.kopf_ready = asyncio.Event(), asyncio.Event()
        self._wire()
        tasks = [
            *(self._task(reflector.run(), f"reflector-{kind}") for kind, reflector in self.observed.watched),
            self._task(self.events.run(), "events"),
        ]
        lead = self._task(self._lead(), "lead")
        pools = self._task(self._watch_pools(), "pools")
        stop = self._task(self.stopping.wait(), "stop")
        done, _ = await asyncio.wait({lead, pools, stop, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        for task in done - {stop}:
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error
        await self._shut_down(lead, pools, tasks, graceful=stop in done)
        return 0

    async def _watch_pools(self) -> None:
        """What kopf does for us: every pool once, then each event; after an error the same from the start."""
        while not self.stopping.is_set():
            try:
                listing = await self.client.list(IPPOOLS)
                for obj in listing.items:
                    self._on_pool(None, obj)
                async for event in self.client.watch(IPPOOLS, resource_version=listing.resource_version):
                    if event.type != "BOOKMARK":
                        self._on_pool(event.type, event.object)
            except KubeError:
                await self.clock.sleep(1.0)


class Replica:
    """A Deployment's pod: the process, started again by kubelet whenever it ends."""

    def __init__(
        self, network: Network, witness: Witness, number: int, rng: random.Random, lease_seconds: float, wall_skew_seconds: float
    ) -> None:
        self._witness = witness
        self.name = f"operator-{number}"
        self._net, self._rng, self._number = network, rng, number
        self._lease_seconds = lease_seconds
        self._skew = wall_skew_seconds
        self._starts = 0
        self.hold_back_seconds: float | None = None
        """The next write of the kind in `held_back` arrives so late."""
        self.held_back = ENTER
        self.forestall: Callable[[str, bytes], None] | None = None
        """Told of the next claim just before it is sent."""
        self._writes_left = 0
        self._strike: Callable[[Process], None] | None = None
        self.rate = rng.choice((1.0, 1.0, rng.uniform(0.9, 1.1)))
        self.process: Process | None = None
        self.operator: SimulatedOperator | None = None
        self.errors: list[BaseException] = []

    @property
    def in_ambush(self) -> bool:
        """Whether the strike is still to come."""
        return self._strike is not None

    @property
    def leads(self) -> bool:
        """Whether it believes so."""
        return self.process is not None and self.process.alive and self.operator is not None and self.operator.elector.leading.is_set()

    def start(self, *, after_restore: bool = False) -> None:
        """A new process with a new identity and a clock that begins anew."""
        self._starts += 1
        process = self.process = Process(self._net.loop, self.name)
        clock = SimulatedClock(self._net.loop, random.Random(self._rng.random()), rate=self.rate, wall_skew_seconds=self._skew)

        def sending(method: str, path: str, body: bytes) -> float | None:
            self._spring(process, method, path)
            self._look_whether_it_may_write(config.identity, method, path)
            if method == "POST" and "/ipblocks" in path and self.forestall is not None:
                tell, self.forestall = self.forestall, None
                tell(path, body)
            seconds = None
            if method == self.held_back[0] and self.held_back[1] in path and self.held_back[2] in body:
                seconds, self.hold_back_seconds = self.hold_back_seconds, None
            return seconds

        config = OperatorConfig(
            listen=NOWHERE,
            identity=f"{self.name}-{self._starts}",
            lease_seconds=self._lease_seconds,
            after_restore=after_restore,
        )
        self.operator = SimulatedOperator(config, clock, lambda: SimulatedTransport(self._net, process, self._number % 2, sending))
        process.on_death.append(self._restart_soon)
        process.start(self._live(process, self.operator))

    async def _live(self, process: Process, operator: SimulatedOperator) -> None:
        try:
            await operator.run()
        except Exception as error:
            self.errors.append(error)
        process.kill()

    def lie_in_wait(self, writes: int, strike: Callable[[Process], None]) -> None:
        """Strike when it sends its so manyth write of a list or of the ledger from now."""
        self._writes_left, self._strike = writes, strike

    def give_up(self, strike: Callable[[Process], None]) -> None:
        """It did not come. (Another ambush than ours goes on.)"""
        if self._strike is strike:
            self._strike = None

    def _spring(self, process: Process, method: str, path: str) -> None:
        if self._strike is not None and method != "GET" and ("/nodecidrs" in path or "/ipblocks" in path):
            self._writes_left -= 1
            if self._writes_left <= 0:
                strike, self._strike = self._strike, None
                strike(process)

    def _look_whether_it_may_write(self, identity: str, method: str, path: str) -> None:
        """Nobody sends a write while another holds the Lease. (Writes of the Lease itself are how it changes hands.)"""
        if method == "GET" or "/leases" in path:
            return
        lease = self._net.api.find("leases", "podcidr-system/podcidr-operator")
        holder = ((lease or {}).get("spec") or {}).get("holderIdentity")
        if holder and holder != identity and self._net.loop.now > self._witness.restored_at + 3 * self._lease_seconds:
            self._witness.fail("lease", f"{identity} sends {method} {path}, but {holder} holds the Lease")

    def _restart_soon(self) -> None:
        seconds = self._rng.choice((self._rng.uniform(0.5, 3.0), self._rng.uniform(5.0, 60.0)))
        self._net.loop.call_later(seconds, self.start, context=SERVER)

    def step_clock(self, seconds: float) -> None:
        """The wall clock of its machine is set."""
        self._skew = seconds
        if self.operator is not None and isinstance(self.operator.clock, SimulatedClock):
            self.operator.clock.wall_skew_seconds = seconds
