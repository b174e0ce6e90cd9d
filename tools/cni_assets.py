"""Builds the CNI reference plugins that tests and demo run (ptp and bridge), and `attach`, our runtime.

Pinned in tools/cni, made once, a few seconds, and kept in ~/.cache/podcidr.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from tools import assets

MODULE = Path(__file__).resolve().parent / "cni"
PROGRAMS = ("attach", "ptp", "bridge")
_REFERENCE = "github.com/containernetworking/plugins/plugins"
_PACKAGES = ("./attach", f"{_REFERENCE}/main/ptp", f"{_REFERENCE}/main/bridge")


def directory() -> Path:
    """Where a build of just these sources is kept, whether it is there or not."""
    inputs = [(MODULE / name).read_text() for name in ("go.mod", "go.sum", "attach/main.go")]
    key = hashlib.sha256("\0".join([*inputs, platform.system(), platform.machine()]).encode()).hexdigest()[:12]
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "podcidr" / f"cni-{key}"


def build() -> Path:
    """Build what is missing, into a directory that appears only when complete; gives it."""
    final = directory()
    if final.is_dir():
        return final
    go = shutil.which("go")
    if go is None:
        raise assets.MissingError("the CNI reference plugins are built with Go: install Go (see README)")
    with assets.locked(final.with_suffix(".lock")):
        if not final.is_dir():
            _compile(go, final)
    return final


def _compile(go: str, final: Path) -> None:
    assets.say(f"building {', '.join(PROGRAMS)}, once, into {final}")
    partial = final.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a build that was killed
    partial.mkdir()
    command = [go, "build", "-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", f"{partial}/", *_PACKAGES]
    environment = {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off", "GOFLAGS": ""}
    done = subprocess.run(command, cwd=MODULE, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise assets.AssetsError(f"the CNI reference plugins do not build:\n{done.stderr.strip()}")
    partial.rename(final)


def main() -> int:
    """Print the directory that holds them."""
    try:
        print(build())
    except assets.AssetsError as error:
        print(f"cni_assets: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
