"""Key names, cursors and page tokens of the Redis backend."""

from __future__ import annotations

import re
from typing import TypeAlias
from urllib.parse import unquote

from tokenwire.errors import InvalidCursor

__all__ = [
    "EMPTY",
    "Position",
    "base_key",
    "channel_of_key",
    "format_cursor",
    "log_of",
    "parse_cursor",
    "parse_page_token",
    "with_log",
]

Position: TypeAlias = tuple[int, int, int]
"""Milliseconds and sequence number of a stream entry, and the index of an event in it."""

EMPTY = "0-0-0"
"""The cursor of a channel without events."""

_NUMBER = r"(0|[1-9][0-9]{0,15})"
_CURSOR = re.compile(
    rf"{_NUMBER}-{_NUMBER}-(0|[1-9][0-9]{{0,8}})(?:-({_NUMBER}-{_NUMBER}))?", re.ASCII
)
_ESCAPED = re.compile(r"[%{}]")


def base_key(prefix: str, channel: str) -> str:
    """The main key of a channel; its other keys begin with it, and share its hash tag.

    Braces in a channel's name would end the tag (Redis Cluster specification, "Hash tags"), so
    they are escaped as in URLs.
    """
    if "{" in channel or "}" in channel or "%" in channel:
        channel = _ESCAPED.sub(lambda match: f"%{ord(match[0]):02X}", channel)
    return f"{prefix}:{{{channel}}}"


def channel_of_key(prefix: str, key: bytes) -> str | None:
    """The channel whose main key this is; None where it is no main key of one."""
    begin, text = f"{prefix}:{{", key.decode(errors="replace")
    name = text.removeprefix(begin).removesuffix("}")
    if f"{begin}{name}}}" != text or "{" in name or "}" in name or "\ufffd" in text:
        return None
    return unquote(name)


def _match(cursor: str) -> re.Match[str]:
    match = _CURSOR.fullmatch(cursor)
    if match is None:
        raise InvalidCursor(f"not a cursor: {cursor[:64]!a}")
    return match


def parse_cursor(cursor: str) -> Position:
    """Parse a cursor into its position.

    :raises InvalidCursor: when it is malformed.
    """
    match = _match(cursor)
    return int(match[1]), int(match[2]), int(match[3])


def log_of(cursor: str) -> str | None:
    """The log that a cursor belongs to: the id of its first entry; empty before there is one.

    :return: None where the cursor does not say (earlier releases wrote such ones).
    :raises InvalidCursor: when it is malformed.
    """
    return "" if cursor == EMPTY else _match(cursor)[4]


def with_log(cursor: str, log: str) -> str:
    """A cursor as Redis stores it, with the log that it belongs to."""
    return f"{cursor}-{log}" if log and cursor != EMPTY else cursor


def format_cursor(position: Position, log: str = "") -> str:
    """The cursor of a position in a log."""
    return with_log(f"{position[0]}-{position[1]}-{position[2]}", log)


def parse_page_token(token: str) -> tuple[str, int]:
    """Parse a page token into the id of the channel's first entry and a response's number.

    :raises InvalidCursor: when it is malformed.
    """
    if token.count("-") != 2:
        raise InvalidCursor(f"not a page token: {token[:64]!a}")
    ms, seq, number = parse_cursor(token)
    return f"{ms}-{seq}", number
