"""Run code on the I/O thread of a sink: for adapters, finalizers and tests.

That thread has the event loop that owns the backend. Code on it must not block.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from tokenwire._io import IoThread, on_io_thread
from tokenwire.sink import Sink

__all__ = ["arun", "call_soon", "on_io_thread", "run"]

T = TypeVar("T")


def _io(sink: Sink) -> IoThread:
    return sink._runtime.io  # pyright: ignore[reportPrivateUsage]


def call_soon(sink: Sink, function: Callable[..., object], *args: Any) -> None:
    """Call `function` on the I/O thread, soon; not at all once the sink is closed."""
    _io(sink).call_soon(function, *args)


def run(sink: Sink, coroutine: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
    """Run `coroutine` on the I/O thread and wait for its result. Blocks.

    :param timeout: seconds to wait at most; None for no limit.
    :raises TimeoutError: after `timeout` seconds; the coroutine is cancelled.
    :raises SinkClosed: when the sink is closed, or is closed meanwhile.
    :raises RuntimeError: on the I/O thread itself, which would wait for ever.
    """
    return _io(sink).run(coroutine, timeout)


async def arun(sink: Sink, coroutine: Coroutine[Any, Any, T]) -> T:
    """Do what `run` does, without blocking the loop.

    :raises SinkClosed: when the sink is closed, or is closed meanwhile.
    """
    return await _io(sink).arun(coroutine)
