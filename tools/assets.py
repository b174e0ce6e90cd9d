"""Finds or builds the control-plane programs that tests and demo run: kube-apiserver, etcd and kubectl.

In this order: the directory KUBEBUILDER_ASSETS; PATH, if kube-apiserver there has our minor version; a build from
tools/controlplane, made once and kept in ~/.cache/podcidr. Needs nothing but Python's standard library.
"""

import argparse
import contextlib
import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

MODULE = Path(__file__).resolve().parent / "controlplane"
PROGRAMS = ("kube-apiserver", "etcd", "kubectl")
_PROGRESS_SECONDS = 5.0


@dataclass(frozen=True)
class Target:
    """A program to build."""

    name: str
    package: str
    takes: str  # on 2 cores, modules downloaded


_TARGETS = (
    Target("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver", "about 4 min on 2 cores"),
    Target("etcd", "go.etcd.io/etcd/server/v3", "about 10 s"),
    Target("kubectl", "k8s.io/kubernetes/cmd/kubectl", "about 30 s"),
)


class AssetsError(Exception):
    """The programs can't be had; says what to do about it."""

    exit_code = 1


class MissingError(AssetsError):
    """Something has to be installed or set first."""

    exit_code = 2


@dataclass(frozen=True)
class Pins:
    """What tools/controlplane/go.mod pins."""

    kubernetes: str
    go: str
    key: str

    @property
    def minor(self) -> str:
        """Kubernetes' minor version, such as v1.36."""
        return ".".join(self.kubernetes.split(".")[:2])


def read_pins(module: Path = MODULE) -> Pins:
    """Versions, and the key under which a build of just these is kept."""
    text = (module / "go.mod").read_text()
    kubernetes = re.search(r"^\s*k8s\.io/kubernetes (v[\d.]+)", text, re.MULTILINE)
    go = re.search(r"^go ([\d.]+)", text, re.MULTILINE)
    if not kubernetes or not go:
        raise AssetsError(f"{module / 'go.mod'} names no version of k8s.io/kubernetes or of Go")
    inputs = [text, (module / "go.sum").read_text(), platform.system(), platform.machine()]
    return Pins(kubernetes[1], go[1], hashlib.sha256("\0".join(inputs).encode()).hexdigest()[:12])


def cache_directory(pins: Pins) -> Path:
    """Where the build of these versions is kept."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "podcidr" / f"control-plane-{pins.key}"


def _complete(directory: Path) -> bool:
    return all(os.access(directory / name, os.X_OK) for name in PROGRAMS)


def _from_environment() -> Path | None:
    value = os.environ.get("KUBEBUILDER_ASSETS")
    if not value:
        return None
    missing = [name for name in PROGRAMS if not os.access(Path(value) / name, os.X_OK)]
    if missing:
        raise MissingError(f"KUBEBUILDER_ASSETS={value} holds no {', '.join(missing)}: put it there, or unset it")
    return Path(value).resolve()


def _from_path(pins: Pins) -> Path | None:
    found = shutil.which("kube-apiserver")
    directory = Path(found).parent if found else None
    if found is None or directory is None or not _complete(directory):
        return None
    answer = subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout
    return directory.resolve() if f"{pins.minor}." in answer else None


def find(pins: Pins) -> Path | None:
    """The directory that holds the programs, if nothing has to be built for it."""
    cached = cache_directory(pins)
    return _from_environment() or _from_path(pins) or (cached if _complete(cached) else None)


def locate() -> Path:
    """As `find`, or an error that says what to run."""
    if directory := find(read_pins()):
        return directory
    raise MissingError(f"{', '.join(PROGRAMS)} are not built yet: run `make assets`, or set KUBEBUILDER_ASSETS")


# --- building ---


def _go_version(go: str, *, setting: str) -> tuple[int, ...]:
    environment = {**os.environ, "GOTOOLCHAIN": setting}
    answer = subprocess.run([go, "env", "GOVERSION"], env=environment, cwd="/", capture_output=True, text=True, check=False).stdout
    return _numbers(answer)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])


def require_go(pins: Pins) -> str:
    """The path of a Go that can build, or an error that says which to install."""
    other = "or set KUBEBUILDER_ASSETS to a directory that holds " + ", ".join(PROGRAMS)
    go = shutil.which("go")
    if go is None:
        raise MissingError(f"Go is not installed: install Go {pins.go} or later, {other}")
    version = _go_version(go, setting="local")
    setting = subprocess.run([go, "env", "GOTOOLCHAIN"], cwd="/", capture_output=True, text=True, check=False).stdout
    # With GOTOOLCHAIN=auto, the default, Go fetches the version that go.mod asks for by itself.
    if version < _numbers(pins.go) and setting.strip() == "local":
        have = ".".join(map(str, version))
        raise MissingError(f"Go {have} is too old (GOTOOLCHAIN=local): install Go {pins.go} or later, {other}")
    return go


@contextlib.contextmanager
def locked(path: Path) -> Iterator[int]:
    """Hold a lock file: one build of a thing at a time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another build of the same is going on: waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def build(pins: Pins) -> Path:
    """Build all, into a directory that appears only when complete."""
    go = require_go(pins)
    final = cache_directory(pins)
    with locked(final.with_suffix(".lock")) as lock:
        if _complete(final):
            return final
        partial = final.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)  # of a build that was killed
        partial.mkdir()
        say(f"building the control plane for tests and demo (Kubernetes {pins.kubernetes}), once, into {final}")
        try:
            for target in _TARGETS:
                _build_one(go, target, pins, partial, lock)
            shutil.rmtree(final, ignore_errors=True)
            partial.rename(final)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return final


