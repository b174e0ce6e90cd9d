"""The real agent, with the real plugin, against a real API server."""

import copy
import http.client
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.control_plane import ControlPlane
from tests.cluster.program import COMPILED, ROOT

pytestmark = pytest.mark.cluster

SYSTEM = "podcidr-system"
WAIT_SECONDS = 60.0  # a report that is only drift may take 30
API = "/apis/podcidr.io/v1alpha1"
Object = dict[str, Any]


def until(attempt: Callable[[], Any]) -> Any:
    """The first true answer."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not (answer := attempt()):
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.005)
    return answer


class NodeUnderTest:
    """A node with its own pool, its agent as a process, and the plugin as a runtime would call it."""

    def __init__(self, plane: ControlPlane, plugin: Path, directory: Path, name: str, number: int) -> None:
        self.plane, self.plugin, self.directory, self.name = plane, plugin, directory, name
        self.state = directory / "state"
        self.net = f"10.{number}"
        self._process: subprocess.Popen[bytes] | None = None
        spec = {"ipv4": {"cidrs": [f"{self.net}.0.0/16"]}, "addressCooldownSeconds": 0}
        self.operator = plane.service_account_token(SYSTEM, "podcidr-operator")
        plane.request("POST", "/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
        spec_of_agent = {"serviceAccountName": "podcidr-agent", "hostNetwork": True}
        make_pod(plane, name, "agent", namespace=SYSTEM, **spec_of_agent)
        self.kubeconfig = plane.kubeconfig_for_service_account(SYSTEM, "podcidr-agent", "agent")
        self.pool = self.create("ippools", {"kind": "IPPool", "metadata": {"name": name}, "spec": spec})
        self.nodecidr = self.create("nodecidrs", {"kind": "NodeCIDR", "metadata": {"name": name}, "spec": {"epoch": 1, "pools": [name]}})

    def create(self, plural: str, body: Object) -> Object:
        token = self.operator if plural == "nodecidrs" else None
        return self.plane.request("POST", f"{API}/{plural}", {"apiVersion": "podcidr.io/v1alpha1", **body}, token=token)

    def start(self, *extra: str) -> None:
        self.launch(*extra)
        ready = self.directory / "ready"
        until(lambda: ready.exists() or self._process is None or self._process.poll() is not None)
        assert ready.exists(), self.log()
        self.listen = ready.read_text().strip()

    def launch(self, *extra: str) -> None:
        ready = self.directory / "ready"
        arguments = [
            "--node-name", self.name, "--state-dir", self.state, "--listen", "127.0.0.1:0", "--ready-file", ready,
            "--kubeconfig", self.kubeconfig, "--cni-cache-dir", self.directory / "cache", *extra,
        ]  # fmt: skip
        command = [sys.executable, "-m", "podcidr", "agent", *(str(word) for word in arguments)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "operator"), **COMPILED}
        with (self.directory / "agent.log").open("ab") as log:
            self._process = subprocess.Popen(command, env=environment, stderr=log)

    def stop(self) -> int:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(10)
        self._process = None
        return code

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def log(self) -> str:
        return (self.directory / "agent.log").read_text()

    def peak_kib(self) -> int:
        assert self._process is not None
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0])

    def lists(self, plural: str) -> float:
        """How many pages of it the agent has asked for."""
        with closing(http.client.HTTPConnection(self.listen)) as connection:
            connection.request("GET", "/metrics")
            text = connection.getresponse().read().decode()
        return sum(
            float(line.rpartition(" ")[2])
            for line in text.splitlines()
            if line.startswith("podcidr_api_requests_total{") and f'resource="{plural}"' in line and 'verb="list"' in line
        )

    def block(self, third: int, state: str = "Active") -> Object:
        uid = self.pool["metadata"]["uid"]
        return {"cidr": f"{self.net}.{third}.0/28", "pool": self.name, "poolUID": uid, "poolGeneration": 1, "state": state}

    def spec(self, epoch: int, *blocks: Object) -> None:
        body = {"spec": {"epoch": epoch, "blocks": list(blocks)}}
        self.plane.request("PATCH", f"{API}/nodecidrs/{self.name}", body, token=self.operator)

    def seen_version(self) -> int:
        """How far etcd has come."""
        return int(self.plane.request("GET", "/api/v1/namespaces?limit=1")["metadata"]["resourceVersion"])

    def status(self) -> Object:
        status: Object = self.plane.request("GET", f"{API}/nodecidrs/{self.name}").get("status", {})
        return status

    def reported(self, **expected: Any) -> Object:
        def look() -> Object | None:
            status = self.status()
            return status if all(status.get(key) == value for key, value in expected.items()) else None

        status: Object = until(look)
        return status

    def cni(
        self,
        command: str,
        container: str,
        *,
        namespace: str = "default",
        uid: str = "",
        wait: float = 0.0,
        previous: Sequence[str] = (),
        interface: str = "eth0",
    ) -> tuple[int, Object]:
        netns = self.directory / "netns" / container
        netns.parent.mkdir(exist_ok=True)
        netns.touch()
        args = f"IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={container};K8S_POD_UID={uid or container}"
        environment = {
            "CNI_COMMAND": command, "CNI_CONTAINERID": container, "CNI_IFNAME": interface, "CNI_NETNS": str(netns),
            "CNI_PATH": "/nowhere", "CNI_ARGS": args,
        }  # fmt: skip
        ipam = {"type": "podcidr-ipam", "stateDir": str(self.state), "waitSeconds": wait}
        result = {"prevResult": {"cniVersion": "1.1.0", "ips": [{"address": address} for address in previous]}} if previous else {}
        config = json.dumps({"cniVersion": "1.1.0", "name": "net", "type": "ptp", "ipam": ipam, **result})
        done = subprocess.run([self.plugin], input=config.encode(), env=environment, capture_output=True, check=False)
        return done.returncode, json.loads(done.stdout or b"{}")


@pytest.fixture
def node(clean_control_plane: ControlPlane, plugin_binary: Path, tmp_path: Path) -> Iterator[NodeUnderTest]:
    node = NodeUnderTest(clean_control_plane, plugin_binary, tmp_path, "n1", 100)
    yield node
    node.kill()


def make_pod(plane: ControlPlane, node: str, name: str, *, namespace: str = "default", **extra: Any) -> str:
    spec = {"nodeName": node, "containers": [{"name": "c", "image": "i"}], **extra}
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
    uid: str = plane.request("POST", f"/api/v1/namespaces/{namespace}/pods", body)["metadata"]["uid"]
    return uid


def test_blocks_reach_pods_and_reports_the_operator(node: NodeUnderTest) -> None:
    node.start()
    node.reported(observedEpoch=1, capacity=0)
    node.spec(2, node.block(3))
    status = node.reported(observedEpoch=2)
    assert status["observedUID"] == node.nodecidr["metadata"]["uid"]
    assert status["capacity"] == 16
    uid = make_pod(node.plane, node.name, "web")
    code, result = node.cni("ADD", "web", uid=uid)
    assert code == 0, result
    assert result["ips"] == [{"address": f"{node.net}.3.0/16", "gateway": f"{node.net}.0.1"}]
    for number in range(8):
        make_pod(node.plane, node.name, f"bound-{number}")
    status = node.reported(pending=8, inUse=1)  # 16 addresses, 9 of them spoken for: less than 8 are left
    assert status["blocks"] == [{"cidr": f"{node.net}.3.0/28", "inUse": 1, "cooling": 0}]


def test_what_others_leave_in_the_state_dir_ends_no_agent(node: NodeUnderTest) -> None:
    """Neither at work nor at its start; what it can't read is in use, and the NodeCIDR says so."""
    node.spec(2, node.block(3))
    node.start("--resync-seconds=2")
    node.reported(observedEpoch=2)
    for container, interface in (("torn", "eth0"), ("dots", "eth0.new")):
        code, result = node.cni("ADD", container, interface=interface)
        assert code == 0, result
    for attempt in range(2):
        (node.state / "attachments" / "net:torn:eth0").write_text("[" * 100_000)
        for place in ("attachments/foo:bar:eth0", "pending/foo:bar:eth0", f"addresses/{node.net}.3.9"):
            (node.state / place).unlink(missing_ok=True)
            os.mkfifo(node.state / place)
        (node.state / "allocation.json").unlink()
        (node.state / "allocation.json").mkdir()
        if attempt:
            assert node.stop() == 0
            node.start("--resync-seconds=2")
        until((node.state / "allocation.json").is_file)
        status = node.reported(inUse=3)
        until(lambda: " and 3 more" in next(one["message"] for one in node.status()["conditions"] if one["type"] == "Ready"))
    assert status["blocks"] == [{"cidr": f"{node.net}.3.0/28", "inUse": 3, "cooling": 0}]
    assert "Traceback" not in node.log()
    assert node.peak_kib() < 45 * 1024
    assert node.cni("DEL", "torn")[0] == 0
    assert node.cni("DEL", "dots", interface="eth0.new")[0] == 0
    node.reported(inUse=1)


