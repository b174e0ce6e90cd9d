"""How a command ends that did not end by itself: one line on standard error and a status of its own, never a traceback.

Stands before every other import of the CLI, for those take a second in which a person may think better of it.
"""

import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType

OUTPUT_FAILED, INTERRUPTED, BROKEN_PIPE, TERMINATED = 4, 130, 141, 143
USAGE = 2
STOPPED = "what was done stays done; the same command goes on from there"


class Terminated(KeyboardInterrupt):
    """SIGTERM: as Ctrl-C, so that what is printed is not lost."""


def run(argv: Sequence[str]) -> int:
    """A command from its first import to its last line; its exit status."""
    if sys.stdout is None:  # `>&-`; a file opened later could get its number
        return _say("standard output is closed: nothing was done", OUTPUT_FAILED)
    signal.signal(signal.SIGTERM, _terminate)
    try:
        from podcidr.cli.main import main

        status = main(argv)
        sys.stdout.flush()
    except BaseException as error:  # noqa: BLE001, RUF100 - SystemExit and KeyboardInterrupt are what it is for
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        return _ended(error)
    return status


def _terminate(_number: int, _frame: FrameType | None) -> None:
    raise Terminated


def _ended(error: BaseException) -> int:
    """Its status. What is printed already still goes out, if it can; Python would complain once more at its end if not."""
    try:
        sys.stdout.flush()
    except OSError as failure:
        error = failure
    lost = _lost(error)
    if lost:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE if isinstance(lost, BrokenPipeError) else _say(f"output not written: {lost.strerror}", OUTPUT_FAILED)
    if isinstance(error, Terminated):
        return _say(f"terminated; {STOPPED}", TERMINATED)
    if isinstance(error, KeyboardInterrupt):
        return _say(f"interrupted; {STOPPED}", INTERRUPTED)
    if isinstance(error, SystemExit) and not error.code:
        return 0
    if isinstance(error, OSError):
        return _say(str(error), USAGE)
    raise error


def _lost(error: BaseException) -> OSError | None:
    """Why standard output takes no more. Whoever read it has seen enough: click and rich make an exit with status 1 of that."""
    if isinstance(error, SystemExit) and error.code:
        return BrokenPipeError()
    if isinstance(error, OSError) and error.filename is None:
        return error
    return None


def _say(words: str, status: int) -> int:
    with suppress(OSError):
        os.write(2, f"podcidr: {words}\n".encode())
    return status
