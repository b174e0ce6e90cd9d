"""One table of cases for the Go binary and its twin in Python: what the simulation runs on is what is shipped."""

import json
import os
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import pytest
import yaml

from podcidr.agent import index
from tests.simulation.plugin_twin import Call, CniError, Plugin, Steps

Object = dict[str, Any]
NETWORK = "podnet"
CASES = yaml.safe_load(Path(__file__).with_name("plugin_cases.yaml").read_text())


class Subject(Protocol):
    """Either of the two; every verb gives the error's code, or 0."""

    def add(self, call: Call, wait_seconds: float) -> tuple[int, list[str]]: ...
    def delete(self, call: Call) -> int: ...
    def collect(self, valid: Iterable[str]) -> int: ...
    def status(self) -> int: ...
    def now(self) -> float: ...


class Twin:
    """The rules in Python; waiting costs no time."""

    def __init__(self, root: Path) -> None:
        self._at = time.clock_gettime(time.CLOCK_BOOTTIME)
        self._plugin = Plugin(root, self.now)

    def now(self) -> float:
        return self._at

    def add(self, call: Call, wait_seconds: float) -> tuple[int, list[str]]:
        adding, deadline = self._plugin.adding(call), self._at + wait_seconds
        try:
            while (result := self._drive(adding.attempt(last=self._at >= deadline))) is None and self._at < deadline:
                self._at += 0.05
        except CniError as error:
            return error.code, []
        finally:
            adding.end()
        return (11, []) if result is None else (0, [ip["address"] for ip in result["ips"]])

    def delete(self, call: Call) -> int:
        self._drive(self._plugin.delete(call))
        return 0

    def collect(self, valid: Iterable[str]) -> int:
        keys = {f"{NETWORK}:{container}:eth0" for container in valid}
        for _, steps in list(self._plugin.collect(NETWORK, keys, self._at)):
            self._drive(steps())
        return 0

    def status(self) -> int:
        try:
            self._plugin.status()
        except CniError as error:
            return error.code
        return 0

    def _drive(self, steps: Steps) -> Object | None:
        """Under the lock, to the end."""
        fd = self._plugin.lock()
        assert fd is not None
        try:
            while True:
                next(steps)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]
        finally:
            os.close(fd)


