"""Waiting: for news of a channel, on any event loop or thread, and for tasks that others share."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias, TypeVar

__all__ = ["LoopWaker", "Waiters", "Wake", "result_of"]

T = TypeVar("T")

_Futures: TypeAlias = dict[asyncio.AbstractEventLoop, set[asyncio.Future[None]]]
Wake: TypeAlias = Callable[[_Futures], None]


class LoopWaker:
    """Completes futures of other loops: those of one loop, whatever their channel, in one call."""

    def __init__(self) -> None:
        self._futures: _Futures = {}

    def wake(self, futures: _Futures) -> None:
        """Complete `futures` soon. Called on the I/O thread."""
        if not self._futures:
            asyncio.get_running_loop().call_soon(self._wake)
        for loop, waiting in futures.items():
            self._futures.setdefault(loop, set()).update(waiting)

    def _wake(self) -> None:
        futures, self._futures = self._futures, {}
        for loop, waiting in futures.items():
            try:
                loop.call_soon_threadsafe(_complete, waiting)
            except RuntimeError:  # that loop is closed, and its watchers with it
                continue


def _complete(futures: Iterable[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)


class Waiters:
    """Those who wait for news of one channel. Thread-safe.

    :param wake: completes futures (see `LoopWaker.wake`).
    """

    def __init__(self, wake: Wake) -> None:
        self._wake = wake
        self._lock = threading.Lock()
        self._futures: _Futures = {}
        self._events: list[threading.Event] = []

    def future(self) -> asyncio.Future[None]:
        """A future of the running loop that is done at the next `notify`."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        with self._lock:
            self._futures.setdefault(loop, set()).add(future)
        return future

    def discard(self, future: asyncio.Future[None]) -> None:
        """Forget a future that nobody waits for any more."""
        loop = future.get_loop()
        with self._lock:
            futures = self._futures.get(loop, set())
            futures.discard(future)
            if not futures:
                self._futures.pop(loop, None)

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
