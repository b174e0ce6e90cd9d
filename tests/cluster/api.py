"""The harness's own way to the API server: asynchronous, and independent of the product's client."""

import json
from typing import Any, Self

import aiohttp

from tests.cluster.control_plane import ApiError, ControlPlane

MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"


class Api:
    """Requests as the admin."""

    def __init__(self, plane: ControlPlane, connections: int = 32) -> None:
        self._plane = plane
        self._connections = connections

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(ssl=self._plane.ssl_context, limit=self._connections)
        headers = {"Authorization": f"Bearer {self._plane.admin_token}"}
        self._session = aiohttp.ClientSession(self._plane.url, connector=connector, headers=headers)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def request(self, method: str, path: str, body: Any = None, *, content_type: str = "application/json") -> dict[str, Any]:
        """One request; raises ApiError."""
        data = None if body is None else json.dumps(body).encode()
        async with self._session.request(method, path, data=data, headers={"Content-Type": content_type}) as reply:
            answer: dict[str, Any] = await reply.json(content_type=None)
        if reply.status >= 400:
            raise ApiError(reply.status, answer, f"{method} {path}")
        return answer

    async def get(self, path: str) -> dict[str, Any]:
        """GET, consistent."""
        return await self.request("GET", path)

    async def items(self, path: str) -> list[dict[str, Any]]:
        """All objects of a list."""
        found: list[dict[str, Any]] = (await self.get(path))["items"]
        return found

    async def create(self, path: str, body: Any) -> dict[str, Any]:
        """POST."""
        return await self.request("POST", path, body)

    async def create_missing(self, path: str, body: Any) -> None:
        """POST; it may exist already."""
        try:
            await self.create(path, body)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise

    async def merge(self, path: str, body: Any) -> dict[str, Any]:
        """PATCH, a merge patch."""
        return await self.request("PATCH", path, body, content_type=MERGE_PATCH)

    async def delete(self, path: str, uid: str | None = None, grace_seconds: int = 0) -> None:
        """DELETE; what is gone already, or has another uid, is left."""
        options: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": grace_seconds}
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        try:
            await self.request("DELETE", path, options)
        except ApiError as error:
            if error.status not in (404, 409):
                raise
