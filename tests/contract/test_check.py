"""The CLI on a real API server: a clean cluster is called clean, and of each invariant one planted violation is named."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from podcidr.api import names
from podcidr.cli.main import main
from podcidr.core.prefix import block_name, parse_prefix
from tests.cluster.control_plane import ControlPlane, free_ports
from tests.cluster.kubelet import Cluster
from tests.cluster.reset import reset

pytestmark = pytest.mark.cluster

APIS = f"/apis/{names.API_VERSION}"
Object = dict[str, Any]


@dataclass
class Planted:
    """Objects as operator, agents and kubelets would have written them, by hand."""

    plane: ControlPlane
    directory: Path

    def create(self, kind: str, plural: str, name: str, spec: Object, status: Object | None = None) -> Object:
        body = {"apiVersion": names.API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}
        made = self.plane.request("POST", f"{APIS}/{plural}", body)
        return self.plane.request("PATCH", f"{APIS}/{plural}/{name}/status", {"status": status}) if status else made

    def pool(self, name: str, cidr: str, *, length: int = 28) -> None:
        accepted = {"type": "Accepted", "status": "True", "reason": "Accepted", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}
        status = {"acceptedCIDRs": [cidr], "conditions": [accepted], "observedGeneration": 1}
        self.create("IPPool", "ippools", name, {"ipv4": {"cidrs": [cidr], "blockPrefixLength": length}}, status)

    def node(self, name: str, *blocks: str, pool: str = "default", ledger: bool = True) -> None:
        """A Ready node whose agent has reported these blocks as used by one address each."""
        self.plane.request("POST", "/api/v1/nodes", {"metadata": {"name": name}})
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady"}
        self.plane.request("PATCH", f"/api/v1/nodes/{name}/status", {"status": {"conditions": [ready]}})
        uid = self.plane.request("GET", f"{APIS}/ippools/{pool}")["metadata"]["uid"]
        listed = [{"cidr": cidr, "pool": pool, "poolUID": uid, "poolGeneration": 1, "state": "Active"} for cidr in blocks]
        made = self.create("NodeCIDR", "nodecidrs", name, {"epoch": 1, "pools": [pool]})
        self.plane.request("PATCH", f"{APIS}/nodecidrs/{name}", {"spec": {"epoch": 2, "blocks": listed}})
        report = {
            "observedUID": made["metadata"]["uid"], "observedEpoch": 2, "reportedAt": "2026-01-01T00:00:00Z",
            "blocks": [{"cidr": cidr, "inUse": 1, "cooling": 0} for cidr in blocks], "inUse": len(blocks), "pending": 0,
        }  # fmt: skip
        self.plane.request("PATCH", f"{APIS}/nodecidrs/{name}/status", {"status": report})
        for cidr in blocks if ledger else ():
            self.block(cidr, name, pool)

    def block(self, cidr: str, node: str, pool: str = "default", *, state: str | None = None) -> None:
        uid = self.plane.request("GET", f"{APIS}/ippools/{pool}")["metadata"]["uid"]
        nodecidr = self.plane.request("GET", f"{APIS}/nodecidrs/{node}")["metadata"]["uid"]
        spec = {"cidr": cidr, "pool": pool, "poolUID": uid, "node": node, "nodeCIDRUID": nodecidr}
        status = {"state": state, "releasedAt": "2026-01-01T00:00:00Z"} if state else None
        self.create("IPBlock", "ipblocks", block_name(parse_prefix(cidr)), spec, status)

    def pod(self, name: str, node: str, address: str, *, phase: str = "Running") -> None:
        spec = {"nodeName": node, "containers": [{"name": "main", "image": "none"}]}
        self.plane.request("POST", "/api/v1/namespaces/default/pods", {"metadata": {"name": name}, "spec": spec})
        status = {"phase": phase, "podIP": address, "podIPs": [{"ip": address}]}
        self.plane.request("PATCH", f"/api/v1/namespaces/default/pods/{name}/status", {"status": status})

    def state_dir(self, node: str, **addresses: str) -> str:
        """A node's state directory, as the plugin leaves it."""
        directory = self.directory / f"{node}-{len(list(self.directory.iterdir()))}"
        for name in ("attachments", "addresses"):
            (directory / name).mkdir(parents=True)
        (directory / "allocation.json").write_text(json.dumps({"version": 1, "stateID": "s", "node": node, "pools": {}, "automatic": []}))
        for pod, address in addresses.items():
            record = {
                "version": 1, "stateID": "s", "network": "podnet", "container": f"c-{pod}", "interface": "eth0",
                "pod": {"namespace": "default", "name": pod, "uid": "u"}, "ips": [{"address": address, "pool": "default"}],
            }  # fmt: skip
            attachment = directory / "attachments" / f"podnet:c-{pod}:eth0"
            attachment.write_text(json.dumps(record))
            os.link(attachment, directory / "addresses" / address)
        return str(directory)


