"""Which chunk each tap has read last: how a framework's hook knows that a token went out already.

Frameworks hand the SDK's own chunk up before they ask for the next one, so the last chunk of each
stream is enough. The table holds no more than one chunk for each open stream, and nothing at all
until somebody asks.
"""

from __future__ import annotations

__all__ = ["Seen", "reader_of", "seen"]


class Seen:
    """The last chunk of each open stream, by identity."""

    def __init__(self) -> None:
        self.wanted = False
        self._chunks: dict[int, tuple[object, object]] = {}

    def note(self, chunk: object, before: object, reader: object = None) -> None:
        """Hold `chunk`, which `reader` has read, in the place of the one before it."""
        if before is not None:
            self._chunks.pop(id(before), None)
        if chunk is not None:
            self._chunks[id(chunk)] = (chunk, reader)

    def __contains__(self, chunk: object) -> bool:
        held = self._chunks.get(id(chunk))
        return held is not None and held[0] is chunk

    def reader_of(self, chunk: object) -> object:
        """Who has read `chunk`; None if nobody has."""
        held = self._chunks.get(id(chunk))
        return held[1] if held is not None and held[0] is chunk else None


TABLE = Seen()


def seen(obj: object = None) -> bool:
    """Say whether a tap has read this very object, the last chunk of a stream that is being read.

    The first call turns the table on: a hook calls it once, with nothing, when it is installed.
    """
    TABLE.wanted = True
    return obj is not None and obj in TABLE


def reader_of(obj: object) -> object:
    """Find the tap that has read this very object; None as `seen` is false."""
    return TABLE.reader_of(obj)
