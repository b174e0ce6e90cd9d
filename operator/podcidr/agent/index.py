"""The plugin's index (docs/state-dir.md): what cools down, and single entries. Anything foreign is as good as missing."""

import os
import struct
from collections.abc import Iterator
from pathlib import Path

from podcidr import files
from podcidr.agent.records import Address
from podcidr.core.prefix import BITS, Family, Prefix

FREE = 0
HELD = 0xFFFFFFFF
_MAGIC = b"podcidrX"
_VERSION = 1
_HEADER = struct.Struct("<8sIIQQQ24x64s")
_ROW = struct.Struct("<16sBB2xIQ")
_CHANGED_AT = struct.Struct("<Q"), 32
_ENTRY = struct.Struct("<I")
_FAMILIES = {4: Family.IPV4, 6: Family.IPV6}
_MAX_BYTES = 1 << 26  # 256 blocks of the largest size


def cooling(path: Path, state_id: str, now_seconds: float) -> dict[Address, int]:
    """The addresses that rest, and until which boottime second."""
    return cooling_and_held(path, state_id, now_seconds)[0]


def cooling_and_held(path: Path, state_id: str, now_seconds: float) -> tuple[dict[Address, int], set[Address]]:
    """Those, and the addresses that it says are held: never one that is not, so each has an attachment somewhere."""
    rest: dict[Address, int] = {}
    held: set[Address] = set()
    content = _read(path)
    for block, offset in _rows(content, state_id, now_seconds):
        for position, until in enumerate(struct.unpack_from(f"<{block.size}I", content, offset)):
            if until == FREE:
                continue
            if until == HELD:
                held.add(Address(block.family, block.address + position))
            elif until > now_seconds:
                rest[Address(block.family, block.address + position)] = until
    return rest, held


def write(path: Path, state_id: str, address: Address, entry: int, now_seconds: int) -> None:
    """Set one address's entry in place, under the lock. Without a row nothing is said: the plugin looks at addresses/."""
    content = _read(path)
    for block, offset in _rows(content, state_id, now_seconds):
        if block.family is address.family and block.address <= address.number <= block.last:
            fd = files.open_regular(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                os.pwrite(fd, _ENTRY.pack(entry), offset + 4 * (address.number - block.address))
                changed_at, position = _CHANGED_AT
                os.pwrite(fd, changed_at.pack(now_seconds), position)
            finally:
                os.close(fd)
            return


def _read(path: Path) -> bytes:
    try:
        return files.content(path, _MAX_BYTES)
    except (FileNotFoundError, files.Damaged):
        return b""


def _rows(content: bytes, state_id: str, now_seconds: float) -> Iterator[tuple[Prefix, int]]:
    """Each block and the offset of its entries."""
    if len(content) < _HEADER.size:
        return
    magic, version, rows, size, _, changed_at, owner = _HEADER.unpack_from(content)
    ours = (_MAGIC, _VERSION, len(content), state_id.encode())
    if (magic, version, size, owner.rstrip(b"\0")) != ours or changed_at > now_seconds + 1:
        return
    if len(content) < _HEADER.size + rows * _ROW.size:
        return
    for row in range(rows):
        first, family_number, length, count, offset = _ROW.unpack_from(content, _HEADER.size + row * _ROW.size)
        family = _FAMILIES.get(family_number)
        if family is None or length > BITS[family]:
            return
        block = Prefix(family, int.from_bytes(first[: BITS[family] // 8]), length)
        if count != block.size or offset + 4 * count > len(content) or block.address & (block.size - 1):
            return
        yield block, offset
