"""Reads files that others write. Whatever lies there is read at once, whole and bounded, or it is Damaged.

A FIFO would block for ever, a link lead elsewhere, a document too big or too deep take the memory or the stack.
"""

import errno
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from podcidr.core.errors import PodcidrError

T = TypeVar("T")
MAX_BYTES = 1 << 22
# Whatever comes of a document that is not what it should be.
MALFORMED = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError, PodcidrError)
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_NO_FILE = (errno.ELOOP, errno.ENXIO)  # a link, a socket


class Damaged(Exception):
    """Something lies there, and it is not what it should be; the text names the path."""


def open_regular(path: Path, flags: int = _FLAGS) -> int:
    """A descriptor of a regular file. Raises Damaged for anything else, OSError as open(2) does."""
    try:
        fd = os.open(path, flags, 0o600)
    except OSError as error:
        if error.errno in _NO_FILE:
            raise Damaged(f"{shown(path)}: not a regular file") from error
        raise
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise Damaged(f"{shown(path)}: not a regular file")
    return fd


def content(path: Path, max_bytes: int = MAX_BYTES) -> bytes:
    """The whole file. Raises as `open_regular`."""
    fd = open_regular(path)
    try:
        size = os.fstat(fd).st_size
        if size > max_bytes:
            raise Damaged(f"{shown(path)}: {size} bytes, more than the {max_bytes} that are read of it")
        data = b""
        while chunk := os.read(fd, size + 1 - len(data)):  # never more than it had, however it grows
            data += chunk
        return data
    finally:
        os.close(fd)


def document(path: Path, max_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """The JSON object in it."""
    return parsed(path, parse_object, max_bytes)


def parsed(path: Path, parse: Callable[[bytes], T], max_bytes: int = MAX_BYTES) -> T:
    """What `parse` makes of the content; whatever it objects to is damage."""
    data = content(path, max_bytes)
    try:
        return parse(data)
    except MALFORMED as error:
        raise Damaged(f"{shown(path)}: {type(error).__name__}: {str(error)[:200]}") from error


def shown(path: Path) -> str:
    """A path as text that can be logged: a name need not be UTF-8."""
    return os.fsencode(path).decode(errors="backslashreplace")


def parse_object(data: bytes) -> dict[str, Any]:
    """The JSON object. Raises one of MALFORMED."""
    found = json.loads(data)
    if not isinstance(found, dict):
        raise ValueError("not a JSON object")
    return found
