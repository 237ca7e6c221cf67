"""Keeps a connection below Ably's limit of messages per second."""

from __future__ import annotations

import asyncio
import time
from collections import deque

__all__ = ["RateLimiter"]

_UNLIMITED = 1_000_000
_MAX_SERIALS = 4096


class RateLimiter:
    """Counts the messages of a connection as Ably counts them, and waits where they are too many.

    Ably joins appends to a message within one rollup window, and counts them as one.

    :param rate: messages per second; 0 for no limit.
    :param rollup: the rollup window, in seconds.
    """

    def __init__(self, rate: float, rollup: float) -> None:
        # Ably's windows need not begin when ours do: stay a little below.
        self._rate = rate * 0.9
        self._rollup = rollup * 0.75
        self._sent: deque[float] = deque()
        self._appended: dict[str, float] = {}  # by serial: when an append was last counted

    @property
    def available(self) -> int:
        """How many messages may be sent now."""
        if not self._rate:
            return _UNLIMITED
        self._expire(time.monotonic())
        return max(0, int(self._rate) - len(self._sent))

    async def wait(self, serial: str | None = None, count: int = 1) -> None:
        """Wait until `count` messages, or an append to message `serial`, may be sent."""
        if not self._rate:
            return
        while True:
            now = time.monotonic()
            if serial is not None and now - self._appended.get(serial, 0.0) < self._rollup:
                return  # Ably joins it with the previous append
            self._expire(now)
            if len(self._sent) + count <= max(self._rate, count):
                break
            await asyncio.sleep(max(0.001, self._sent[0] + 1.0 - now))
        if serial is not None:
            self._appended[serial] = now
            while len(self._appended) > _MAX_SERIALS:
                del self._appended[next(iter(self._appended))]
        # A little later than now: by Ably's clock they may come closer together.
        self._sent.extend([now + 0.05] * count)

    def _expire(self, now: float) -> None:
        while self._sent and self._sent[0] < now - 1.0:
            self._sent.popleft()
