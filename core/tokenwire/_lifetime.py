"""Events of the process: its first response, its fork, and the interpreter's exit."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable
from typing import Protocol

__all__ = ["OpenSink", "first_response_callbacks", "open_sinks", "run_first_response_callbacks"]

logger = logging.getLogger("tokenwire")


class OpenSink(Protocol):
    """What is to be flushed and closed at exit, and made usable again in a forked child."""

    @property
    def waiting(self) -> int:
        """How many responses and single entries are not yet with the backend."""
        ...

    @property
    def close_timeout(self) -> float:
        """How many seconds the exit may take for it."""
        ...

    def flush(self, timeout: float | None = None) -> bool:
        """Wait, within bounds, until all that was written is with the backend."""
        ...

    def close(self, timeout: float | None = None, *, at_exit: bool = False) -> bool:
        """End what is open, flush, and release everything."""
        ...

    def after_fork(self) -> None:
        """Drop what belongs to the parent. Must not block."""
        ...


open_sinks: weakref.WeakSet[OpenSink] = weakref.WeakSet()
"""Every sink of this process that is not closed."""

first_response_callbacks: list[Callable[[], object]] = []
"""Called once, when this process begins a response: by whichever sink, on whichever thread."""


def run_first_response_callbacks() -> None:
    """Call and remove each of `first_response_callbacks`. Never raises."""
    while first_response_callbacks:
        try:
            first_response_callbacks.pop()()
        except Exception:
            logger.warning("tokenwire: a callback of the first response failed", exc_info=True)


_FLUSHING = 0.9  # share of the time for the exit in which what was written is flushed
_exit_began: float | None = None


def _time_left(sink: OpenSink) -> float:
    """Seconds of the exit that are left for a sink: all sinks, and both hooks, share them."""
    global _exit_began
    now = time.monotonic()
    if _exit_began is None:
        _exit_began = now
    return max(0.0, _exit_began + _FLUSHING * sink.close_timeout - now)


def _close_all() -> None:
    """At exit: flush what is there, end what is open."""
    for sink in list(open_sinks):
        try:
            sink.close(_time_left(sink), at_exit=True)
        except Exception:
            logger.warning("tokenwire: closing a sink at exit failed", exc_info=True)


def _flush_all() -> None:
    """When the main thread ends: flush while the interpreter can still resolve names."""
    for sink in list(open_sinks):
        if sink.waiting:
            try:
                sink.flush(_time_left(sink))
            except Exception:
                logger.warning("tokenwire: flushing a sink at exit failed", exc_info=True)


def _after_fork_in_child() -> None:
    global _exit_began
    _exit_began = None
    for sink in list(open_sinks):
        sink.after_fork()


# `threading` runs these before it waits for other threads, and before executors refuse work (which
# resolving a host name takes); `atexit` runs after that. The first is not public, so it may go.
getattr(threading, "_register_atexit", atexit.register)(_flush_all)
atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
