"""What is to happen once a watcher cancels a response."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress

__all__ = ["CancelCallbacks"]

logger = logging.getLogger("tokenwire")


class CancelCallbacks:
    """Functions that are each called once, when a watcher cancels. Thread-safe.

    :param lock: guards them.
    """

    def __init__(self, lock: AbstractContextManager[object]) -> None:
        self._lock = lock
        self._callbacks: list[Callable[[], object]] | None = []  # None: it was cancelled

    def add(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Add a function, or call it now where a watcher has cancelled; return what removes it."""
        with self._lock:
            callbacks = self._callbacks
            if callbacks is not None:
                callbacks.append(callback)
        if callbacks is None:
            _call(callback)

        def remove() -> None:
            with self._lock, suppress(ValueError):
                (self._callbacks or []).remove(callback)

        return remove

    def call(self, call_soon: Callable[..., None]) -> None:
        """Have all of them called by `call_soon`, once: the caller may hold locks."""
        with self._lock:
            callbacks, self._callbacks = self._callbacks, None
        for callback in callbacks or ():
            call_soon(_call, callback)


def _call(callback: Callable[[], object]) -> None:
    try:
        callback()
    except Exception:
        logger.exception("tokenwire: a cancel callback failed")
