"""Checks of identifiers that may come from outside."""

from __future__ import annotations

import os

from tokenwire.errors import InvalidName

__all__ = ["MAX_NAME", "check_name", "checked_id", "new_id"]

MAX_NAME = 256
"""The longest channel name or id, in code points."""


def check_name(value: object, what: str) -> str:
    """Return `value` if it can name a channel, response, run or call.

    :raises InvalidName: when it is not a string, is empty, is longer than 256 code points, or has
        control characters, line separators or lone surrogates.
    """
    if not isinstance(value, str):
        raise InvalidName(f"{what} must be a string, not {type(value).__name__}")
    if type(value) is not str:
        value = str.__str__(value)
    if not 0 < len(value) <= MAX_NAME:
        raise InvalidName(f"{what} must have 1 to {MAX_NAME} characters, not {len(value)}")
    if not value.isprintable():  # control, separator (but the space) and surrogate code points
        raise InvalidName(f"{what} must not have control or unprintable characters: {value!a}")
    return value


def new_id(prefix: str = "") -> str:
    """Make an id that nobody can guess or repeat."""
    return f"{prefix}{os.urandom(8).hex()}"


def checked_id(value: str | None, what: str) -> str | None:
    """Check an optional id.

    :raises InvalidName: when it cannot be one.
    """
    return None if value is None else check_name(value, what)
