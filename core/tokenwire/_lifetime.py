"""What happens to open sinks when the interpreter exits, and when the process forks."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenwire.sink import Sink

__all__ = ["sinks"]

logger = logging.getLogger("tokenwire")

sinks: weakref.WeakSet[Sink] = weakref.WeakSet()
"""Every sink that is open."""


def _each_sink() -> Sequence[Sink]:
    return list(sinks)


def _close_all() -> None:
    """At exit: flush what is there, end what is open."""
    for sink in _each_sink():
        try:
            sink.close()
        except Exception:
            logger.warning("tokenwire: closing a sink at exit failed", exc_info=True)


def _flush_all() -> None:
    """When the main thread ends: flush while the interpreter can still resolve names."""
    for sink in _each_sink():
        if sink.stats().waiting:
            try:
                sink.flush()
            except Exception:
                logger.warning("tokenwire: flushing a sink at exit failed", exc_info=True)


def _after_fork_in_child() -> None:
    for sink in _each_sink():
        sink.after_fork()


# `threading` runs these before it waits for other threads, and before executors refuse work (which
# resolving a host name takes); `atexit` runs after that. The first is not public, so it may go.
getattr(threading, "_register_atexit", atexit.register)(_flush_all)
atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
