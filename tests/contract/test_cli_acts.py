"""Commands that explain or change, on the real API server: what is written there is what they say, and refusals write nothing."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from podcidr.cli.main import main
from tests.cluster.control_plane import ApiError, ControlPlane
from tests.cluster.kubelet import Cluster, eventually
from tests.cluster.program import ROOT
from tests.cluster.reset import reset
from tests.contract.test_check import APIS, Planted

pytestmark = pytest.mark.cluster

Object = dict[str, Any]
Podcidr = Callable[..., tuple[int, Any, str]]
POLICIES = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings"


@pytest.fixture
def planted(control_plane: ControlPlane, tmp_path: Path) -> Iterator[Planted]:
    """Two nodes with a block each; nothing runs."""
    reset(control_plane)
    found = Planted(control_plane, tmp_path)
    found.pool("default", "10.64.0.0/16")
    found.node("n1", "10.64.0.0/28")
    found.node("n2", "10.64.0.16/28")
    yield found
    reset(control_plane)


@pytest.fixture
def podcidr(planted: Planted, capsys: pytest.CaptureFixture[str]) -> Podcidr:
    """Exit status, document and complaint."""

    def run(*words: str) -> tuple[int, Any, str]:
        status = main([*words, "-o", "json", f"--kubeconfig={planted.plane.admin_kubeconfig}"])
        captured = capsys.readouterr()
        return status, json.loads(captured.out) if captured.out else None, captured.err

    return run


def report(plane: ControlPlane, node: str, **used: int) -> None:
    """What the node's agent says now."""
    nodecidr = plane.request("GET", f"{APIS}/nodecidrs/{node}")
    blocks = [{"cidr": block["cidr"], "inUse": used.get("in_use", 0), "cooling": 0} for block in nodecidr["spec"]["blocks"]]
    status = {"observedEpoch": nodecidr["spec"]["epoch"], "blocks": blocks, "inUse": used.get("in_use", 0)}
    plane.request("PATCH", f"{APIS}/nodecidrs/{node}/status", {"status": status})


def names_of(plane: ControlPlane, plural: str) -> list[str]:
    return [item["metadata"]["name"] for item in plane.request("GET", f"{APIS}/{plural}")["items"]]


# explain


def test_explain_each_kind(planted: Planted, podcidr: Podcidr) -> None:
    planted.pod("web-1", "n1", "10.64.0.2")
    planted.plane.request("PATCH", "/api/v1/namespaces/default", {"metadata": {"annotations": {"podcidr.io/pools": "gold"}}})
    status, found, _ = podcidr("explain", "pod", "default/web-1")
    assert (status, found["verdict"]) == (0, "has 10.64.0.2 on node n1")
    assert any('would fail: namespace default pins pool "gold", which does not exist' in line for line in found["next"])
    assert podcidr("explain", "node", "n2")[1]["verdict"] == "holds 1 active block; 1 addresses in use, 0 awaited"
    assert podcidr("explain", "pool", "default")[1]["verdict"] == "is in use and has free blocks"
    found = podcidr("explain", "ip", "10.64.0.20")[1]
    assert found["verdict"].startswith("belongs to node n2")
    assert any(line.startswith("no operator has ever led here") for line in podcidr("explain", "node", "n1")[1]["next"])
    status, _, complaint = podcidr("explain", "pod", "default/nobody")
    assert (status, "no such pod: default/nobody" in complaint) == (2, True)


# uninstall


@pytest.fixture
def no_policies(planted: Planted) -> Iterator[None]:
    """Operator, agents and their policies are gone; accounts and policies come back at the end."""
    bindings = [item["metadata"]["name"] for item in planted.plane.request("GET", POLICIES)["items"]]
    for kind in ("validatingadmissionpolicybindings", "validatingadmissionpolicies"):
        for name in (name for name in bindings if name.startswith("podcidr-")):
            planted.plane.kubectl("delete", kind, name)
    await_leave_to_delete(planted.plane)
    yield
    reset(planted.plane)
    planted.plane.install(ROOT)


def await_leave_to_delete(plane: ControlPlane) -> None:
    """The API server goes on with a deleted policy until its own watch has told it."""
    deadline = time.monotonic() + 30
    while True:
        try:
            plane.request("DELETE", f"{APIS}/nodecidrs/n1?dryRun=All")
            return
        except ApiError as error:
            if error.status != 403 or time.monotonic() > deadline:
                raise
        time.sleep(0.02)


