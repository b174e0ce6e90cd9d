"""Plugin and conflist on a node: in place by rename, never over another network's, away when nothing needs them."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from podcidr.agent.installation import Installation, InstallationError
from tests.cluster.program import COMPILED, ROOT

OURS = {"cniVersion": "1.1.0", "name": "podcidr", "plugins": [{"type": "ptp", "ipam": {"type": "podcidr-ipam"}}, {"type": "portmap"}]}
NAME = "10-podcidr.conflist"
ANSWERS = """#!/bin/sh
[ "$CNI_COMMAND" = VERSION ] && echo '{"cniVersion": "1.1.0", "supportedVersions": ["1.1.0"]}'
"""
NESTED = {"name": "m", "type": "multus", "delegates": [{"type": "macvlan", "ipam": {"type": "podcidr-ipam"}}]}


class Node:
    """A node's directories, and the files of the image."""

    def __init__(self, root: Path) -> None:
        self.bin, self.conf, self.state = root / "bin", root / "net.d", root / "state"
        self.plugin, self.conflist = root / "podcidr-ipam", root / "image" / NAME
        for directory in (self.bin, self.conf, self.conflist.parent, self.state / "attachments"):
            directory.mkdir(parents=True)
        self.plugin.write_text(ANSWERS)
        self.conflist.write_text(json.dumps(OURS))
        self.target = self.conf / NAME
        self.installation = Installation(self.plugin, self.bin, self.conf, self.conflist)

    def files(self) -> dict[str, int]:
        """Each file with its inode."""
        return {path.name: path.stat().st_ino for path in (*self.bin.iterdir(), *self.conf.iterdir())}


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_both_are_put_in_place(node: Node) -> None:
    node.installation.install()
    assert sorted(node.files()) == [NAME, "podcidr-ipam"], "no temporary file stays"
    assert (node.bin / "podcidr-ipam").stat().st_mode & 0o777 == 0o755
    assert node.target.stat().st_mode & 0o777 == 0o644


def test_what_is_up_to_date_is_left_alone(node: Node) -> None:
    node.installation.install()
    before = node.files()
    node.installation.install()
    assert node.files() == before
    (node.bin / "podcidr-ipam").chmod(0o644)
    node.installation.install()
    assert (node.bin / "podcidr-ipam").stat().st_mode & 0o777 == 0o755


def test_a_plugin_that_runs_is_replaced(node: Node) -> None:
    sleep = shutil.which("sleep")
    assert sleep
    target = node.bin / "podcidr-ipam"
    shutil.copy(sleep, target)
    running = subprocess.Popen([target, "600"])
    try:
        with pytest.raises(OSError, match="Text file busy"):
            target.open("r+b")
        node.installation.install()
        assert target.read_text() == ANSWERS
        assert running.poll() is None
    finally:
        os.kill(running.pid, signal.SIGKILL)
        running.wait()


def test_an_installation_that_was_killed_is_made_again(node: Node) -> None:
    (node.bin / ".podcidr-ipam.new").write_text("half")
    node.target.touch()
    node.installation.install()
    assert sorted(node.files()) == [NAME, "podcidr-ipam"]
    assert json.loads(node.target.read_text()) == OURS


def test_no_reader_finds_half_a_file(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    node.target.write_text(json.dumps({**OURS, "cniVersion": "1.0.0"}))
    before = node.target.read_text()

    def power_fails(_: int) -> None:
        assert node.target.read_text() == before
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", power_fails)
    with pytest.raises(InstallationError, match="Input/output error"):
        node.installation.install()
    assert node.target.read_text() == before


def test_no_conflist_without_a_plugin(node: Node) -> None:
    node.plugin.unlink()
    with pytest.raises(InstallationError, match="No such file"):
        node.installation.install()
    assert not node.files()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (json.dumps({**OURS, "name": "theirs"}), "holds network 'theirs'"),
        (json.dumps({"name": "podcidr", "plugins": [{"type": "bridge", "ipam": {"type": "host-local"}}]}), "holds network 'podcidr'"),
        ('{"name": "theirs"', "holds no configuration of ours"),
        ("[]", "holds no configuration of ours"),
    ],
)
def test_the_configuration_of_another_network_is_safe(node: Node, content: str, told: str) -> None:
    node.target.write_text(content)
    with pytest.raises(InstallationError, match=told) as error:
        node.installation.install()
    assert "cni.conflist.name" in str(error.value)
    with pytest.raises(InstallationError, match=told):
        node.installation.uninstall(node.state)
    assert node.target.read_text() == content


@pytest.mark.parametrize(
    "content", ["", "{", '{"name": "x", "plugins": [{"type": "ptp"}]}', '{"plugins": 7}', json.dumps({**OURS, "name": ""})]
)
def test_only_a_configuration_that_calls_us_is_installed(node: Node, content: str) -> None:
    node.conflist.write_text(content)
    with pytest.raises(InstallationError, match="--conflist"):
        node.installation.install()
    assert not node.files()


