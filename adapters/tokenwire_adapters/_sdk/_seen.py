"""Which chunk each tap has read last: how a framework's hook knows that a token went out already.

Frameworks hand the SDK's own chunk up before they ask for the next one, so the last chunk of each
stream is enough. The table holds no more than one chunk for each open stream, and nothing at all
until somebody asks.
"""

from __future__ import annotations

__all__ = ["Seen", "seen"]


class Seen:
    """The last chunk of each open stream, by identity."""

    def __init__(self) -> None:
        self.wanted = False
        self._chunks: dict[int, object] = {}

    def note(self, chunk: object, before: object) -> None:
        """Hold `chunk` in the place of the one before it."""
        if before is not None:
            self._chunks.pop(id(before), None)
        if chunk is not None:
            self._chunks[id(chunk)] = chunk

    def __contains__(self, chunk: object) -> bool:
        return self._chunks.get(id(chunk)) is chunk


TABLE = Seen()


def seen(obj: object = None) -> bool:
    """Say whether a tap has read this very object, the last chunk of a stream that is being read.

    The first call turns the table on: a hook calls it once, with nothing, when it is installed.
    """
    TABLE.wanted = True
    return obj is not None and obj in TABLE