def test_uninstall_refuses_while_anything_needs_the_records(planted: Planted, podcidr: Podcidr) -> None:
    planted.pod("web-1", "n1", "10.64.0.2")
    status, found, _ = podcidr("uninstall", "--yes")
    reasons = " | ".join(obstacle["reason"] for obstacle in found["obstacles"])
    assert (status, found["removed"]) == (1, False)
    assert "1 pods have addresses of pools: Pod default/web-1" in reasons
    assert "node n1 reports 1 addresses in use" in reasons
    assert "podcidr-nodecidr-goes-last" in reasons
    assert names_of(planted.plane, "ippools") == ["default"]
    assert names_of(planted.plane, "nodecidrs") == ["n1", "n2"]


@pytest.mark.usefixtures("no_policies")
def test_uninstall_removes_all_of_it_and_can_be_run_again(planted: Planted, podcidr: Podcidr) -> None:
    finalizers = {"metadata": {"finalizers": ["podcidr.io/ledger"]}}
    for path in (f"{APIS}/ippools/default", f"{APIS}/nodecidrs/n1"):
        planted.plane.request("PATCH", path, finalizers)
    planted.plane.request("DELETE", f"{APIS}/nodecidrs/n1")  # broken off once: it waits for its finalizer
    for node in ("n1", "n2"):
        report(planted.plane, node)
    assert podcidr("uninstall", "--dry-run")[1]["objects"] == {"ippools": 1, "ipblocks": 2, "nodecidrs": 2, "configmaps": 0}
    assert len(names_of(planted.plane, "nodecidrs")) == 2
    status, found, _ = podcidr("uninstall", "--yes")
    assert (status, found["removed"], found["obstacles"]) == (0, True, [])
    assert [names_of(planted.plane, plural) for plural in ("ippools", "ipblocks", "nodecidrs")] == [[], [], []]
    assert podcidr("uninstall", "--yes")[1]["objects"] == {"ippools": 0, "ipblocks": 0, "nodecidrs": 0, "configmaps": 0}


# check --repair


def test_repair_mends_the_ledger_where_no_operator_leads(planted: Planted, podcidr: Podcidr) -> None:
    planted.node("n3", "10.64.0.48/28", ledger=False)  # its IPBlock was deleted by hand
    planted.pod("quiet", "n2", "10.64.0.66")  # and of this one the ledger has lost all trace
    planted.block("10.64.0.96/28", "n1")  # created by an operator that crashed before it listed it
    planted.pool("old", "10.99.0.0/24")
    planted.node("n4", "10.99.0.0/28", pool="old")
    planted.plane.request("DELETE", f"{APIS}/ippools/old")
    report(planted.plane, "n4")

    status, found, said = podcidr("check", "--repair", "--yes", "--confirm-seconds=0")
    done = {(step["action"], step["node"], step["block"], step["refused"]) for step in found["repair"]["steps"]}
    assert done == {
        ("Adopt", "n3", "10.64.0.48/28", ""), ("Adopt", "n2", "10.64.0.64/28", ""), ("Leave", "n1", "10.64.0.96/28", ""),
        ("Drain", "n4", "10.99.0.0/28", ""),
    }, said  # fmt: skip
    assert (status, found["violations"]) == (0, [])
    assert set(names_of(planted.plane, "ipblocks")) >= {"10-64-0-48-28", "10-64-0-64-28"}
    listed = planted.plane.request("GET", f"{APIS}/nodecidrs/n2")["spec"]
    assert [(block["cidr"], block["state"]) for block in listed["blocks"]][-1] == ("10.64.0.64/28", "Draining")
    left = planted.plane.request("GET", f"{APIS}/ipblocks/10-64-0-96-28")
    assert left["status"]["state"] == "Quarantined"

    report(planted.plane, "n4")  # its agent says that the orphan is empty, at the epoch at which it drains
    found = podcidr("check", "--repair", "--yes", "--confirm-seconds=0")[1]
    assert ("Leave", "n4") in {(step["action"], step["node"]) for step in found["repair"]["steps"]}
    assert planted.plane.request("GET", f"{APIS}/nodecidrs/n4")["spec"].get("blocks", []) == []


