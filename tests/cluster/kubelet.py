"""Plays kubelet and runtime: nodes, pods bound to them, sandboxes, and the real plugin run for each.

async with Cluster(plane, plugin=build_plugin()) as cluster:
    operator = await cluster.start_operator()
    machine = await cluster.add_machine("n1", pods=110)
    agent = await machine.start_agent()
    pod = await machine.start_pod("default", "web-0")      # pod.addresses
    await machine.stop_pod("default", "web-0")
    assert cluster.ledger.check_overlaps() == []
"""

import asyncio
import itertools
import os
import secrets
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

from tests.cluster.api import Api
from tests.cluster.control_plane import ControlPlane
from tests.cluster.ledger import Ledger
from tests.cluster.network_namespaces import NetworkNamespaces
from tests.cluster.program import Program
from tests.cluster.runtime import TRY_AGAIN, CniError, Runtime, Sandbox, addresses_of
from tests.cluster.watchdog import WATCHDOG, remove_directory

SYSTEM_NAMESPACE = "podcidr-system"
T = TypeVar("T")
_READY = {"type": "Ready", "status": "True", "reason": "KubeletReady"}


@dataclass
class RunningPod:
    """A pod with its sandbox; host-network pods have none."""

    namespace: str
    name: str
    uid: str
    sandbox: Sandbox | None = None
    addresses: list[str] = field(default_factory=list)
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def path(self) -> str:
        """Where the API server has it."""
        return f"/api/v1/namespaces/{self.namespace}/pods/{self.name}"


class Cluster:
    """The machines of a control plane. On leaving, programs are killed and files and namespaces removed."""

    def __init__(self, plane: ControlPlane, *, plugin: Path, concurrency: int = 64, real_namespaces: bool = True) -> None:
        self.plane = plane
        self.plugin = plugin
        self.api = Api(plane)
        self.ledger = Ledger()
        self.machines: dict[str, Machine] = {}
        self.programs: list[Program] = []
        # DEL has slots of its own: it frees the addresses that waiting ADDs may be waiting for.
        self.add_slots = asyncio.Semaphore(concurrency)
        self.delete_slots = asyncio.Semaphore(concurrency)
        self._numbers = itertools.count(1)
        self._real_namespaces = real_namespaces

    async def __aenter__(self) -> Self:
        # The state dir is on tmpfs on a real node too.
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.directory = Path(tempfile.mkdtemp(prefix="podcidr-cluster-", dir=memory))
        WATCHDOG.guard_directory(self.directory)
        self.namespaces = NetworkNamespaces(self.directory / "netns", real=self._real_namespaces)
        await self.api.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        for program in self.programs:
            program.resume()
            program.kill()
        await self.api.__aexit__()
        self.namespaces.close()
        remove_directory(self.directory)

    async def create_namespace(self, name: str, annotations: Mapping[str, str] | None = None, **labels: str) -> None:
        """A Namespace with its `default` ServiceAccount."""
        metadata = {"name": name, "annotations": dict(annotations or {}), "labels": labels}
        await self.api.create("/api/v1/namespaces", {"metadata": metadata})
        await self.api.create_missing(f"/api/v1/namespaces/{name}/serviceaccounts", {"metadata": {"name": "default"}})

    async def add_machine(
        self, name: str, *, pods: int | None = 110, labels: Mapping[str, str] | None = None, wait_seconds: float = 9
    ) -> "Machine":
        """A machine with its Node object."""
        machine = Machine(self, name, next(self._numbers), wait_seconds)
        self.machines[name] = machine
        await machine.register(pods, labels or {})
        return machine

    async def start_operator(self, *flags: str, name: str = "operator", ready: bool = True) -> Program:
        """`podcidr operator` under its own ServiceAccount."""
        kubeconfig = await asyncio.to_thread(self.plane.kubeconfig_for_service_account, SYSTEM_NAMESPACE, "podcidr-operator")
        return await self.start_program(name, ["operator", *flags], kubeconfig, ready=ready)

    async def start_program(self, name: str, arguments: list[str], kubeconfig: Path, *, ready: bool = True) -> Program:
        """Any of podcidr's programs; with `ready`, waits until it says so."""
        program = Program(name, arguments, kubeconfig=kubeconfig, directory=self.directory)
        self.programs.append(program)
        return await program.ready() if ready else program