@pytest.fixture
def planted(control_plane: ControlPlane, tmp_path: Path) -> Iterator[Planted]:
    """Two nodes, a block and a pod on each, one block at rest."""
    reset(control_plane)
    found = Planted(control_plane, tmp_path)
    found.pool("default", "10.64.0.0/16")
    found.node("n1", "10.64.0.0/28")
    found.node("n2", "10.64.0.16/28")
    found.block("10.64.0.32/28", "n2", state="Quarantined")
    found.pod("web-1", "n1", "10.64.0.2")
    found.pod("web-2", "n2", "10.64.0.17")
    yield found
    reset(control_plane)


Podcidr = Callable[..., tuple[int, str, str]]


@pytest.fixture
def podcidr(planted: Planted, capsys: pytest.CaptureFixture[str]) -> Podcidr:
    def run(*words: str) -> tuple[int, str, str]:
        status = main([*words, f"--kubeconfig={planted.plane.admin_kubeconfig}"])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def violations(podcidr: Podcidr, *words: str) -> list[Object]:
    """What `check` reports; its exit status has to agree."""
    status, out, _ = podcidr("check", "--confirm-seconds=0", "-o", "json", *words)
    found: list[Object] = json.loads(out)["violations"]
    assert status == (1 if found else 0)
    return found


def test_a_clean_cluster_is_clean_and_says_what_that_rests_on(planted: Planted, podcidr: Podcidr) -> None:
    dirs = planted.state_dir("n1", **{"web-1": "10.64.0.2"}), planted.state_dir("n2")
    planted.pod("done", "n1", "10.64.0.17", phase="Succeeded")  # its address has another pod by now
    status, out, _ = podcidr("check", *(f"--state-dir={directory}" for directory in dirs))
    assert status == 0
    last = out.splitlines()[-1]
    assert last == "check: 0 violations (2 nodecidrs, 3 blocks, 1 pools, 1 attachments, 2 state dirs, 2 pods)"
    assert "1  no two live attachments hold one address: ok (2 addresses of pods, 1 addresses on disk)" in out
    assert "5  a block leaves a node only when it is reported empty: not checked" in out