def test_repair_leaves_alone_what_is_peoples(planted: Planted, podcidr: Podcidr) -> None:
    planted.pod("one", "n1", "10.64.0.2")
    planted.pod("two", "n2", "10.64.0.2")
    before = [planted.plane.request("GET", f"{APIS}/{plural}")["items"] for plural in ("nodecidrs", "ipblocks")]
    status, found, _ = podcidr("check", "--repair", "--yes", "--confirm-seconds=0")
    assert (status, found["repair"]["steps"]) == (1, [])
    assert {one["why"] for one in found["repair"]["untouched"]} >= {"pods are yours: no command of podcidr ends one"}
    assert [planted.plane.request("GET", f"{APIS}/{plural}")["items"] for plural in ("nodecidrs", "ipblocks")] == before


async def test_repair_adopts_what_a_backup_forgot(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither ledger nor report know the block, and its agent is silent: the pod's address tells."""
    cluster.plane.apply(POOL)
    await cluster.create_namespace("web")
    operator = await cluster.start_operator()
    machine = await cluster.add_machine("n1")
    agent = await machine.start_agent()
    pod = await machine.start_pod("web", "a")
    await eventually(lambda: _reports(cluster, 1), "the agent to report the pod", timeout_seconds=60)
    agent.kill()
    operator.kill()
    nodecidr = await _listing(cluster)
    gone = {"spec": {"blocks": [], "epoch": nodecidr["spec"]["epoch"] + 1}}
    await cluster.api.merge(f"{APIS}/nodecidrs/n1", gone)
    report = {"blocks": [], "inUse": 0, "reportedAt": "2026-01-01T00:00:00Z"}  # a backup from before the pod
    await cluster.api.merge(f"{APIS}/nodecidrs/n1/status", {"status": report})
    await asyncio.to_thread(cluster.plane.request, "DELETE", f"{APIS}/ipblocks")

    status, found = await in_cluster(cluster, capsys, "check", "--repair", "--yes")
    assert [(step["action"], step["by"]) for step in found["repair"]["steps"]] == [("Adopt", "this command")]
    assert status == 0
    await machine.start_agent()
    await cluster.start_operator()
    await eventually(lambda: _reports(cluster, 1), "the agent to confirm the address")
    assert pod.addresses == [held.address for held in cluster.ledger.holdings]


# migrate

WORKLOADS = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: default}
spec:
  selector: {matchLabels: {app: web}}
  template: {metadata: {labels: {app: web}}, spec: {containers: [{name: main, image: none}]}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db, namespace: default}
spec:
  selector: {matchLabels: {app: db}}
  template: {metadata: {labels: {app: db}}, spec: {containers: [{name: main, image: none}]}}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: db, namespace: default}
