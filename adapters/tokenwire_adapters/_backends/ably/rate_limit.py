"""Keeping below Ably's limit of messages a second, rather than running into it."""

from __future__ import annotations

import asyncio
import time
from collections import deque

__all__ = ["Pace"]


class Pace:
    """Counts what a connection publishes, as Ably counts it, and waits where it would be too much.

    Ably counts appends of a message after it has joined those of one rollup window.

    :param rate: messages a second; 0 for no limit.
    :param rollup: the rollup window, in seconds.
    """

    def __init__(self, rate: float, rollup: float) -> None:
        # Ably's windows need not begin when ours do: a little less than it would take.
        self._rate = rate * 0.9
        self._rollup = rollup * 0.75
        self._sent: deque[float] = deque()
        self._counted: dict[str, float] = {}

    @property
    def room(self) -> int:
        """How many messages may go out now."""
        if not self._rate:
            return 1_000_000
        self._forget(time.monotonic())
        return max(0, int(self._rate) - len(self._sent))

    async def wait(self, serial: str | None = None, count: int = 1) -> None:
        """Wait until `count` messages, or an append to message `serial`, may go out."""
        if not self._rate:
            return
        while True:
            now = time.monotonic()
            if serial is not None and now - self._counted.get(serial, 0.0) < self._rollup:
                return  # Ably joins it with the one before
            self._forget(now)
            if len(self._sent) + count <= max(self._rate, count):
                break
            await asyncio.sleep(max(0.001, self._sent[0] + 1.0 - now))
        if serial is not None:
            self._counted[serial] = now
            while len(self._counted) > 4096:
                del self._counted[next(iter(self._counted))]
        # A little later than now: by Ably's clock they may come closer together.
        self._sent.extend([now + 0.05] * count)

    def _forget(self, now: float) -> None:
        while self._sent and self._sent[0] < now - 1.0:
            self._sent.popleft()
