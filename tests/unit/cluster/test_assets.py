import fcntl
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cluster.program import ROOT
from tools import assets

SCRIPT = ROOT / "tools" / "assets.py"


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def go(directory: Path, version: str, build: str, toolchain: str = "local") -> None:
    """A `go` that answers `go env`, and builds by `build`, in which $out is where to write."""
    program(
        directory / "go",
        f"""case "$1 $2" in
          "env GOVERSION") echo go{version} ;;
          "env GOTOOLCHAIN") echo {toolchain} ;;
          *) while [ "$1" != -o ]; do shift; done; out=$2; {build} ;;
        esac""",
    )


def run(tmp_path: Path, *flags: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """With nothing on PATH but the shell's basics and what the test put into bin."""
    environment = {"PATH": f"{tmp_path / 'bin'}:/bin", "HOME": str(tmp_path), **variables}
    command = [sys.executable, str(SCRIPT), *flags]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)


def cached(tmp_path: Path, base: str = ".cache") -> Path:
    return tmp_path / base / "podcidr" / f"control-plane-{assets.read_pins().key}"


BUILDS = 'printf "#!/bin/sh\\necho built\\n" > $out; chmod +x $out'


def test_without_go_one_line_says_what_to_install(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert f"install Go {assets.read_pins().go} or later, or set KUBEBUILDER_ASSETS" in line


@pytest.mark.parametrize("toolchain", ["local", "auto"])
def test_old_go_is_refused_unless_it_may_fetch_a_newer_one(tmp_path: Path, toolchain: str) -> None:
    go(tmp_path / "bin", "1.21.4", BUILDS, toolchain)
    done = run(tmp_path)
    if toolchain == "auto":
        assert done.returncode == 0, done.stderr
    else:
        assert done.returncode == 2
        assert "Go 1.21.4 is too old (GOTOOLCHAIN=local): install Go" in done.stderr


def test_build_is_kept_and_the_second_call_is_instant(tmp_path: Path) -> None:
    go(tmp_path / "bin", "1.99.0", BUILDS)
    first = run(tmp_path, "--print-dir", XDG_CACHE_HOME=str(tmp_path / "other"))
    assert first.returncode == 0, first.stderr
    assert first.stdout.strip() == str(cached(tmp_path, "other"))
    assert "kube-apiserver: building, about 4 min on 2 cores" in first.stderr
    assert sorted(path.name for path in cached(tmp_path, "other").iterdir()) == sorted(assets.PROGRAMS)

    (tmp_path / "bin" / "go").unlink()
    started = time.monotonic()
    second = run(tmp_path, "--print-dir", XDG_CACHE_HOME=str(tmp_path / "other"))
    assert time.monotonic() - started < 1
    assert (second.stdout, second.stderr) == (first.stdout, "")


def test_failed_build_leaves_nothing_and_shows_the_compiler(tmp_path: Path) -> None:
    go(tmp_path / "bin", "1.99.0", 'case $out in *etcd) echo "no such module" >&2; exit 1 ;; esac; ' + BUILDS)
    done = run(tmp_path)
    assert done.returncode == 1
    assert "etcd does not build:\nno such module" in done.stderr
    assert [path.suffix for path in cached(tmp_path).parent.iterdir()] == [".lock"]


def test_leftovers_of_a_killed_build_are_not_taken_for_one(tmp_path: Path) -> None:
    partial = cached(tmp_path).with_suffix(".partial")
    program(partial / "kube-apiserver", "echo half")
    go(tmp_path / "bin", "1.99.0", BUILDS)
    done = run(tmp_path)
    assert done.returncode == 0, done.stderr
    assert "built" in (cached(tmp_path) / "kube-apiserver").read_text()
    assert not partial.exists()


def test_killed_build_keeps_its_lock_until_the_compiler_ends(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    go(tmp_path / "bin", "1.99.0", f"read word < {gate}; {BUILDS}")
    environment = {"PATH": f"{tmp_path / 'bin'}:/bin", "HOME": str(tmp_path)}
    command = [sys.executable, str(SCRIPT)]
    first = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    with gate.open("w") as compiler:  # opens once the compiler reads
        first.kill()
        first.wait()
        assert not cached(tmp_path).exists()
        go(tmp_path / "bin", "1.99.0", BUILDS)
        second = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        assert second.stderr is not None
        assert "waiting for it" in second.stderr.readline()
        compiler.write("on\n")
    _, complaint = second.communicate(timeout=30)
    assert second.returncode == 0, complaint
    assert cached(tmp_path).is_dir()


def test_two_builds_at_once_wait_for_each_other(tmp_path: Path) -> None:
    go(tmp_path / "bin", "1.99.0", BUILDS)
    lock = cached(tmp_path).with_suffix(".lock")
    lock.parent.mkdir(parents=True)
    environment = {"PATH": f"{tmp_path / 'bin'}:/bin", "HOME": str(tmp_path)}
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        process = subprocess.Popen([sys.executable, str(SCRIPT)], env=environment, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        assert "waiting for it" in process.stderr.readline()
        assert process.poll() is None
    _, complaint = process.communicate(timeout=30)
    assert process.returncode == 0, complaint


def test_given_directory_has_to_hold_all(tmp_path: Path) -> None:
    given = tmp_path / "given"
    program(given / "etcd", "")
    program(cached(tmp_path) / "kube-apiserver", "")
    done = run(tmp_path, KUBEBUILDER_ASSETS=str(given))
    assert done.returncode == 2
    assert f"KUBEBUILDER_ASSETS={given} holds no kube-apiserver, kubectl" in done.stderr
    for name in assets.PROGRAMS:
        program(given / name, "")
    assert run(tmp_path, "--print-dir", KUBEBUILDER_ASSETS=str(given)).stdout.strip() == str(given)


@pytest.mark.parametrize(("version", "taken"), [("{minor}.9", True), ("v1.20.2", False)])
def test_path_is_taken_with_the_same_minor_version_only(tmp_path: Path, version: str, taken: bool) -> None:
    shown = version.format(minor=assets.read_pins().minor)
    for name in assets.PROGRAMS:
        program(tmp_path / "bin" / name, f"echo Kubernetes {shown}")
    done = run(tmp_path, "--print-dir")
    assert (done.stdout.strip() == str(tmp_path / "bin")) is taken
    assert taken or "Go is not installed" in done.stderr


def test_module_is_complete_and_names_no_registry() -> None:
    sums = (assets.MODULE / "go.sum").read_text()
    assert f"k8s.io/kubernetes {assets.read_pins().kubernetes} h1:" in sums
    assert "://" not in sums + (assets.MODULE / "go.mod").read_text()


def test_locate_says_what_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KUBEBUILDER_ASSETS", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", os.devnull)
    with pytest.raises(assets.MissingError, match="run `make assets`"):
        assets.locate()