def test_without_a_conflist_only_the_plugin_is_ours(node: Node) -> None:
    node.target.write_text(json.dumps({**OURS, "name": "theirs"}))
    Installation(node.plugin, node.bin, node.conf).install()
    assert sorted(node.files()) == [NAME, "podcidr-ipam"]
    assert json.loads(node.target.read_text())["name"] == "theirs"


def test_uninstall_takes_all_away(node: Node) -> None:
    node.installation.install()
    other = node.conf / "20-other.conflist"
    other.write_text("{}")
    (node.bin / "ptp").touch()
    node.installation.uninstall(node.state)
    assert sorted(node.files()) == ["20-other.conflist", "ptp"]
    node.installation.uninstall(node.state)  # again: nothing to do


@pytest.mark.parametrize("user", ["attachment", "interface.new", "address", "conflist", "single", "nested", "broken", "deep"])
def test_the_plugin_stays_while_something_calls_it(node: Node, user: str) -> None:
    node.installation.install()
    paths = {
        "attachment": (node.state / "attachments" / "podcidr:c1:eth0", "{}"),
        "interface.new": (node.state / "attachments" / "podcidr:c1:eth0.new", "{}"),
        "address": (node.state / "addresses" / "10.0.0.1", "{}"),
        "nested": (node.conf / "00-multus.conf", json.dumps(NESTED)),
        "broken": (node.conf / "99-x.conf", "{"),
        "deep": (node.conf / "99-x.conf", "[" * 100_000),
        "conflist": (node.conf / "00-multus.conflist", json.dumps({**OURS, "name": "theirs"})),
        "single": (node.conf / "00-macvlan.conf", json.dumps({"name": "m", "type": "macvlan", "ipam": {"type": "podcidr-ipam"}})),
    }
    path, content = paths[user]
    if user == "address":
        shutil.rmtree(node.state / "attachments")
        path.parent.mkdir()
    path.write_text(content)
    node.installation.uninstall(node.state)
    assert not node.target.exists()
    assert (node.bin / "podcidr-ipam").exists()
    path.unlink()
    node.installation.uninstall(node.state)
    assert not (node.bin / "podcidr-ipam").exists()


def test_what_no_runtime_reads_keeps_nothing(node: Node) -> None:
    node.installation.install()
    (node.conf / "aa.conflist").mkdir()
    os.mkfifo(node.conf / "ab.conf")
    (node.conf / "ac.conf").symlink_to("nowhere")
    (node.conf / "ad.conf").touch()
    (node.conf / "notes.txt").write_text(json.dumps(NESTED))
    (node.state / "attachments" / "attachment.new").touch()
    node.installation.uninstall(node.state)
    assert not (node.bin / "podcidr-ipam").exists()


@pytest.mark.parametrize(
    "content", [b"root:x:0:0\n", b"", b"\x7fELF", b"#!/bin/sh\nexit 0\n", b"#!/bin/sh\necho '{}'\n", b"#!/bin/sh\ncat; exit 1\n"]
)
def test_only_what_answers_as_a_plugin_is_installed(node: Node, content: bytes) -> None:
    node.installation.install()
    before = node.files()
    node.plugin.write_bytes(content)
    with pytest.raises(InstallationError, match=r"--plugin .*; name the program podcidr-ipam"):
        node.installation.install()
    assert node.files() == before, "what was there stays, and nothing half beside it"


@pytest.mark.parametrize(("number", "remedy"), [(28, "make room"), (30, "read-only"), (13, "exist and be writable")])
def test_a_disk_that_takes_no_more_is_said_and_left_clean(node: Node, monkeypatch: pytest.MonkeyPatch, number: int, remedy: str) -> None:
    def fail(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(InstallationError, match=remedy):
        node.installation.install()
    assert not node.files()


@pytest.mark.parametrize("kind", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("/etc/passwd")])
def test_what_stands_in_its_place_hangs_nobody(node: Node, kind: Callable[[Path], object]) -> None:
    kind(node.bin / "podcidr-ipam")
    if (node.bin / "podcidr-ipam").is_dir():
        with pytest.raises(InstallationError, match="a directory stands there"):
            node.installation.install()
    else:
        node.installation.install()
        assert (node.bin / "podcidr-ipam").read_text() == ANSWERS


def run(node: Node, *flags: str) -> subprocess.CompletedProcess[str]:
    paths = [f"--plugin={node.plugin}", f"--cni-bin-dir={node.bin}", f"--cni-conf-dir={node.conf}", f"--conflist={node.conflist}"]
    command = [sys.executable, "-m", "podcidr", "agent", *flags, *paths, f"--state-dir={node.state}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "operator"), **COMPILED}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_as_a_command_it_needs_neither_a_node_nor_a_cluster(node: Node) -> None:
    assert run(node, "--install-cni").returncode == 0
    assert sorted(node.files()) == [NAME, "podcidr-ipam"]
    assert run(node, "--uninstall-cni").returncode == 0
    assert not node.files()
    node.target.write_text("{}")
    done = run(node, "--install-cni")
    assert done.returncode == 1
    assert "no configuration of ours" in done.stderr
    assert "Traceback" not in done.stderr
    assert run(node, "--install-cni", "--uninstall-cni").returncode == 2
