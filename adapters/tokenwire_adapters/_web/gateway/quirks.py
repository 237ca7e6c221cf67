"""Workarounds for ASGI servers, with their versions and upstream issues."""

from __future__ import annotations

import signal

__all__ = ["uvicorn_is_stopping"]


def uvicorn_is_stopping() -> bool:
    """Whether a uvicorn server that runs in this process's main thread has begun to shut down.

    uvicorn (0.54 and older) waits for open responses before it sends ``lifespan.shutdown``, so
    streams, which never end, must learn of the shutdown in another way
    (https://github.com/Kludex/uvicorn/issues/451). Its handler of SIGTERM is a bound method of the
    server, whose `should_exit` is public.
    """
    try:
        handler = signal.getsignal(signal.SIGTERM)
    except ValueError:
        return False
    return bool(getattr(getattr(handler, "__self__", None), "should_exit", False))
