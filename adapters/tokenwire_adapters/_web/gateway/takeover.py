"""The ASGI extension by which a server hands over the transport of a response that has begun.

A server that knows it puts ``{"offer": offer}`` under `EXTENSION` into ``scope["extensions"]``.
``offer(send)`` is a function, ``take(protocol)``, where `send` is the server's own; None where a
middleware has wrapped it, which must see the whole response. An app that has begun its response may
call it: the server then makes `protocol` the protocol of the transport, forgets the request, and
returns a `Taken`; or None where the response cannot be handed over (now): it is not sent in chunks
(HTTP/1.1), has ended, waits for its client to read, or its request is not complete. From then on
the app writes chunks itself, and closes the transport at the end; its coroutine may return.

For a WebSocket, once it is accepted, ``take(listener)`` returns a `TakenSocket`: the app then
frames its messages itself and writes them to the transport, and the server does everything else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple, Protocol, TypeAlias, cast

from tokenwire_adapters._web.gateway.asgi import Scope, Send
from tokenwire_adapters._web.gateway.quirks import Transport

__all__ = [
    "EXTENSION",
    "SocketListener",
    "Take",
    "TakeSocket",
    "Taken",
    "TakenProtocol",
    "TakenSocket",
    "WritableTransport",
    "take_of",
    "take_socket_of",
]

EXTENSION: Final = "tokenwire.transport"


class WritableTransport(Transport, Protocol):
    """What asyncio's transports have in common with uvloop's, to write to."""

    def write(self, data: bytes) -> None:
        """Send bytes, soon, after those that were given before."""

    def is_closing(self) -> bool:
        """Whether it is closed, or will be."""
        ...

    def close(self) -> None:
        """Close when what was written has been sent."""


class TakenProtocol(Protocol):
    """What a transport calls (see `asyncio.Protocol`), and what its server does."""

    def connection_made(self, transport: Any) -> None:
        """Not called: the connection has been there since its request."""

    def data_received(self, data: bytes) -> None:
        """The client has sent something."""

    def eof_received(self) -> None:
        """The client sends nothing more."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed."""

    def pause_writing(self) -> None:
        """The client reads more slowly than is written."""

    def resume_writing(self) -> None:
        """The client has read most of what was written."""

    def shutdown(self) -> None:
        """The server begins to stop."""


class SocketListener(Protocol):
    """Told whether the client of a WebSocket reads what is written."""

    def pause_writing(self) -> None:
        """The client reads more slowly than is written."""

    def resume_writing(self) -> None:
        """The client has read most of what was written."""

    def connection_lost(self) -> None:
        """The connection is closed."""


class TakenSocket(NamedTuple):
    """The transport of a WebSocket, to which an app writes its messages itself.

    :ivar window_bits: of the compression of what the server sends; None where there is none. The
        server compresses nothing any more, since its context would not be the client's.
    """

    transport: WritableTransport
    window_bits: int | None


TakeSocket: TypeAlias = Callable[[SocketListener], TakenSocket | None]
"""Takes the messages of one accepted WebSocket; None where that cannot be done now."""


class Taken(NamedTuple):
    """A transport that was handed over.

    :ivar forget: to be called with the protocol once the connection is lost.
    """

    transport: WritableTransport
    forget: Callable[[Any], None]


Take: TypeAlias = Callable[[TakenProtocol], Taken | None]
"""Takes the transport of one response; None where it cannot be handed over now."""


def take_of(scope: Scope, send: Send) -> Take | None:
    """How to take the transport of a request; None where its server offers no such thing."""
    return cast("Take | None", _offered(scope, send))


def take_socket_of(scope: Scope, send: Send) -> TakeSocket | None:
    """How to take the messages of a WebSocket; None where its server offers no such thing."""
    return cast("TakeSocket | None", _offered(scope, send))


def _offered(scope: Scope, send: Send) -> object:
    extensions: Any = scope.get("extensions") or {}
    extension: Any = extensions.get(EXTENSION)
    return None if extension is None else extension["offer"](send)
