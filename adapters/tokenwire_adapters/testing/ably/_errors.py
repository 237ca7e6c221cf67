"""The error object of the protocol, and the errors this server gives.

Codes, statuses and causes follow Ably's error reference (docs: platform/errors/codes). The
wording is ours, except where a client is known to show the metric name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["AblyError", "ErrorInfo"]


@dataclass(frozen=True)
class ErrorInfo:
    """An error as it travels (spec TI1: code, statusCode, message)."""

    code: int
    status: int
    message: str

    def wire(self) -> dict[str, Any]:
        """Return the ``error`` member of a protocol message or of a REST body."""
        return {
            "code": self.code,
            "statusCode": self.status,
            "message": self.message,
            "href": f"https://help.ably.io/error/{self.code}",
        }


class AblyError(Exception):
    """Raised inside the server; becomes a NACK, an ERROR or a REST error."""

    def __init__(self, code: int, status: int, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.info = ErrorInfo(code, status, message)
