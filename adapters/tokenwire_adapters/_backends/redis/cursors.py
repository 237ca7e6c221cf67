"""Key names, cursors and page tokens of the Redis backend."""

from __future__ import annotations

import re
from typing import TypeAlias

from tokenwire.errors import InvalidCursor

__all__ = ["EMPTY", "Position", "base_key", "format_cursor", "parse_cursor", "parse_page_token"]

Position: TypeAlias = tuple[int, int, int]
"""Milliseconds and sequence number of a stream entry, and the index of an event in it."""

EMPTY = "0-0-0"
"""The cursor of a channel without events."""

_CURSOR = re.compile(r"(0|[1-9][0-9]{0,15})-(0|[1-9][0-9]{0,15})-(0|[1-9][0-9]{0,8})", re.ASCII)
_ESCAPED = re.compile(r"[%{}]")


def base_key(prefix: str, channel: str) -> str:
    """The main key of a channel; its other keys begin with it, and share its hash tag.

    Braces in a channel's name would end the tag (Redis Cluster specification, "Hash tags"), so
    they are escaped as in URLs.
    """
    if "{" in channel or "}" in channel or "%" in channel:
        channel = _ESCAPED.sub(lambda match: f"%{ord(match[0]):02X}", channel)
    return f"{prefix}:{{{channel}}}"


def parse_cursor(cursor: str) -> Position:
    """Parse a cursor.

    :raises InvalidCursor: when it is malformed.
    """
    match = _CURSOR.fullmatch(cursor)
    if match is None:
        raise InvalidCursor(f"not a cursor: {cursor[:64]!a}")
    return int(match[1]), int(match[2]), int(match[3])


def format_cursor(position: Position) -> str:
    """The cursor of a position."""
    return f"{position[0]}-{position[1]}-{position[2]}"


def parse_page_token(token: str) -> tuple[str, int]:
    """Parse a page token into the id of the channel's first entry and a response's number.

    :raises InvalidCursor: when it is malformed.
    """
    ms, seq, number = parse_cursor(token)
    return f"{ms}-{seq}", number
