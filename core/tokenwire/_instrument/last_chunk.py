"""Which recorder has read which chunk: so a framework's hook knows that a token is published.

Frameworks hand the SDK's own chunk up before they ask for the next one, so the last chunk of each
stream is enough. The table holds one chunk for each open stream, and nothing until it is enabled.
"""

from __future__ import annotations

from typing import Any

__all__ = ["LAST_CHUNKS", "recorder_of"]


class LastChunks:
    """The last chunk of each open stream, by identity.

    :ivar enabled: recorders put their chunks here.
    """

    def __init__(self) -> None:
        self.enabled = False
        self._chunks: dict[int, tuple[object, object]] = {}

    def replace(self, previous: object, chunk: object, recorder: object) -> None:
        """Hold `chunk`, which `recorder` has read, in the place of the one before it."""
        if previous is not None:
            self._chunks.pop(id(previous), None)
        if chunk is not None:
            self._chunks[id(chunk)] = (chunk, recorder)

    def get(self, chunk: object) -> Any:
        """The recorder that has read `chunk`; None if none has."""
        entry = self._chunks.get(id(chunk))
        return entry[1] if entry is not None and entry[0] is chunk else None


LAST_CHUNKS = LastChunks()


def recorder_of(chunk: object) -> Any:
    """The recorder that has read this very object, the last chunk of a stream that is open.

    Chunks are noted from the first call on; call it once with None when a hook is installed.

    :return: None if no recorder has.
    """
    LAST_CHUNKS.enabled = True
    return LAST_CHUNKS.get(chunk)
