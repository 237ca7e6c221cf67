"""Cursors as clients hold them."""

from __future__ import annotations

from typing import Self

import msgspec

from tokenwire.errors import InvalidCursor

__all__ = ["ResumePoint"]

_MIDWAY = "~"
_MAX_LENGTH = 512


class ResumePoint(msgspec.Struct, frozen=True):
    """Where a client resumes; its `str` is what the client sends as ``after``.

    :ivar cursor: a cursor of the backend.
    :ivar midway: the client stopped between snapshots of one replay. It lacks responses that began
        before the cursor, so it is given as a whole, not event by event, what changed since.
    """

    cursor: str
    midway: bool = False

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what a client sent.

        :raises InvalidCursor: when it is not a string of 1 to 512 characters.
        """
        if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidCursor(f"a cursor is a string, not {type(text).__name__}")
        if not 0 < len(text) <= _MAX_LENGTH:
            raise InvalidCursor(f"a cursor has 1 to {_MAX_LENGTH} characters")
        return cls(text.removeprefix(_MIDWAY), text.startswith(_MIDWAY))

    def __str__(self) -> str:
        return _MIDWAY + self.cursor if self.midway else self.cursor
