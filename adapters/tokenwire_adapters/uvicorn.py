"""uvicorn's protocols, with a faster way to many watchers.

    uvicorn.run(
        app,
        http="tokenwire_adapters.uvicorn:HttpProtocol",
        ws="tokenwire_adapters.uvicorn:WebSocketProtocol",
    )

Event streams and WebSockets of a gateway, and of routes of UI protocols, are then written to all
level watchers at once (see docs/gateway.md), where no middleware lies before them that wraps
`send`, Starlette's own aside. `tokenwire serve` uses them by itself. Everything else is served as
without them.
"""

from __future__ import annotations

from tokenwire.errors import MissingExtra

try:
    import uvicorn
except ImportError as _error:
    raise MissingExtra('this needs uvicorn: pip install "tokenwire[cli]"') from _error

from tokenwire_adapters._web.uvicorn.protocols import (
    H11Protocol,
    HttpProtocol,
    HttpToolsProtocol,
    WebSocketProtocol,
)

__all__ = ["H11Protocol", "HttpProtocol", "HttpToolsProtocol", "WebSocketProtocol"]

_ = uvicorn
