"""What `deploy/podcidr.yaml` must be, whoever wrote the chart."""

import dataclasses
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

import podcidr
from podcidr.api import names
from podcidr.config import parse_agent, parse_operator
from podcidr.core.history import SEGMENTS
from tools import render

Object = dict[str, Any]
WRITES = {"create", "update", "patch", "delete", "deletecollection", "*"}


def find(manifest: list[Object], kind: str, name: str) -> Object:
    [found] = [o for o in manifest if o["kind"] == kind and o["metadata"]["name"] == name]
    return found


def pod_spec(manifest: list[Object], program: str) -> Object:
    kind = {"operator": "Deployment", "agent": "DaemonSet"}[program]
    spec: Object = find(manifest, kind, f"podcidr-{program}")["spec"]["template"]["spec"]
    return spec


def rules(manifest: list[Object], program: str) -> list[Object]:
    kinds = {"ClusterRole", "Role"}
    return [
        rule
        for role in manifest
        if role["kind"] in kinds and role["metadata"]["name"] in (f"podcidr-{program}", "podcidr-events")
        for rule in role["rules"]
    ]


def writable(manifest: list[Object], program: str) -> set[str]:
    return {r for rule in rules(manifest, program) if WRITES & set(rule["verbs"]) for r in rule["resources"]}


def test_every_object_once_and_in_a_known_namespace(manifest: list[Object]) -> None:
    ids = Counter((o["kind"], o["metadata"].get("namespace"), o["metadata"]["name"]) for o in manifest)
    assert ids.most_common(1)[0][1] == 1
    assert {namespace for _, namespace, _ in ids} == {None, names.NAMESPACE, names.EVENT_NAMESPACE}


def test_it_holds_neither_crds_nor_pools(manifest: list[Object]) -> None:
    assert not {"CustomResourceDefinition", names.KIND_IPPOOL} & {o["kind"] for o in manifest}


def test_namespace_comes_first_and_lets_host_network_in(manifest: list[Object]) -> None:
    assert manifest[0]["kind"] == "Namespace"
    assert manifest[0]["metadata"]["name"] == names.NAMESPACE
    assert manifest[0]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "privileged"


def test_accounts_and_lease_are_the_ones_the_programs_know(manifest: list[Object]) -> None:
    accounts = {o["metadata"]["name"] for o in manifest if o["kind"] == "ServiceAccount"}
    assert accounts == {names.SERVICE_ACCOUNT_OPERATOR, names.SERVICE_ACCOUNT_AGENT}
    leases = [r for r in rules(manifest, "operator") if "leases" in r["resources"] and "resourceNames" in r]
    assert [r["resourceNames"] for r in leases] == [[names.LEASE]]


@pytest.mark.parametrize("program", ["operator", "agent"])
def test_no_wildcard_in_rbac(manifest: list[Object], program: str) -> None:
    assert not [r for r in rules(manifest, program) if "*" in r["verbs"] + r["resources"] + r["apiGroups"]]


def test_operator_writes_what_is_its_own(manifest: list[Object]) -> None:
    own = {"ippools", "ippools/status", "nodecidrs", "ipblocks", "ipblocks/status", "leases", "events", "configmaps"}
    assert writable(manifest, "operator") == own


def test_of_configmaps_the_operator_touches_its_history_alone(manifest: list[Object]) -> None:
    of_configmaps = [rule for rule in rules(manifest, "operator") if "configmaps" in rule["resources"]]
    named = {name for rule in of_configmaps for name in rule.get("resourceNames", ())}
    assert named == {names.history_name(slot) for slot in range(SEGMENTS)}
    assert [rule["verbs"] for rule in of_configmaps if "resourceNames" not in rule] == [["create"]], "a name can't restrict who creates"
    assert {o["kind"] for o in manifest if any("configmaps" in rule["resources"] for rule in o.get("rules") or ())} == {"Role"}


def test_agent_writes_its_report_and_events(manifest: list[Object]) -> None:
    assert writable(manifest, "agent") == {"nodecidrs/status", "events"}


