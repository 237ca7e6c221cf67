"""Runs a test server on an event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any

__all__ = ["running_in_thread"]


@contextmanager
def running_in_thread(
    server: AbstractAsyncContextManager[Any], name: str
) -> Generator[asyncio.AbstractEventLoop]:
    """Enter a server in a new thread, and leave it there at the end of the block.

    :param name: of the thread.
    :return: the thread's event loop.
    :raises: what entering the server raises, such as `OSError`.
    """
    started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        stop = asyncio.Event()
        try:
            async with server:
                started.set_result((asyncio.get_running_loop(), stop))
                await stop.wait()
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)

    thread = threading.Thread(target=asyncio.run, args=(serve(),), name=name, daemon=True)
    thread.start()
    loop, stop = started.result()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
