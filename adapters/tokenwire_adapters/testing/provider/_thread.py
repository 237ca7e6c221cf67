"""The provider on a thread of its own, for code without an event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

from tokenwire_adapters.testing.provider._server import Provider

__all__ = ["serve_in_thread"]


@contextmanager
def serve_in_thread(**options: Any) -> Generator[Provider, None, None]:
    """Run a `Provider` on a thread while the block runs.

    :param options: what `Provider` takes.
    :raises OSError: the address cannot be listened on.
    """
    provider = Provider(**options)
    started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        stop = asyncio.Event()
        try:
            async with provider:
                started.set_result((asyncio.get_running_loop(), stop))
                await stop.wait()
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)

    thread = threading.Thread(
        target=asyncio.run, args=(serve(),), name="tokenwire-provider", daemon=True
    )
    thread.start()
    loop, stop = started.result()
    try:
        yield provider
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
