"""Which call of a model the running code belongs to, by the generator that the call gave.

LlamaIndex sends a request when its stream is first read: from any task, thread or context, and
after any number of other calls. What is certain is the stack: the generator that LlamaIndex's
method gave is on it, below all that the reading does.
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable
from types import FrameType
from typing import Any, Generic, TypeVar

__all__ = ["Streams", "frame_of"]

T = TypeVar("T")


def frame_of(stream: Any) -> FrameType | None:
    """The frame of a generator, sync or async; None for what is none, or is over."""
    frame: Any = getattr(stream, "gi_frame", None) or getattr(stream, "ag_frame", None)
    return frame if isinstance(frame, FrameType) else None


class Streams(Generic[T]):
    """What belongs to each generator that is not over. Takes no locks: finalizers call it."""

    def __init__(self) -> None:
        # Frames hold what a generator holds, so they are known by their ids alone. An id is of
        # this frame as long as its generator lives.
        self._held: dict[int, tuple[weakref.ref[Any], T]] = {}

    def add(self, stream: Any, of: T, gone: Callable[[], None]) -> int | None:
        """Remember what `stream` belongs to.

        :param gone: called when nobody has the stream any more, maybe by the garbage collector.
        :return: the key for `remove`; None where `stream` is no generator.
        """
        frame = frame_of(stream)
        if frame is None:
            return None
        key = id(frame)
        self._held[key] = (weakref.ref(stream), of)
        weakref.finalize(stream, gone).atexit = False
        return key

    def remove(self, key: int | None, of: T) -> None:
        """Forget a stream, if it is still that of `of`."""
        if key is not None:
            held = self._held.get(key)
            if held is not None and held[1] is of:
                self._held.pop(key, None)

    def running(self) -> T | None:
        """What the innermost generator belongs to that the caller runs in."""
        held = self._held
        if not held:
            return None
        frame = inspect.currentframe()
        while frame is not None:
            found = held.get(id(frame))
            if found is not None and frame_of(found[0]()) is frame:
                return found[1]
            frame = frame.f_back
        return None
