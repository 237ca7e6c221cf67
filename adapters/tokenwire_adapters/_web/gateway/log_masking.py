"""Keeps tokens out of access logs."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any, cast

__all__ = ["MaskTokens"]

_TOKEN = re.compile(r"([?&;](?:access_)?token=)[^&\s\"'#;]*", re.IGNORECASE)
_BEARER = re.compile(r"(bearer[ .:=]+)[A-Za-z0-9._~+/-]{8,}=*", re.IGNORECASE)
_JWT = re.compile(r"\beyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")


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
    if not isinstance(value, str):
        return value
    return _JWT.sub("***", _BEARER.sub(r"\1***", _TOKEN.sub(r"\1***", value)))


def protect(*names: str) -> None:
    """Add the filter to loggers that have none."""
    for name in names:
        logger = logging.getLogger(name)
        if not any(isinstance(one, MaskTokens) for one in logger.filters):
            logger.addFilter(MaskTokens())
