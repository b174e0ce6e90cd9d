"""kopf's part: IPPools as events, nothing written. The only module that imports kopf.

No create/update/delete handlers: those persist their progress into annotations of the user's objects.
"""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import kopf

from podcidr.api import names
from podcidr.kube.credentials import Credentials

OnPool = Callable[[str | None, dict[str, Any]], None]


async def serve_pools(credentials: Credentials, on_pool: OnPool, stop: asyncio.Event, ready: asyncio.Event) -> None:
    """Watch the pools until `stop`; ends with an exception if kopf gives up (the process then ends too)."""
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    async def login(**_: Any) -> kopf.AiohttpSession:
        return kopf.AiohttpSession(server=credentials.server, aiohttp_session=_session(credentials))

    @kopf.on.event(names.GROUP, names.VERSION, names.PLURAL_IPPOOLS, registry=registry)
    async def pool(event: Mapping[str, Any], **_: Any) -> None:  # a returned value would be written into status
        on_pool(event["type"], dict(event["object"]))

    await kopf.operator(registry=registry, settings=_settings(), clusterwide=True, stop_flag=stop, ready_flag=ready)


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.peering.standalone = True  # kopf's peering is no lock; the Lease is ours
    settings.scanning.disabled = True  # the CRDs are there before kopf starts
    settings.posting.enabled = False
    settings.watching.chunk_size = 500
    settings.watching.server_timeout = 300
    settings.queueing.worker_limit = 100
    settings.queueing.idle_timeout = 0.05  # workers / idle time is the rate: the default 5 s means 20 objects a second
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 5
    settings.process.ultimate_exiting_timeout = 30
    return settings


def _session(credentials: Credentials) -> aiohttp.ClientSession:
    """A session of kopf's own: it closes it at its end and on every 401, then logs in anew (with a fresh token)."""
    token = credentials.token
    if credentials.token_file:
        token = Path(credentials.token_file).read_text(encoding="utf-8").strip()
    headers = {"User-Agent": names.MANAGER_OPERATOR} | ({"Authorization": f"Bearer {token}"} if token else {})
    connector = aiohttp.TCPConnector(limit=64, ssl=credentials.ssl_context() or False)
    return aiohttp.ClientSession(connector=connector, headers=headers)
