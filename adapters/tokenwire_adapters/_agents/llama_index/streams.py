"""Which call of a model the running code belongs to, by the generator that the call returned.

LlamaIndex sends a request when its stream is first read: from any task, thread or context, and
after any number of other calls (``llm_chat_callback`` of llama_index/core/llms/callbacks.py, 0.14).
What is certain is the stack: the generator that LlamaIndex's method returned is on it, below all
that the reading does.
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable
from types import FrameType
from typing import Any, Generic, TypeVar

from tokenwire._instrument.deferred import when_dropped

__all__ = ["Streams", "frame_of"]

T = TypeVar("T")


def frame_of(stream: Any) -> FrameType | None:
    """The frame of a generator, sync or async; None for anything else, or once it is over."""
    frame: Any = getattr(stream, "gi_frame", None) or getattr(stream, "ag_frame", None)
    return frame if isinstance(frame, FrameType) else None


class Streams(Generic[T]):
    """An object for each generator that is not over. Takes no locks: finalizers call it."""

    def __init__(self) -> None:
        # By the ids of frames: a frame holds all that its generator holds. An id is of this frame
        # as long as its generator lives.
        self._entries: dict[int, tuple[weakref.ref[Any], T]] = {}

    def add(self, stream: Any, value: T, on_drop: Callable[[], None]) -> int | None:
        """Enter `value` for `stream`.

        :param on_drop: called when nothing holds the stream any more, maybe in a collection.
        :return: the key for `remove`; None where `stream` is no generator.
        """
        frame = frame_of(stream)
        if frame is None:
            return None
        key = id(frame)
        self._entries[key] = (weakref.ref(stream), value)
        when_dropped(stream, on_drop)
        return key

    def remove(self, key: int | None, value: T) -> None:
        """Remove an entry, if it is still that of `value`."""
        if key is not None:
            entry = self._entries.get(key)
            if entry is not None and entry[1] is value:
                self._entries.pop(key, None)

    def running(self) -> T | None:
        """The value of the innermost generator that the caller runs in."""
        if not self._entries:
            return None
        frame = inspect.currentframe()
        while frame is not None:
            entry = self._entries.get(id(frame))
            if entry is not None and frame_of(entry[0]()) is frame:
                return entry[1]
            frame = frame.f_back
        return None
