"""Builds the plugin from this tree: what `make plugin` does."""

import os
import shutil
import subprocess
from pathlib import Path

from tests.cluster.program import ROOT


class PluginError(RuntimeError):
    """The plugin can't be built; says why."""


def build_plugin() -> Path:
    """Build it (nothing to do if it is up to date); gives its path."""
    target = ROOT / "build" / "podcidr-ipam"
    go = shutil.which("go")
    if go is None:
        raise PluginError("Go is not installed, and the plugin is built with it: install Go (see README)")
    command = [go, "build", "-trimpath", "-ldflags", "-s -w", "-o", str(target), "."]
    environment = {**os.environ, "CGO_ENABLED": "0"}
    done = subprocess.run(command, cwd=ROOT / "plugin", env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise PluginError(f"the plugin does not build:\n{done.stderr.strip()}")
    return target