def test_pods_that_a_restored_etcd_does_not_know_are_no_demand(node: NodeUnderTest) -> None:
    """The agent's watch goes on above their versions: it never tells that they are gone."""
    node.spec(2, node.block(3))
    node.start("--resync-seconds=2")
    make_pod(node.plane, node.name, "known")
    node.reported(observedEpoch=2, pending=1)
    backup = node.plane.back_up_etcd()
    for number in range(16):  # more than there is room for: told at once
        make_pod(node.plane, node.name, f"lost-{number}")
    node.reported(pending=17)
    before = node.seen_version()
    node.plane.restore_etcd(backup)
    while node.seen_version() <= before:
        node.plane.request("PATCH", "/api/v1/namespaces/default", {"metadata": {"annotations": {"at": str(time.monotonic())}}})
    assert node.reported(pending=1)["observedEpoch"] == 2
    make_pod(node.plane, node.name, "after")
    node.reported(pending=2)


def test_drain_is_acknowledged_at_the_new_epoch(node: NodeUnderTest) -> None:
    node.start()
    node.spec(2, node.block(3))
    node.reported(observedEpoch=2)
    assert node.cni("ADD", "web")[0] == 0
    node.spec(3, node.block(3, "Draining"))
    status = node.reported(observedEpoch=3)
    assert status["blocks"] == [{"cidr": f"{node.net}.3.0/28", "inUse": 1, "cooling": 0}]
    assert node.cni("ADD", "late")[0] != 0, "a Draining block gives no address any more"
    started = time.monotonic()
    assert node.cni("DEL", "web")[0] == 0
    status = node.reported(blocks=[{"cidr": f"{node.net}.3.0/28", "inUse": 0, "cooling": 0}])
    assert time.monotonic() - started < 2, "an empty Draining block is reported at once"


