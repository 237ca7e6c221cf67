"""When watchers of a loop are woken: at once while it is idle, less often the busier it is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

__all__ = ["Turns", "complete"]

_REST = 5.0  # times as long as its watchers took is left to a loop for everything else


def complete(futures: Iterable[asyncio.Future[None]]) -> None:
    """Complete futures that are not done yet. Called on their loop."""
    for future in futures:
        if not future.done():
            future.set_result(None)


class Turns:
    """Wakes the watchers of one loop that let events gather. Used on that loop only.

    A write costs about the same whatever it carries. So a loop whose watchers take `t` seconds to
    be served is left alone for five times as long before they are woken again, and what comes
    meanwhile goes out together; a loop with time to spare serves them at once.

    :param bound: the longest time between two turns, in seconds.
    """

    __slots__ = ("_bound", "_next_at", "_timer", "_took", "_waiting")

    def __init__(self, bound: float) -> None:
        self._bound = bound
        self._next_at = 0.0
        self._took = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: list[Iterable[asyncio.Future[None]]] = []

    def wake(self, futures: Iterable[asyncio.Future[None]]) -> None:
        """Complete `futures` in the next turn, which is now where the loop is not busy."""
        self._waiting.append(futures)
        if self._timer is None:
            loop = asyncio.get_running_loop()
            delay = self._next_at - time.monotonic()
            if delay <= 0:
                self._begin(loop)
            else:
                self._timer = loop.call_later(delay, self._begin, loop)

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        waiting, self._waiting = self._waiting, []
        began = time.monotonic()  # the time of uvloop does not pass within a turn
        self._next_at = began  # until it is known how long they take
        for futures in waiting:
            complete(futures)
        loop.call_soon(self._end, began)  # runs when all of them have been served

    def _end(self, began: float) -> None:
        took = time.monotonic() - began
        # Of two turns in a row the shorter one: a pause of the process is not a busy loop.
        busy, self._took = min(took, self._took), took
        self._next_at = began + min(self._bound, (1 + _REST) * busy)
