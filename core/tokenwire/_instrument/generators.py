"""Generators in the place of an SDK's own: same items, same errors, same close."""

from __future__ import annotations

import weakref
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Generator,
    Iterator,
)
from types import TracebackType
from typing import Any, TypeVar, overload

from tokenwire._instrument.last_chunk import LAST_CHUNKS
from tokenwire._instrument.recorder import Options, Recorder

__all__ = ["record", "record_found"]

T = TypeVar("T")

FindRecorder = Callable[[Any], Recorder | None]
"""Finds a stream's recorder: before the first item with None, then by that item. None: nobody's."""


@overload
def record(stream: Iterator[T], recorder: Recorder) -> Generator[T, None, None]: ...
@overload
def record(stream: AsyncIterator[T], recorder: Recorder) -> AsyncGenerator[T, None]: ...
def record(stream: Any, recorder: Recorder) -> Any:
    """Yield what `stream` yields, and have `recorder` publish it.

    Items, errors and their order are the stream's own, and closing the generator closes the
    stream. Reading to the end, an error, `close`, a `break`, a task's cancel and letting go of the
    generator each end the response accordingly. Once a watcher cancels it, the provider is stopped
    (see `Recorder.bind`), and the generator ends, or raises `tokenwire.ResponseCancelled`.

    A generator that is closed before its first item runs no code: where an SDK's stream has a
    ``close`` of its own, have it call `Recorder.close`, too.

    :param stream: the iterator, sync or async, that gives the chunks as the SDK parses them.
    """
    generator = record_found(stream, lambda _: recorder)
    # One that is dropped before its first item runs no code of its own.
    weakref.finalize(generator, recorder.close_later).atexit = False
    return generator


def record_found(stream: Any, find: FindRecorder) -> Any:
    """Do what `record` does, for a stream whose recorder is found once it is read.

    :param find: called with None when the stream is first read, and if it returns None, with the
        first item.
    """
    reading = _Reading(find)
    is_async = hasattr(stream, "__anext__")
    generator = _arecorded(stream, reading) if is_async else _recorded(stream, reading)
    reading.generator = weakref.ref(generator)
    return generator


def _recorded(stream: Iterator[Any], reading: _Reading) -> Generator[Any, None, None]:
    recorder = reading.find(None)
    feed = _NOBODY.feed if recorder is None else recorder.feed
    try:
        with reading:
            for item in stream:
                if recorder is None:
                    recorder = reading.find(item) or reading.leave()
                    feed = recorder.feed
                if recorder.cancelled:
                    break
                try:
                    feed(item)
                    recorder.last = item
                    if LAST_CHUNKS.enabled:
                        recorder.note(item)
                except Exception as error:
                    recorder.give_up(error)
                    recorder = reading.leave()
                    feed = recorder.feed
                yield item
                if recorder.cancelled:
                    break
            reading.end()
    finally:
        close = getattr(stream, "close", None)
        if close is not None:
            close()
    reading.raise_if_cancelled()


async def _arecorded(stream: AsyncIterator[Any], reading: _Reading) -> AsyncGenerator[Any, None]:
    recorder = reading.find(None)
    feed = _NOBODY.feed if recorder is None else recorder.feed
    try:
        with reading:
            async for item in stream:
                if recorder is None:
                    recorder = reading.find(item) or reading.leave()
                    feed = recorder.feed
                if recorder.cancelled:
                    break
                try:
                    feed(item)
                    recorder.last = item
                    if LAST_CHUNKS.enabled:
                        recorder.note(item)
                except Exception as error:
                    recorder.give_up(error)
                    recorder = reading.leave()
                    feed = recorder.feed
                yield item
                if recorder.cancelled:
                    break
            reading.end()
    finally:
        close = getattr(stream, "aclose", None)
        # Both may have been garbage at once: then the loop closes the other one at the same time.
        if close is not None and not getattr(stream, "ag_running", False):
            await close()
    reading.raise_if_cancelled()


class _Reading:
    """How one generator reads its stream, and how that ends for the recorder.

    :ivar generator: set once it exists, before it runs.
    """

    __slots__ = ("_find", "_recorder", "generator")

    generator: weakref.ref[Any]

    def __init__(self, find: FindRecorder) -> None:
        self._find = find
        self._recorder: Recorder | None = None

    def find(self, item: Any) -> Recorder | None:
        """Find the recorder, and attach it to the generator."""
        recorder = self._find(item)
        if recorder is None or recorder.attached or recorder.broken:
            return None
        self._recorder = recorder
        recorder.attach(self.generator)
        return recorder

    def leave(self) -> Recorder:
        """Read on for nobody."""
        self._recorder = _NOBODY
        return _NOBODY

    def end(self) -> None:
        """The stream has no more items, or a watcher has cancelled."""
        if self._recorder is not None and not self._recorder.cancelled:
            self._recorder.end()

    def raise_if_cancelled(self) -> None:
        """End the consumer's loop the way it was asked for, if a watcher has cancelled."""
        recorder = self._recorder
        if recorder is not None and recorder.cancelled and recorder.on_cancel == "raise":
            raise recorder.cancelled_error()

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        recorder = self._recorder
        if recorder is None:
            return False
        recorder.detach()
        if error is None:
            return False
        if isinstance(error, GeneratorExit):
            recorder.close_soon()
        elif not isinstance(error, Exception):
            recorder.close()
        elif recorder.cancelled:
            return True  # the connection was shut down on our own behalf
        else:
            recorder.fail(error)
        return False


class _Nobody(Recorder):
    """The recorder of streams that are not recorded (any more)."""

    def __init__(self) -> None:
        super().__init__(Options())
        self.ended = True
        self._claim = None

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "last":  # shared by many streams: it holds nothing of them
            super().__setattr__(name, value)

    def feed(self, item: Any) -> None:
        pass

    def note(self, item: object) -> None:
        pass

    def detach(self) -> None:
        pass


_NOBODY = _Nobody()
