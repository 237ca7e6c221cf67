"""Typed access to untrusted JSON, and the one way this package writes JSON."""

from __future__ import annotations

import json
import math
from typing import Any

__all__ = ["BadRequest", "as_text", "clean", "dumps", "loads"]


class BadRequest(Exception):
    """The request is well-formed HTTP, and answered with an error of its API.

    :param message: what is wrong, for the developer who sent it.
    :param param: the field that is wrong, where it is one field.
    :param status: the HTTP status to answer with.
    :param retry: seconds after which the client may try again.
    """

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        status: int = 400,
        retry: float | None = None,
    ) -> None:
        super().__init__(message)
        self.retry = retry
        self.message = message
        self.param = param
        self.status = status


def as_text(value: Any) -> str:
    """Return the value when it is a JSON string that UTF-8 can carry, else ``""``."""
    return clean(value) if isinstance(value, str) else ""


def clean(text: str) -> str:
    """Replace lone surrogates, which JSON may hold and UTF-8 may not."""
    return text.encode("utf-8", "replace").decode("utf-8")


def dumps(value: Any) -> str:
    """Compact JSON with characters as they are, the way the providers write it."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text if text.isascii() else clean(text)


def loads(data: bytes) -> Any:
    """Parse strict JSON.

    :raises BadRequest: the bytes are no JSON, or hold a number that JSON cannot represent.
    """
    try:
        return json.loads(data, parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError):
        raise BadRequest("The body of the request is not valid JSON.") from None


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number
