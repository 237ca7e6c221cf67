"""uvicorn's HTTP protocol, with a faster way to many watchers.

    uvicorn.run(gateway, http="tokenwire_adapters.uvicorn:HttpProtocol")

Event streams of a gateway that is the app itself, or that no middleware lies before which wraps
`send`, are then written to all level watchers at once (see docs/gateway.md). `tokenwire serve` uses
it by itself. Everything else is served as without it.
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
)

__all__ = ["H11Protocol", "HttpProtocol", "HttpToolsProtocol"]

_ = uvicorn
