"""Positions in a channel.

A cursor is the serial of a message's version, which sorts as Ably's log does. Where several events
come of one message, or a message sorts before one that came earlier, two numbers are added.
"""

from __future__ import annotations

import re
from typing import TypeAlias

from tokenwire.errors import InvalidCursor

__all__ = ["START", "Order", "parse", "show"]

Order: TypeAlias = tuple[str, int, int]
"""Serial; how many came since with a serial that sorts no later; events still to come, negative."""

START: Order = ("", 0, 0)
_FORM = re.compile(r"a([0-9A-Za-z@:._-]{0,200})(?:~([0-9]{1,15})~([0-9]{1,9}))?")


def show(order: Order) -> str:
    """The cursor of a position."""
    serial, bump, left = order
    return f"a{serial}~{bump}~{-left}" if bump or left else f"a{serial}"


def parse(cursor: str) -> Order:
    """The position of a cursor.

    :raises InvalidCursor: when it is not one of ours.
    """
    match = _FORM.fullmatch(cursor)
    if match is None or (match[1] and not match[1][0].isdigit()):
        raise InvalidCursor(f"not a cursor: {cursor[:64]!a}")
    return match[1], int(match[2] or 0), -int(match[3] or 0)
