"""Cursors of the Ably backend: positions in a channel's log.

A cursor is the serial of a message's version, which sorts as Ably's log does. Two numbers are added
where several events come from one message, or a message arrives after one that it sorts before.
"""

from __future__ import annotations

import re
from typing import TypeAlias

from tokenwire.errors import InvalidCursor

__all__ = ["START", "Position", "format_cursor", "parse_cursor"]

Position: TypeAlias = tuple[str, int, int]
"""The serial; how many messages since sort no later than it; minus the events still to come."""

START: Position = ("", 0, 0)
_CURSOR = re.compile(r"a([0-9A-Za-z@:._-]{0,200})(?:~([0-9]{1,15})~([0-9]{1,9}))?")


def format_cursor(position: Position) -> str:
    """The cursor of a position."""
    serial, bump, remaining = position
    return f"a{serial}~{bump}~{-remaining}" if bump or remaining else f"a{serial}"


def parse_cursor(cursor: str) -> Position:
    """Parse a cursor.

    :raises InvalidCursor: when it is malformed.
    """
    match = _CURSOR.fullmatch(cursor)
    if match is None or (match[1] and not match[1][0].isdigit()):
        raise InvalidCursor(f"not a cursor: {cursor[:64]!a}")
    return match[1], int(match[2] or 0), -int(match[3] or 0)