spec: {minAvailable: 1, selector: {matchLabels: {app: db}}}
"""


def owned(plane: ControlPlane, name: str, address: str, app: str, owner: Object) -> None:
    reference = {"controller": True, "apiVersion": "apps/v1", "kind": owner["kind"]}
    reference |= {"name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"]}
    spec = {"nodeName": "n1", "containers": [{"name": "main", "image": "none"}]}
    meta = {"name": name, "labels": {"app": app}, "ownerReferences": [reference]}
    plane.request("POST", "/api/v1/namespaces/default/pods", {"metadata": meta, "spec": spec})
    status = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}
    plane.request("PATCH", f"/api/v1/namespaces/default/pods/{name}/status", {"status": status})


@pytest.fixture
def shop(planted: Planted) -> Iterator[ControlPlane]:
    """A Deployment without and a StatefulSet with a budget, a pod each with an address of pool default; a second pool."""
    plane = planted.plane
    planted.pool("next", "10.80.0.0/16")
    plane.apply(WORKLOADS)
    apps = "/apis/apps/v1/namespaces/default"
    web = plane.request("GET", f"{apps}/deployments/web")
    reference = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": web["metadata"]["uid"], "controller": True}
    spec = {key: web["spec"][key] for key in ("selector", "template")}
    replicas = {"metadata": {"name": "web-5d", "ownerReferences": [reference]}, "spec": spec}
    replica_set = plane.request("POST", f"{apps}/replicasets", replicas)
    owned(plane, "web-5d-x", "10.64.0.2", "web", {**replica_set, "kind": "ReplicaSet"})
    owned(plane, "db-0", "10.64.0.3", "db", {**plane.request("GET", f"{apps}/statefulsets/db"), "kind": "StatefulSet"})
    yield plane
    for kind, name in (("replicaset", "web-5d"), ("deployment", "web"), ("statefulset", "db"), ("poddisruptionbudget", "db")):
        plane.kubectl("delete", kind, name, "-n", "default", "--cascade=orphan", "--wait=false")


def test_migrate_finds_owners_and_budgets_and_disables_the_pool(shop: ControlPlane, podcidr: Podcidr) -> None:
    words = ("migrate", "pool", "default", "--to", "next", "--wait-seconds", "0")
    status, found, _ = podcidr(*words, "--dry-run")
    assert (status, found["stage"]) == (0, "Ready")
    assert [(one["kind"], one["name"], one["budgets"], one["allowed"]) for one in found["workloads"]] == [
        ("Deployment", "web", [], None), ("StatefulSet", "db", ["db"], 0),
    ]  # fmt: skip
    assert [one["commands"] for one in found["workloads"]] == [
        ["kubectl -n default rollout restart deployment/web"], ["kubectl -n default rollout restart statefulset/db"],
    ]  # fmt: skip
    for one in found["workloads"]:  # kubectl takes each as it is printed (and no controller is here to act on it)
        assert "restarted" in shop.kubectl(*one["commands"][0].split()[1:])

    shop.request("PATCH", "/api/v1/namespaces/default", {"metadata": {"annotations": {"podcidr.io/pools": "default"}}})
    status, found, _ = podcidr(*words, "--yes")
    (obstacle,) = [one for one in found["obstacles"] if one["stops"]]
    assert (status, found["stage"]) == (1, "Refused")
    assert shop.request("GET", f"{APIS}/ippools/default")["spec"]["disabled"] is False
    shop.kubectl(*obstacle["remedy"].replace("'", "").split()[1:])  # the remedy, as it is printed

    status, found, _ = podcidr(*words, "--yes")
    assert (status, found["stage"]) == (1, "Draining")
    assert shop.request("GET", f"{APIS}/ippools/default")["spec"]["disabled"] is True
    assert shop.request("GET", "/api/v1/namespaces/default")["metadata"]["annotations"]["podcidr.io/pools"] == "next"


# release

POOL = """
apiVersion: podcidr.io/v1alpha1
kind: IPPool
metadata: {name: default}
spec:
  ipv4: {cidrs: [10.64.0.0/24], blockPrefixLength: 28}
  quarantineSeconds: 1
  scaling: {stabilizationWindowSeconds: 0}
