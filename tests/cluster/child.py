"""A child process that never outlives us, with its output in a file."""

import ctypes
import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.cluster.watchdog import WATCHDOG

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)  # loaded before any fork


def _die_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class ChildError(RuntimeError):
    """A child ended, or was not ready, when it should have been; says what it last wrote."""


class Child:
    """One running program."""

    def __init__(self, name: str, argv: Sequence[str | Path], log: Path, env: Mapping[str, str] | None = None) -> None:
        self.name = name
        self.log = log
        # PDEATHSIG follows the *thread* that forked, so it is of use in the main thread only. A session of its own:
        # Ctrl-C in the terminal reaches us alone, and we stop our children in order.
        main_thread = threading.current_thread() is threading.main_thread()
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [str(word) for word in argv], stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                env=None if env is None else {**os.environ, **env}, start_new_session=True,
                preexec_fn=_die_with_parent if main_thread else None,  # noqa: PLW1509 - one system call, no lock taken
            )  # fmt: skip
        WATCHDOG.guard_process(self.pid)

    @property
    def pid(self) -> int:
        """The process ID."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative: the signal that ended it."""
        return self._process.poll()

    def kill(self) -> None:
        """Kill -9, and wait for the end."""
        self._process.kill()
        self._process.wait()

    def terminate(self, grace_seconds: float = 10) -> int:
        """SIGTERM, and SIGKILL after the grace; gives the exit code."""
        self._process.terminate()
        try:
            return self._process.wait(grace_seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            return self._process.wait()

    def pause(self) -> None:
        """SIGSTOP: a process that hangs."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self._process.send_signal(signal.SIGCONT)

    def wait(self, timeout_seconds: float) -> int:
        """Wait for its end; gives the exit code."""
        return self._process.wait(timeout_seconds)

    def output(self) -> str:
        """All that it wrote so far."""
        return self.log.read_text(errors="replace")

    def failure(self, what: str) -> ChildError:
        """An error that ends with the last lines of the log."""
        code = self.exit_code
        state = f"it ended with exit code {code}" if code is not None else "it still runs"
        tail = "\n".join(f"  {line[:400]}" for line in self.output().splitlines()[-15:])
        return ChildError(f"{self.name} {what} ({state}); its last lines:\n{tail}")

    def peak_memory_bytes(self) -> int:
        """The largest resident memory so far (VmHWM)."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        raise self.failure("has no VmHWM")