async def test_operator_agent_and_plugin_leave_nothing_to_complain_about(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    """The real ones, and the state directories that they write."""
    await cluster.start_operator()
    pool = {
        "apiVersion": names.API_VERSION,
        "kind": "IPPool",
        "metadata": {"name": "default"},
        "spec": {"ipv4": {"cidrs": ["10.64.0.0/16"]}},
    }
    await cluster.api.create(f"{APIS}/ippools", pool)
    machines = [await cluster.add_machine(name) for name in ("n1", "n2")]
    for machine in machines:  # all of them first: where the Lease was missing, claims wait for every Ready node's report
        await machine.start_agent()
    for machine in machines:
        for number in range(3):
            await machine.start_pod("default", f"{machine.name}-{number}")
    dirs = [f"--state-dir={machine.state_dir}" for machine in machines]
    status = await asyncio.to_thread(main, ["check", f"--kubeconfig={cluster.plane.admin_kubeconfig}", *dirs])
    out = capsys.readouterr().out
    assert status == 0, out
    assert out.splitlines()[-1] == "check: 0 violations (2 nodecidrs, 2 blocks, 1 pools, 6 attachments, 2 state dirs, 6 pods)"


def test_1_two_pods_with_one_address(planted: Planted, podcidr: Podcidr) -> None:
    planted.pod("twin", "n1", "10.64.0.2")
    (found,) = violations(podcidr)
    assert found["invariant"] == 1
    assert "address 10.64.0.2 is held by" in found["message"]
    assert found["objects"] == ["Pod default/twin", "Pod default/web-1"]


def test_1_one_address_in_two_state_directories(planted: Planted, podcidr: Podcidr) -> None:
    dirs = planted.state_dir("n1", a="10.64.0.5"), planted.state_dir("n1", b="10.64.0.5")
    (found,) = violations(podcidr, *(f"--state-dir={directory}" for directory in dirs))
    assert found["invariant"] == 1
    assert all(directory in found["message"] for directory in dirs)


def test_2_a_block_that_another_node_has_claimed(planted: Planted, podcidr: Podcidr) -> None:
    planted.node("n3", "10.64.0.48/28", ledger=False)
    planted.block("10.64.0.48/28", "n2")
    (found,) = violations(podcidr)
    assert found["invariant"] == 2
    assert found["objects"] == ["IPBlock 10-64-0-48-28", "NodeCIDR n2", "NodeCIDR n3"]


def test_2_a_listed_block_without_ipblock(planted: Planted, podcidr: Podcidr) -> None:
    planted.node("n3", "10.64.0.48/28", ledger=False)
    (found,) = violations(podcidr)
    assert (found["invariant"], found["objects"]) == (2, ["NodeCIDR n3"])
    assert "its IPBlock 10-64-0-48-28 is missing" in found["message"]


def test_3_a_block_over_a_quarantined_one_of_another_length(planted: Planted, podcidr: Podcidr) -> None:
    planted.pool("wide", "10.65.0.0/16", length=26)
    planted.node("n3", "10.65.0.0/26", pool="wide")
    planted.block("10.65.0.16/28", "n1", state="Quarantined")  # of a pool that had this space before
    (found,) = [one for one in violations(podcidr) if one["invariant"] == 3]
    assert "10.65.0.0/26" in found["message"]
    assert "10.65.0.16/28" in found["message"]


def test_4_a_block_of_a_length_that_its_pool_never_had(planted: Planted, podcidr: Podcidr) -> None:
    planted.node("n3", "10.64.1.0/26")
    (found,) = violations(podcidr)
    assert found["invariant"] == 4
    assert "block 10.64.1.0/26 names pool default" in found["message"]


def test_7_a_pod_outside_the_blocks_of_its_node(planted: Planted, podcidr: Podcidr) -> None:
    planted.pod("stray", "n1", "10.64.0.20")
    (found,) = violations(podcidr)
    assert found["invariant"] == 7
    assert "lies in no block of its node n1, but in block 10.64.0.16/28 of node n2" in found["message"]
    assert found["objects"] == ["Pod default/stray", "NodeCIDR n1"]
    assert found["remedy"]


def test_7_an_attachment_outside_the_blocks_of_its_node(planted: Planted, podcidr: Podcidr) -> None:
    (found,) = violations(podcidr, f"--state-dir={planted.state_dir('n1', **{'web-1': '10.64.0.2'}, stray='10.64.9.9')}")
    assert found["invariant"] == 7
    assert "address 10.64.9.9 of attachment of default/stray" in found["message"]


def test_addresses_that_are_nobodys_business_are_counted_only(planted: Planted, podcidr: Podcidr) -> None:
    for number in (1, 2):
        planted.pod(f"other-network-{number}", f"n{number}", "172.16.0.9")
    status, out, _ = podcidr("check")
    assert status == 0
    assert "addresses of pods in no pool, not podcidr's: 2" in out


def test_warnings_do_not_change_the_exit_status(planted: Planted, podcidr: Podcidr) -> None:
    planted.plane.request("PATCH", f"{APIS}/ippools/default", {"spec": {"ipv4": {"cidrs": ["10.66.0.0/16"]}}})
    addresses = [{"type": "InternalIP", "address": "10.66.3.4"}]
    planted.plane.request("PATCH", "/api/v1/nodes/n1/status", {"status": {"addresses": addresses}})
    planted.plane.request("POST", "/api/v1/nodes", {"metadata": {"name": "n9"}})
    ready = {"type": "Ready", "status": "True"}
    planted.plane.request("PATCH", "/api/v1/nodes/n9/status", {"status": {"conditions": [ready]}})
    status, out, _ = podcidr("check")
    assert status == 0
    assert "orphan: block 10.64.0.0/28 is an orphan: pool default no longer has its CIDR" in out
    assert "node n1 has address 10.66.3.4 itself, in 10.66.0.0/16 of pool default" in out
    assert "silent agent: node n9 is Ready, but has no NodeCIDR" in out


def test_a_check_of_nothing_is_not_zero_violations(planted: Planted, podcidr: Podcidr) -> None:
    reset(planted.plane)
    status, out, _ = podcidr("check")
    assert status == 0
    assert out.splitlines()[-1] == "check: nothing to check (0 nodecidrs, 0 blocks, 0 pools, 0 pods)"


def test_more_than_one_page_is_read(planted: Planted, podcidr: Podcidr, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("podcidr.cli.connect.PAGE", 2)
    for number in range(5):
        planted.block(f"10.64.7.{16 * number}/28", "n1")
    status, out, _ = podcidr("show", "blocks", "-o", "json")
    assert status == 0
    assert len(json.loads(out)["items"]) == 8


def test_show_on_the_api_server(planted: Planted, podcidr: Podcidr) -> None:
    status, out, _ = podcidr("show")
    assert status == 0
    assert out.splitlines()[0] == "1 pool · 2 nodes · 3 blocks (1 Quarantined) · 2 addresses in use · 0 pods waiting"
    assert "\x1b" not in out
    status, out, _ = podcidr("show", "nodes", "n1", "-o", "yaml")
    document = yaml.safe_load(out)
    assert (document["apiVersion"], document["kind"]) == ("cli.podcidr.io/v1", "NodeList")
    assert [(row["name"], row["inUse"], row["capacity"]) for row in document["items"]] == [("n1", 1, 14)]


def test_plan_on_the_api_server(planted: Planted, podcidr: Podcidr) -> None:
    planted.plane.request("POST", "/api/v1/nodes", {"metadata": {"name": "n3"}})
    status, out, _ = podcidr("plan", "--dry-run", "-o", "json")
    rows = {(row["action"], row["node"], row["block"]): row["reason"] for row in json.loads(out)["items"]}
    assert status == 0
    assert rows["CreateNodeCIDR", "n3", ""] == "the node has none"
    assert rows["Free", "n2", "10.64.0.32/28"] == "its quarantine of 300 s is over"


def test_an_api_server_that_is_not_there(planted: Planted, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    config = yaml.safe_load(planted.plane.admin_kubeconfig.read_text())
    config["clusters"][0]["cluster"]["server"] = server = f"https://127.0.0.1:{free_ports(1)[0]}"
    path = tmp_path / "config"
    path.write_text(json.dumps(config))
    assert main(["check", "--kubeconfig", str(path)]) == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert f"API server {server} (from {path}) not reachable" in line
    assert "--context NAME" in line


def test_an_account_that_may_not_look(planted: Planted, capsys: pytest.CaptureFixture[str]) -> None:
    kubeconfig = planted.plane.kubeconfig_for_service_account("podcidr-system", "podcidr-agent")
    assert main(["show", "--kubeconfig", str(kubeconfig)]) == 3
    assert "does not let this account list nodes (403)" in capsys.readouterr().err


def test_a_cluster_without_the_crds(planted: Planted, podcidr: Podcidr, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "VERSION", "v0")  # a version that no CRD serves is as good as a CRD that is missing
    status, _, err = podcidr("show")
    assert status == 3
    assert "podcidr's CRDs are missing in this cluster" in err


def test_as_a_plugin_of_kubectl(planted: Planted, control_plane_binaries: Path) -> None:
    programs = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "KUBECONFIG": str(planted.plane.admin_kubeconfig)}
    command = [str(control_plane_binaries / "kubectl"), "podcidr", "show", "pools"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1].startswith("default")
