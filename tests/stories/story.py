"""Runs a story: one YAML file with steps, on a real API server with a real operator.

The story plays the people and, where there is no machine, the agents. Steps (one key each):
  apply: manifests            delete: [hard ]kind/name      patch: {object: kind/name, spec: …}
  report: what an agent says  expect: objects, awaited      absent: objects that go, awaited
  machine: {name, labels}     a node with a real agent      knows: {node: {file: content}}, awaited: files of its state dir
  namespace: {name, annotations, labels}
  start: {pod: namespace/name, node: name, in: CIDR | fails: regex | waits: true, annotations: …}, by the real plugin
  runs: {pod: CIDR}           pods that waited, awaited     stop: [namespace/name, …]
  ready: nodes that become Ready
  settle: the operator looks again, twice, and has nothing to do
  operator: stop | start | {flags} to start with
  full: {nodes: […], pools: […], pending: n}: each reports every address of its blocks in use, and pods that wait
Objects match by subset; `some event` is any one that does. A list matches if it has the same length and each expected
item matches another item. `$uid(kind/name)` stands for an object's uid, `$epoch(node)` for the epoch its NodeCIDR has now.
"""

import asyncio
import json
import re
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.control_plane import AS_OPERATOR, ApiError, ControlPlane
from tests.cluster.kubelet import Cluster, RunningPod
from tests.cluster.plugin import build_plugin
from tests.cluster.program import Metrics, Program
from tests.cluster.runtime import CniError

WAIT_SECONDS = 60  # what a node with room holds is reported within 30 s
PATHS = {
    "ippool": "/apis/podcidr.io/v1alpha1/ippools",
    "nodecidr": "/apis/podcidr.io/v1alpha1/nodecidrs",
    "ipblock": "/apis/podcidr.io/v1alpha1/ipblocks",
    "node": "/api/v1/nodes",
    "namespace": "/api/v1/namespaces",
    "event": "/api/v1/namespaces/default/events",
}
PLACEHOLDER = re.compile(r"\$(uid|epoch)\(([^)]+)\)")


class StoryError(AssertionError):
    """What was expected and what is there."""


