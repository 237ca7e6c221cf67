"""What is done inside uvicorn's protocols (0.54) and Starlette's middleware (1.10).

uvicorn has no public way to write to a connection but ASGI's `send`, a coroutine for each client
and message (https://github.com/Kludex/uvicorn/blob/0.54.0/uvicorn/protocols/http/h11_impl.py, and
websockets/websockets_sansio_impl.py).
"""

from __future__ import annotations

import inspect
from functools import partial
from types import FunctionType
from typing import Any

from tokenwire_adapters._web.gateway.takeover import (
    EXTENSION,
    SocketListener,
    Take,
    Taken,
    TakenProtocol,
    TakenSocket,
    TakeSocket,
)

__all__ = ["SocketOffer", "TransportOffer"]

_WATCH_FOR_THE_START = {
    ("starlette.middleware.errors", "ServerErrorMiddleware.__call__.<locals>._send"),
    (
        "starlette._exception_handler",
        "wrap_app_handling_exceptions.<locals>.wrapped_app.<locals>.sender",
    ),
}
"""Functions of every Starlette and FastAPI app that pass on what is sent, and note that a response
has begun: what comes later need not pass through them."""


def _behind_starlette(send: Any) -> Any:
    """The `send` that Starlette's own middleware was given."""
    while isinstance(send, FunctionType):
        if (send.__module__, send.__qualname__) not in _WATCH_FOR_THE_START:
            break
        send = inspect.getclosurevars(send).nonlocals.get("send")
    return send


class _Offer:
    """Mixed into a protocol of uvicorn's: puts an offer into the scope of each request."""

    app: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.app = partial(self._call_app, self.app)

    def _call_app(self, app: Any, scope: Any, receive: Any, send: Any) -> Any:
        extensions = scope.setdefault("extensions", {})
        extensions[EXTENSION] = {"offer": partial(self._offer, getattr(send, "__self__", None))}
        return app(scope, receive, send)

    def _offer(self, owner: Any, send: Any) -> Any:
        """Offer the transport to an app whose `send` is that of `owner`, and no middleware's."""
        mine = owner is not None and getattr(_behind_starlette(send), "__self__", None) is owner
        return self._take_of(owner) if mine else None

    def _take_of(self, owner: Any) -> Any:
        raise NotImplementedError


class SocketOffer(_Offer):
    """Mixed into a WebSocket protocol of uvicorn's: offers apps to write messages themselves."""

    close_sent: bool
    conn: Any
    disconnected: bool
    handshake_complete: bool
    transport: Any
    _listener: SocketListener | None = None

    def _take_of(self, owner: Any) -> TakeSocket | None:
        return self._take if owner is self else None

    def _take(self, listener: SocketListener) -> TakenSocket | None:
        """Have an app write the messages of this socket from now on, if that can be done."""
        if not self.handshake_complete or self.close_sent or self.disconnected:
            return None
        if not self.writable.is_set() or len(self.conn.extensions) > 1:
            return None
        window_bits = None
        for extension in self.conn.extensions:
            window_bits = getattr(extension, "local_max_window_bits", None)
            if window_bits is None or window_bits < 9:  # zlib has no window of 8 bits
                return None
        self._listener = listener
        return TakenSocket(self.transport, window_bits)

    writable: Any

    def pause_writing(self) -> None:
        super().pause_writing()  # type: ignore[misc]
        if self._listener is not None:
            self._listener.pause_writing()

    def resume_writing(self) -> None:
        super().resume_writing()  # type: ignore[misc]
        if self._listener is not None:
            self._listener.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)  # type: ignore[misc]
        if self._listener is not None:
            self._listener.connection_lost()
        self._listener = self.app = None


class TransportOffer(_Offer):
    """Mixed into an HTTP protocol of uvicorn's: offers apps the transport of a response.

    A response that was handed over is complete for uvicorn; the protocol that took its transport is
    one of the server's connections, which count for its limits and are waited for when it stops.
    """

    connections: set[Any]
    cycle: Any
    flow: Any
    transport: Any
    server_state: Any

    def _take_of(self, owner: Any) -> Take | None:
        return partial(self._take, owner) if owner.scope["http_version"] == "1.1" else None

    def _take(self, cycle: Any, protocol: TakenProtocol) -> Taken | None:
        """Hand over the transport of a response that has begun, if it can be done now."""
        if cycle is not self.cycle or not cycle.response_started or cycle.response_complete:
            return None
        if cycle.more_body:
            return None
        if not getattr(cycle, "chunked_encoding", True):  # of httptools; h11 does nothing else
            return None
        if cycle.disconnected or self.transport.is_closing() or self.flow.write_paused:
            return None
        del cycle.scope["extensions"][EXTENSION]  # which leads back to here
        self.app = None
        cycle.response_complete = True  # so that uvicorn does not wait for the rest
        cycle.message_event.set()
        self.server_state.total_requests += 1
        self.flow.resume_reading()
        self.connections.discard(self)
        self.connections.add(protocol)
        self.transport.set_protocol(protocol)
        return Taken(self.transport, self.connections.discard)
