"""Workarounds for uvicorn: seen with version 0.54."""

from __future__ import annotations

import signal
from typing import Any

__all__ = ["ServerExit"]


class ServerExit:
    """Finds out whether uvicorn has been asked to stop.

    uvicorn waits for open responses before it sends ``lifespan.shutdown``, and has no notification
    for an application whose streams never end (https://github.com/Kludex/uvicorn/issues/451 and
    https://github.com/django/asgiref/pull/199). Its handler of SIGTERM is a bound method of the
    server, whose `should_exit` is public.
    """

    def __init__(self) -> None:
        try:
            handler = signal.getsignal(signal.SIGTERM)
        except ValueError:  # not a signal of this platform
            handler = None
        server: Any = getattr(handler, "__self__", None)
        self._server: Any = server if hasattr(server, "should_exit") else None

    @property
    def requested(self) -> bool:
        """Whether the server has been asked to stop; False where it is not uvicorn."""
        return bool(getattr(self._server, "should_exit", False))
