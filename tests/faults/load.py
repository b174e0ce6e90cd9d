"""Pods that come and go on every node, many sandboxes each, whatever is down: the plugin has to serve them."""

import asyncio
import http.client
import random
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp

from tests.cluster.control_plane import ApiError
from tests.cluster.kubelet import Cluster, Machine
from tests.cluster.runtime import TRY_AGAIN, CniError, Sandbox, addresses_of
from tests.faults.record import Record

NAMESPACE = "web"
_RETRY_SECONDS = 0.2


class Load:
    """So many workers a node. Each has a pod at a time, and gives it one sandbox after another."""

    def __init__(self, cluster: Cluster, record: Record, chance: random.Random, workers: int) -> None:
        self._cluster = cluster
        self._record = record
        self._chance = chance
        self._workers = workers
        self._over = asyncio.Event()
        self.pods: set[str] = set()  # of which a worker knows
        self.plugin_kills = 0
        self.leaks = 0
        self.refused: Counter[int] = Counter()  # by the code of the plugin's error
        self.served: Counter[str] = Counter()  # by node
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin."""
        for machine in self._cluster.machines.values():
            self._tasks += [asyncio.create_task(self._work(machine, random.Random(self._chance.random()))) for _ in range(self._workers)]

    async def stop(self) -> None:
        """Let each worker end its pod; raises what a worker died of."""
        self._over.set()
        await asyncio.gather(*self._tasks)

    async def cancel(self) -> None:
        """End at once: something went wrong elsewhere."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def failed(self) -> BaseException | None:
        """What a worker died of, if one did."""
        return next((error for task in self._tasks if task.done() and (error := task.exception())), None)

    async def _work(self, machine: Machine, chance: random.Random) -> None:
        while not self._over.is_set():
            name = f"pod-{secrets.token_hex(6)}"
            self.pods.add(name)
            uid = await persist(lambda name=name: self._create(machine, name))  # type: ignore[misc]
            for _ in range(chance.randint(1, 30)):
                await self._one_sandbox(machine, name, uid, chance)
                if self._over.is_set():
                    break
            await persist(lambda name=name: self._cluster.api.delete(_path(name)))  # type: ignore[misc]
            self.pods.discard(name)
            await asyncio.sleep(chance.uniform(0, 6))  # demand has to fall, or no block ever leaves a node

    async def _create(self, machine: Machine, name: str) -> str:
        spec = {"nodeName": machine.name, "containers": [{"name": "main", "image": "pause"}], "automountServiceAccountToken": False}
        try:
            made = await self._cluster.api.create(_path(""), {"metadata": {"name": name}, "spec": spec})
        except ApiError as error:
            if error.reason != "AlreadyExists":  # a time-out before may have made it
                raise
            made = await self._cluster.api.get(_path(name))
        return str(made["metadata"]["uid"])

    async def _one_sandbox(self, machine: Machine, name: str, uid: str, chance: random.Random) -> None:
        netns = await self._cluster.namespaces.make()
        sandbox = Sandbox(secrets.token_hex(32), str(netns), NAMESPACE, name, uid)
        try:
            if chance.random() < 0.02:
                await self._killed("ADD", machine, sandbox, chance)
            elif await self._assigned(machine, sandbox):
                await asyncio.sleep(chance.expovariate(1 / 0.15))
            self._record.released(sandbox.container)
            if chance.random() < 0.01:
                self.leaks += 1  # no DEL ever: the agent has to take the address back, under a pod that lives
                return
            if chance.random() < 0.02:
                await self._killed("DEL", machine, sandbox, chance)
            await persist(lambda: machine.runtime.delete(sandbox))
        finally:
            await self._cluster.namespaces.remove(Path(sandbox.netns))

    async def _assigned(self, machine: Machine, sandbox: Sandbox) -> bool:
        try:
            result = await machine.runtime.add(sandbox)
        except CniError as error:
            self.refused[error.code] += 1
            await asyncio.sleep(_RETRY_SECONDS)
            return False
        self._record.assigned(sandbox.container, machine.name, addresses_of(result))
        self.served[machine.name] += 1
        return True

    async def _killed(self, command: str, machine: Machine, sandbox: Sandbox, chance: random.Random) -> None:
        self.plugin_kills += 1
        await machine.runtime.run_killed(command, sandbox, after_seconds=chance.uniform(0, 0.005))


async def persist(attempt: Callable[[], Awaitable[Any]], limit_seconds: float = 240) -> Any:
    """Try again, as kubelet and controllers do, while servers are down."""
    async with asyncio.timeout(limit_seconds):
        while True:
            try:
                return await attempt()
            except ApiError as error:
                if error.status < 500 and error.status != 429:
                    raise
            except CniError as error:
                if error.code not in (TRY_AGAIN, 5):  # 5: the disk is full
                    raise
            except (aiohttp.ClientError, http.client.HTTPException, OSError, ValueError):
                pass  # not reachable, or cut off in the middle of an answer
            await asyncio.sleep(_RETRY_SECONDS)


def _path(name: str) -> str:
    return f"/api/v1/namespaces/{NAMESPACE}/pods/{name}".removesuffix("/")
