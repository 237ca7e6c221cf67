"""The generators that stand where an SDK's own stood: same items, same errors, same close."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from types import TracebackType
from typing import Any

from tokenwire import ResponseCancelled
from tokenwire_adapters._agents.last_chunk import TABLE
from tokenwire_adapters._agents.recorder import Recorder

__all__ = ["arecorded", "recorded"]

Find = Callable[[Any], Recorder | None]
"""Finds a stream's tap: before the first item with None, then by that item. None: nobody's."""


def recorded(inner: Iterator[Any], find: Find) -> Generator[Any, None, None]:
    """Yield what `inner` yields, and show it to the tap."""
    reading = _Reading(find(None))
    tap = reading.tap
    feed = _DEAF.feed if tap is None else tap.feed
    try:
        with reading:
            for item in inner:
                if tap is None:
                    tap = reading.tap = find(item) or _DEAF
                    feed = tap.feed
                if tap.stopped:
                    break
                try:
                    feed(item)
                    tap.last = item
                    if TABLE.wanted:
                        tap.note(item)
                except Exception as error:
                    tap.broken(error)
                    tap = reading.tap = _DEAF
                    feed = tap.feed
                yield item
                if tap.stopped:
                    break
            reading.over()
    finally:
        close = getattr(inner, "close", None)
        if close is not None:
            close()
    reading.cancelled()


async def arecorded(inner: AsyncIterator[Any], find: Find) -> AsyncGenerator[Any, None]:
    """Do what `drive` does, in a coroutine."""
    reading = _Reading(find(None))
    tap = reading.tap
    feed = _DEAF.feed if tap is None else tap.feed
    try:
        with reading:
            async for item in inner:
                if tap is None:
                    tap = reading.tap = find(item) or _DEAF
                    feed = tap.feed
                if tap.stopped:
                    break
                try:
                    feed(item)
                    tap.last = item
                    if TABLE.wanted:
                        tap.note(item)
                except Exception as error:
                    tap.broken(error)
                    tap = reading.tap = _DEAF
                    feed = tap.feed
                yield item
                if tap.stopped:
                    break
            reading.over()
    finally:
        close = getattr(inner, "aclose", None)
        # Both may have been garbage at once: then the loop closes the other one at the same time.
        if close is not None and not getattr(inner, "ag_running", False):
            await close()
    reading.cancelled()


class _Reading:
    """How the reading of a stream ends, for its tap."""

    __slots__ = ("tap",)

    def __init__(self, tap: Recorder | None) -> None:
        self.tap = tap

    def over(self) -> None:
        """The stream has no more items, or a watcher has cancelled."""
        if self.tap is not None and not self.tap.stopped:
            self.tap.exhausted()

    def cancelled(self) -> None:
        """End the consumer's loop the way it was asked for, if a watcher has cancelled."""
        if self.tap is not None and self.tap.stopped and self.tap.raises:
            raise ResponseCancelled(*self.tap.cancelled_id)

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        tap = self.tap
        if tap is None:
            return False
        tap.forget()
        if error is None:
            return False
        if isinstance(error, GeneratorExit):
            tap.dropped()
        elif not isinstance(error, Exception):
            tap.closed()
        elif tap.stopped:
            return True  # the connection was shut down on our own behalf
        else:
            tap.failed(error)
        return False


class _Deaf(Recorder):
    """Stands for the tap of a stream that nobody listens to (any more)."""

    def __init__(self) -> None:
        self.stopped = False
        self.ended = True
        self.raises = False
        self.last = None

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "last":  # shared by many streams: it holds nothing of them
            super().__setattr__(name, value)

    def feed(self, item: Any) -> None:
        pass

    def note(self, item: object) -> None:
        pass

    def forget(self) -> None:
        pass


_DEAF = _Deaf()
