"""The faults, one function each. Every one ends when what it broke works again, and gives the seconds that took."""

import asyncio
import itertools
import json
import random
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.cluster.kubelet import SYSTEM_NAMESPACE, Cluster, Machine, eventually
from tests.cluster.program import Program
from tests.faults.load import NAMESPACE, Load, persist

LEASE_SECONDS = 2
FLAGS = (f"--lease-seconds={LEASE_SECONDS}", "--lost-node-seconds=5")
AGENT_FLAGS = ("--reclaim-grace-seconds=2", "--resync-seconds=30")  # so that what a restore took is noticed while the storm lasts
_LEASE = f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM_NAMESPACE}/leases/podcidr-operator"
_BACK_SECONDS = 150


class Faults:
    """Breaks things in a cluster, under its load."""

    def __init__(self, cluster: Cluster, load: Load, chance: random.Random) -> None:
        self._cluster = cluster
        self._load = load
        self._chance = chance
        self._lives = itertools.count(1)
        self.operators: dict[str, Program] = {}
        self.agents: dict[str, Program] = {}
        self.ended: Counter[str] = Counter()  # by themselves, with their last words: an operator that lost its Lease does
        self._operator_flags: tuple[str, ...] = ()

    @property
    def kinds(self) -> dict[str, Callable[[], Awaitable[float]]]:
        """All of them, by name."""
        return {
            "operator killed": self.kill_operator,
            "agent killed": self.kill_agent,
            "API server killed": self.kill_api_server,
            "etcd killed": self.kill_etcd,
            "leader stopped past its Lease": self.stop_leader,
            "etcd restored": self.restore_etcd,
            "state dir full": self.fill_state_dir,
            "two operators without election": self.without_election,
        }

    async def start(self) -> None:
        """Two operators, and an agent on every machine."""
        for name in ("operator-a", "operator-b"):
            await self._start_operator(name)
        for machine in self._cluster.machines.values():
            await self._start_agent(machine)
        for program in [*self.operators.values(), *self.agents.values()]:
            await program.ready()

    async def watch_over(self) -> None:
        """As kubelet: whatever ended is started again. Until cancelled."""
        while True:
            for name in [name for name, program in self.operators.items() if program.exit_code is not None]:
                self._count_end("operator", self.operators[name])
                await persist(lambda name=name: self._start_operator(name))  # type: ignore[misc]
            for name in [name for name, program in self.agents.items() if program.exit_code is not None]:
                self._count_end("agent", self.agents[name])
                await persist(lambda name=name: self._start_agent(self._cluster.machines[name]))  # type: ignore[misc]
            await asyncio.sleep(0.1)

    async def kill_operator(self) -> float:
        """Kill the one that leads."""
        name = await self._leader()
        began = time.monotonic()
        self.operators[name].kill()
        await self._node_is_served()
        return time.monotonic() - began

    async def kill_agent(self) -> float:
        """Kill any; it is back when it says that it is ready."""
        name = self._any_machine().name
        killed = self.agents[name]
        began = time.monotonic()
        killed.kill()
        await eventually(lambda: self._is_another(name, killed), f"the agent of {name} to be started", timeout_seconds=_BACK_SECONDS)
        await self.agents[name].ready()
        return time.monotonic() - began

    async def kill_api_server(self) -> float:
        """Kill kube-apiserver, and start it again."""
        began = time.monotonic()
        await asyncio.to_thread(self._cluster.plane.restart)
        await self._node_is_served()
        return time.monotonic() - began

    async def kill_etcd(self) -> float:
        """Kill etcd under the API server, and start it on its data."""
        began = time.monotonic()
        self._cluster.plane.child("etcd").kill()
        self._cluster.plane.start_etcd()
        await self._node_is_served()
        return time.monotonic() - began

    async def stop_leader(self) -> float:
        """SIGSTOP the leader in the middle of its work; another takes over; then it wakes, and has to write nothing."""
        name = await self._leader()
        began = time.monotonic()
        stopped = self.operators[name]
        stopped.pause()
        await eventually(lambda: self._leads_other_than(name), "another operator to lead", timeout_seconds=_BACK_SECONDS)
        await self._node_is_served()
        taken_over = time.monotonic() - began
        stopped.resume()
        await asyncio.to_thread(stopped.wait, 30)  # it lost the Lease: it ends by itself
        return taken_over

    async def restore_etcd(self) -> float:
        """Put etcd back to how it was some seconds ago, under everything that runs."""
        plane = self._cluster.plane
        backup = await asyncio.to_thread(plane.back_up_etcd)
        await asyncio.sleep(self._chance.uniform(3, 8))  # what happens now will be forgotten
        began = time.monotonic()
        await asyncio.to_thread(plane.restore_etcd, backup)
        await self._bury_the_risen()
        await self._node_is_served()
        return time.monotonic() - began

    async def fill_state_dir(self) -> float:
        """No byte is left on the file system of a state dir for a while."""
        machine = self._any_machine()
        ballast = machine.state_dir / "ballast"
        with ballast.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass
        await asyncio.sleep(self._chance.uniform(1, 4))
        began = time.monotonic()
        ballast.unlink()
        served = self._load.served[machine.name]
        await eventually(lambda: self._serves(machine, served), f"{machine.name} to assign again", timeout_seconds=_BACK_SECONDS)
        return time.monotonic() - began

    async def without_election(self) -> float:
        """Both operators write as they like for some seconds."""
        self._operator_flags = ("--no-leader-election",)
        for program in self.operators.values():
            program.kill()
        await asyncio.sleep(self._chance.uniform(4, 8))
        self._operator_flags = ()
        began = time.monotonic()
        for program in self.operators.values():
            program.kill()
        await self._node_is_served()
        return time.monotonic() - began

    # --- what it takes ---

    async def _serves(self, machine: Machine, before: int) -> bool:
        return self._load.served[machine.name] > before

    def _any_machine(self) -> Machine:
        return self._chance.choice(list(self._cluster.machines.values()))

    async def _start_operator(self, name: str) -> None:
        flags = [*FLAGS, f"--identity={name}_{next(self._lives)}", *self._operator_flags]
        self.operators[name] = await self._cluster.start_operator(*flags, name=name, ready=False)

    async def _start_agent(self, machine: Machine) -> None:
        self.agents[machine.name] = await machine.start_agent(*AGENT_FLAGS, ready=False)

    def _count_end(self, kind: str, program: Program) -> None:
        if program.exit_code != -signal.SIGKILL:
            self.ended[f"{kind}: {_last_words(program)}"] += 1

    async def _is_another(self, name: str, killed: Program) -> bool:
        return self.agents[name] is not killed

    async def _leader(self) -> str:
        return await eventually(self._leads, "an operator to lead", timeout_seconds=_BACK_SECONDS)

    async def _leads(self) -> str:
        """The name of the living operator that holds the Lease, or nothing."""
        lease = await persist(lambda: self._cluster.api.get(_LEASE))
        name = str(lease["spec"].get("holderIdentity") or "").partition("_")[0]
        program = self.operators.get(name)
        return name if program is not None and program.exit_code is None else ""

    async def _leads_other_than(self, name: str) -> str:
        leader = await self._leads()
        return leader if leader != name else ""

    async def _node_is_served(self) -> None:
        """A Node that joins now gets its first block: API server, etcd and operator work. Nobody ever runs on it."""
        name = f"probe-{next(self._lives)}"
        node = {"metadata": {"name": name}, "status": {"allocatable": {"pods": "8"}}}
        await persist(lambda: self._cluster.api.create_missing("/api/v1/nodes", node))
        await eventually(lambda: self._has_a_block(name), f"{name} to get a block", timeout_seconds=_BACK_SECONDS)
        await persist(lambda: self._cluster.api.delete(f"/api/v1/nodes/{name}"))

    async def _has_a_block(self, name: str) -> bool:
        path = "/apis/podcidr.io/v1alpha1/nodecidrs"
        items = (await persist(lambda: self._cluster.api.get(path)))["items"]
        return any(item["metadata"]["name"] == name and item["spec"].get("blocks") for item in items)

    async def _bury_the_risen(self) -> None:
        """Pods that had ended are in the backup: kubelet would end them again. Probe Nodes likewise."""
        pods = await persist(lambda: self._cluster.api.items(f"/api/v1/namespaces/{NAMESPACE}/pods"))
        for pod in pods:
            name = pod["metadata"]["name"]
            if name not in self._load.pods:
                await persist(lambda name=name: self._cluster.api.delete(f"/api/v1/namespaces/{NAMESPACE}/pods/{name}"))  # type: ignore[misc]
        for node in await persist(lambda: self._cluster.api.items("/api/v1/nodes")):
            name = node["metadata"]["name"]
            if name.startswith("probe-"):
                await persist(lambda name=name: self._cluster.api.delete(f"/api/v1/nodes/{name}"))  # type: ignore[misc]


def _last_words(program: Program) -> str:
    """Why it ended: what it logged last that is no matter of course."""
    for line in reversed(program.output().splitlines()):
        try:
            said = json.loads(line)
        except ValueError:
            return line  # of a traceback
        if said.get("level") == "error":
            return re.sub(r"\d+(\.\d+)?", "N", str(said.get("error") or said["event"]))
    return "nothing"


def small_file_system(directory: Path, size: str = "4m") -> bool:
    """Mount a small tmpfs there, so that it can be filled. Root only; the cluster's directory is unmounted as a whole at the end."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "podcidr-state", str(directory)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