def test_every_policy_fails_closed_and_is_bound(manifest: list[Object]) -> None:
    policies = {o["metadata"]["name"]: o["spec"]["failurePolicy"] for o in manifest if o["kind"] == "ValidatingAdmissionPolicy"}
    bound = {o["spec"]["policyName"]: o["spec"]["validationActions"] for o in manifest if o["kind"] == "ValidatingAdmissionPolicyBinding"}
    assert policies == dict.fromkeys(bound, "Fail")
    assert all(actions == ["Deny"] for actions in bound.values())
    assert policies


@pytest.mark.parametrize("program", ["operator", "agent"])
def test_programs_run_where_no_pod_network_is(manifest: list[Object], program: str) -> None:
    spec = pod_spec(manifest, program)
    assert spec["hostNetwork"] is True
    tolerated = {t.get("key", "everything") for t in spec["tolerations"] if t["operator"] == "Exists"}
    taints = {
        "node.kubernetes.io/not-ready",
        "node.kubernetes.io/network-unavailable",
        "node-role.kubernetes.io/control-plane",
    }
    assert tolerated == {"everything"} or taints <= tolerated


@pytest.mark.parametrize("program", ["operator", "agent"])
def test_containers_are_locked_down(manifest: list[Object], program: str) -> None:
    spec = pod_spec(manifest, program)
    for container in spec["containers"] + spec.get("initContainers", []):
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"]["drop"] == ["ALL"]


@pytest.mark.parametrize("program", ["operator", "agent"])
def test_every_mount_has_its_volume_and_every_volume_a_use(manifest: list[Object], program: str) -> None:
    spec = pod_spec(manifest, program)
    containers = spec["containers"] + spec.get("initContainers", [])
    mounted = {mount["name"] for container in containers for mount in container.get("volumeMounts", [])}
    assert mounted == {volume["name"] for volume in spec.get("volumes", [])}


def test_programs_understand_their_arguments(manifest: list[Object]) -> None:
    def arguments(program: str) -> list[str]:
        [container] = pod_spec(manifest, program)["containers"]
        assert container["args"][0] == program
        return [argument.replace("$(NODE_NAME)", "n1") for argument in container["args"][1:]]

    operator, agent = parse_operator(arguments("operator")), parse_agent(arguments("agent"))
    assert operator == dataclasses.replace(parse_operator([]), identity=operator.identity)
    assert agent == parse_agent(["--node-name=n1"])


def test_images_are_of_this_version_and_name_no_registry(manifest: list[Object]) -> None:
    for program in ("operator", "agent"):
        spec = pod_spec(manifest, program)
        images = {container["image"] for container in spec["containers"] + spec.get("initContainers", [])}
        assert images == {f"podcidr-{program}:{podcidr.__version__}"}


def test_chart_has_the_version_of_the_package() -> None:
    chart = yaml.safe_load((render.CHART / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (podcidr.__version__, podcidr.__version__)


def test_crds_of_the_chart_are_the_canonical_ones() -> None:
    def texts(directory: Path) -> dict[str, str]:
        return {path.name: path.read_text() for path in directory.glob("*.yaml")}

    assert texts(render.CHART / "crds") == texts(render.ROOT / "crds") != {}


def test_conflist_asks_podcidr_by_way_of_ptp(manifest: list[Object]) -> None:
    [(name, text)] = find(manifest, "ConfigMap", "podcidr-conflist")["data"].items()
    network = json.loads(text)
    ptp, portmap = network["plugins"]
    assert name == "10-podcidr.conflist"
    assert (network["cniVersion"], ptp["type"], portmap["type"]) == ("1.1.0", "ptp", "portmap")
    assert ptp["ipam"]["type"] == "podcidr-ipam"
    assert f"--state-dir={ptp['ipam']['stateDir']}" in pod_spec(manifest, "agent")["containers"][0]["args"]


def test_init_container_installs_plugin_and_conflist(manifest: list[Object]) -> None:
    [container] = pod_spec(manifest, "agent")["initContainers"]
    config = parse_agent(container["args"][1:])
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert container["args"][0] == "agent"
    assert (config.install_cni, config.uninstall_cni) == (True, False)
    assert {config.cni_bin_dir, config.cni_conf_dir, str(Path(config.conflist or "").parent)} == mounts
    assert Path(config.conflist or "").name in find(manifest, "ConfigMap", "podcidr-conflist")["data"]


def test_manifest_names_no_host_of_a_registry() -> None:
    assert not re.findall(r"image: [\w.-]+\.\w+/", render.MANIFEST.read_text())
