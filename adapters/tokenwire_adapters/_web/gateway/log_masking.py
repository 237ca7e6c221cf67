"""Keeps tokens out of access logs."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any, cast

__all__ = ["MaskTokens", "masked", "protect"]

_TOKEN = re.compile(r"([?&;](?:access_)?token=)[^&\s\"'#;]*", re.IGNORECASE)
_BEARER = re.compile(r"(bearer[ .:=]+)[A-Za-z0-9._~+/-]{8,}=*", re.IGNORECASE)
_WORD = re.compile(r"[A-Za-z0-9_.-]+")  # the alphabet of a JSON Web Token
_JWT_BEGIN = "eyJ"  # {" in Base64


class MaskTokens(logging.Filter):
    """A logging filter that replaces tokens by ``***`` in messages and their arguments.

    A gateway that takes tokens puts one on uvicorn's loggers; put it on those of other servers.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg = _masked(record.msg)
        if isinstance(record.args, tuple):
            record.args = tuple(_masked(argument) for argument in record.args)
        elif isinstance(record.args, Mapping):
            arguments = cast("Mapping[str, Any]", record.args)
            record.args = {name: _masked(value) for name, value in arguments.items()}
        return True


def _masked(value: Any) -> Any:
    return masked(value) if isinstance(value, str) else value


def masked(text: str) -> str:
    """Replace what looks like a token by ``***``, in time linear in the text."""
    text = _BEARER.sub(r"\1***", _TOKEN.sub(r"\1***", text))
    if _JWT_BEGIN not in text:
        return text
    return _WORD.sub(lambda match: _without_jwts(match[0]), text)


def _without_jwts(word: str) -> str:
    """A word without JSON Web Tokens: three of its segments, of which the first is an object.

    A pattern for that would begin anew at each ``-eyJ`` and take quadratic time.
    """
    segments = word.split(".")
    kept: list[str] = []
    index = 0
    while index < len(segments):
        segment = segments[index]
        begin = _jwt_begin(segment) if index + 2 < len(segments) and segments[index + 1] else None
        if begin is None:
            kept.append(segment)
            index += 1
        else:
            kept.append(segment[:begin] + "***")
            index += 3
    return ".".join(kept)


def _jwt_begin(segment: str) -> int | None:
    """Where a segment may be the first of a token from; None where nowhere."""
    at = 0 if segment.startswith(_JWT_BEGIN) else segment.find(f"-{_JWT_BEGIN}") + 1
    begins = segment.startswith(_JWT_BEGIN, at)
    return at if begins and len(segment) - at >= len(_JWT_BEGIN) + 5 else None


def protect(*names: str) -> None:
    """Add the filter to loggers that have none."""
    for name in names:
        logger = logging.getLogger(name)
        if not any(isinstance(one, MaskTokens) for one in logger.filters):
            logger.addFilter(MaskTokens())
