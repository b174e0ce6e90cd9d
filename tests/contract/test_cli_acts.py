"""Commands that explain or change, on the real API server: what is written there is what they say, and refusals write nothing."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from podcidr.cli.main import main
from tests.cluster.control_plane import ControlPlane
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
    yield
    reset(planted.plane)
    planted.plane.install(ROOT)


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
    assert podcidr("uninstall", "--dry-run")[1]["objects"] == {"ippools": 1, "ipblocks": 2, "nodecidrs": 2}
    assert len(names_of(planted.plane, "nodecidrs")) == 2
    status, found, _ = podcidr("uninstall", "--yes")
    assert (status, found["removed"], found["obstacles"]) == (0, True, [])
    assert [names_of(planted.plane, plural) for plural in ("ippools", "ipblocks", "nodecidrs")] == [[], [], []]
    assert podcidr("uninstall", "--yes")[1]["objects"] == {"ippools": 0, "ipblocks": 0, "nodecidrs": 0}
