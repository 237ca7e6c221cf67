"""Serials: the positions and ids of everything that is published.

A channel serial looks like ``01726585978590-001@abcdefghij`` and a message serial adds the
index in its publish, ``…:000``. Both sort as text in the order of publishing (docs:
updates-deletes, "Version ordering"; TM2r and TM2s1 call them opaque).
"""

from __future__ import annotations

import secrets
import time

__all__ = ["SerialClock", "now_ms", "position_of"]


def now_ms() -> int:
    """Return the time as the protocol counts it: milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


class SerialClock:
    """Issues channel serials that always grow, even when the machine's clock steps back."""

    def __init__(self) -> None:
        self._series = secrets.token_hex(5)
        self._last = (0, 0)

    def next(self) -> str:
        """Return a channel serial greater than every one before."""
        ms, count = max((now_ms(), 0), (self._last[0], self._last[1] + 1))
        if count > 999:
            ms, count = ms + 1, 0
        self._last = (ms, count)
        return f"{ms:014d}-{count:03d}@{self._series}"

    def start(self) -> str:
        """Return a serial that sorts before every other: the position of an empty channel."""
        return f"{0:014d}-{0:03d}@{self._series}"


def position_of(serial: str) -> str:
    """Return the channel serial inside a message serial."""
    return serial.partition(":")[0]
