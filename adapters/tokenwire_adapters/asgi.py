"""The gateway: channels over HTTP and WebSocket, for browsers and everything else.

    from tokenwire_adapters.asgi import Gateway

    app.mount("/tokenwire", Gateway("redis://localhost", authorize=may))

See docs/gateway.md for the routes and protocols, and docs/security.md for who may do what.
"""

from __future__ import annotations

from tokenwire.errors import MissingExtra

try:
    import joserfc
    import starlette
except ImportError as _error:
    raise MissingExtra(
        f'the gateway needs {_error.name}: pip install "tokenwire[gateway]"'
    ) from _error

from tokenwire_adapters._web.gateway.auth import Authorize
from tokenwire_adapters._web.gateway.events_response import EventsResponse
from tokenwire_adapters._web.gateway.gateway import Gateway
from tokenwire_adapters._web.gateway.limits import Limits
from tokenwire_adapters._web.gateway.log_masking import MaskTokens
from tokenwire_adapters._web.gateway.middleware import TokenwireMiddleware
from tokenwire_adapters._web.gateway.problems import AccessDenied, Problem
from tokenwire_adapters._web.gateway.tokens import Grant, Tokens, mint_token

__all__ = [
    "AccessDenied",
    "Authorize",
    "EventsResponse",
    "Gateway",
    "Grant",
    "Limits",
    "MaskTokens",
    "Problem",
    "Tokens",
    "TokenwireMiddleware",
    "mint_token",
]

_ = joserfc, starlette
