"""One seed from beginning to end: life and faults side by side, then peace, then the question whether all is well."""

import asyncio
import gc
import ipaddress
import logging
import random
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import structlog

from tests.simulation import world as worlds
from tests.simulation.faults import FAULTS
from tests.simulation.loop import Process
from tests.simulation.world import LIFE, NAMESPACES, SETTLE_SECONDS, World

MIN_FAULTS, MIN_WRITES, MIN_NODES, MIN_OPERATORS = 15, 300, 3, 2
SETTLE_WRITES = 50
"""Of these so many are left to the end, when all comes to rest."""
LARGE_SHARE = 0.1
"""Of the seeds: longer and with more of everything. The others are hardly more than what a seed must have."""
QUIET_SECONDS = 330.0
TRACE_LINES = 120


@dataclass
class Result:
    """What one seed came to."""

    seed: int
    violation: str | None = None
    faults: dict[str, int] = field(default_factory=dict)
    messages: dict[str, int] = field(default_factory=dict)
    actions: dict[str, int] = field(default_factory=dict)
    writes: dict[str, int] = field(default_factory=dict)
    steps: int = 0
    checks: int = 0
    assignments: int = 0
    virtual_seconds: float = 0.0
    digest: int = 0
    fault_numbers: list[int] = field(default_factory=list)
    trace: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def run_seed(seed: int, keep: frozenset[int] | None, within: Path, *, verbose: bool = False) -> Result:
    """Run it in a directory of its own; `keep` names the faults (by number) that are left in."""
    _be_quiet()
    directory = within / f"seed-{seed}"
    directory.mkdir()
    gc.freeze()
    gc.disable()  # a seed is short
    sys.unraisablehook = lambda _: None  # killed processes are torn apart at the end; nobody is left to hear of it
    try:
        return _Run(seed, directory, keep, verbose=verbose).run()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _be_quiet() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL), cache_logger_on_first_use=False)
    logging.disable(logging.CRITICAL)


