"""One node: kubelet, container runtime with the plugin's twin, files, and the real agent."""

import asyncio
import fcntl
import json
import os
import random
import shutil
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from podcidr.agent import inotify, main
from podcidr.agent.statedir import StateDir, StateDirError, become_the_agent
from podcidr.api import names
from podcidr.config import Address, AgentConfig
from podcidr.kube.client import KubeClient
from podcidr.metrics import AgentMetrics
from tests.simulation.clocks import SimulatedClock
from tests.simulation.loop import PROCESS, Process
from tests.simulation.network import SERVER, Network, SimulatedTransport
from tests.simulation.plugin_twin import TRY_AGAIN, Adding, Call, CniError, NotReady, Plugin, Steps

Object = dict[str, Any]
WAIT_SECONDS = 9.0
LOCK_SECONDS = 5.0


class Killed(Exception):
    """The plugin's process ended between two changes of files."""


class Witness(Protocol):
    """Who is told of what pods really have."""

    def assigned(self, address: str, node: str, container: str) -> None: ...
    def released(self, container: str) -> None: ...
    def note(self, *what: object) -> None: ...


@dataclass
class Sandbox:
    """A container with its network namespace, which exists as long as its file does."""

    call: Call
    pod_key: str
    uid: str
    netns: Path
    addresses: list[str] = field(default_factory=list)


class SimulatedInotify:
    """Watches the directories that exist when it starts; the machine tells when files changed."""

    def __init__(self, directories: tuple[Path, ...], on_change: Callable[[], None], *, once: tuple[Path, ...]) -> None:
        self._root, self._on_change = directories[0].parent, on_change

    def start(self, _loop: asyncio.AbstractEventLoop) -> bool:
        process = PROCESS.get()
        assert process is not None
        WATCHERS[process.name] = (process, self._root, self._root.stat().st_ino, self._on_change)
        return True

    def renew(self) -> bool:
        """The machine tells of whatever changes."""
        return True

    def rearm(self) -> None:
        """And however often."""

    def close(self, _loop: asyncio.AbstractEventLoop) -> None:
        """The process's end is enough."""


WATCHERS: dict[str, tuple[Process, Path, int, Callable[[], None]]] = {}
inotify.Inotify = SimulatedInotify  # type: ignore[assignment, misc]


async def _flock_in_virtual_time(lock: Callable[[int, int], None], fd: int, how: int) -> None:
    """What asyncio.to_thread(flock) does on a real node: wait for the plugins."""
    while True:
        try:
            lock(fd, how | fcntl.LOCK_NB)
        except BlockingIOError:
            await asyncio.sleep(0.002)
        else:
            return


