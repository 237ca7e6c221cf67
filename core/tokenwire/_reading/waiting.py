"""Waiting for news of a channel, on any event loop or thread, and when those who wait are woken."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable
from typing import TypeAlias
from weakref import WeakKeyDictionary

__all__ = ["LoopWaker", "Turns", "Waiters", "Wake"]

_REST = 5.0  # times as long as its watchers took is left to a loop for everything else

_Futures: TypeAlias = dict[tuple[asyncio.AbstractEventLoop, float], set[asyncio.Future[None]]]
"""Those who wait, by their loop and by how long, in seconds, events may gather for them."""

Wake: TypeAlias = Callable[[_Futures], None]


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
            _complete(futures)
        loop.call_soon(self._end, began)  # runs when all of them have been served

    def _end(self, began: float) -> None:
        took = time.monotonic() - began
        # Of two turns in a row the shorter one: a pause of the process is not a busy loop.
        busy, self._took = min(took, self._took), took
        self._next_at = began + min(self._bound, (1 + _REST) * busy)


class LoopWaker:
    """Completes futures of other loops: those of one loop, whatever their channel, in one call."""

    def __init__(self) -> None:
        self._futures: _Futures = {}
        self._turns: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[float, Turns]] = (
            WeakKeyDictionary()
        )

    def wake(self, futures: _Futures) -> None:
        """Complete `futures` soon. Called on the I/O thread."""
        if not self._futures:
            asyncio.get_running_loop().call_soon(self._wake)
        for key, waiting in futures.items():
            self._futures.setdefault(key, set()).update(waiting)

    def _wake(self) -> None:
        futures, self._futures = self._futures, {}
        for (loop, gather), waiting in futures.items():
            wake = self._turns_of(loop, gather).wake if gather else _complete
            try:
                loop.call_soon_threadsafe(wake, waiting)
            except RuntimeError:  # that loop is closed, and its watchers with it
                continue

    def _turns_of(self, loop: asyncio.AbstractEventLoop, gather: float) -> Turns:
        by_bound = self._turns.setdefault(loop, {})
        turns = by_bound.get(gather)
        if turns is None:
            turns = by_bound[gather] = Turns(gather)
        return turns


class Waiters:
    """Those who wait for news of one channel. Thread-safe.

    :param wake: completes futures (see `LoopWaker.wake`).
    """

    def __init__(self, wake: Wake) -> None:
        self._wake = wake
        self._lock = threading.Lock()
        self._futures: _Futures = {}
        self._events: list[threading.Event] = []

    def future(self, gather: float = 0.0) -> asyncio.Future[None]:
        """A future of the running loop that is done at the next `notify`.

        :param gather: seconds by which it may be later while the loop is busy (see `Turns`).
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        with self._lock:
            self._futures.setdefault((loop, gather), set()).add(future)
        return future

    def discard(self, future: asyncio.Future[None], gather: float = 0.0) -> None:
        """Forget a future that nobody waits for any more."""
        key = (future.get_loop(), gather)
        with self._lock:
            futures = self._futures.get(key, set())
            futures.discard(future)
            if not futures:
                self._futures.pop(key, None)

    def event(self) -> threading.Event:
        """A thread's event that is set at the next `notify`."""
        event = threading.Event()
        with self._lock:
            self._events.append(event)
        return event

    def notify(self) -> None:
        """Wake all who wait. Called on the I/O thread."""
        with self._lock:
            futures, self._futures = self._futures, {}
            events, self._events = self._events, []
        if futures:
            self._wake(futures)
        for event in events:
            event.set()


def _complete(futures: Iterable[asyncio.Future[None]]) -> None:
    """Complete futures that are not done yet. Called on their loop."""
    for future in futures:
        if not future.done():
            future.set_result(None)
