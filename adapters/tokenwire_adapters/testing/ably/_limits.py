"""The rate at which one connection may publish."""

from __future__ import annotations

import time
from collections import deque

from tokenwire_adapters.testing.ably._errors import AblyError

__all__ = ["InboundRate"]

_FATAL_FACTOR = 20


class InboundRate:
    """Counts what a connection publishes in the last second.

    Over the limit a publish is refused with 42911; at about twenty times the limit the
    connection is closed with 42921 (docs: errors, 42911 and 42921; limits, "Connection limits").
    Appends count as rolled up: once for each published message (docs: token rate limits).
    """

    def __init__(self, rate: float | None) -> None:
        self.rate = rate
        self._accepted: deque[float] = deque()
        self._tried: deque[float] = deque()

    def spend(self, messages: int) -> None:
        """Count messages about to be published.

        :raises AblyError: 42911 if they are too many, 42921 if they are far too many
        """
        if self.rate is None:
            return
        now = time.monotonic()
        for times in (self._accepted, self._tried):
            while times and times[0] <= now - 1.0:
                times.popleft()
        self._tried.extend([now] * messages)
        if len(self._tried) > self.rate * _FATAL_FACTOR:
            raise AblyError(
                42921,
                "Connection terminated; per-connection publish Rate limit exceeded; "
                f"permitted rate = {self.rate:g}",
            )
        if len(self._accepted) + messages > self.rate:
            raise AblyError(
                42911,
                "Rate limit exceeded; request rejected (nonfatal); "
                f"metric = connection.inboundRate; permitted rate = {self.rate:g}",
            )
        self._accepted.extend([now] * messages)