class Machine:
    """A node. `power_off` ends everything on it; files of the runtime's cache outlive that, the state dir does not."""

    def __init__(self, network: Network, witness: Witness, name: str, number: int, directory: Path, rng: random.Random) -> None:
        self.name, self.number = name, number
        self._net, self._witness, self._rng = network, witness, rng
        self.root = directory / name
        self.state_dir, self.netns_dir, self.cache = (self.root / part for part in ("state", "netns", "cache"))
        self.sandboxes: dict[str, Sandbox] = {}
        self.working: dict[str, asyncio.Task[None]] = {}
        self.agent: Process | None = None
        self.older_agent: Process | None = None
        self.agent_may_run = True
        self.powered = False
        self.errors: list[BaseException] = []
        self.kill_plugin_after: int | None = None
        self._containers = 0
        self._agents = 0
        self._failures: Counter[str] = Counter()
        self._fds: set[int] = set()
        self._adding: list[Adding] = []
        self._wake = asyncio.Event()

    # Power

    def power_on(self) -> None:
        """Boot: clocks begin anew, the state dir (tmpfs) is empty."""
        self.powered = True
        for path in (self.root, self.netns_dir, self.cache):
            path.mkdir(parents=True, exist_ok=True)
        self.clock = SimulatedClock(
            self._net.loop, random.Random(self._rng.random()), rate=self._rng.choice((1.0, self._rng.uniform(0.9, 1.1)))
        )
        self.plugin = Plugin(self.state_dir, self.clock.monotonic)
        self.kubelet = Process(self._net.loop, f"kubelet-{self.name}")
        self.kubelet.start(self._run_kubelet())
        self.agent_may_run = True
        self.start_agent()

    def power_off(self, *, lose_cache: bool = False) -> None:
        """Everything on it ends at once."""
        self.powered = self.agent_may_run = False
        self.kubelet.kill()
        for process in (self.agent, self.older_agent):
            if process is not None:
                process.kill()
        for fd in list(self._fds):
            self._close(fd)
        for adding in self._adding:
            adding.end()
        self._adding.clear()
        for sandbox in self.sandboxes.values():
            self._witness.released(sandbox.call.container)
            sandbox.netns.unlink(missing_ok=True)
        self.sandboxes.clear()
        self.working.clear()
        shutil.rmtree(self.state_dir, ignore_errors=True)
        if lose_cache:
            shutil.rmtree(self.cache, ignore_errors=True)

    def lose_state_dir(self) -> None:
        """By hand, under running pods."""
        shutil.rmtree(self.state_dir, ignore_errors=True)

    # The agent

    def start_agent(self) -> None:
        """A DaemonSet's pod: started again whenever it ends."""
        if not (self.powered and self.agent_may_run) or (self.agent is not None and self.agent.alive):
            return
        self.agent = self._new_agent()

    def roll_agent(self) -> None:
        """A rolling update that surges: the next one waits until this one ends."""
        if self.agent is None or not self.agent.alive:
            return
        self.older_agent, self.agent = self.agent, None
        self.agent = self._new_agent()
        older = self.older_agent
        self._net.loop.call_later(self._rng.uniform(1.0, 30.0), older.kill, context=SERVER)

    def _new_agent(self) -> Process:
        self._agents += 1
        process = Process(self._net.loop, f"agent-{self.name}")
        process.on_death.append(self._restart_agent_soon)
        process.start(self._live(process))
        return process

    def _restart_agent_soon(self) -> None:
        self._net.loop.call_later(self._rng.choice((0.5, self._rng.uniform(1.0, 20.0))), self.start_agent, context=SERVER)

    async def _live(self, process: Process) -> None:
        try:
            await self._serve(process)
        except (main.Lost, StateDirError):
            pass  # as the real one does: it ends and is started again
        except Exception as error:
            self.errors.append(error)
        process.kill()

    async def _serve(self, process: Process) -> None:
        """What podcidr.agent.main does, without endpoints and signals."""
        config = AgentConfig(
            node_name=self.name, state_dir=str(self.state_dir), cni_cache_dir=str(self.cache), listen=Address("127.0.0.1", 0)
        )
        metrics = AgentMetrics()
        state = StateDir(self.state_dir)
        state.prepare()
        process.on_death.append(state.close)
        transport = SimulatedTransport(self._net, process, self.number % 2)
        client = KubeClient(transport, self.clock, program=names.MANAGER_AGENT, on_request=metrics.on_request)
        await become_the_agent(state, self.clock, lambda: None)
        agent = await main._begin(config, client, state, self.clock, metrics)
        await main._run(agent, state)

    def _files_changed(self) -> None:
        watching = WATCHERS.get(f"agent-{self.name}")
        if watching is None:
            return
        process, root, inode, on_change = watching
        if process.alive and root.is_dir() and root.stat().st_ino == inode:
            process.call_later(self._rng.uniform(0.0, 0.01), on_change)

    # kubelet and runtime

    def nudge(self) -> None:
        """Something about its pods changed."""
        self._wake.set()

    async def _run_kubelet(self) -> None:
        while True:
            self._sync()
            sleeper = asyncio.ensure_future(asyncio.sleep(self._rng.uniform(20.0, 60.0)))
            waker = asyncio.ensure_future(self._wake.wait())
            await asyncio.wait((sleeper, waker), return_when=asyncio.FIRST_COMPLETED)
            sleeper.cancel()
            waker.cancel()
            self._wake.clear()
            await asyncio.sleep(self._rng.uniform(0.01, 0.3))

    def _sync(self) -> None:
        """Level-triggered: what runs is made what the API says."""
        wanted = {
            f"{pod['metadata']['namespace']}/{pod['metadata']['name']}": pod for pod in self._net.api.values("pods") if self._is_mine(pod)
        }
        running = {sandbox.pod_key: sandbox for sandbox in self.sandboxes.values()}
        for key in {**wanted, **running}:
            pod, sandbox = wanted.get(key), running.get(key)
            if key in self.working and not self.working[key].done():
                continue
            if sandbox and (pod is None or pod["metadata"]["uid"] != sandbox.uid or "deletionTimestamp" in pod["metadata"]):
                self._work(key, self._stop(key, sandbox))
            elif pod and "deletionTimestamp" in pod["metadata"] and sandbox is None:
                self._net.api.remove("pods", key)
            elif pod and sandbox is None and not pod["spec"].get("hostNetwork"):
                self._work(key, self._start(key, pod))

    def _work(self, key: str, work: Awaitable[None]) -> None:
        async def guarded() -> None:
            try:
                await work
            finally:
                self._wake.set()

        self.working[key] = self.kubelet.start(guarded())

    def _is_mine(self, pod: Object) -> bool:
        return bool(pod["spec"].get("nodeName") == self.name)

    async def _start(self, key: str, pod: Object) -> None:
        """One sandbox; if it fails, kubelet cleans up and tries again later with another."""
        self._containers += 1
        container = f"{self.name}-c{self._containers}"
        meta = pod["metadata"]
        netns = self.netns_dir / container
        netns.touch()
        call = Call(container, netns=str(netns), namespace=meta["namespace"], pod=meta["name"], uid=meta["uid"])
        sandbox = Sandbox(call, key, meta["uid"], netns)
        try:
            result = await self._add(call)
        except (CniError, Killed) as error:
            self._witness.note("ADD failed", self.name, key, container, str(error))
            await self._delete(sandbox)
            self._failures[key] += 1
            await asyncio.sleep(self._rng.uniform(0.5, 1.0) * min(60.0, 2.0 * 2.0 ** self._failures[key]))
            return
        del self._failures[key]
        sandbox.addresses = [ip["address"].partition("/")[0] for ip in result["ips"]]
        self.sandboxes[container] = sandbox
        for address in sandbox.addresses:
            self._witness.assigned(address, self.name, container)
        self._keep(call, result)
        await asyncio.sleep(self._rng.uniform(0.0, 2.0))
        self._say_running(key, sandbox)

    def _say_running(self, key: str, sandbox: Sandbox) -> None:
        pod = self._net.api.find("pods", key)
        if pod is not None and pod["metadata"]["uid"] == sandbox.uid:
            status = {"phase": "Running", "podIPs": [{"ip": address} for address in sandbox.addresses]}
            self._net.api.put("pods", key, {**pod, "status": status})

    async def _stop(self, key: str, sandbox: Sandbox) -> None:
        await self._delete(sandbox)
        pod = self._net.api.find("pods", key)
        if pod is not None and pod["metadata"]["uid"] == sandbox.uid:
            self._net.api.remove("pods", key)

    def lose_sandbox(self, key: str, *, with_pod: bool) -> bool:
        """It goes without a DEL: a leak for the agent to find. The pod goes too, or gets a new sandbox."""
        sandbox = next((s for s in self.sandboxes.values() if s.pod_key == key), None)
        if sandbox is None or (key in self.working and not self.working[key].done()):
            return False
        self._gone(sandbox)
        if with_pod:
            self._net.api.remove("pods", key)
        self.nudge()
        return True

    def _gone(self, sandbox: Sandbox) -> None:
        self._witness.released(sandbox.call.container)
        self.sandboxes.pop(sandbox.call.container, None)
        sandbox.netns.unlink(missing_ok=True)

    async def _add(self, call: Call) -> Object:
        """As the plugin's process: attempts under the lock, and in between a look now and then."""
        adding = self.plugin.adding(call)
        self._adding.append(adding)
        deadline = self.clock.monotonic() + WAIT_SECONDS
        seen: tuple[object, ...] = ()
        try:
            result = await self._drive(lambda: adding.attempt(last=False))
            while result is None:
                if self.clock.monotonic() >= deadline:
                    result = await self._drive(lambda: adding.attempt(last=True))
                    if result is None:
                        raise CniError(TRY_AGAIN, adding.why)
                    break
                await asyncio.sleep(self._rng.uniform(0.4, 1.2))
                now = self._stamp(call)
                if now != seen:
                    seen = now
                    result = await self._drive(lambda: adding.attempt(last=False))
            return result
        finally:
            adding.end()
            if adding in self._adding:
                self._adding.remove(adding)

    def _stamp(self, call: Call) -> tuple[object, ...]:
        """What makes a new attempt worthwhile; now and then one is made anyway (cooldowns end)."""
        stamps: list[object] = [int(self.clock.monotonic()) // 8]
        for name in ("ready", "allocation.json", f"namespaces/{call.namespace}", "addresses"):
            try:
                found = os.stat(f"{self.state_dir}/{name}")  # noqa: PTH116 - half of the cost is pathlib's
                stamps += [found.st_ino, found.st_mtime_ns]
            except FileNotFoundError:
                stamps.append(None)
        return tuple(stamps)

    async def _delete(self, sandbox: Sandbox) -> None:
        """The interface goes, DEL frees the addresses (again and again until it can), the namespace goes."""
        self._witness.released(sandbox.call.container)
        while True:
            try:
                await self._drive(lambda: self.plugin.delete(sandbox.call))
                break
            except NotReady:
                break  # no directory: success
            except (CniError, Killed):
                await asyncio.sleep(self._rng.uniform(0.5, 3.0))
        self.sandboxes.pop(sandbox.call.container, None)
        (self.cache / f"podcidr-{sandbox.call.container}-eth0").unlink(missing_ok=True)
        sandbox.netns.unlink(missing_ok=True)

    async def _drive(self, steps: Callable[[], Steps]) -> Object | None:
        """Hold the lock through a verb, sometimes slowly, sometimes to be killed in the middle."""
        fd = await self._lock()
        self._fds.add(fd)
        kill_after, self.kill_plugin_after = self.kill_plugin_after, None
        idle = False
        try:
            running = steps()
            for number in range(10_000):
                if number == kill_after:
                    self._witness.note("plugin killed", self.name, "after step", number)
                    raise Killed
                try:
                    next(running)
                except StopIteration as done:
                    idle = number == 0 and done.value is None
                    return done.value  # type: ignore[no-any-return]
                if self._rng.random() < 0.03:
                    await asyncio.sleep(self._rng.uniform(0.0, 0.05))
        finally:
            self._close(fd)
            if not idle:  # one more attempt of an ADD that waits changes no file
                self._files_changed()
        raise AssertionError("a verb without end")

    async def _lock(self) -> int:
        deadline = self.clock.monotonic() + LOCK_SECONDS
        while (fd := self.plugin.lock()) is None:
            if self.clock.monotonic() > deadline:
                raise CniError(TRY_AGAIN, "lock is held by another process")
            await asyncio.sleep(0.005)
        return fd

    def _close(self, fd: int) -> None:
        if fd in self._fds:
            self._fds.discard(fd)
            os.close(fd)

    def _keep(self, call: Call, result: Object) -> None:
        """libcni's file of a result."""
        arguments = [["K8S_POD_NAMESPACE", call.namespace], ["K8S_POD_NAME", call.pod], ["K8S_POD_UID", call.uid]]
        content = {
            "kind": "cniCacheV1",
            "containerId": call.container,
            "ifName": call.interface,
            "networkName": call.network,
            "netns": call.netns,
            "cniArgs": arguments,
            "result": result,
        }
        (self.cache / f"podcidr-{call.container}-eth0").write_text(json.dumps(content))


asyncio.to_thread = _flock_in_virtual_time  # type: ignore[assignment]
