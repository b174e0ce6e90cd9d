"""Cleans up after a process that died in any way, kill -9 included: its children, mounts and temporary directories.

Runs as a program of its own session. Its standard input is a pipe whose other end only the guarded process holds,
so its end of file is that process's end. Each line on it is `process PID` or `directory PATH`.
"""

import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

_DETACH = 2  # MNT_DETACH of umount2(2)


class Watchdog:
    """The guarded process's end: starts the program on first use, one for each process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pipe: int | None = None  # a bare descriptor, held until the very end of this process

    def guard_process(self, pid: int) -> None:
        """Have this child killed when we are gone."""
        self._send(f"process {pid}")

    def guard_directory(self, path: Path) -> None:
        """Have this directory unmounted and removed when we are gone."""
        self._send(f"directory {path}")

    def _send(self, line: str) -> None:
        with self._lock:
            if self._pipe is None:
                self._pipe = _start()
            os.write(self._pipe, line.encode() + b"\n")


def _start() -> int:
    reader, writer = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", __file__], stdin=reader, start_new_session=True, cwd="/",
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    process.returncode = 0  # never waited for: it outlives us, so its object must not warn that it still runs
    os.close(reader)
    return writer


def remove_directory(path: Path) -> None:
    """Remove a directory with the network namespaces that are bind-mounted in it."""
    mounts = Path("/proc/self/mountinfo")
    libc = ctypes.CDLL(None)
    for line in mounts.read_text().splitlines() if mounts.exists() else []:
        point = line.split()[4].encode().decode("unicode_escape")
        if Path(point).is_relative_to(path):
            libc.umount2(point.encode(), _DETACH)
    shutil.rmtree(path, ignore_errors=True)


def _kill(pidfds: list[int]) -> None:
    for pidfd in pidfds:
        try:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        except ProcessLookupError:
            continue
        # A directory can only be removed once nobody writes into it any more.
        select.select([pidfd], [], [], 5)


def main() -> None:
    """Read what to guard until the end of the pipe, then clean up."""
    pidfds: list[int] = []
    directories: list[Path] = []
    for line in sys.stdin:
        kind, _, value = line.rstrip("\n").partition(" ")
        if kind == "directory":
            directories.append(Path(value))
            continue
        try:
            # A pidfd, not a number: another process may get the number after our child has ended.
            pidfds.append(os.pidfd_open(int(value)))
        except ProcessLookupError:
            continue
    _kill(pidfds)
    for path in directories:
        remove_directory(path)


WATCHDOG = Watchdog()

if __name__ == "__main__":
    main()
