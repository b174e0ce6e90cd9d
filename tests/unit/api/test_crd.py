"""The generated CRDs: complete, bounded, explained, and in step with the models."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from podcidr.api import convert, crd, names
from podcidr.api.models.ippool import IPPoolSpec
from podcidr.api.models.nodecidr import NodeCIDRSpec
from podcidr.core import grow

CRDS = Path(__file__).parents[3] / "crds"
MANIFESTS = {kind.name: crd.manifest(kind) for kind in crd.KINDS}


def schema(kind: str) -> dict[str, Any]:
    found: dict[str, Any] = MANIFESTS[kind]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return found


def nodes(node: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, node
    for name, part in node.get("properties", {}).items():
        yield from nodes(part, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in node:
            yield from nodes(node[key], f"{path}[]")


def parts() -> list[tuple[str, dict[str, Any]]]:
    return [
        found for kind in MANIFESTS for part in ("spec", "status") for found in nodes(schema(kind)["properties"][part], f"{kind}.{part}")
    ]


def with_defaults(node: dict[str, Any], value: Any) -> Any:
    """As the API server fills them in: outside first."""
    if isinstance(value, dict) and "properties" in node:
        filled = {n: part["default"] for n, part in node["properties"].items() if "default" in part} | value
        return {name: with_defaults(node["properties"][name], part) for name, part in filled.items()}
    return value


def test_the_files_are_what_the_models_say() -> None:
    assert crd.differences(CRDS) == []


def test_each_kind_has_its_names() -> None:
    assert {kind: (m["metadata"]["name"], m["spec"]["names"]["shortNames"]) for kind, m in MANIFESTS.items()} == {
        "IPPool": ("ippools.podcidr.io", ["ipp"]),
        "NodeCIDR": ("nodecidrs.podcidr.io", ["ncidr"]),
        "IPBlock": ("ipblocks.podcidr.io", ["ipb"]),
    }
    for manifest in MANIFESTS.values():
        assert manifest["spec"]["scope"] == "Cluster"
        assert manifest["spec"]["names"]["categories"] == ["podcidr"]
        (version,) = manifest["spec"]["versions"]
        assert (version["name"], version["served"], version["storage"], version["subresources"]) == ("v1alpha1", True, True, {"status": {}})


def test_kubectl_explains_every_field() -> None:
    assert [path for path, node in parts() if not path.endswith("[]") and not node.get("description")] == []


def test_everything_is_bounded() -> None:
    bound = {"string": {"maxLength", "enum"}, "array": {"maxItems"}}
    assert len(parts()) > 80
    for path, node in parts():
        if node["type"] in bound:
            assert bound[node["type"]] & node.keys(), path
        if "additionalProperties" in node:
            assert "maxProperties" in node, path


def test_counts_stop_where_json_stays_exact() -> None:
    usage = schema("IPPool")["properties"]["status"]["properties"]["ipv6"]["properties"]
    assert usage["capacity"]["maximum"] == usage["addresses"]["properties"]["free"]["maximum"] == names.MAX_COUNT == 2**53 - 1


def test_the_schema_fills_in_what_the_models_fill_in() -> None:
    pool = {"ipv4": {"cidrs": ["10.64.0.0/14"]}, "ipv6": {"cidrs": ["fd00:64::/48"]}, "scaling": {"minFreeAddresses": 1}}
    for value in (pool, {"ipv4": {"cidrs": ["10.64.0.0/14"]}}):
        assert with_defaults(schema("IPPool")["properties"]["spec"], value) == IPPoolSpec.model_validate(value).to_json()
    assert with_defaults(schema("NodeCIDR")["properties"]["spec"], {"epoch": 1}) == NodeCIDRSpec(epoch=1).to_json()


def test_the_operator_reads_a_pool_alike_with_and_without_its_defaults() -> None:
    """Objects stored under an older schema lack newer defaults until somebody writes them."""
    spec = {"ipv4": {"cidrs": ["10.64.0.0/14"]}, "ipv6": {"cidrs": ["fd00:64::/48"]}}
    metadata = {"name": "default", "uid": "u"}
    filled = with_defaults(schema("IPPool")["properties"]["spec"], spec)
    assert convert.pool({"metadata": metadata, "spec": spec}) == convert.pool({"metadata": metadata, "spec": filled})


def test_the_planner_keeps_to_the_limit_of_the_list() -> None:
    assert schema("NodeCIDR")["properties"]["spec"]["properties"]["blocks"]["maxItems"] == grow.MAX_NODE_BLOCKS


def test_status_has_no_defaults() -> None:
    """Defaults are filled in on every read: a 0 that nobody has counted would look like a fact."""
    assert [path for path, node in parts() if ".status" in path and "default" in node] == []


def test_every_rule_says_what_to_do() -> None:
    rules = [(path, rule) for path, node in parts() for rule in node.get("x-kubernetes-validations", [])]
    assert len(rules) > 20
    for path, rule in rules:
        assert rule["message"], path
        assert len(rule["message"]) > 20, path


def test_check_passes_on_fresh_files_and_fails_on_any_difference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--out", str(tmp_path)]
    assert crd.main(arguments) == 0
    assert crd.main([*arguments, "--check"]) == 0
    assert {path.name for path in tmp_path.iterdir()} == set(crd.files())

    path = tmp_path / "ippools.podcidr.io.yaml"
    path.write_text(path.read_text().replace("default: 28", "default: 27"))
    capsys.readouterr()
    assert crd.main([*arguments, "--check"]) == 1
    printed = capsys.readouterr().out
    assert "default: 27" in printed
    assert "make generate" in printed


@pytest.mark.parametrize("change", ["missing", "stale"])
def test_check_sees_missing_and_stale_files(tmp_path: Path, change: str) -> None:
    crd.main(["--out", str(tmp_path)])
    if change == "missing":
        (tmp_path / "ipblocks.podcidr.io.yaml").unlink()
    else:
        (tmp_path / "ipchunks.podcidr.io.yaml").write_text("kind: Old\n")
    assert crd.main(["--out", str(tmp_path), "--check"]) == 1


def test_a_wrong_directory_is_a_usage_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        crd.main(["--out", str(tmp_path / "nowhere")])
    assert caught.value.code == 2
    assert "nowhere is no directory" in capsys.readouterr().err


def test_the_files_are_plain_yaml_without_anchors() -> None:
    for name, text in crd.files().items():
        assert yaml.safe_load(text)["metadata"]["name"] + ".yaml" == name
        assert "&id" not in text
