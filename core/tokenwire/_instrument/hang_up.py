"""Closing a provider's HTTP response from another thread, while its consumer waits for bytes."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import socket
import threading
from collections.abc import Awaitable, Callable
from typing import Any

__all__ = ["attempt", "hang_up", "shut_down"]

logger = logging.getLogger("tokenwire")

_CANNOT_CLOSE = "closing a cancelled stream failed"


def hang_up(response: Any, loop: asyncio.AbstractEventLoop | None) -> None:
    """Stop the provider from sending `response`. Quick; from any thread.

    Closing a socket does not wake a thread that waits to read from it; shutting it down does, on
    any event loop, and the provider notices at once. The consumer's own thread or task then closes
    it. Where there is no socket of its own (HTTP/2 shares one, mocked transports have none), the
    response is closed instead, on its loop or on a thread, since that may wait.

    :param response: an ``httpx`` or ``httpx2`` response.
    :param loop: the loop that reads it, where that is an asyncio loop.
    """
    if getattr(response, "is_closed", False):
        return
    try:
        if _shut_down(response):
            return
    except Exception:
        logger.debug("tokenwire: cannot shut the socket down", exc_info=True)
    if loop is not None:
        try:
            step = functools.partial(_aclose, response)
            loop.call_soon_threadsafe(attempt, loop, step, _CANNOT_CLOSE)
        except RuntimeError:
            logger.debug("tokenwire: the stream's loop is closed", exc_info=True)
    elif callable(getattr(response, "close", None)):
        threading.Thread(target=_close, args=(response,), name="tokenwire-close").start()


def _shut_down(response: Any) -> bool:
    """Shut the response's socket down; False where it has none of its own.

    httpx documents the extensions: https://www.python-httpx.org/advanced/extensions/
    """
    extensions: Any = getattr(response, "extensions", None) or {}
    if extensions.get("http_version", b"").startswith(b"HTTP/2"):
        return False
    stream = extensions.get("network_stream")
    sock = stream.get_extra_info("socket") if stream is not None else None
    if sock is None:
        return False
    shut_down(sock)
    return True


def shut_down(sock: Any) -> None:
    """Shut a socket down, both ways, from any thread: whoever waits for its bytes wakes up.

    :param sock: anything with the ``fileno`` of a socket.
    :raises OSError: where it is closed or not connected.
    """
    # A duplicate, since event loops hand out stand-ins that cannot be shut down, and since a TLS
    # socket would let go of its state under the reader.
    with socket.socket(fileno=os.dup(sock.fileno())) as duplicate:
        duplicate.shutdown(socket.SHUT_RDWR)


async def _aclose(response: Any) -> None:
    await response.aclose()


def _close(response: Any) -> None:
    try:
        response.close()
    except Exception:
        logger.debug("tokenwire: %s", _CANNOT_CLOSE, exc_info=True)


_tasks: set[asyncio.Task[None]] = set()  # the loop itself would hold them weakly


def attempt(
    loop: asyncio.AbstractEventLoop, step: Callable[[], Awaitable[object]], failure: str
) -> None:
    """Begin to await what `step` gives, on `loop`, whose thread calls this; an error is logged.

    :param failure: what the log then says.
    """
    task = loop.create_task(_attempt(step, failure))
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)


async def _attempt(step: Callable[[], Awaitable[object]], failure: str) -> None:
    try:
        await step()
    except Exception:
        logger.debug("tokenwire: %s", failure, exc_info=True)