def test_a_waiting_add_is_reported_and_served(node: NodeUnderTest) -> None:
    node.start()
    node.reported(observedEpoch=1)
    arguments = ("ADD", "web")
    with ThreadPoolExecutor(1) as pool:
        adding = pool.submit(node.cni, *arguments, wait=9.0)
        until(lambda: list((node.state / "pending").iterdir()))
        marked = time.monotonic()
        status = node.reported(pending=1)
        assert time.monotonic() - marked < 1
        assert {condition["type"]: condition["status"] for condition in status["conditions"]}["WaitingForAddresses"] == "True"
        assert status["demand"] == [{"name": node.name, "pools": [node.name], "family": "ipv4", "pending": 1, "burst": 0}]
        node.spec(2, node.block(3))
        code, result = adding.result()
    assert code == 0, result
    node.reported(pending=0, inUse=1)


def test_pins_are_held(node: NodeUnderTest) -> None:
    node.start()
    node.spec(2, node.block(3))
    node.reported(observedEpoch=2)
    namespace = f"pinned-{node.name}"[:60]
    metadata = {"name": namespace, "annotations": {"podcidr.io/pools": "gold"}}
    node.plane.request("POST", "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    until((node.state / "namespaces" / namespace).exists)
    code, error = node.cni("ADD", "web", namespace=namespace)
    assert code != 0
    assert error["code"] == 7
    assert f'namespace {namespace} pins pool "gold", which does not exist' in json.dumps(error).replace('\\"', '"')


def test_a_restart_keeps_everything(node: NodeUnderTest) -> None:
    node.start()
    node.spec(2, node.block(3))
    node.reported(observedEpoch=2)
    assert node.cni("ADD", "web")[0] == 0
    before = (node.state / "allocation.json").read_text()
    assert node.stop() == 0
    assert node.cni("ADD", "while-away")[0] == 0, "the plugin needs no agent"
    node.start()
    assert (node.state / "allocation.json").read_text() == before
    node.reported(inUse=2)


def test_a_restart_forgets_no_burst(node: NodeUnderTest) -> None:
    node.start()
    node.spec(2, node.block(3))
    node.reported(observedEpoch=2)
    for number in range(16):
        make_pod(node.plane, node.name, f"web-{number}")
    before = node.reported(pending=16)["demand"][0]["burst"]
    assert before > 0
    node.stop()
    node.start()
    until(lambda: node.status()["demand"][0]["burst"] == before)
    node.kill()
    (node.state / "bursts.json").write_text("torn")
    with ThreadPoolExecutor(16) as pool:
        assert {code for code, _ in pool.map(lambda number: node.cni("ADD", f"web-{number}"), range(16))} == {0}
    node.start()
    until(lambda: node.status()["demand"][0]["burst"] == 16)


def test_a_corrupt_file_is_replaced(node: NodeUnderTest) -> None:
    node.start()
    node.spec(2, node.block(3))
    node.reported(observedEpoch=2)
    node.stop()
    (node.state / "allocation.json").write_text("{")
    node.start()
    until(lambda: '"epoch":2' in (node.state / "allocation.json").read_text())
    assert "allocation.json is corrupt; it will be replaced" in node.log()


def truncate(path: Path) -> None:
    os.truncate(path, 20)


DAMAGES: list[tuple[Callable[[Path], None], str]] = [
    (os.unlink, "allocation.json"),
    (truncate, "allocation.json"),
    (os.unlink, "namespaces/default"),
    (truncate, "namespaces/default"),
    (shutil.rmtree, "namespaces"),
    (os.unlink, "ready"),
    (truncate, "ready"),
    (shutil.rmtree, "addresses"),
    (shutil.rmtree, "attachments"),
    (shutil.rmtree, "pending"),
    (os.unlink, "lock"),
]


def test_what_is_taken_away_under_a_running_agent_comes_back(node: NodeUnderTest) -> None:
    node.start("--reclaim-grace-seconds", "0")
    node.spec(2, node.block(3))
    node.reported(observedEpoch=2)

    def added(container: str) -> str | None:
        code, result = node.cni("ADD", container)
        return str(result["ips"][0]["address"]) if code == 0 else None

    given = [until(lambda: added("first"))]
    for damage, name in DAMAGES:
        damage(path := node.state / name)
        whole = until_mended(path)
        assert whole, f"{damage.__name__} {name}: {node.log()}"
        container = f"after-{len(given)}"
        given.append(until(lambda container=container: added(container)))  # type: ignore[misc]
        assert len({*given}) == len(given), f"an address of a running pod was given again after {damage.__name__} {name}"
    node.reported(inUse=len(given))
    assert len(list((node.state / "addresses").iterdir())) == len(list((node.state / "attachments").iterdir())) == len(given)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(node.cni, "ADD", "waits", namespace="unheard-of", wait=5.0)
        node.reported(pending=1)  # of a mark in a directory that was made again
        assert waiting.result()[1]["code"] == 11
    assert "Traceback" not in node.log()


def until_mended(path: Path) -> bool:
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        if path.name == "lock" or path.is_dir() or (path.exists() and path.stat().st_size > 20):
            return True
        time.sleep(0.01)
    return False


def test_addresses_lost_while_no_agent_runs_stay_held(node: NodeUnderTest) -> None:
    node.start()
    node.spec(2, node.block(3))
    node.reported(observedEpoch=2)
    given = [node.cni("ADD", f"web-{number}")[1]["ips"][0]["address"] for number in range(3)]
    assert node.stop() == 0
    (node.state / "index").unlink()
    shutil.rmtree(node.state / "addresses")
    assert node.cni("ADD", "early")[1]["code"] == 11
    node.start()
    code, result = node.cni("ADD", "new")
    assert code == 0, result
    assert result["ips"][0]["address"] not in given
    node.reported(inUse=4)


def test_a_lost_state_dir_is_rebuilt_from_what_runs(node: NodeUnderTest) -> None:
    uid = make_pod(node.plane, node.name, "survivor")
    ip = f"{node.net}.3.5"
    running = {"status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]}}
    node.plane.request("PATCH", "/api/v1/namespaces/default/pods/survivor/status", running)
    node.spec(2, node.block(3))
    node.start()
    status = node.reported(observedEpoch=2, inUse=1, pending=0)
    assert status["blocks"] == [{"cidr": f"{node.net}.3.0/28", "inUse": 1, "cooling": 0}]
    assert (node.state / "addresses" / ip).exists()
    assert json.loads((node.state / "addresses" / ip).read_text())["pod"]["uid"] == uid


def test_leaks_are_taken_back(node: NodeUnderTest) -> None:
    node.start("--reclaim-grace-seconds", "0.5")
    node.spec(2, node.block(3))
    node.reported(observedEpoch=2)
    uid = make_pod(node.plane, node.name, "stays")
    for container, pod_uid in (("stays", uid), ("leaks", "gone")):
        assert node.cni("ADD", container, uid=pod_uid)[0] == 0
    (node.directory / "netns" / "stays").unlink()
    (node.directory / "netns" / "leaks").unlink()
    until(lambda: [path.name for path in (node.state / "attachments").iterdir()] == ["net:stays:eth0"])
    assert [path.name for path in (node.state / "addresses").iterdir()] == [f"{node.net}.3.0"]
    until(lambda: "leaked attachment taken back" in node.log())


def first_version(node: NodeUnderTest) -> None:
    """The files as version 0.1.0 left them, byte by byte: pod `old` holds .1, .2 cools down for an hour."""
    for name in ("attachments", "addresses", "pending", "namespaces"):
        (node.state / name).mkdir(parents=True)
    uid, cidr = node.nodecidr["metadata"]["uid"], f"{node.net}.3.0/28"
    entry = f'{{"gateway":"{node.net}.0.1","prefixLength":16,"blocks":["{cidr}"],"reserved":["{node.net}.0.0"]}}'
    pool = f'{{"cooldownSeconds":0,"ipv4":[{entry}]}}'
    files = {
        "allocation.json": f'{{"version":1,"stateID":"first","node":"{node.name}","uid":"{uid}","epoch":2,"pools":{{"{node.name}":{pool}}},'
        f'"automatic":["{node.name}"]}}',
        "namespaces/default": '{"stateID":"first"}',
        "ready": '{"version":1,"stateID":"first"}',
        "attachments/net:old:eth0": '{"version":1,"stateID":"first","network":"net","container":"old","interface":"eth0",'
        f'"netns":"{node.directory}/netns/old","pod":{{"namespace":"default","name":"old","uid":"old"}},"ips":[{{"address":"{node.net}.3.1",'
        f'"pool":"{node.name}","block":"{cidr}","cooldownSeconds":0}}],"assignedAt":0.5,"result":{{"cniVersion":"1.1.0",'
        f'"ips":[{{"address":"{node.net}.3.1/16","gateway":"{node.net}.0.1"}}],"routes":[],"dns":{{}}}}}}',
    }
    for name, content in files.items():
        (node.state / name).write_text(content)
    (node.state / "addresses" / f"{node.net}.3.1").hardlink_to(node.state / "attachments" / "net:old:eth0")
    entries = [0, 0xFFFFFFFF, int(time.clock_gettime(time.CLOCK_BOOTTIME)) + 3600, *([0] * 13)]
    row = struct.pack("<16sBB2xIQ", bytes([10, 100, 3, 0]), 4, 28, 16, 192).ljust(64, b"\0")
    header = struct.pack("<8sIIQQQ24x64s", b"podcidrX", 1, 1, 256, 1, 1, b"first")
    (node.state / "index").write_bytes(header + row + struct.pack("<16I", *entries))


def test_files_of_the_first_version_are_taken_over(node: NodeUnderTest) -> None:
    """Whatever format comes later, a node is upgraded under its pods."""
    first_version(node)
    node.spec(2, {**node.block(3)})
    assert node.cni("CHECK", "old", previous=[f"{node.net}.3.1/16"])[0] == 0
    node.start()
    status = node.reported(observedEpoch=2, inUse=1)
    assert status["blocks"] == [{"cidr": f"{node.net}.3.0/28", "inUse": 1, "cooling": 1}]
    assert json.loads((node.state / "ready").read_text())["stateID"] == "first", "nothing was lost, nothing begun anew"
    code, result = node.cni("ADD", "new")
    assert (code, result["ips"][0]["address"]) == (0, f"{node.net}.3.0/16"), "the pool's CIDR begins elsewhere, so .0 is an address"
    code, result = node.cni("ADD", "newer")
    assert (code, result["ips"][0]["address"]) == (0, f"{node.net}.3.3/16"), ".1 is held, .2 cools down"
    assert node.cni("DEL", "old")[0] == 0
    assert not (node.state / "addresses" / f"{node.net}.3.1").exists()


def test_files_of_a_later_version_hold_what_they_hold(node: NodeUnderTest) -> None:
    """After a downgrade nothing in them is believed, and no address given twice."""
    first_version(node)
    for path in [node.state / "ready", *(node.state / "attachments").iterdir()]:
        path.write_text(path.read_text().replace('"version":1', '"version":9'))
    node.spec(2, node.block(3))
    node.start()
    node.reported(observedEpoch=2, inUse=1)
    assert json.loads((node.state / "ready").read_text())["stateID"] != "first"
    addresses = [node.cni("ADD", f"pod-{number}")[1]["ips"][0]["address"] for number in range(3)]
    assert f"{node.net}.3.1/16" not in addresses
    assert node.cni("DEL", "old")[0] == 0
    assert not (node.state / "addresses" / f"{node.net}.3.1").exists()


def test_a_nodecidr_made_again_is_taken(node: NodeUnderTest) -> None:
    node.start()
    node.spec(9, node.block(3))
    node.reported(observedEpoch=9)
    assert node.cni("ADD", "web")[0] == 0
    node.spec(10)
    node.plane.request("DELETE", f"{API}/nodecidrs/{node.name}", token=node.operator)
    body = {"kind": "NodeCIDR", "metadata": {"name": node.name}, "spec": {"epoch": 1, "pools": [node.name]}}
    again = node.create("nodecidrs", body)
    status = node.reported(observedUID=again["metadata"]["uid"], observedEpoch=1)
    assert status["blocks"] == [{"cidr": f"{node.net}.3.0/28", "inUse": 1, "cooling": 0}], "what is in use is told"
    assert json.loads((node.state / "allocation.json").read_text())["epoch"] == 1


def test_endpoints_and_a_second_agent(node: NodeUnderTest) -> None:
    node.start()
    host, _, port = node.listen.rpartition(":")
    for path in ("/healthz", "/readyz", "/metrics"):
        connection = http.client.HTTPConnection(host, int(port), timeout=5)
        connection.request("GET", path)
        assert connection.getresponse().status == 200, path
        connection.close()
    (node.directory / "second").mkdir()
    second = copy.copy(node)
    second.directory = node.directory / "second"
    second.launch()
    until(lambda: "another agent holds the state dir" in second.log())
    assert not (second.directory / "ready").exists()
    node.stop()
    until((second.directory / "ready").exists)
    second.kill()


def test_a_second_agent_with_another_state_dir_reports_nothing(node: NodeUnderTest) -> None:
    """It would call every block empty."""
    node.start()
    node.spec(2, node.block(3))
    node.reported(observedEpoch=2)
    assert node.cni("ADD", "web")[0] == 0
    node.reported(inUse=1)
    second = copy.copy(node)
    second.directory = node.directory / "second"
    second.directory.mkdir()
    second.state = second.directory / "state"
    second.launch()
    until(lambda: "another agent of node n1 runs on this machine with another --state-dir" in second.log())
    node.spec(3, node.block(3))
    assert node.reported(observedEpoch=3)["inUse"] == 1
    assert not (second.state / "ready").exists()
    assert not (second.state / "allocation.json").exists()
    node.stop()
    until((second.directory / "ready").exists)
    second.kill()


def test_a_state_dir_that_cannot_be_made_ends_the_agent(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    command = [sys.executable, "-m", "podcidr", "agent", "--node-name", "n", "--state-dir", str(tmp_path / "file" / "x")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "operator")}
    done = subprocess.run([*command, "--listen", "127.0.0.1:0"], env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert "name a directory that this user can create and write" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("program", [("agent", "--node-name", "n"), ("operator",)])
def test_a_ready_file_that_cannot_be_written_is_told_at_the_start(program: tuple[str, ...], tmp_path: Path) -> None:
    for path in (tmp_path / "none" / "x", tmp_path):
        command = [sys.executable, "-m", "podcidr", *program, "--listen", "127.0.0.1:0", "--ready-file", str(path)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "operator")}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 2
        assert f"--ready-file {path}: " in done.stderr
        assert "Traceback" not in done.stderr


def test_memory_stays_small(node: NodeUnderTest) -> None:
    """250 pods as large as real ones, 1,000 namespaces, 20 pools: at most 45 MiB at the peak, when all is compared too."""
    for number in range(1000):
        metadata = {"name": f"ns-{number}", "labels": {"team": f"team-{number % 50}"}}
        node.plane.request("POST", "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    for number in range(20):
        spec: Object = {"ipv4": {"cidrs": [f"10.210.{number}.0/24"]}}
        node.create("ippools", {"kind": "IPPool", "metadata": {"name": f"pool-{number}"}, "spec": spec})
    container = {
        "image": "registry.example/team/service:1.2.3",
        "env": [{"name": f"SETTING_{index}", "value": "x" * 60} for index in range(30)],
        "volumeMounts": [{"name": f"v{index}", "mountPath": f"/v{index}"} for index in range(8)],
    }
    volumes = [{"name": f"v{index}", "configMap": {"name": f"c{index}"}} for index in range(8)]
    for number in range(250):
        spec = {"nodeName": node.name, "containers": [{"name": f"c{index}", **container} for index in range(2)], "volumes": volumes}
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"large-{number}"}, "spec": spec}
        node.plane.request("POST", "/api/v1/namespaces/default/pods", body)
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "operator"), **COMPILED}
    subprocess.run([sys.executable, "-m", "podcidr", "agent", "--help"], env=environment, stdout=subprocess.DEVNULL, check=True)
    node.start("--resync-seconds=1")
    node.reported(pending=250)
    assert len(list((node.state / "namespaces").iterdir())) >= 1000
    asked = node.lists("namespaces")
    until(lambda: node.lists("namespaces") >= asked + 10)  # pages of 100
    assert node.peak_kib() <= 45 * 1024, f"peak {node.peak_kib()} KiB"
