"""Attachments read from disk."""

import json
import os
from pathlib import Path

import click
import pytest

from podcidr.cli.statedirs import read_state_dir, read_state_dirs


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    for name in ("attachments", "addresses"):
        (tmp_path / name).mkdir()
    (tmp_path / "allocation.json").write_text(json.dumps({"version": 1, "node": "n1"}))
    return tmp_path


def attach(directory: Path, container: str, *addresses: str) -> Path:
    record = {
        "version": 1, "container": container, "pod": {"namespace": "team", "name": "web", "uid": "u"},
        "ips": [{"address": address, "pool": "default"} for address in addresses],
    }  # fmt: skip
    path = directory / "attachments" / f"net:{container}:eth0"
    path.write_text(json.dumps(record))
    for address in addresses:
        os.link(path, directory / "addresses" / address)
    return path


def test_a_dual_stack_attachment_is_one_with_two_addresses(directory: Path) -> None:
    attach(directory, "c1", "10.64.0.2", "fd00::2")
    found = read_state_dir(directory)
    assert (found.node, found.containers, found.problems) == ("n1", 1, ())
    assert [str(one) for one in found.attachments] == ["attachment of team/web"] * 2
    assert {one.address.family for one in found.attachments} == {"ipv4", "ipv6"}


def test_an_attachment_without_its_link_holds_nothing(directory: Path) -> None:
    attach(directory, "c1", "10.64.0.2")
    (directory / "addresses" / "10.64.0.2").unlink()
    assert read_state_dir(directory).attachments == ()


def test_a_record_that_cannot_be_read_holds_its_address(directory: Path) -> None:
    (directory / "addresses" / "10.64.0.9").write_text("{")
    (directory / "addresses" / "10.64.0.8").write_text(json.dumps({"version": 9}))
    (directory / "addresses" / "nonsense").write_text("{}")
    (directory / "addresses" / "x.new").write_text("{}")
    found = read_state_dir(directory)
    assert [one.address.number & 255 for one in found.attachments] == [8, 9]
    assert len(found.problems) == 3


def test_one_directory_by_two_paths_is_one(directory: Path, tmp_path: Path) -> None:
    attach(directory, "c1", "10.64.0.2")
    (tmp_path / "link").symlink_to(directory)
    assert len(read_state_dirs([str(directory), str(tmp_path / "link"), f"{directory}/."])) == 1


def test_which_node_it_is_may_be_unknown(directory: Path) -> None:
    (directory / "allocation.json").unlink()
    found = read_state_dir(directory)
    assert (found.node, found.problems) == ("", (f"{directory}/allocation.json is missing: which node this is, is not known",))


def test_what_is_no_state_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(click.UsageError, match=r"no state directory \(it has no addresses/\)"):
        read_state_dir(tmp_path)
