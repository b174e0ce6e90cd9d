import base64
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.child import ChildError
from tests.cluster.control_plane import ApiError, ControlPlane
from tests.cluster.program import ROOT
from tests.cluster.reset import delete_namespace, reset

POOLS = "/apis/podcidr.io/v1alpha1/ippools"
POOL = {
    "apiVersion": "podcidr.io/v1alpha1",
    "kind": "IPPool",
    "metadata": {"name": "held", "finalizers": ["podcidr.io/ledger"]},
    "spec": {"ipv4": {"cidrs": ["10.99.0.0/24"]}},
}
# Says what it started, then waits to be killed.
HOLDER = """
import json, sys, threading
from pathlib import Path
from tests.cluster.control_plane import ControlPlane
with ControlPlane(Path(sys.argv[1])) as plane:
    print(json.dumps([list(plane.pids.values()), str(plane.directory)]), flush=True)
    sys.stdin.read()
"""


def claims(token: str) -> dict[str, Any]:
    payload = token.split(".")[1]
    decoded: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return decoded


@pytest.mark.cluster
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_nothing_is_left_when_the_parent_dies(control_plane_binaries: Path, how: signal.Signals) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", HOLDER, str(control_plane_binaries)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, text=True
    ) as holder:
        assert holder.stdout is not None
        pids, directory = json.loads(holder.stdout.readline())
        descriptors = [os.pidfd_open(pid) for pid in pids]
        assert Path(directory).is_dir()
        holder.send_signal(how)
        holder.wait(10)
    assert len(descriptors) == 2
    for descriptor in descriptors:
        assert select.select([descriptor], [], [], 10)[0], "still running"
        os.close(descriptor)
    deadline = time.monotonic() + 10
    while Path(directory).exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not Path(directory).exists()


@pytest.mark.cluster
def test_stop_ends_all_and_start_failures_show_the_log(control_plane_binaries: Path, tmp_path: Path) -> None:
    binaries = tmp_path / "binaries"
    binaries.mkdir()
    (binaries / "etcd").symlink_to(control_plane_binaries / "etcd")
    (binaries / "kube-apiserver").write_text("#!/bin/sh\necho the reason\nexit 3\n")
    (binaries / "kube-apiserver").chmod(0o755)
    plane = ControlPlane(binaries)
    with pytest.raises(ChildError, match=r"(?s)kube-apiserver did not start .*exit code 3.*the reason"):
        plane.start()
    assert plane.pids == {}
    assert not plane.directory.exists()


def test_data_survive_a_restart_of_the_api_server(bare_control_plane: ControlPlane) -> None:
    before = bare_control_plane.request("GET", "/api/v1/namespaces/default")["metadata"]["uid"]
    bare_control_plane.stop_api_server()
    with pytest.raises(ConnectionRefusedError):
        bare_control_plane.request("GET", "/readyz")
    bare_control_plane.start_api_server()
    assert bare_control_plane.request("GET", "/api/v1/namespaces/default")["metadata"]["uid"] == before
    assert "default" in bare_control_plane.kubectl("get", "namespaces", "-o", "name")


def test_token_of_a_pod_names_its_node(clean_control_plane: ControlPlane) -> None:
    plane = clean_control_plane
    plane.request("POST", "/api/v1/nodes", {"metadata": {"name": "n1"}})
    spec = {
        "nodeName": "n1",
        "serviceAccountName": "podcidr-agent",
        "containers": [{"name": "main", "image": "pause"}],
    }
    plane.request("POST", "/api/v1/namespaces/podcidr-system/pods", {"metadata": {"name": "agent"}, "spec": spec})
    bound = plane.service_account_token("podcidr-system", "podcidr-agent", "agent")
    assert claims(bound)["kubernetes.io"]["node"]["name"] == "n1"
    assert "node" not in claims(plane.service_account_token("podcidr-system", "podcidr-agent"))["kubernetes.io"]

    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    user = plane.request("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", review, token=bound)
    assert user["status"]["userInfo"]["extra"]["authentication.kubernetes.io/node-name"] == ["n1"]


def test_accounts_have_their_rights_and_no_more(clean_control_plane: ControlPlane) -> None:
    kubeconfig = clean_control_plane.kubeconfig_for_service_account("podcidr-system", "podcidr-operator")
    assert clean_control_plane.kubectl("get", "ippools.podcidr.io", "-o", "name", kubeconfig=kubeconfig) == ""
    with pytest.raises(RuntimeError, match=r"(?s)podcidr-operator.*cannot get resource .secrets"):
        clean_control_plane.kubectl("get", "secret", "x", kubeconfig=kubeconfig)


def test_reset_takes_everything_away(clean_control_plane: ControlPlane) -> None:
    plane = clean_control_plane
    plane.request("POST", POOLS, POOL)
    plane.request("POST", "/api/v1/nodes", {"metadata": {"name": "n1", "finalizers": ["example.com/held"]}})
    plane.request("POST", "/api/v1/namespaces", {"metadata": {"name": "team"}})
    pod = {"metadata": {"name": "p"}, "spec": {"nodeName": "n1", "containers": [{"name": "main", "image": "pause"}]}}
    plane.request("POST", "/api/v1/namespaces/team/pods", pod)
    reset(plane)
    for path in (POOLS, "/api/v1/nodes", "/api/v1/pods"):
        assert plane.request("GET", path)["items"] == [], path
    with pytest.raises(ApiError, match="404"):
        plane.request("GET", "/api/v1/namespaces/team")


def test_deleted_namespace_is_gone_at_once(clean_control_plane: ControlPlane) -> None:
    clean_control_plane.request("POST", "/api/v1/namespaces", {"metadata": {"name": "short"}})
    delete_namespace(clean_control_plane, "short")
    clean_control_plane.request("POST", "/api/v1/namespaces", {"metadata": {"name": "short"}})