class Binary:
    """The plugin as it is shipped, run as a runtime does."""

    def __init__(self, binary: Path, root: Path) -> None:
        self._binary, self._root = binary, root

    def now(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def add(self, call: Call, wait_seconds: float) -> tuple[int, list[str]]:
        runtime: Object = {}
        if call.pod_pools is not None:
            runtime = {"runtimeConfig": {"io.kubernetes.cri.pod-annotations": {"podcidr.io/pools": ",".join(call.pod_pools)}}}
        code, printed = self._run("ADD", call, runtime, wait_seconds)
        return code, [ip["address"] for ip in printed.get("ips", ())]

    def delete(self, call: Call) -> int:
        return self._run("DEL", call)[0]

    def collect(self, valid: Iterable[str]) -> int:
        return self._run("GC", None, {"cni.dev/valid-attachments": [{"containerID": one, "ifname": "eth0"} for one in valid]})[0]

    def status(self) -> int:
        return self._run("STATUS", None)[0]

    def _run(self, verb: str, call: Call | None, more: Object | None = None, wait_seconds: float = 0.0) -> tuple[int, Object]:
        ipam = {"type": "podcidr-ipam", "stateDir": str(self._root), "waitSeconds": wait_seconds}
        conf = {"cniVersion": "1.1.0", "name": NETWORK, "type": "ptp", "ipam": ipam, **(more or {})}
        environment = {"CNI_COMMAND": verb, "CNI_PATH": "/opt/cni/bin"}
        if call is not None:
            arguments = {"IgnoreUnknown": "1", "K8S_POD_NAME": call.pod, "K8S_POD_UID": call.uid}
            if call.namespace:
                arguments["K8S_POD_NAMESPACE"] = call.namespace
            text = ";".join(f"{key}={value}" for key, value in arguments.items())
            environment |= {"CNI_CONTAINERID": call.container, "CNI_IFNAME": call.interface, "CNI_NETNS": call.netns, "CNI_ARGS": text}
        done = subprocess.run(
            [self._binary], env=environment, input=json.dumps(conf), capture_output=True, text=True, timeout=60, check=False
        )
        printed = json.loads(done.stdout) if done.stdout else {}
        if done.returncode:
            assert printed["code"], printed
        return printed.get("code", 0) if done.returncode else 0, printed


class Node:
    """A state directory as an agent prepares it."""

    def __init__(self, root: Path, case: Object) -> None:
        self.root, self.state_id = root, "s1"
        for name in ("", "namespaces", "attachments", "addresses", "pending"):
            (root / name).mkdir()
        self.automatic = case.get("automatic")
        self.offer(case["pools"])
        for name, content in {"team": {}, **case.get("namespaces", {})}.items():
            self.write(f"namespaces/{name}", {"stateID": "s1", **content})
        self.write("ready", {"version": 1, "stateID": "s1"})

    def offer(self, pools: Object) -> None:
        self.pools = pools
        automatic = self.automatic or list(pools)
        self.write(
            "allocation.json", {"version": 1, "stateID": "s1", "node": "n1", "uid": "u", "epoch": 1, "pools": pools, "automatic": automatic}
        )

    def write(self, name: str, content: Object) -> None:
        """By rename, as the agent does."""
        (self.root / ".tmp").write_text(json.dumps(content))
        (self.root / ".tmp").rename(self.root / name)

    def holders(self) -> dict[str, list[str]]:
        """Who holds which address, by the links alone."""
        records = {path.stat().st_ino: json.loads(path.read_text())["container"] for path in (self.root / "attachments").iterdir()}
        found: dict[str, list[str]] = {}
        for path in sorted((self.root / "addresses").iterdir(), key=lambda path: (":" in path.name, path.name)):
            found.setdefault(records[path.stat().st_ino], []).append(path.name)
        return found

    def cooling(self, now: float) -> list[str]:
        """What rests, as the agent reads it; a held address's entry is no rest."""
        from podcidr.core.prefix import address_text

        held = {path.name for path in (self.root / "addresses").iterdir()}
        return sorted({address_text(*address) for address in index.cooling(self.root / "index", self.state_id, now)} - held)


def play(case: Object, node: Node, subject: Subject) -> None:
    """Run the steps."""
    for number, step in enumerate(case["steps"]):
        where = f"step {number}: {step}"
        match step:
            case {"add": container}:
                pins = tuple(step["pod_pools"]) if "pod_pools" in step else None
                call = _call(container, step.get("namespace", "team"), pins, step.get("interface", "eth0"))
                assert subject.add(call, step.get("within", 0)) == (step.get("fails", 0), step.get("gives", [])), where
            case {"del": container}:
                assert subject.delete(_call(container, "team", None)) == 0, where
            case {"gc": valid}:
                assert subject.collect(valid) == 0, where
            case {"status": _}:
                assert subject.status() == step.get("fails", 0), where
            case {"pools": pools}:
                node.offer(pools)
            case {"remove": name}:
                (node.root / name).unlink()
            case {"damage": name}:
                os.truncate(node.root / name, 0)
            case {"state_id": state_id}:
                node.write("ready", {"version": 1, "stateID": state_id})
            case {"holds": holders}:
                assert node.holders() == holders, where
            case {"cools": addresses}:
                assert node.cooling(subject.now()) == addresses, where
            case _:
                raise AssertionError(f"not understood: {where}")


def _call(container: str, namespace: str, pod_pools: tuple[str, ...] | None, interface: str = "eth0") -> Call:
    return Call(container, NETWORK, interface, "/nonexistent/netns", namespace, f"pod-{container}", f"uid-{container}", pod_pools)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_the_twin(case: Object, tmp_path: Path) -> None:
    root = tmp_path / "podcidr"
    play(case, Node(root, case), Twin(root))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_the_binary(case: Object, tmp_path: Path, plugin_binary: Path) -> None:
    root = tmp_path / "podcidr"
    play(case, Node(root, case), Binary(plugin_binary, root))
