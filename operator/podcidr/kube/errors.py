"""What can become of a request: a definite answer, an unknown outcome, or never sent."""

import json
from collections.abc import Mapping
from typing import Any


class KubeError(Exception):
    """A request that did not succeed; this very class stands for answers that have no class of their own."""

    definite = True  # the server answered, or nothing was sent: a write did not happen

    def __init__(self, message: str, *, status: int = 0, reason: str = "", retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.reason = reason
        self.retry_after_seconds = retry_after_seconds

    def __str__(self) -> str:
        return f"{self.status} {self.reason}: {self.message}" if self.status else self.message


class BadRequest(KubeError):
    """400: the request makes no sense to the server."""


class Unauthorized(KubeError):
    """401: the credentials are not accepted."""


class Forbidden(KubeError):
    """403: RBAC, an admission policy or a quota says no."""


class NotFound(KubeError):
    """404."""


class Conflict(KubeError):
    """409: the resourceVersion or uid that was named is not the object's any more."""


class AlreadyExists(KubeError):
    """409 to a create: the name is taken."""


class Gone(KubeError):
    """410: the resourceVersion or continue token is too old; list again."""


class Invalid(KubeError):
    """422: validation, or the failed test of a JSON patch (only a read tells which)."""


class TooManyRequests(KubeError):
    """429, still after the client's own retries."""


class OutcomeUnknown(KubeError):
    """Time-out, connection lost after sending, 5xx: the write may have happened. Read before anything else."""

    definite = False


class Stalled(OutcomeUnknown):
    """A watch on which neither event nor bookmark came for longer than the server leaves it silent."""


class Unreachable(KubeError):
    """No connection: the request was never sent."""


class Fenced(KubeError):
    """Refused by our own fence before sending: this process may not write (any more)."""


_BY_STATUS: dict[int, type[KubeError]] = {
    400: BadRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    422: Invalid,
    429: TooManyRequests,
}


def from_status(status: Mapping[str, Any], *, retry_after_seconds: float | None = None) -> KubeError:
    """Translate a Kubernetes Status object: an answer's body, or the object of an ERROR event on a watch."""
    code = int(status.get("code") or 0)
    reason = str(status.get("reason") or "")
    kind = _BY_STATUS.get(code, OutcomeUnknown if code >= 500 or code == 408 else KubeError)
    if kind is Conflict and reason == "AlreadyExists":
        kind = AlreadyExists
    message = str(status.get("message") or "no message")
    return kind(message, status=code, reason=reason, retry_after_seconds=retry_after_seconds)


def from_reply(status: int, body: bytes, headers: Mapping[str, str]) -> KubeError:
    """Translate an HTTP answer of 300 or above; the body need not be a Status (proxies answer too)."""
    try:
        parsed = json.loads(body)
    except ValueError:
        parsed = None
    if not isinstance(parsed, dict) or parsed.get("kind") != "Status":
        parsed = {"message": body[:200].decode("utf-8", "replace").strip()}
    return from_status({**parsed, "code": status}, retry_after_seconds=_seconds(headers.get("Retry-After")))


def _seconds(value: str | None) -> float | None:
    """Retry-After in seconds; the API server never sends the date form."""
    return float(value) if value and value.isdigit() else None
