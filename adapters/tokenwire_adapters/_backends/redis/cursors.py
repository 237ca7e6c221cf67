"""Names of keys, cursors and page tokens."""

from __future__ import annotations

import re
from typing import TypeAlias

from tokenwire.errors import InvalidCursor

__all__ = ["NOTHING", "Place", "base_key", "parse", "parse_page", "show"]

Place: TypeAlias = tuple[int, int, int]
"""Milliseconds and sequence number of a stream entry, and the index of an event in it."""

NOTHING = "0-0-0"
"""The cursor of a channel that has nothing yet."""

_CURSOR = re.compile(r"(0|[1-9][0-9]{0,15})-(0|[1-9][0-9]{0,15})-(0|[1-9][0-9]{0,8})", re.ASCII)
_ESCAPED = re.compile(r"[%{}]")


def base_key(prefix: str, channel: str) -> str:
    """The key of a channel; its other keys begin with it, and have the same hash tag.

    Braces in a channel's name would end the tag (Redis Cluster specification, "Hash tags"), so
    they are escaped as in URLs.
    """
    if "{" in channel or "}" in channel or "%" in channel:
        channel = _ESCAPED.sub(lambda found: f"%{ord(found[0]):02X}", channel)
    return f"{prefix}:{{{channel}}}"


def parse(cursor: str) -> Place:
    """Split a cursor.

    :raises InvalidCursor: when it is not one of ours.
    """
    found = _CURSOR.fullmatch(cursor)
    if found is None:
        raise InvalidCursor(f"not a cursor: {cursor[:64]!a}")
    return int(found[1]), int(found[2]), int(found[3])


def show(place: Place) -> str:
    """The cursor of a place."""
    return f"{place[0]}-{place[1]}-{place[2]}"


def parse_page(token: str) -> tuple[str, int]:
    """Split a page token into the id of its channel's first entry and the number of a response.

    :raises InvalidCursor: when it is not one of ours.
    """
    ms, seq, number = parse(token)
    return f"{ms}-{seq}", number
