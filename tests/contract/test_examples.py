"""Every example is taken by the real API server as it stands, and means what its CRDs say."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from podcidr.api.convert import pool as convert_pool
from tests.cluster.control_plane import ControlPlane
from tests.cluster.program import ROOT

EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))


def documents(example: Path) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(example.read_text()) if document]


def test_there_are_examples() -> None:
    assert [example.name[:2] for example in EXAMPLES] == ["01", "02", "03", "04", "05", "06"]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.stem)
def test_the_api_server_takes_it_without_a_warning(clean_control_plane: ControlPlane, example: Path) -> None:
    # Strict: a misspelt field is an error and not silently dropped.
    clean_control_plane.kubectl("apply", "--validate=strict", "-f", example)
    for document in documents(example):
        if document["kind"] == "IPPool":
            path = f"/apis/podcidr.io/v1alpha1/ippools/{document['metadata']['name']}"
            assert convert_pool(clean_control_plane.request("GET", path)).invalid is None


def test_a_misspelt_field_would_be_noticed(clean_control_plane: ControlPlane) -> None:
    manifest = EXAMPLES[0].read_text().replace("blockPrefixLength", "blockPrefixLenght")
    with pytest.raises(RuntimeError, match="blockPrefixLenght"):
        clean_control_plane.kubectl("apply", "--validate=strict", "-f", "-", input=manifest)


def test_no_two_examples_overlap(clean_control_plane: ControlPlane) -> None:
    """Who tries them one after the other meets no CIDROverlap."""
    pools = []
    for example in EXAMPLES:
        clean_control_plane.kubectl("apply", "-f", example)
    for item in clean_control_plane.request("GET", "/apis/podcidr.io/v1alpha1/ippools")["items"]:
        pools += [cidr for space in convert_pool(item).spaces.values() for cidr in space.cidrs]
    assert [(str(a), str(b)) for a in pools for b in pools if a is not b and a.overlaps(b)] == []