"""


async def in_cluster(cluster: Cluster, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any]:
    """A command beside the programs of a test."""
    status = await asyncio.to_thread(main, [*words, "-o", "json", f"--kubeconfig={cluster.plane.admin_kubeconfig}"])
    out = capsys.readouterr().out
    return status, json.loads(out) if out else None


async def test_release_gives_up_a_machine_that_burned_down(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    cluster.plane.apply(POOL)
    await cluster.create_namespace("web")
    await cluster.start_operator("--lost-node-seconds=600")
    machine = await cluster.add_machine("n1")
    agent = await machine.start_agent()
    await machine.start_pod("web", "a")
    path = f"{APIS}/nodecidrs/n1"
    await eventually(lambda: _reports(cluster, 1), "the agent to report the pod", timeout_seconds=60)

    status, found = await in_cluster(cluster, capsys, "release", "--node=n1", "--force", "--yes")
    assert (status, found["released"], len(found["refusedBecause"])) == (1, False, 2), "Ready, and reported a moment ago"

    agent.kill()
    await machine.set_ready(False)
    await cluster.api.merge(f"{path}/status", {"status": {"reportedAt": "2026-01-01T00:00:00Z"}})
    status, found = await in_cluster(cluster, capsys, "release", "--node=n1", "--force", "--yes")
    assert (status, found["released"], found["addressesInUse"], found["pods"]) == (0, True, 1, ["web/a"])
    await eventually(lambda: _nothing_left(cluster), "block and NodeCIDR to go, though ten minutes have not passed")


async def test_a_report_after_the_word_keeps_the_blocks(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    cluster.plane.apply(POOL)
    await cluster.start_operator("--lost-node-seconds=600")
    agent = await (await cluster.add_machine("n1")).start_agent()
    await eventually(lambda: _reports(cluster, 0), "the agent to report")
    agent.kill()
    nodecidr = await eventually(lambda: _listing(cluster), "the first block")
    report = {"observedUID": nodecidr["metadata"]["uid"], "observedEpoch": nodecidr["spec"]["epoch"], "reportedAt": "2026-01-01T00:00:01Z"}
    used = [{"cidr": block["cidr"], "inUse": 1, "cooling": 0} for block in nodecidr["spec"]["blocks"]]
    await cluster.api.merge(f"{APIS}/nodecidrs/n1/status", {"status": {**report, "blocks": used}})
    word = {"metadata": {"annotations": {"podcidr.io/machine-gone": "2026-01-01T00:00:00Z"}}}
    await cluster.api.merge(f"{APIS}/nodecidrs/n1", word)
    await cluster.machines["n1"].unregister()
    await eventually(lambda: _drains(cluster), "the blocks to drain, for the Node is gone")
    plan = (await in_cluster(cluster, capsys, "plan"))[1]
    assert [row["action"] for row in plan["items"]] == [], "it is in use, and waits for silence"
    assert await _listing(cluster)


async def _listing(cluster: Cluster) -> Any:
    found = await cluster.api.get(f"{APIS}/nodecidrs")
    return next((item for item in found["items"] if item["spec"]["blocks"]), None)


async def _reports(cluster: Cluster, in_use: int) -> bool:
    found = await _listing(cluster)
    return bool(found and found.get("status", {}).get("inUse") == in_use)


async def _drains(cluster: Cluster) -> bool:
    found = await _listing(cluster)
    return bool(found and all(block["state"] == "Draining" for block in found["spec"]["blocks"]))


async def _nothing_left(cluster: Cluster) -> bool:
    found = [(await cluster.api.get(f"{APIS}/{plural}"))["items"] for plural in ("nodecidrs", "ipblocks")]
    return found == [[], []]


# history


async def test_history_outlives_the_operator(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    """Written under the operator's own account; what a killed one had not written, the next one adds."""
    cluster.plane.apply(POOL)
    await cluster.create_namespace("web")
    operator = await cluster.start_operator("--lease-seconds=6")
    machine = await cluster.add_machine("n1")
    agent = await machine.start_agent()
    pod = await machine.start_pod("web", "a")
    await eventually(lambda: _told(cluster, capsys, "n1", 1), "the claim to be recorded")

    operator.kill()  # with whatever it had not written
    await cluster.start_operator("--lease-seconds=6")
    await machine.stop_pod("web", "a")
    await machine.unregister()
    agent.kill()
    nodecidr = f"{APIS}/nodecidrs/n1"
    await eventually(lambda: _drains(cluster), "the block to drain")
    found = await cluster.api.get(nodecidr)
    empty = {"observedEpoch": found["spec"]["epoch"], "blocks": [], "inUse": 0}
    await cluster.api.merge(f"{nodecidr}/status", {"status": empty})
    await eventually(lambda: _nothing_left(cluster), "the block to be free")
    await eventually(lambda: _ended(cluster, capsys, pod.addresses[0]), "its end to be recorded")

    (held,) = (await in_cluster(cluster, capsys, "history", pod.addresses[0]))[1]["items"]
    assert (held["node"], held["pool"], held["endReason"]) == ("n1", "default", "the node is gone")
    assert held["since"] <= held["drainingSince"] <= held["until"] <= held["freeSince"]
    assert (await in_cluster(cluster, capsys, "history", "default"))[1]["items"] == [held]
    assert (await in_cluster(cluster, capsys, "history", "nobody"))[0] == 2
    assert (await in_cluster(cluster, capsys, "history", "10.64.0.999"))[0] == 2


async def _told(cluster: Cluster, capsys: pytest.CaptureFixture[str], name: str, count: int) -> bool:
    return len((await in_cluster(cluster, capsys, "history", name))[1]["items"]) == count


async def _ended(cluster: Cluster, capsys: pytest.CaptureFixture[str], name: str) -> bool:
    found = (await in_cluster(cluster, capsys, "history", name))[1]["items"]
    return all(item["freeSince"] for item in found)
