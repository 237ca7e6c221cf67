"""Listens on the clients of `websockets` for responses of OpenAI's APIs.

OpenAI's SDK stands on that package for ``responses.connect()`` and ``realtime.connect()``, and so
do the agents' SDK's own sessions.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable
from typing import Any

from tokenwire.instrument import Options, SdkInstrumentor
from tokenwire_adapters._agents.websockets.responses import SocketResponses, recorder_kind

__all__ = ["WebsocketsInstrumentor", "instrumentor"]

logger = logging.getLogger("tokenwire")


class WebsocketsInstrumentor(SdkInstrumentor):
    """Records the responses on WebSockets that are opened with a path of OpenAI's.

    Any other connection costs a look into a table for each message. Thread-safe.
    """

    module = "websockets"

    def __init__(self) -> None:
        super().__init__()
        self._sockets: weakref.WeakKeyDictionary[Any, SocketResponses | None] = (
            weakref.WeakKeyDictionary()
        )
        self._users: set[str] = set()

    def use(self, user: str) -> None:
        """Patch the package for an SDK's instrumentor, which will `adopt` its connections."""
        with self._lock:
            self._users.add(user)
            self._ensure_patched()

    def release(self, user: str) -> None:
        """Undo `use`."""
        with self._lock:
            self._users.discard(user)
            self._unpatch_if_unused()

    def adopt(self, connection: Any, find_options: Callable[[], Options | None]) -> None:
        """Record a connection as its SDK's instrumentor says, not as this one would by itself."""
        path = _path(connection)
        kind = recorder_kind(path)
        if kind is not None and self._sockets.get(connection) is None:
            self._sockets[connection] = SocketResponses(connection, kind, path, find_options)

    def _in_use(self) -> bool:
        if super()._in_use() or self._users:
            return True
        return any(socket is not None and socket.is_open for socket in self._sockets.values())

    def patch(self) -> None:
        from websockets.asyncio.connection import Connection as AsyncConnection
        from websockets.sync.connection import Connection

        replace = self.patches.replace
        for owner, sending, receiving, closing in (
            (Connection, self._sending, self._receiving, self._closing),
            (AsyncConnection, self._asending, self._areceiving, self._aclosing),
        ):
            replace(owner, "send", sending)
            replace(owner, "recv", receiving)
            replace(owner, "close", closing)

    def _of(self, connection: Any) -> SocketResponses | None:
        """What reads a connection; None where nothing does."""
        try:
            return self._sockets[connection]
        except KeyError:
            pass
        socket = None
        try:
            path = _path(connection)
            kind = recorder_kind(path) if connection.protocol.side.name == "CLIENT" else None
            if kind is not None:
                socket = SocketResponses(connection, kind, path, self.options_for)
        except Exception:
            logger.warning("tokenwire: cannot read a websocket", exc_info=True)
        self._sockets[connection] = socket
        return socket

    # -- the patches

    def _sending(self, original: Any) -> Any:
        def send(connection: Any, message: Any, *args: Any, **kwargs: Any) -> Any:
            socket = self._of(connection)
            turn = None if socket is None else socket.sent(message)
            if socket is None or turn is None:
                return original(connection, message, *args, **kwargs)
            try:
                return original(connection, message, *args, **kwargs)
            except Exception as error:
                socket.failed_to_send(turn, error)
                raise

        return send

    def _asending(self, original: Any) -> Any:
        async def send(connection: Any, message: Any, *args: Any, **kwargs: Any) -> Any:
            socket = self._of(connection)
            turn = None if socket is None else socket.sent(message)
            if socket is None or turn is None:
                return await original(connection, message, *args, **kwargs)
            try:
                return await original(connection, message, *args, **kwargs)
            except Exception as error:
                socket.failed_to_send(turn, error)
                raise

        return send

    def _receiving(self, original: Any) -> Any:
        from websockets.exceptions import ConnectionClosed

        def recv(connection: Any, *args: Any, **kwargs: Any) -> Any:
            socket = self._of(connection)
            if socket is None:
                return original(connection, *args, **kwargs)
            try:
                message = original(connection, *args, **kwargs)
            except ConnectionClosed:
                socket.lost()
                raise
            socket.received(message)
            return message

        return recv

    def _areceiving(self, original: Any) -> Any:
        from websockets.exceptions import ConnectionClosed

        async def recv(connection: Any, *args: Any, **kwargs: Any) -> Any:
            socket = self._of(connection)
            if socket is None:
                return await original(connection, *args, **kwargs)
            try:
                message = await original(connection, *args, **kwargs)
            except ConnectionClosed:
                socket.lost()
                raise
            socket.received(message)
            return message

        return recv

    def _closing(self, original: Any) -> Any:
        def close(connection: Any, *args: Any, **kwargs: Any) -> Any:
            socket = self._of(connection)
            if socket is not None:
                socket.closed()
            return original(connection, *args, **kwargs)

        return close

    def _aclosing(self, original: Any) -> Any:
        async def close(connection: Any, *args: Any, **kwargs: Any) -> Any:
            socket = self._of(connection)
            if socket is not None:
                socket.closed()
            return await original(connection, *args, **kwargs)

        return close


def _path(connection: Any) -> str:
    """The path and the query that a connection was opened with."""
    path = getattr(getattr(connection, "request", None), "path", "")
    return path if isinstance(path, str) else ""


instrumentor = WebsocketsInstrumentor()
"""Records every such connection of the process; see `tokenwire.instrument`."""
