"""The chart by its values: what each one changes, and what is refused."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from podcidr.config import parse_agent
from tools import render

Object = dict[str, Any]


def objects(helm: Path, values: Object, tmp_path: Path) -> dict[str, Object]:
    """Return what the chart gives for these values, by kind and name."""
    file = tmp_path / "values.json"
    file.write_text(json.dumps(values))
    text = render.template(helm, "--values", str(file))
    return {f"{o['kind']}/{o['metadata']['name']}": o for o in yaml.safe_load_all(text) if o}


def test_generated_files_are_up_to_date(helm: Path) -> None:
    assert render.stale(render.generated(helm)) == []


def test_rendering_twice_gives_the_same(helm: Path) -> None:
    assert render.manifest(helm) == render.manifest(helm)


def test_lint_is_clean(helm: Path) -> None:
    linted = subprocess.run([helm, "lint", "--strict", render.CHART], capture_output=True, text=True, check=False)
    assert linted.returncode == 0, linted.stdout + linted.stderr


REFUSED = {
    "a misspelt value": {"agents": {}},
    "a misspelt value further down": {"operator": {"replica": 1}},
    "a pool without a spec": {"pools": [{"name": "default"}]},
    "a pool's name in capitals": {"pools": [{"name": "Default", "spec": {"ipv4": {}}}]},
    "a CNI version that no runtime knows": {"cni": {"conflist": {"cniVersion": "0.4.0"}}},
    "a conflist that no runtime reads": {"cni": {"conflist": {"name": "10-podcidr.yaml"}}},
    "a relative directory": {"cni": {"binDir": "opt/cni/bin"}},
    "no place where namespaces are": {"agent": {"netnsDirs": []}},
    "agents that all may be missing at 0 %": {"agent": {"maxUnavailable": "0%"}},
    "a port that does not exist": {"operator": {"port": 65536}},
}


@pytest.mark.parametrize("values", REFUSED.values(), ids=REFUSED)
def test_refused(helm: Path, tmp_path: Path, values: Object) -> None:
    with pytest.raises(ChildProcessError, match="values don't meet the specifications of the schema"):
        objects(helm, values, tmp_path)


def test_pools_are_rendered_and_outlive_the_release(helm: Path, tmp_path: Path) -> None:
    spec = {"ipv4": {"cidrs": ["10.64.0.0/14"]}}
    pools = [{"name": name, "spec": spec} for name in ("default", "gold")]
    found = objects(helm, {"pools": pools}, tmp_path)
    for name in ("default", "gold"):
        pool = found[f"IPPool/{name}"]
        assert pool["spec"] == spec
        assert pool["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_without_a_conflist_nothing_of_the_runtime_is_touched(helm: Path, tmp_path: Path) -> None:
    found = objects(helm, {"cni": {"conflist": {"enabled": False}}}, tmp_path)
    assert not [name for name in found if name.startswith("ConfigMap/")]
    agent = json.dumps(found["DaemonSet/podcidr-agent"])
    assert "conflist" not in agent
    assert "net.d" not in agent


@pytest.mark.parametrize("conflist", [True, False])
def test_agents_take_the_network_away_by_value(helm: Path, tmp_path: Path, conflist: bool) -> None:
    found = objects(helm, {"cni": {"remove": True, "conflist": {"enabled": conflist}}}, tmp_path)
    pod = found["DaemonSet/podcidr-agent"]["spec"]["template"]["spec"]
    [container] = pod["initContainers"]
    config = parse_agent(container["args"][1:])
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    assert (config.install_cni, config.uninstall_cni, bool(config.conflist)) == (False, True, conflist)
    assert {config.cni_bin_dir, config.cni_conf_dir, config.state_dir} <= mounts.keys(), "it looks at who still needs the plugin"
    assert set(mounts.values()) <= {volume["name"] for volume in pod["volumes"]}


def test_a_changed_conflist_rolls_the_agents(helm: Path, tmp_path: Path) -> None:
    def marks(values: Object) -> Object:
        template = objects(helm, values, tmp_path)["DaemonSet/podcidr-agent"]["spec"]["template"]
        annotations: Object = template["metadata"]["annotations"]
        return annotations

    assert marks({}) == marks({"agent": {"port": 9000}}) != marks({"cni": {"conflist": {"mtu": 1400}}})


def test_conflist_takes_mtu_and_routes(helm: Path, tmp_path: Path) -> None:
    routes = [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]
    found = objects(helm, {"cni": {"conflist": {"mtu": 1400, "routes": routes, "name": "05-pods.conflist"}}}, tmp_path)
    ptp = json.loads(found["ConfigMap/podcidr-conflist"]["data"]["05-pods.conflist"])["plugins"][0]
    assert (ptp["mtu"], ptp["ipam"]["routes"]) == (1400, routes)


def test_accounts_by_value_reach_rbac_and_admission(helm: Path, tmp_path: Path) -> None:
    found = objects(helm, {"agent": {"serviceAccountName": "reporter"}}, tmp_path)
    assert "ServiceAccount/reporter" in found
    assert found["DaemonSet/podcidr-agent"]["spec"]["template"]["spec"]["serviceAccountName"] == "reporter"
    assert found["ClusterRoleBinding/podcidr-agent"]["subjects"][0]["name"] == "reporter"
    policy = found["ValidatingAdmissionPolicy/podcidr-agent-writes-own-status"]["spec"]
    assert ":reporter'" in policy["matchConditions"][0]["expression"]


@pytest.mark.parametrize("workload", ["Deployment/podcidr-operator", "DaemonSet/podcidr-agent"])
def test_api_server_by_value(helm: Path, tmp_path: Path, workload: str) -> None:
    found = objects(helm, {"apiServer": {"host": "10.0.0.1", "port": 6443}}, tmp_path)
    environment = found[workload]["spec"]["template"]["spec"]["containers"][0]["env"]
    assert {"name": "KUBERNETES_SERVICE_HOST", "value": "10.0.0.1"} in environment
    assert {"name": "KUBERNETES_SERVICE_PORT", "value": "6443"} in environment


def test_listens_on_ipv6_by_value(helm: Path, tmp_path: Path) -> None:
    agent = objects(helm, {"listenHost": "::"}, tmp_path)["DaemonSet/podcidr-agent"]["spec"]["template"]["spec"]
    assert "--listen=[::]:8081" in agent["containers"][0]["args"]


def test_each_directory_of_network_namespaces_is_propagated(helm: Path, tmp_path: Path) -> None:
    directories = ["/var/run/netns", "/run/containerd/netns"]
    pod = objects(helm, {"agent": {"netnsDirs": directories}}, tmp_path)["DaemonSet/podcidr-agent"]["spec"]["template"]
    mounts = [m for m in pod["spec"]["containers"][0]["volumeMounts"] if m["name"].startswith("netns-")]
    assert [m["mountPath"] for m in mounts] == directories
    assert {m["mountPropagation"] for m in mounts} == {"HostToContainer"}


def test_helm_makes_the_namespace_itself(helm: Path, tmp_path: Path) -> None:
    assert not [name for name in objects(helm, {}, tmp_path) if name.startswith("Namespace/")]


def test_extra_arguments_come_after_ours(helm: Path, tmp_path: Path) -> None:
    found = objects(helm, {"operator": {"extraArgs": ["--after-restore"], "leaseSeconds": 30}}, tmp_path)
    arguments = found["Deployment/podcidr-operator"]["spec"]["template"]["spec"]["containers"][0]["args"]
    assert "--lease-seconds=30" in arguments
    assert arguments[-1] == "--after-restore"
