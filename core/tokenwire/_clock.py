"""The wall clock of events, outages, and pauses between tries that grow and vary at random."""

from __future__ import annotations

import math
import random
import time

__all__ = ["Backoff", "Outage", "jitter", "now_ms"]

_LONGEST_PAUSE = 8.0  # seconds after which a producer has tried again what failed, or its lease

_random = random.Random()  # of our own: an application may have seeded the shared one


def now_ms() -> int:
    """The time, in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def jitter(seconds: float, share: float = 0.5) -> float:
    """Spread a pause at random, so that many clients do not all come back at the same moment.

    :param share: how far the result may be from `seconds`, as a share of it.
    """
    return seconds * _random.uniform(1 - share, 1 + share)


class Backoff:
    """Pauses between tries, in seconds: each longer than the one before, up to a longest.

    :param first: the pause after the first failure.
    :param longest: no pause is longer, before jitter.
    :param factor: how much longer each is than the one before.
    :param jitter: the share by which each is spread (see the function `jitter`).
    """

    __slots__ = ("_factor", "_failures", "_first", "_jitter", "_longest")

    def __init__(
        self, first: float, longest: float, *, factor: float = 2.0, jitter: float = 0.5
    ) -> None:
        self._first = first
        self._longest = longest
        self._factor = factor
        self._jitter = jitter
        self._failures = 0

    def after(self, failures: int) -> float:
        """The pause after so many failures in a row, for those who count them themselves."""
        growth = self._factor ** min(failures - 1, 64)
        return jitter(min(self._longest, self._first * growth), self._jitter)

    def next(self) -> float:
        """The pause after one more failure."""
        self._failures += 1
        return self.after(self._failures)

    def reset(self) -> None:
        """Begin again with the first pause: a try has succeeded."""
        self._failures = 0


class Outage:
    """When a server was last away, for those who end what its producers seem to have abandoned.

    :param timeout: seconds that a try may take.
    """

    __slots__ = ("_seen_at", "_timeout")

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._seen_at = -math.inf

    def note(self) -> None:
        """The server is away now, or another one was in its place."""
        self._seen_at = time.monotonic()

    @property
    def over(self) -> bool:
        """Whether the server has been back for so long that producers have come back to it, too."""
        return time.monotonic() - self._seen_at > _LONGEST_PAUSE + self._timeout
