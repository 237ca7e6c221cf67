"""The settings of the SQLite backend, from a URL and keyword arguments."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Literal
from urllib.parse import parse_qsl, unquote

import msgspec

from tokenwire._urls import split_url
from tokenwire.backend import Granularity
from tokenwire.memory import Retention
from tokenwire_adapters._backends.settings import (
    RETENTION_PARAMETERS,
    make_settings,
    parse_parameter,
)

__all__ = ["Settings", "from_url"]

_PARAMETERS: dict[str, Callable[[str], Any]] = {
    "granularity": str,
    "synchronous": str.upper,
    "timeout": float,
    "page_bytes": int,
    "event_age": float,
    **RETENTION_PARAMETERS,
}


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of the backend; each but the path is a query parameter of the URL.

    :ivar path: the absolute path of the database.
    :ivar granularity: see `Backend.granularity`.
    :ivar retention: how much each channel keeps.
    :ivar synchronous: ``"NORMAL"``: a loss of power may cost what was published last; ``"FULL"``:
        the disk confirms every transaction.
    :ivar timeout: seconds to wait for a lock that another process holds.
    :ivar page_bytes: most text in one page of history, or of a replay, in bytes.
    :ivar event_age: seconds for which a cursor can be continued event by event, in granularity
        ``"response"``; afterwards a response that has ended is one row.
    """

    path: str
    granularity: Granularity = "response"
    retention: Retention = Retention()
    synchronous: Literal["NORMAL", "FULL"] = "NORMAL"
    timeout: float = 5.0
    page_bytes: int = 2 * 2**20
    event_age: float = 60.0


def from_url(url: str, options: Mapping[str, Any]) -> Settings:
    """Parse a URL: ``sqlite:///relative/path.db`` or ``sqlite:////absolute/path.db``.

    :raises ValueError: when it is wrong, or a setting is.
    """
    parts = split_url(url)
    path = unquote(parts.path).removeprefix("/")
    if parts.scheme != "sqlite":
        raise ValueError(f"not a SQLite URL: {parts.scheme[:32]!a}://")
    if parts.netloc == ":memory:" or (not parts.netloc and path in ("", ":memory:")):
        raise ValueError("SQLite in memory is not shared between processes: use memory://")
    if parts.netloc or path.endswith("/") or not path.isprintable():
        raise ValueError("a path follows three slashes: sqlite:///chat.db, sqlite:////srv/chat.db")
    values: dict[str, Any] = {}
    for name, text in parse_qsl(parts.query, keep_blank_values=True):
        if name not in _PARAMETERS:
            raise ValueError(f"a sqlite:// URL has no parameter {name[:32]!a}; see docs/sqlite.md")
        values[name] = parse_parameter(name, text, _PARAMETERS[name])
    values.update(options, path=os.path.abspath(path))
    settings = make_settings(Settings, "SQLite", values)
    if settings.synchronous not in ("NORMAL", "FULL"):
        raise ValueError("synchronous must be 'NORMAL' or 'FULL'")
    if not settings.event_age >= 0:
        raise ValueError("event_age cannot be less than 0 seconds")
    return settings
