"""The protocols, by what parses HTTP."""

from __future__ import annotations

from uvicorn.protocols.http.h11_impl import H11Protocol as UvicornH11

from tokenwire_adapters._web.uvicorn.quirks import SocketOffer, TransportOffer

__all__ = ["H11Protocol", "HttpProtocol", "HttpToolsProtocol", "WebSocketProtocol"]


class H11Protocol(TransportOffer, UvicornH11):
    """uvicorn's protocol by h11, which hands over the transports of event streams."""


try:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol as UvicornHttpTools
except ImportError:  # httptools is not installed
    HttpToolsProtocol: type[TransportOffer] | None = None
else:

    class _HttpToolsProtocol(TransportOffer, UvicornHttpTools):
        """uvicorn's protocol by httptools, which hands over the transports of event streams."""

    HttpToolsProtocol = _HttpToolsProtocol

HttpProtocol: type[TransportOffer] = HttpToolsProtocol or H11Protocol
"""The one that uvicorn would choose: by httptools where that is installed, else by h11."""

try:
    from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
except ImportError:  # websockets is not installed
    WebSocketProtocol: type[SocketOffer] | None = None
else:

    class _WebSocketProtocol(SocketOffer, WebSocketsSansIOProtocol):
        """uvicorn's protocol by websockets, which lets apps write messages themselves."""

    WebSocketProtocol = _WebSocketProtocol
