"""/healthz, /readyz and /metrics, served by the event loop they speak for."""

import asyncio
import contextlib
import errno
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import NamedTemporaryFile

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

# None: well. Else what is wrong, in words.
Probe = Callable[[], str | None]

_POLL_SECONDS = 0.05


def check_ready_file(program: str, name: str | None) -> bool:
    """Say at the start, not when it is due, that the ready file can't be written: who waits for it would wait for ever."""
    try:
        if name:
            if Path(name).is_dir():
                raise IsADirectoryError(errno.EISDIR, "is a directory")
            with NamedTemporaryFile("w", dir=Path(name).parent, prefix=f".{Path(name).name}."):
                return True
    except OSError as error:
        print(
            f"{program}: --ready-file {name}: {error.strerror}; name a file in a directory that exists and that this user can write",
            file=sys.stderr,
        )
        return False
    return True


class Endpoints:
    """One small server. Not prometheus_client's own: its thread goes on answering when the loop is dead."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        registry: CollectorRegistry,
        healthy: Probe,
        ready: Probe,
        ready_file: str | None = None,
    ) -> None:
        self._host = host
        self._port = port
        self._registry = registry
        self._healthy = healthy
        self._ready = ready
        self._ready_file = Path(ready_file) if ready_file else None
        self._runner: web.AppRunner | None = None
        self._announcement: asyncio.Task[None] | None = None
        self.address = ""  # HOST:PORT, the real one, once started

    async def start(self) -> None:
        """Listen (port 0: any free one); the ready file appears when `ready` first says so."""
        app = web.Application()
        app.add_routes(
            [
                web.get("/healthz", self._answer_healthz),
                web.get("/readyz", self._answer_readyz),
                web.get("/metrics", self._answer_metrics),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        if self._ready_file is not None:
            self._announcement = asyncio.create_task(self._announce(self._ready_file), name="ready-file")

    async def stop(self) -> None:
        """Stop listening and take the ready file away."""
        if self._announcement is not None:
            self._announcement.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._announcement
        if self._ready_file is not None:
            self._ready_file.unlink(missing_ok=True)
        if self._runner is not None:
            await self._runner.cleanup()

    async def _announce(self, path: Path) -> None:
        path.unlink(missing_ok=True)  # of an earlier life
        while self._ready() is not None:  # noqa: ASYNC110 - it is asked, and never tells
            await asyncio.sleep(_POLL_SECONDS)
        # By rename: whoever sees the file sees all of it.
        with NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            file.write(f"{self.address}\n")
        Path(file.name).replace(path)

    async def _answer_healthz(self, _request: web.Request) -> web.Response:
        return _verdict(self._healthy())

    async def _answer_readyz(self, _request: web.Request) -> web.Response:
        return _verdict(self._ready())

    async def _answer_metrics(self, _request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


def _verdict(trouble: str | None) -> web.Response:
    return web.Response(status=503, text=f"{trouble}\n") if trouble else web.Response(text="ok\n")