def _build_one(go: str, target: Target, pins: Pins, directory: Path, lock: int) -> None:
    say(f"{target.name}: building, {target.takes} after the download of its modules")
    flags = f"-s -w -X k8s.io/component-base/version.gitVersion={pins.kubernetes}"
    command = [go, "build", "-mod=readonly", "-trimpath", "-buildvcs=false", "-v", "-ldflags", flags]
    environment = {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off", "GOFLAGS": ""}
    started = time.monotonic()
    with tempfile.TemporaryFile("w+") as log:
        # The compiler holds the lock as well: if we are killed, the next build waits for it to end.
        process = subprocess.Popen(
            [*command, "-o", str(directory / target.name), target.package],
            cwd=MODULE, env=environment, stdout=log, stderr=subprocess.STDOUT, pass_fds=(lock,),
        )  # fmt: skip
        try:
            _report_progress(process, target, log, started)
        except BaseException:
            process.kill()
            process.wait()
            raise
        if process.returncode != 0:
            raise AssetsError(f"{target.name} does not build:\n{_tail(log)}")
    say(f"{target.name}: done in {time.monotonic() - started:.0f} s")


def _report_progress(process: subprocess.Popen[bytes], target: Target, log: IO[str], started: float) -> None:
    ended = threading.Event()
    while not ended.is_set():
        try:
            process.wait(_PROGRESS_SECONDS)
            ended.set()
        except subprocess.TimeoutExpired:
            lines = _read(log)
            fetched = sum(line.startswith("go: downloading") for line in lines)
            seconds = time.monotonic() - started
            say(f"{target.name}: {seconds:.0f} s, {fetched} modules fetched, {len(lines) - fetched} packages compiled")


def _read(log: IO[str]) -> list[str]:
    # pread: the compiler writes through the same file offset.
    size = os.fstat(log.fileno()).st_size
    return os.pread(log.fileno(), size, 0).decode(errors="replace").splitlines()


def _tail(log: IO[str]) -> str:
    return "\n".join(_read(log)[-20:])


def say(message: str) -> None:
    """Tell the person who waits; standard output is for the directory alone."""
    print(f"assets: {message}", file=sys.stderr, flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Find or build the programs."""
    parser = argparse.ArgumentParser(prog="assets.py", description="Find or build kube-apiserver, etcd and kubectl.")
    parser.add_argument("--print-dir", action="store_true", help="print only the directory that holds them")
    options = parser.parse_args(arguments)
    try:
        pins = read_pins()
        directory = find(pins) or build(pins)
    except AssetsError as error:
        print(f"assets: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("assets: interrupted, nothing kept", file=sys.stderr)
        return 130
    if options.print_dir:
        print(directory)
    else:
        say(f"{', '.join(PROGRAMS)} are in {directory}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