class Machine:
    """A node: kubelet, runtime and files."""

    def __init__(self, cluster: Cluster, name: str, number: int, wait_seconds: float) -> None:
        self.cluster = cluster
        self.name = name
        self.address = f"192.0.{2 + number // 250}.{1 + number % 250}"
        self.directory = cluster.directory / name
        self.state_dir = self.directory / "state"
        self.state_dir.mkdir(parents=True, mode=0o700)
        self.runtime = Runtime(cluster.plugin, self.state_dir, self.directory / "cni-cache", wait_seconds)
        self.runtime.cache.mkdir()
        self.pods: dict[tuple[str, str], RunningPod] = {}

    # --- node and agent ---

    async def register(self, pods: int | None, labels: Mapping[str, str]) -> None:
        """Create the Node object, Ready."""
        resources = {"cpu": "8", "memory": "32Gi", **({} if pods is None else {"pods": str(pods)})}
        status = {
            "capacity": resources, "allocatable": resources, "conditions": [_READY],
            "addresses": [{"type": "InternalIP", "address": self.address}, {"type": "Hostname", "address": self.name}],
        }  # fmt: skip
        metadata = {"name": self.name, "labels": {"kubernetes.io/hostname": self.name, **labels}}
        await self.cluster.api.create("/api/v1/nodes", {"metadata": metadata, "status": status})

    async def unregister(self) -> None:
        """Delete the Node object."""
        await self.cluster.api.delete(f"/api/v1/nodes/{self.name}")

    async def set_ready(self, ready: bool) -> None:
        """Set the Node's Ready condition."""
        condition = {**_READY, "status": "True" if ready else "False"}
        await self.cluster.api.merge(f"/api/v1/nodes/{self.name}/status", {"status": {"conditions": [condition]}})

    async def start_agent(self, *flags: str, ready: bool = True) -> Program:
        """`podcidr agent` with the token that kubelet would give it: bound to its pod on this node."""
        name = f"podcidr-agent-{self.name}"
        if (SYSTEM_NAMESPACE, name) not in self.pods:
            await self.start_pod(SYSTEM_NAMESPACE, name, host_network=True, service_account="podcidr-agent")
        kubeconfig = await asyncio.to_thread(self.cluster.plane.kubeconfig_for_service_account, SYSTEM_NAMESPACE, "podcidr-agent", name)
        directories = [f"--state-dir={self.state_dir}", f"--cni-cache-dir={self.runtime.cache}"]
        arguments = ["agent", f"--node-name={self.name}", *directories, *flags]
        return await self.cluster.start_program(f"agent-{self.name}", arguments, kubeconfig, ready=ready)

    # --- pods ---

    async def start_pod(
        self, namespace: str, name: str, *, host_network: bool = False, annotations: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None, service_account: str = "default", attempts: int = 10,
        retry_seconds: float = 0.2,
    ) -> RunningPod:  # fmt: skip
        """Create a Pod bound to this node and run it. On error 11 a new sandbox is tried, as by kubelet; raises CniError."""
        metadata = {"name": name, "annotations": dict(annotations or {}), "labels": dict(labels or {})}
        spec = {
            "nodeName": self.name, "hostNetwork": host_network, "serviceAccountName": service_account,
            "automountServiceAccountToken": False, "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "main", "image": "pause"}],
        }  # fmt: skip
        made = await self.cluster.api.create(f"/api/v1/namespaces/{namespace}/pods", {"metadata": metadata, "spec": spec})
        pod = self.pods[namespace, name] = RunningPod(namespace, name, made["metadata"]["uid"], annotations=annotations or {})
        if host_network:
            pod.addresses = [self.address]
        else:
            await self._run_sandbox(pod, attempts, retry_seconds)
        await self._report_running(pod)
        return pod

    async def stop_pod(self, namespace: str, name: str) -> None:
        """As by kubelet: the pod is marked as going, then DEL, the network namespace, and last the Pod object."""
        pod = self.pods.pop((namespace, name))
        # Without the mark, a pod whose DEL is through looks like one that waits for an address.
        await self.cluster.api.delete(pod.path, pod.uid, grace_seconds=1)
        if pod.sandbox is not None:
            await self._stop_sandbox(pod.sandbox)
        await self.cluster.api.delete(pod.path, pod.uid)

    async def lose_pod(self, namespace: str, name: str) -> None:
        """The pod and its network namespace go without a DEL: a leak."""
        pod = self.pods.pop((namespace, name))
        if pod.sandbox is not None:
            await self._remove_netns(pod.sandbox)
        await self.cluster.api.delete(pod.path, pod.uid)

    async def restart_sandbox(self, namespace: str, name: str, *, attempts: int = 10) -> RunningPod:
        """A new sandbox for a running pod; the old one was lost without a DEL."""
        pod = self.pods[namespace, name]
        if pod.sandbox is not None:
            await self._remove_netns(pod.sandbox)
        await self._run_sandbox(pod, attempts, 0.2)
        await self._report_running(pod)
        return pod

    async def reboot(self) -> None:
        """All sandboxes and the state dir (tmpfs) go, libcni's cache stays. The agent has to be dead already."""
        for pod in self.pods.values():
            if pod.sandbox is not None:
                await self._remove_netns(pod.sandbox)
        shutil.rmtree(self.state_dir)
        self.state_dir.mkdir(mode=0o700)

    async def _run_sandbox(self, pod: RunningPod, attempts: int, retry_seconds: float) -> None:
        for left in reversed(range(attempts)):
            netns = await self.cluster.namespaces.make()
            sandbox = Sandbox(secrets.token_hex(32), str(netns), pod.namespace, pod.name, pod.uid)
            try:
                async with self.cluster.add_slots:
                    result = await self.runtime.add(sandbox, **capabilities(pod))
                break
            except CniError as error:
                # kubelet and runtimes clean up after any failure, then begin anew with another container ID.
                await self._stop_sandbox(sandbox)
                if error.code != TRY_AGAIN or left == 0:
                    raise
                await asyncio.sleep(retry_seconds)
            except BaseException:
                await asyncio.shield(self._stop_sandbox(sandbox))
                raise
        pod.sandbox, pod.addresses = sandbox, addresses_of(result)
        for address in pod.addresses:
            self.cluster.ledger.assign(address, sandbox.container, self.name)

    async def _stop_sandbox(self, sandbox: Sandbox) -> None:
        self.cluster.ledger.release(sandbox.container)
        async with self.cluster.delete_slots:
            await self.runtime.delete(sandbox)
        await self.cluster.namespaces.remove(Path(sandbox.netns))

    async def _remove_netns(self, sandbox: Sandbox) -> None:
        self.cluster.ledger.release(sandbox.container)
        await self.cluster.namespaces.remove(Path(sandbox.netns))

    async def _report_running(self, pod: RunningPod) -> None:
        ready = {"type": "Ready", "status": "True"}
        status: dict[str, Any] = {
            "phase": "Running", "conditions": [ready], "hostIP": self.address, "hostIPs": [{"ip": self.address}],
            "podIP": pod.addresses[0], "podIPs": [{"ip": address} for address in pod.addresses],
        }  # fmt: skip
        await self.cluster.api.merge(f"{pod.path}/status", {"status": status})


def capabilities(pod: RunningPod) -> dict[str, Any]:
    """What containerd gives a plugin that asks for the pod's annotations."""
    return {"runtimeConfig": {"io.kubernetes.cri.pod-annotations": dict(pod.annotations)}} if pod.annotations else {}


async def eventually(probe: Callable[[], Awaitable[T]], what: str, *, timeout_seconds: float = 30, every_seconds: float = 0.05) -> T:
    """Ask until the answer is true; gives it. Says what was waited for, and the last answer, when it never is."""
    answer: T | None = None
    try:
        async with asyncio.timeout(timeout_seconds):
            while not (answer := await probe()):  # noqa: ASYNC110 - it is asked, and never tells
                await asyncio.sleep(every_seconds)
            return answer
    except TimeoutError:
        raise AssertionError(f"not within {timeout_seconds:g} s: {what}; last answer: {answer!r}") from None
