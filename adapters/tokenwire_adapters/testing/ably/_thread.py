"""The server in a thread, for tests that are synchronous or must not share its loop."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TypeVar

from tokenwire_adapters.testing.ably._auth import Key
from tokenwire_adapters.testing.ably._server import AblyServer
from tokenwire_adapters.testing.ably._settings import Settings

__all__ = ["ServerThread"]

_T = TypeVar("_T")
_PATIENCE = 60.0  # seconds; machines that run tests are slow


class ServerThread:
    """An :class:`AblyServer` on an event loop in a thread of its own. A context manager."""

    def __init__(
        self,
        *keys: Key,
        settings: Settings | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._keys = keys
        self._settings = settings
        self._ssl_context = ssl_context
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._main, name="ably-server", daemon=True)
        self._failure: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop
        self._done: asyncio.Event
        self.server: AblyServer

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._ready.wait(_PATIENCE) or self._failure is not None:
            raise RuntimeError("the server did not start") from self._failure
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._done.set)
        self._thread.join(_PATIENCE)

    def _main(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as failure:
            self._failure = failure
            self._ready.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._done = asyncio.Event()
        async with AblyServer(
            *self._keys, settings=self._settings, ssl_context=self._ssl_context
        ) as self.server:
            self._ready.set()
            await self._done.wait()

    def call(self, function: Callable[..., _T], *args: Any, **kwargs: Any) -> _T:
        """Call a function of the server in its thread: ``thread.call(server.faults.stall)``."""

        async def run() -> _T:
            return function(*args, **kwargs)

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(_PATIENCE)

    def fault(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method of ``Faults`` by name."""
        return self.call(getattr(self.server.faults, name), *args, **kwargs)

    def vanish(self) -> None:
        """Take the server away; :meth:`listen` brings it back on the same port."""
        asyncio.run_coroutine_threadsafe(self.server.vanish(), self._loop).result(_PATIENCE)

    def listen(self) -> None:
        """Bring the server back."""
        asyncio.run_coroutine_threadsafe(self.server.listen(), self._loop).result(_PATIENCE)
