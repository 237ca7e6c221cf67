"""The error object of the protocol, and the errors this server gives.

Codes, statuses and causes follow Ably's error reference (docs: platform/errors/codes). The
wording is ours, except where a client is known to show the metric name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["AblyError", "ErrorInfo"]


_STATUSES = {40009: 413, 90001: 404, 90003: 404, 90004: 404}


@dataclass(frozen=True)
class ErrorInfo:
    """An error of the protocol (spec TI1: code, statusCode, message).

    :ivar status: the HTTP status; 0: the one that is documented for the code.
    """

    code: int
    message: str
    status: int = 0

    def wire(self) -> dict[str, Any]:
        """Return the ``error`` member of a protocol message or of a REST body."""
        return {
            "code": self.code,
            "statusCode": self.http_status,
            "message": self.message,
            "href": f"https://help.ably.io/error/{self.code}",
        }

    @property
    def http_status(self) -> int:
        """The HTTP status. Most codes begin with theirs; those from 80000 on are 400."""
        general = self.code // 100 if self.code < 60_000 else 400
        return self.status or _STATUSES.get(self.code, general)


class AblyError(Exception):
    """Raised inside the server; becomes a NACK, an ERROR or a REST error."""

    def __init__(self, code: int, message: str, status: int = 0) -> None:
        super().__init__(f"{code}: {message}")
        self.info = ErrorInfo(code, message, status)