class Story:
    """One file, told to one control plane."""

    def __init__(self, path: Path, plane: ControlPlane) -> None:
        self.text = yaml.safe_load(path.read_text(encoding="utf-8"))
        self.plane = plane
        self.program: Program | None = None
        self.kubeconfig = plane.kubeconfig_for_service_account("podcidr-system", "podcidr-operator")
        self.directory = Path(tempfile.mkdtemp(prefix="podcidr-story-"))
        self.machines: Cluster | None = None
        self.waiting: dict[str, asyncio.Task[RunningPod]] = {}

    async def run(self) -> None:
        """All steps in order; everything stops at the end, whatever happened. No address may have been held twice."""
        async with AsyncExitStack() as self.stack:
            await self._run()
            assert self.machines is None or self.machines.ledger.check_overlaps() == []

    async def _run(self) -> None:
        try:
            if self.text.get("operator", True):
                await self.start(self.text.get("operator") or {})
            for number, step in enumerate(self.text["steps"], 1):
                ((verb, what),) = step.items()
                try:
                    await getattr(self, f"step_{verb}")(what)
                except (StoryError, ApiError) as error:
                    log = self.program.output()[-4000:] if self.program else "(the operator is stopped)"
                    raise StoryError(f"{self.text['story']}\nstep {number} ({verb}): {error}\n{log}") from error
        finally:
            for task in self.waiting.values():
                task.cancel()
            await asyncio.gather(*self.waiting.values(), return_exceptions=True)
            self.stop()
            shutil.rmtree(self.directory, ignore_errors=True)

    async def start(self, flags: dict[str, Any] | bool) -> None:
        """The operator, with flags by name."""
        options = [f"--{name}={value}" if value != "" else f"--{name}" for name, value in flags.items()] if isinstance(flags, dict) else []
        arguments = ["operator", "--lease-seconds=3", *options]
        self.program = Program("operator", arguments, kubeconfig=self.kubeconfig, directory=self.directory)
        await self.program.ready()
        await self._await(self._leads, "the operator to lead")

    async def _leads(self) -> bool:
        return (await self._metrics()).total("podcidr_leader") == 1

    def stop(self) -> None:
        """Gracefully: the next one leads at once."""
        if self.program:
            self.program.terminate()
            self.program = None

    async def step_operator(self, what: Any) -> None:
        if what == "stop":
            self.stop()
        else:
            await self.start(what if isinstance(what, dict) else {})

    async def step_apply(self, manifests: str) -> None:
        self.plane.apply(self._filled(manifests))

    async def step_create(self, objects: list[dict[str, Any]]) -> None:
        """Objects as a crash or a restore leaves them, with a status where one is given."""
        for obj in json.loads(self._filled(json.dumps(objects))):
            path = PATHS[obj["kind"].lower()]
            self.plane.request("POST", path, {"apiVersion": "podcidr.io/v1alpha1", **obj})
            if "status" in obj:
                self.plane.request("PATCH", f"{path}/{obj['metadata']['name']}/status", {"status": obj["status"]})

    async def step_ready(self, nodes: list[str]) -> None:
        """kubelet's condition."""
        for name in nodes:
            conditions = [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": ""}]
            self.plane.request("PATCH", f"{PATHS['node']}/{name}/status", {"status": {"conditions": conditions}})

    async def step_delete(self, what: str) -> None:
        """By hand: finalizers are taken off where somebody would do so, and the admission policy is passed by."""
        kind, name = what.removeprefix("hard ").split("/", 1)
        path = f"{PATHS[kind]}/{name}"
        if what.startswith("hard "):
            if kind == "nodecidr":
                spec = {"blocks": [], "epoch": self.plane.request("GET", path)["spec"]["epoch"] + 1}
                self.plane.request("PATCH", path, {"spec": spec})
            self.plane.request("PATCH", path, {"metadata": {"finalizers": None}})
        self.plane.request("DELETE", path, headers=AS_OPERATOR if kind == "nodecidr" else None)

    async def step_patch(self, what: dict[str, Any]) -> None:
        what = json.loads(self._filled(json.dumps(what)))
        kind, name = what.pop("object").split("/", 1)
        self.plane.request("PATCH", f"{PATHS[kind]}/{name}", what)

    async def step_report(self, what: dict[str, Any]) -> None:
        """What the agent of a node would write: at the present uid and epoch unless told otherwise."""
        nodecidr = self.plane.request("GET", f"{PATHS['nodecidr']}/{what['node']}")
        status = {
            "observedUID": nodecidr["metadata"]["uid"],
            "observedEpoch": what.get("epoch", nodecidr["spec"]["epoch"]),
            "reportedAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "blocks": [_usage(cidr, count) for cidr, count in what.get("blocks", {}).items()],
            "demand": [{"name": ",".join(d["pools"]), "family": "ipv4", "pending": 0, "burst": 0} | d for d in what.get("demand", [])],
        }
        self.plane.request("PATCH", f"{PATHS['nodecidr']}/{what['node']}/status", {"status": status})

    async def step_full(self, what: dict[str, Any]) -> None:
        """Nodes report one after the other, so the first may be served before the last has asked."""
        for node in what["nodes"]:
            listed = self.plane.request("GET", f"{PATHS['nodecidr']}/{node}")["spec"]["blocks"]
            used = {block["cidr"]: ip_network(block["cidr"]).num_addresses for block in listed}
            await self.step_report({"node": node, "blocks": used, "demand": [{"pools": what["pools"], "pending": what["pending"]}]})

    async def step_expect(self, objects: dict[str, Any]) -> None:
        for target, expected in objects.items():
            await self._await(partial(self._is_as, target, expected), partial(self._differs, target, expected))

    async def step_absent(self, targets: list[str]) -> None:
        for target in targets:
            await self._await(partial(self._is_absent, target), f"{target} to go")

    async def step_machine(self, what: dict[str, Any]) -> None:
        """A node whose agent and plugin are real."""
        machines = await self._machines()
        machine = await machines.add_machine(what["name"], labels=what.get("labels"), wait_seconds=what.get("wait_seconds", 9))
        await machine.start_agent()

    async def step_namespace(self, what: dict[str, Any]) -> None:
        machines = await self._machines()
        await machines.create_namespace(what["name"], what.get("annotations"), **what.get("labels", {}))

    async def _machines(self) -> Cluster:
        if self.machines is None:
            self.machines = await self.stack.enter_async_context(Cluster(self.plane, plugin=await asyncio.to_thread(build_plugin)))
        return self.machines

    async def step_knows(self, nodes: dict[str, dict[str, Any]]) -> None:
        """What a pod that starts from now on is given is in these files."""
        for node, files in nodes.items():
            for name, expected in files.items():
                await self._await(partial(self._knows, node, name, expected), partial(self._file, node, name))

    def _knows(self, node: str, name: str, expected: Any) -> bool:
        text = self._file(node, name)
        return text is not None and matches(expected, json.loads(text))

    def _file(self, node: str, name: str) -> str | None:
        assert self.machines
        path = self.machines.machines[node].state_dir / name
        return path.read_text(encoding="utf-8") if path.exists() else None

    async def step_start(self, what: dict[str, Any]) -> None:
        """A pod with a sandbox. Nothing is tried twice here: what the first ADD says counts, but where it `waits`."""
        assert self.machines
        machine, (namespace, name) = self.machines.machines[what["node"]], what["pod"].split("/")
        attempts = 20 if what.get("waits") else 1
        started = asyncio.create_task(machine.start_pod(namespace, name, annotations=what.get("annotations"), attempts=attempts))
        if what.get("waits"):
            self.waiting[what["pod"]] = started
        elif "fails" in what:
            await self._fails(what, started)
            await self.machines.api.delete(machine.pods.pop((namespace, name)).path)
        else:
            _lies_in(what["pod"], await _unless_refused(started), what["in"])

    async def _fails(self, what: dict[str, Any], started: asyncio.Task[RunningPod]) -> None:
        try:
            pod = await started
        except CniError as error:
            if not re.search(what["fails"], str(error)):
                raise StoryError(f"{what['pod']} to fail with {what['fails']}; it says {error}") from error
            return
        raise StoryError(f"{what['pod']} to fail with {what['fails']}; it has {pod.addresses}")

    async def step_runs(self, pods: dict[str, str]) -> None:
        """Pods that waited have an address in time."""
        for name, cidr in pods.items():
            try:
                async with asyncio.timeout(WAIT_SECONDS):
                    _lies_in(name, await _unless_refused(self.waiting.pop(name)), cidr)
            except TimeoutError:
                raise StoryError(f"waited {WAIT_SECONDS:.0f} s for {name} to run") from None

    async def step_stop(self, pods: list[str]) -> None:
        assert self.machines
        for pod in pods:
            namespace, name = pod.split("/")
            machine = next(m for m in self.machines.machines.values() if (namespace, name) in m.pods)
            await machine.stop_pod(namespace, name)

    def _is_as(self, target: str, expected: Any) -> bool:
        return self._differs(target, expected) is None

    def _is_absent(self, target: str) -> bool:
        return self._get(target) is None

    async def step_settle(self, _what: Any) -> None:
        """Rounds until one had nothing to do: what has not happened by now does not happen."""
        await self._look_again()
        await self._await(self._is_quiet, "the operator to have nothing to do")

    async def _is_quiet(self) -> bool:
        before = await self._metrics()
        await self._look_again()
        after = await self._metrics()
        return before.total("podcidr_actions_total") == after.total("podcidr_actions_total")

    async def _look_again(self) -> None:
        """Any write of a pool makes the operator look again."""
        rounds = (await self._metrics()).total("podcidr_planner_rounds_total", outcome="planned")
        pools = self.plane.request("GET", PATHS["ippool"])["items"]
        stamp = {"metadata": {"annotations": {"looked-at": str(time.monotonic_ns())}}}
        self.plane.request("PATCH", f"{PATHS['ippool']}/{pools[0]['metadata']['name']}", stamp)

        async def looked() -> bool:
            return (await self._metrics()).total("podcidr_planner_rounds_total", outcome="planned") > rounds

        await self._await(looked, "another round")

    async def _metrics(self) -> Metrics:
        assert self.program
        return await self.program.metrics()

    def _differs(self, target: str, expected: Any) -> str | None:
        actual = self._get(target.removeprefix("some "))
        if target.startswith("some "):
            return None if any(matches(expected, item) for item in actual) else f"{target} to match {json.dumps(expected)}"
        if matches(json.loads(self._filled(json.dumps(expected))), actual):
            return None
        if isinstance(actual, dict):
            actual.get("metadata", {}).pop("managedFields", None)
        return f"{target} to match {json.dumps(expected)}; it is {json.dumps(actual)}"

    def _get(self, target: str) -> Any:
        kind, _, name = target.partition("/")
        if not name:
            return self.plane.request("GET", PATHS[kind])["items"]
        try:
            return self.plane.request("GET", f"{PATHS[kind]}/{name}")
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def _filled(self, text: str) -> str:
        return PLACEHOLDER.sub(lambda match: self._value(match[1], match[2]), text)

    def _value(self, what: str, target: str) -> str:
        obj = self._get(target if what == "uid" else f"nodecidr/{target}")
        return str(obj["metadata"]["uid"] if what == "uid" else obj["spec"]["epoch"])

    async def _await(self, condition: Callable[[], bool] | Callable[[], Awaitable[bool]], what: str | Callable[[], str | None]) -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            held = condition()
            if held if isinstance(held, bool) else await held:
                return
            if self.program and self.program.exit_code is not None:
                raise StoryError(f"the operator has ended with {self.program.exit_code}")
            if time.monotonic() > deadline:
                raise StoryError(f"waited {WAIT_SECONDS:.0f} s for {what if isinstance(what, str) else what()}")
            await asyncio.sleep(0.03)  # polls the condition above


async def _unless_refused(started: asyncio.Task[RunningPod]) -> RunningPod:
    try:
        return await started
    except CniError as error:
        raise StoryError(str(error)) from error


def _lies_in(name: str, pod: RunningPod, cidr: str) -> None:
    if not all(ip_address(address) in ip_network(cidr) for address in pod.addresses):
        raise StoryError(f"{name} has {pod.addresses}, not of {cidr}")


def _usage(cidr: str, count: int | list[int]) -> dict[str, Any]:
    in_use, cooling = count if isinstance(count, list) else (count, 0)
    return {"cidr": cidr, "inUse": in_use, "cooling": cooling}


def matches(expected: Any, actual: Any) -> bool:
    """Subset; lists item by item in any order, of the same length."""
    if isinstance(expected, dict):
        return isinstance(actual, dict) and all(matches(value, actual.get(key)) for key, value in expected.items())
    if isinstance(expected, list):
        if not isinstance(actual, list) or len(expected) != len(actual):
            return False
        left = list(actual)
        for item in expected:
            found = next((index for index, other in enumerate(left) if matches(item, other)), None)
            if found is None:
                return False
            left.pop(found)
        return True
    if isinstance(expected, str) and expected.startswith("~"):
        return isinstance(actual, str) and re.search(expected[1:], actual) is not None
    return bool(expected == actual)
