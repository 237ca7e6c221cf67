"""The server on a thread of its own, for code that is synchronous or must not share its loop."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from typing import Any, Self, TypeVar

from tokenwire_adapters.testing._thread import running_in_thread
from tokenwire_adapters.testing.ably._auth import Key
from tokenwire_adapters.testing.ably._server import AblyServer
from tokenwire_adapters.testing.ably._settings import Settings

__all__ = ["ServerThread"]

_T = TypeVar("_T")
_TIMEOUT = 60.0  # seconds; machines that run tests are slow


class ServerThread:
    """An `AblyServer` on an event loop in a thread of its own, as a context manager.

    :param keys: as for `AblyServer`; so are ``settings`` and ``ssl_context``.
    :ivar server: the server. Call it through `call`, since it is not thread-safe; its attributes
        (``port``, ``key``, ``stats`` …) may be read from any thread.
    :raises OSError: on entry, when no port can be listened on.
    """

    def __init__(
        self,
        *keys: Key,
        settings: Settings | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self.server = AblyServer(*keys, settings=settings, ssl_context=ssl_context)
        self._stack = ExitStack()
        self._loop: asyncio.AbstractEventLoop

    def __enter__(self) -> Self:
        self._loop = self._stack.enter_context(running_in_thread(self.server, "ably-server"))
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def call(self, function: Callable[..., _T], *args: Any, **kwargs: Any) -> _T:
        """Call a function of the server in its thread: ``thread.call(server.faults.stall)``."""

        async def run() -> _T:
            return function(*args, **kwargs)

        return self._run(run())

    def fault(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method of `Faults` by name."""
        return self.call(getattr(self.server.faults, name), *args, **kwargs)

    def vanish(self) -> None:
        """Stop listening and end every connection; `listen` starts again on the same port."""
        self._run(self.server.vanish())

    def listen(self) -> None:
        """Listen again after `vanish`, with all state kept."""
        self._run(self.server.listen())

    def _run(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(_TIMEOUT)