class _Run:
    def __init__(self, seed: int, directory: Path, keep: frozenset[int] | None, *, verbose: bool) -> None:
        self.seed, self.keep, self.verbose = seed, keep, verbose
        self.world = World(seed, directory)
        self.rng = random.Random(f"{seed}-run")
        self.happened: Counter[str] = Counter()
        self.numbers: list[int] = []
        self.running: set[asyncio.Task[None]] = set()

    def run(self) -> Result:
        world = self.world
        worlds.count_what_is_applied(world.actions)
        worlds.remember_texts()
        worlds.count_no_metrics()
        worlds.remember_paths()
        worlds.seed_state_ids(self.seed)
        worlds.slow_down_timed_rounds(5.0)
        worlds.slow_down_looks(25.0)
        violation: str | None = None
        main = world.task(self._all())
        world.loop.run_until_complete(main)
        if world.witness.violation is not None:
            violation = str(world.witness.violation)
        elif main.result() is not None:
            violation = f"convergence: {main.result()}"
        elif unexpected := self._unexpected():
            violation = unexpected
        return self._result(violation)

    def _unexpected(self) -> str | None:
        """An exception that nobody of the product caught."""
        ended = [owner.errors for owner in self.world.replicas] + [owner.errors for owner in self.world.machines.values()]
        for error in (error for errors in ended for error in errors):
            return f"unexpected end of a process: {error!r}\n{_where(error)}"
        for message, unhandled in self.world.loop.errors:
            if unhandled is not None:
                return f"unexpected error: {message}: {unhandled!r}\n{_where(unhandled)}"
        return None

    def _result(self, violation: str | None) -> Result:
        world = self.world
        return Result(
            seed=self.seed,
            violation=violation,
            faults=dict(self.happened),
            messages=dict(world.counts),
            actions=dict(world.actions),
            writes=dict(world.network.writes),
            steps=world.loop.steps,
            checks=world.witness.checks,
            assignments=world.witness.assignments,
            virtual_seconds=world.loop.now,
            digest=world.witness.digest,
            fault_numbers=self.numbers,
            trace=self._trace() if violation or self.verbose else [],
        )

    def _trace(self) -> list[str]:
        lines = [f"{at:10.3f}  {' '.join(str(part) for part in what)}" for at, what in self.world.witness.trace]
        if self.verbose:
            return lines
        early, late = lines[:-TRACE_LINES], lines[-TRACE_LINES:]
        return [*(line for line in early if "  fault " in line), *late]

    async def _all(self) -> str | None:
        """Why it has not converged, or None."""
        self.world.build()
        chaos = asyncio.ensure_future(self._chaos())
        if not await self._until(chaos):
            return None
        self._make_peace()
        settling = asyncio.ensure_future(self._settle_with_enough())
        return settling.result() if await self._until(settling) else None

    async def _until(self, task: asyncio.Future[Any]) -> bool:
        """Whether it ended before an invariant broke."""
        while not task.done():
            await asyncio.wait({task}, timeout=5.0)
            if self.world.witness.violation is not None or self._unexpected():
                task.cancel()
                return False
        task.result()
        return True

    # Chaos

    async def _chaos(self) -> None:
        large = self.rng.random() < LARGE_SHARE
        seconds = self.rng.choice((900.0, 1200.0) if large else (300.0, 350.0, 400.0))
        end = self.world.loop.now + 30.0 + seconds
        life = self.world.task(self._live(self.rng.randrange(50, 80) if large else self.rng.randrange(40, 55), seconds))
        await self._misfortunes(self.rng.randrange(24, 32) if large else self.rng.randrange(17, 21), seconds)
        await life
        await asyncio.sleep(max(0.0, end - self.world.loop.now))
        worlds.slow_down_timed_rounds(15.0)  # what is left is mostly waiting
        worlds.slow_down_looks(60.0)
        for number in range(1000, 1200):
            if self._is_enough(number, len(self.running)):
                await self._ended()
                if self._is_enough(number, 0):
                    break
            await asyncio.sleep(random.Random(f"{self.seed}-more-{number}").uniform(3.0, 20.0))
            for once in range(2):
                self._live_once(random.Random(f"{self.seed}-life-{number}-{once}"))
            if self.keep is not None or sum(self.happened.values()) < MIN_FAULTS or number % 4 == 0:
                self._begin_fault(number)
        await self._ended()

    async def _ended(self) -> None:
        if self.running:
            await asyncio.wait(self.running, timeout=4000.0)

    def _is_enough(self, number: int, expected: int) -> bool:
        """With the faults that are still under way. (A failure that is replayed with few faults ends with the last of these.)"""
        if self.keep is not None:
            return number > max(self.keep, default=0)
        return sum(self.happened.values()) + expected >= MIN_FAULTS and self._written() >= MIN_WRITES - SETTLE_WRITES

    def _written(self) -> int:
        return sum(count for plural, count in self.world.network.writes.items() if plural not in ("leases", "events"))

    async def _live(self, count: int, seconds: float) -> None:
        await asyncio.sleep(5.0)
        for number, pause in enumerate(_pauses(random.Random(f"{self.seed}-life"), count, seconds)):
            await asyncio.sleep(pause)
            self._live_once(random.Random(f"{self.seed}-life-{number}"))

    def _live_once(self, rng: random.Random) -> None:
        (_, do) = rng.choices(LIFE, weights=[weight for weight, _ in LIFE])[0]
        do(self.world, rng)

    async def _misfortunes(self, count: int, seconds: float) -> None:
        await asyncio.sleep(10.0)
        for number, pause in enumerate(_pauses(random.Random(f"{self.seed}-faults"), count, seconds)):
            await asyncio.sleep(pause)
            self._begin_fault(number)

    def _begin_fault(self, number: int) -> None:
        if self.keep is not None and number not in self.keep:
            return
        self.numbers.append(number)  # one that is still under way when the invariant breaks counts too
        rng = random.Random(f"{self.seed}-fault-{number}")
        task = self.world.task(self._fault(number, rng))
        self.running.add(task)
        task.add_done_callback(self.running.discard)

    async def _fault(self, number: int, rng: random.Random) -> None:
        """One of any kind; another at once where it can't happen now."""
        for _ in range(4):
            began, name = self.world.loop.now, rng.choices(list(FAULTS), weights=[weight for weight, _ in FAULTS.values()])[0]
            self.world.witness.note("fault", number, name)
            if await FAULTS[name][1](self.world, rng):
                self.happened[name] += 1
                self.world.witness.note("fault", number, name, "done")
                return
            if self.world.loop.now > began:
                return

    # Peace

    def _make_peace(self) -> None:
        """Nothing fails any more, everything may run, and there is room for everybody."""
        world = self.world
        world.quiet = True
        world.witness.note("peace")
        world.network.cut_off.clear()
        world.network.weather = type(world.network.weather)()
        for replica in world.replicas:
            _calm(replica.process)
        for machine in world.machines.values():
            _calm(machine.agent)
            _calm(machine.older_agent)
            if world.api.find("nodes", machine.name) is None:
                world.put_node(machine.name)
            if not machine.powered:
                machine.power_on()
            machine.agent_may_run = True
            machine.start_agent()
        for name, annotations in NAMESPACES.items():
            old = world.api.find("namespaces", name)
            assert old is not None
            world.api.put("namespaces", name, {**old, "metadata": {**old["metadata"], "annotations": annotations}})
        for pool in world.api.values("ippools"):
            world.api.put("ippools", pool["metadata"]["name"], {**pool, "spec": self._mended(pool["spec"])})
        self._thin_out()

    def _mended(self, spec: dict[str, Any]) -> dict[str, Any]:
        """In use, nothing reserved where the pool had a CIDR once (that is Invalid), and with room if another has its CIDR too."""
        cidrs, count = spec["ipv4"]["cidrs"], Counter(c for pool in self.world.api.values("ippools") for c in pool["spec"]["ipv4"]["cidrs"])
        if all(count[cidr] > 1 for cidr in cidrs):
            cidrs = [*cidrs, "10.9.0.0/26"] if count["10.9.0.0/26"] == 0 else [*cidrs, "10.9.1.0/26"]
        return {**spec, "ipv4": {**spec["ipv4"], "cidrs": cidrs}, "disabled": False, "reserved": []}

    def _thin_out(self) -> None:
        """Leave no more pods than surely fit."""
        seen: Counter[str] = Counter()
        for pod in self.world.api.values("pods"):
            if "deletionTimestamp" not in pod["metadata"]:
                place = f"{pod['metadata']['namespace']} {pod['spec']['nodeName']}"
                seen[place] += 1
                if seen[place] > 3:
                    self.world.delete_pod(f"{pod['metadata']['namespace']}/{pod['metadata']['name']}")

    async def _settle_with_enough(self) -> str | None:
        """Once more after some life in peace, where there was so little to tidy up."""
        why = await self._settle()
        for number in range(20):
            if why is not None or self.keep is not None or self._written() >= MIN_WRITES:
                break
            for once in range(10):
                self._live_once(random.Random(f"{self.seed}-peace-{number}-{once}"))
                await asyncio.sleep(5.0)
            self._thin_out()
            why = await self._settle()
        return why

    async def _settle(self) -> str | None:
        worlds.slow_down_timed_rounds(25.0)
        deadline = self.world.loop.now + SETTLE_SECONDS
        while True:
            await asyncio.sleep(30.0)
            self.world.apply_pools_again()  # one that a backup knew as being deleted goes only now
            why = next(self._unsettled(), None)
            if why is None or self.world.loop.now > deadline:
                return why

    def _unsettled(self) -> Iterator[str]:
        world, witness = self.world, self.world.witness
        if world.loop.now - world.changed_at < QUIET_SECONDS:
            yield f"blocks changed {world.loop.now - world.changed_at:.0f} s ago"
        sandboxes = {(m.name, s.pod_key, s.uid) for m in world.machines.values() for s in m.sandboxes.values()}
        for pod in world.api.values("pods"):
            key = pod["spec"]["nodeName"], f"{pod['metadata']['namespace']}/{pod['metadata']['name']}", pod["metadata"]["uid"]
            if not pod["spec"].get("hostNetwork") and key not in sandboxes:
                yield f"pod {key[1]} on {key[0]} has no address"
            sandboxes.discard(key)
        yield from (f"a sandbox without a pod: {sandbox}" for sandbox in sorted(sandboxes))
        for machine in world.machines.values():
            yield from self._leaks(machine)
        outliving = [ipaddress.ip_address(address) for address in witness.holders if witness.outlives_restore(address)]
        for cidr, row in sorted(witness.rows.items()):
            if cidr not in witness.listed and any(address in ipaddress.ip_network(cidr) for address in outliving):
                continue
            if row.quarantined_at is not None:
                yield f"{cidr} still rests in quarantine"
            elif witness.listed.get(cidr) != row.node:
                yield f"{cidr} is claimed for {row.node}, but {witness.listed.get(cidr, 'nobody')} lists it"
        yield from (f"{cidr} is listed by {node} without an IPBlock" for cidr, node in witness.listed.items() if cidr not in witness.rows)
        for address, (node, container) in witness.holders.items():
            if witness.block_of(address, node) is None and not witness.outlives_restore(address):
                yield f"invariant 7: {container} on {node} has {address}, in no block of that node"
        nodecidrs = {n["metadata"]["name"]: n for n in world.api.values("nodecidrs")}
        if nodecidrs.keys() != world.machines.keys():
            yield f"NodeCIDRs are of {sorted(nodecidrs)}, nodes are {sorted(world.machines)}"
        for name, nodecidr in nodecidrs.items():
            status = nodecidr.get("status") or {}
            if status.get("observedEpoch") != nodecidr["spec"]["epoch"]:
                yield f"{name} has reported at epoch {status.get('observedEpoch')}, not {nodecidr['spec']['epoch']}"

    def _leaks(self, machine: Any) -> Iterator[str]:
        """Files that nobody needs, or that are missing."""
        held = {sandbox.call.key for sandbox in machine.sandboxes.values()}
        files = {path.name for path in (machine.state_dir / "attachments").glob("*")}
        addresses = {path.name for path in (machine.state_dir / "addresses").glob("*")}
        owned = {address for sandbox in machine.sandboxes.values() for address in sandbox.addresses}
        if addresses != owned:
            yield f"{machine.name}: addresses/ has {sorted(addresses - owned)} too many, {sorted(owned - addresses)} too few"
        if len(files) != len(held):
            yield f"{machine.name}: attachments/ has {sorted(files - held)} too many, {sorted(held - files)} too few"
        if marks := [path.name for path in (machine.state_dir / "pending").glob("*")]:
            yield f"{machine.name}: pending/ has {marks}"


def _calm(process: Process | None) -> None:
    if process is not None and process.alive:
        process.kill_in(-1)
        if process.stopped:
            process.resume()


def _pauses(rng: random.Random, count: int, seconds: float) -> list[float]:
    times = sorted(rng.uniform(0.0, seconds) for _ in range(count))
    return [after - before for before, after in zip([0.0, *times], times, strict=False)]


def _where(error: BaseException) -> str:
    import traceback

    return "".join(traceback.format_exception(error)[-3:])
