"""Render the chart to `deploy/podcidr.yaml` and copy the CRDs into it; with `--check`, only compare.

Helm is needed for this alone: nobody who installs with kubectl, and no test or demo, needs it.
"""

import argparse
import difflib
import fcntl
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODULE = ROOT / "tools" / "helm"
CHART = ROOT / "charts" / "podcidr"
MANIFEST = ROOT / "deploy" / "podcidr.yaml"
RELEASE = "podcidr"
NAMESPACE = "podcidr-system"

HEADER = """\
# Generated from charts/podcidr by `make generate`; change the chart, not this file.
#
# podcidr for those who install with kubectl alone. The CRDs come first and are files of their own,
# so that deleting what is below never deletes a pool or the record of who holds which block:
#
#   kubectl apply -f crds/
#   kubectl apply -f deploy/podcidr.yaml
"""


class HelmMissingError(Exception):
    """There is no helm, and none can or may be built."""


def pinned_version() -> str:
    """Return the version of helm in the module that pins it, such as `v4.3.1`."""
    found = re.search(r"helm\.sh/helm/v4 (v\S+)", (MODULE / "go.mod").read_text())
    if not found:
        raise HelmMissingError(f"{MODULE / 'go.mod'} requires no helm.sh/helm/v4")
    return found[1]


def cached_helm() -> Path:
    """Return where the helm that we build is kept, whether it is there or not."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "podcidr" / f"helm-{pinned_version()}" / "helm"


def find_helm() -> Path | None:
    """Return a helm of the pinned minor version that is there already, if any."""
    minor = pinned_version().rpartition(".")[0] + "."
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    for candidate in (assets and shutil.which("helm", path=assets), shutil.which("helm"), cached_helm()):
        if candidate and Path(candidate).exists() and _version(Path(candidate)).startswith(minor):
            return Path(candidate)
    return None


def _version(helm: Path) -> str:
    asked = subprocess.run([helm, "version", "--template", "{{.Version}}"], capture_output=True, text=True, check=False)
    return asked.stdout.strip()


def helm_or_build() -> Path:
    """Return a helm of the pinned minor version, built once per version and machine if there is none."""
    return find_helm() or _build()


def _build() -> Path:
    helm = cached_helm()
    go = shutil.which("go")
    if go is None:
        raise HelmMissingError(f"rendering the chart needs helm {pinned_version()} or Go to build it: install either")
    helm.parent.mkdir(parents=True, exist_ok=True)
    with _locked(helm.parent / "lock"):
        if helm.exists():  # another process built it while we waited for the lock
            return helm
        _compile(go, helm)
    return helm


def _compile(go: str, helm: Path) -> None:
    print(f"building helm {pinned_version()} into {helm.parent} (once; about 3 minutes on 2 cores)", file=sys.stderr)
    began = time.monotonic()
    partial = helm.with_suffix(".partial")
    flags = f"-s -w -X helm.sh/helm/v4/internal/version.version={pinned_version()}"
    command = [go, "build", "-trimpath", "-ldflags", flags, "-o", str(partial), "helm.sh/helm/v4/cmd/helm"]
    subprocess.run(command, cwd=MODULE, env={**os.environ, "CGO_ENABLED": "0", "GOWORK": "off", "GOFLAGS": ""}, check=True)
    partial.rename(helm)  # a build that was interrupted never looks like a finished one
    print(f"built in {time.monotonic() - began:.0f} s", file=sys.stderr)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def template(helm: Path, *arguments: str) -> str:
    """Return what the chart gives as YAML; `arguments` go to `helm template`."""
    command = [str(helm), "template", RELEASE, str(CHART), "--namespace", NAMESPACE, *arguments]
    rendered = subprocess.run(command, capture_output=True, text=True, check=False)
    if rendered.returncode:
        raise ChildProcessError(rendered.stderr.strip())
    return rendered.stdout


def manifest(helm: Path) -> str:
    """Return the text of `deploy/podcidr.yaml`."""
    # helm makes the namespace with --create-namespace; kubectl needs it in the file.
    text = template(helm, "--set", "namespace.create=true")
    lines = [line.rstrip() for line in text.splitlines() if not line.startswith("# Source: ")]
    return HEADER + "\n".join(lines).replace("\n\n---\n", "\n---\n") + "\n"


def generated(helm: Path) -> dict[Path, str]:
    """Return every file that follows from another one, with the text that it should have."""
    crds = {CHART / "crds" / crd.name: crd.read_text() for crd in sorted((ROOT / "crds").glob("*.yaml"))}
    return {**crds, MANIFEST: manifest(helm)}


def stale(wanted: dict[Path, str]) -> list[Path]:
    """Return the files that are not as generated, those in the chart's `crds/` that have no source included."""
    leftover = [crd for crd in (CHART / "crds").glob("*.yaml") if crd not in wanted]
    return leftover + [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]


def _show(path: Path, wanted: str) -> None:
    name = str(path.relative_to(ROOT))
    have = path.read_text() if path.exists() else ""
    sys.stdout.writelines(difflib.unified_diff(have.splitlines(True), wanted.splitlines(True), name, f"{name} (generated)"))


def _write(path: Path, text: str | None) -> None:
    if text is None:
        path.unlink()
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def main(argv: list[str] | None = None) -> int:
    """Write the generated files, or with `--check` say which of them differ."""
    parser = argparse.ArgumentParser(prog="render.py", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; show differences and exit 1 if any")
    check = parser.parse_args(argv).check
    try:
        wanted = generated(helm_or_build())
    except (HelmMissingError, ChildProcessError, subprocess.CalledProcessError) as error:
        print(f"render.py: {error}", file=sys.stderr)
        return 2
    differing = stale(wanted)
    for path in differing:
        if check:
            _show(path, wanted.get(path, ""))
        else:
            _write(path, wanted.get(path))
            print(f"wrote {path.relative_to(ROOT)}" if path in wanted else f"removed {path.relative_to(ROOT)}")
    return int(check and bool(differing))


if __name__ == "__main__":
    sys.exit(main())
