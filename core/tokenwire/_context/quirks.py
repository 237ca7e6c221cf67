"""What is read from the frames of the running code.

Read against CPython 3.11 to 3.13. A generator's frame is one object from its first step to its
last (Objects/genobject.c, Python/frame.c), and its ``f_back`` leads to who reads it right now.
Nothing public leads from running code to its generator (`frame.f_generator` comes with 3.14). Who
refers to its frame does not keep a generator alive.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE, CO_GENERATOR
from types import FrameType

__all__ = ["caller_frame", "is_generator", "outer_generator", "reading_frames"]

_GENERATOR = CO_GENERATOR | CO_ASYNC_GENERATOR

# Who calls these enters a block on behalf of the code around (contextlib's, anyio's, anybody's).
_ENTERING = frozenset({"__enter__", "__aenter__", "enter_async_context"})


def caller_frame() -> FrameType:
    """The frame of the caller's caller."""
    return sys._getframe(2)  # pyright: ignore[reportPrivateUsage]


def is_generator(frame: FrameType) -> bool:
    """Whether a frame is that of a generator, sync or async."""
    return bool(frame.f_code.co_flags & _GENERATOR)


def reading_frames(frame: FrameType) -> Iterator[FrameType]:
    """The frames that read a generator: other generators, one in another, and who reads those."""
    reader = frame.f_back
    while reader is not None:
        yield reader
        reader = reader.f_back if is_generator(reader) else None


def outer_generator(frame: FrameType | None) -> FrameType | None:
    """The frame of the generator that is suspended while a block entered in `frame` is open.

    Not one of ``@contextmanager``, which is done with entering once it yields: the block belongs to
    the code that enters that one. None where the block is entered in a coroutine, which runs in one
    context from its begin to its end, or in code that nothing suspends.
    """
    while frame is not None:
        code, caller = frame.f_code, frame.f_back
        if code.co_flags & _GENERATOR:
            if caller is None or caller.f_code.co_name not in _ENTERING:
                return frame
        elif code.co_flags & CO_COROUTINE and code.co_name not in _ENTERING:
            return None
        frame = caller
    return None
