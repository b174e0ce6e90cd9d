"""`podcidr operator` and `podcidr agent` as processes."""

import asyncio
import os
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import aiohttp

from tests.cluster.child import Child

ROOT = Path(__file__).resolve().parents[2]
# Compiled, as in the image: compiling at each start would cost half a second, and 2 MiB at the peak.
COMPILED = {"PYTHONPYCACHEPREFIX": str(ROOT / "build" / "pycache"), "PYTHONDONTWRITEBYTECODE": ""}
_SAMPLE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class Program(Child):
    """One of podcidr's long-running programs, listening on a free port."""

    def __init__(self, name: str, arguments: Sequence[str], *, kubeconfig: Path, directory: Path) -> None:
        self._ready_file = directory / f"{name}.ready"
        self._ready_file.unlink(missing_ok=True)
        command = [sys.executable, "-m", "podcidr", *arguments, f"--kubeconfig={kubeconfig}"]
        command += ["--listen=127.0.0.1:0", f"--ready-file={self._ready_file}", "--log-format=json"]
        path = os.pathsep.join(filter(None, [str(ROOT / "operator"), os.environ.get("PYTHONPATH")]))
        # One log for all lives of a name: after a kill -9 the old lines still tell what happened.
        super().__init__(name, command, directory / f"{name}.log", {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **COMPILED})
        self.address = ""

    async def ready(self, timeout_seconds: float = 60) -> Self:
        """Wait until it says that it is ready."""
        deadline = time.monotonic() + timeout_seconds
        while not self._ready_file.exists():
            if self.exit_code is not None:
                raise self.failure("ended before it was ready")
            if time.monotonic() > deadline:
                raise self.failure(f"was not ready after {timeout_seconds:g} s")
            await asyncio.sleep(0.01)
        self.address = self._ready_file.read_text().strip()
        return self

    async def get(self, path: str) -> tuple[int, str]:
        """Status and text of /healthz, /readyz or /metrics."""
        async with aiohttp.ClientSession() as session, session.get(f"http://{self.address}{path}") as reply:
            return reply.status, await reply.text()

    async def metrics(self) -> "Metrics":
        """What /metrics says now."""
        return Metrics((await self.get("/metrics"))[1])


class Metrics:
    """A parsed /metrics."""

    def __init__(self, text: str) -> None:
        self.samples = [(name, dict(_LABEL.findall(labels)), float(value)) for name, labels, value in _SAMPLE.findall(text)]

    def total(self, name: str, **labels: str) -> float:
        """The sum of the samples that have these labels; 0 if there is none."""
        return sum(value for sample, found, value in self.samples if sample == name and labels.items() <= found.items())
