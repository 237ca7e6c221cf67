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
from typing import Any, Literal, NoReturn, TypeVar, overload

from tokenwire._instrument.deferred import when_dropped
from tokenwire._instrument.last_chunk import LAST_CHUNKS
from tokenwire._instrument.options import Options
from tokenwire._instrument.recorder import Recorder

__all__ = ["NOBODY", "record", "record_found"]

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
    when_dropped(generator, recorder.close_later)
    return generator


def record_found(stream: Any, find: FindRecorder) -> Any:
    """Do what `record` does, for a stream whose recorder is found once it is read.

    :param find: called with None when the stream is first read, and if it returns None, with the
        first item.
    """
    reading = _Reading(find)
    is_async = hasattr(stream, "__anext__")
    generator: Any
    generator = _AsyncRecorded(stream, reading) if is_async else _recorded(stream, reading)
    reading.generator = weakref.ref(generator)
    return generator


def _recorded(stream: Iterator[Any], reading: _Reading) -> Generator[Any, None, None]:
    recorder = reading.find(None)
    feed = NOBODY.feed if recorder is None else recorder.feed
    watched = NOBODY if recorder is None else recorder.watched
    try:
        with reading:
            for item in stream:
                if recorder is None:
                    recorder = reading.find(item) or reading.leave()
                    feed, watched = recorder.feed, recorder.watched
                if watched.cancelled:
                    break
                try:
                    feed(item)
                    recorder.last = item
                    if LAST_CHUNKS.enabled:
                        recorder.note(item)
                except Exception as error:
                    recorder.give_up(error)
                    recorder = watched = reading.leave()
                    feed = recorder.feed
                yield item
                if watched.cancelled:
                    break
            reading.end()
    finally:
        close = getattr(stream, "close", None)
        if close is not None:
            close()
    reading.raise_if_cancelled()


class _AsyncRecorded(AsyncGenerator[T, None]):
    """Yields what an asynchronous stream yields, and has its recorder publish it.

    Not a generator function: the event loop closes generators that were let go of, or that are open
    when it ends, each by itself and all at once. One that held the stream's own generator would be
    closing it while the loop does. This one is simply dropped, and leaves the stream's generator to
    the loop, as without us.
    """

    def __init__(self, stream: AsyncIterator[T], reading: _Reading) -> None:
        self._stream = stream
        self._next = stream.__anext__
        self._reading = reading
        self._recorder: Recorder | None = None
        self._state: Literal["new", "open", "done"] = "new"
        self.ag_running = False

    async def __anext__(self) -> T:
        if self.ag_running:
            raise RuntimeError("anext(): asynchronous generator is already running")
        if self._state == "new":
            self._start()
        recorder = self._recorder
        if self._state == "done" or (recorder is not None and recorder.cancelled):
            return await self._end()
        self.ag_running = True
        try:
            item = await self._next()
        except StopAsyncIteration:
            return await self._end()
        except BaseException as error:
            if await self._stop(error):
                raise StopAsyncIteration from None
            raise
        finally:
            self.ag_running = False
        if recorder is None:
            recorder = self._find(item)
        if recorder.cancelled:
            return await self._end()
        try:
            recorder.feed(item)
            recorder.last = item
            if LAST_CHUNKS.enabled:
                recorder.note(item)
        except Exception as error:
            await self._give_up(recorder, error)
        return item

    async def _end(self) -> NoReturn:
        """End the consumer's loop: the stream has no more items, or a watcher has cancelled."""
        if self._state != "done":
            self._reading.end()
            await self._stop(None)
        raise StopAsyncIteration

    def _start(self) -> None:
        self._state = "open"
        self._recorder = recorder = self._reading.find(None)
        if recorder is not None:  # else the stream's first item says whose it is
            when_dropped(self, recorder.close_soon)

    def _find(self, item: T) -> Recorder:
        self._recorder = recorder = self._reading.find(item) or self._reading.leave()
        if recorder is not NOBODY:
            when_dropped(self, recorder.close_soon)
        return recorder

    async def _give_up(self, recorder: Recorder, error: Exception) -> None:
        try:
            recorder.give_up(error)
        except Exception:  # a strict sink raises
            await self._stop(error)
            raise
        self._recorder = self._reading.leave()

    async def _stop(self, error: BaseException | None) -> bool:
        """End, and close the stream; say whether `error` is not for the consumer.

        :raises ResponseCancelled: after a watcher's cancel, where that was asked for.
        """
        self._state = "done"
        is_ours = self._reading.stop(error)
        await self._close_stream()
        if error is None or is_ours:
            self._reading.raise_if_cancelled()
        return is_ours

    async def _close_stream(self) -> None:
        close = getattr(self._stream, "aclose", None)
        if close is not None and not getattr(self._stream, "ag_running", False):
            await close()

    async def asend(self, value: None) -> T:  # noqa: ARG002
        return await self.__anext__()

    async def athrow(self, typ: Any, val: Any = None, tb: Any = None) -> T:  # noqa: ARG002
        error: BaseException = typ() if isinstance(typ, type) else typ
        if self._state == "done" or not await self._stop(error):
            raise error
        raise StopAsyncIteration

    async def aclose(self) -> None:
        if self.ag_running:
            raise RuntimeError("aclose(): asynchronous generator is already running")
        if self._state == "open":
            self._reading.stop(GeneratorExit())
            self._state = "done"
            await self._close_stream()
        self._state = "done"


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
        self._recorder = NOBODY
        return NOBODY

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
        return self.stop(error)

    def stop(self, error: BaseException | None) -> bool:
        """Nothing more is read, because of `error`; say whether that is not for the consumer."""
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


NOBODY = _Nobody()
