"""Waiting: for news of a channel, on any event loop or thread, and for tasks that others share."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar
from weakref import WeakKeyDictionary

from tokenwire._reading.turns import Turns, complete

__all__ = ["LoopWaker", "Waiters", "Wake", "result_of"]

T = TypeVar("T")

_Futures: TypeAlias = dict[tuple[asyncio.AbstractEventLoop, float], set[asyncio.Future[None]]]
"""Those who wait, by their loop and by how long, in seconds, events may gather for them."""

Wake: TypeAlias = Callable[[_Futures], None]


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
            wake = self._turns_of(loop, gather).wake if gather else complete
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


async def result_of(task: asyncio.Task[T]) -> T:
    """Await a task that others await as well; it goes on when this wait is cancelled."""
    try:
        # Not `shield`, which (Python 3.14) reports an error that nobody is left to see.
        await asyncio.wait((task,))
    except asyncio.CancelledError:
        task.add_done_callback(_retrieve_error)
        raise
    return task.result()


def _retrieve_error(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()
