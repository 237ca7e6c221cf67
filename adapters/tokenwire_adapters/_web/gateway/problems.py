"""Errors as clients see them: problem documents (RFC 9457) and WebSocket error objects."""

from __future__ import annotations

import logging
import math
from typing import Any

import msgspec

from tokenwire.errors import (
    BackendError,
    BackendUnavailable,
    InvalidCursor,
    InvalidName,
    RateLimited,
    SinkClosed,
)

__all__ = ["AccessDenied", "Problem", "problem_of"]

logger = logging.getLogger("tokenwire.gateway")

_STATUS: dict[str, tuple[int, str]] = {
    "bad_request": (400, "Bad Request"),
    "bad_cursor": (400, "Bad Request"),
    "bad_format": (400, "Bad Request"),
    "bad_name": (400, "Bad Request"),
    "unauthorized": (401, "Unauthorized"),
    "token_expired": (401, "Unauthorized"),
    "forbidden": (403, "Forbidden"),
    "not_found": (404, "Not Found"),
    "method_not_allowed": (405, "Method Not Allowed"),
    "busy": (409, "Conflict"),
    "timeout": (408, "Request Timeout"),
    "too_large": (413, "Content Too Large"),
    "unsupported_media_type": (415, "Unsupported Media Type"),
    "invalid": (422, "Unprocessable Content"),
    "rate_limited": (429, "Too Many Requests"),
    "internal": (500, "Internal Server Error"),
    "unavailable": (503, "Service Unavailable"),
}
_TITLES = {414: "URI Too Long", 431: "Request Header Fields Too Large"}


class Problem(Exception):
    """An error that a client is sent. Handlers of a protocol's routes may raise it.

    :ivar code: one of the stable codes of docs/gateway.md.
    :ivar detail: for people; never has a secret in it.
    :ivar retry_after: seconds to wait before the next try.
    :ivar allow: the methods a route has, for ``method_not_allowed``.
    """

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        status: int | None = None,
        retry_after: float | None = None,
        allow: str | None = None,
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.status = status or _STATUS[code][0]
        self.retry_after = retry_after
        self.allow = allow
        if retry_after is None and self.status in (429, 503):
            self.retry_after = 1.0

    def document(self) -> bytes:
        """The body of a response with this problem."""
        title = _TITLES.get(self.status) or _STATUS[self.code][1]
        return msgspec.json.encode(
            {
                "type": "about:blank",
                "title": title,
                "status": self.status,
                "code": self.code,
                "detail": self.detail,
            }
        )

    def headers(self) -> list[tuple[bytes, bytes]]:
        """The headers that belong to it, beside content type and length."""
        headers: list[tuple[bytes, bytes]] = []
        if self.retry_after is not None:
            headers.append((b"retry-after", str(max(1, math.ceil(self.retry_after))).encode()))
        if self.status == 401:
            expired = ', error="invalid_token"' if self.code == "token_expired" else ""
            headers.append((b"www-authenticate", f'Bearer realm="tokenwire"{expired}'.encode()))
        if self.allow is not None:
            headers.append((b"allow", self.allow.encode()))
        return headers

    def error(self) -> dict[str, Any]:
        """The same as an error object on a WebSocket."""
        error: dict[str, Any] = {"code": self.code, "status": self.status, "message": self.detail}
        if self.retry_after is not None:
            error["retry_after"] = round(self.retry_after, 3)
        return error


class AccessDenied(Exception):
    """Raise it in `authorize` to refuse, with a message that the client may see.

    :param message: for the client.
    :param status: 401 (come back with other credentials) or 403 (do not).
    """

    def __init__(self, message: str = "not allowed", *, status: int = 403) -> None:
        if status not in (401, 403):
            raise ValueError(f"status must be 401 or 403, not {status!r}")
        super().__init__(message)
        self.message = message
        self.status = status


def problem_of(error: Exception) -> Problem:
    """Convert any exception to the problem that a client is sent."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, InvalidName):
        return Problem("bad_name", str(error))
    if isinstance(error, InvalidCursor):
        return Problem("bad_cursor", str(error))
    if isinstance(error, RateLimited):
        return Problem("unavailable", "the backend is overloaded", retry_after=error.retry_after)
    if isinstance(error, BackendUnavailable | SinkClosed):
        logger.warning("tokenwire gateway: backend unavailable: %s", error)
        return Problem("unavailable", "the backend cannot be reached now", retry_after=2)
    if isinstance(error, BackendError):
        logger.warning("tokenwire gateway: the backend refused: %s", error)
        return Problem("invalid", "the backend did not accept this")
    if isinstance(error, ValueError):
        return Problem("bad_request", str(error)[:500])
    logger.error("tokenwire gateway: unexpected error", exc_info=error)
    return Problem("internal", "internal error; the server's log says more")
