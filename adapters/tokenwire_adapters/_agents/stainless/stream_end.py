"""Notices the mark with which a stream's protocol ends it: the SDK does not hand that on.

The iterators here are no generators: an asynchronous one that its reader leaves midway would be one
more for the event loop to close.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

__all__ = ["watch_end"]


def watch_end(events: Any, mark: str, ended: Callable[[bool], object]) -> Any:
    """Iterate over server-sent events, and report how they end.

    :param events: an iterator of the SDK's, sync or async.
    :param mark: how the data of the event begins that ends the stream, such as ``[DONE]``.
    :param ended: called with True when that event comes, and with False if there are no more events
        and none was it.
    """
    return (_AsyncEvents if hasattr(events, "__anext__") else _Events)(events, mark, ended)


class _Events(Iterator[Any]):
    __slots__ = ("_ended", "_mark", "_marked", "_next")

    def __init__(self, events: Iterator[Any], mark: str, ended: Callable[[bool], object]) -> None:
        self._next = events.__next__
        self._mark = mark
        self._marked = False
        self._ended = ended

    def __next__(self) -> Any:
        try:
            event = self._next()
        except StopIteration:
            if not self._marked:  # else an SDK reads what is left of the body: openai 2.0 does
                self._ended(False)
            raise
        if event.data.startswith(self._mark):
            self._marked = True
            self._ended(True)
        return event


class _AsyncEvents(AsyncIterator[Any]):
    __slots__ = ("_ended", "_mark", "_marked", "_next")

    def __init__(
        self, events: AsyncIterator[Any], mark: str, ended: Callable[[bool], object]
    ) -> None:
        self._next = events.__anext__
        self._mark = mark
        self._marked = False
        self._ended = ended

    async def __anext__(self) -> Any:
        try:
            event = await self._next()
        except StopAsyncIteration:
            if not self._marked:  # else an SDK reads what is left of the body: openai 2.0 does
                self._ended(False)
            raise
        if event.data.startswith(self._mark):
            self._marked = True
            self._ended(True)
        return event
