"""Network namespaces as runtimes make them: bind mounts in a directory. Where not root: held files of the same names."""

import asyncio
import ctypes
import os
import secrets
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_CLONE_NEWNET = 0x40000000
_MS_BIND = 4096
_MNT_DETACH = 2
_LIBC = ctypes.CDLL(None, use_errno=True)


class NetworkNamespaces:
    """Makes and removes them, about 1 ms each: a thread enters a new one, and no process is forked."""

    def __init__(self, directory: Path, *, real: bool = True) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        # One thread of our own: it stays in the namespace that it made last, so nothing else may run in it.
        self._thread = ThreadPoolExecutor(1, "network-namespaces")
        self._held: dict[Path, int] = {}
        self.real = real and self._can_make()

    def _can_make(self) -> bool:
        try:
            probe = self._thread.submit(self._make, True).result()
        except PermissionError:
            return False
        self._thread.submit(self._remove, probe).result()
        return True

    async def make(self) -> Path:
        """A new one; gives its path."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._make, self.real)

    async def remove(self, path: Path) -> None:
        """Remove one; one that is gone already is left."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._remove, path)

    def close(self) -> None:
        """Remove all that are left."""
        for path in list(self._held):
            self._thread.submit(self._remove, path).result()
        self._thread.shutdown()

    def _make(self, real: bool) -> Path:
        path = self._directory / f"cni-{secrets.token_hex(8)}"
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDONLY | os.O_CLOEXEC, 0o444)
        if real:
            os.close(descriptor)
            descriptor = -1
            try:
                _call("unshare", _CLONE_NEWNET)
                _call("mount", b"/proc/thread-self/ns/net", os.fsencode(path), None, _MS_BIND, None)
            except OSError:
                path.unlink()
                raise
        self._held[path] = descriptor
        return path

    def _remove(self, path: Path) -> None:
        descriptor = self._held.pop(path, None)
        if descriptor is None:
            return
        if descriptor >= 0:
            os.close(descriptor)
        else:
            _call("umount2", os.fsencode(path), _MNT_DETACH)
        path.unlink()


def _call(name: str, *arguments: object) -> None:
    if getattr(_LIBC, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
