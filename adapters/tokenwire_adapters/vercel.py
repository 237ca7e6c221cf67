"""The AI SDK's UI message stream: pages made with ``useChat`` on a Python agent.

    from tokenwire_adapters.vercel import ChatRoutes

    chat = ChatRoutes(sink, agent)
    app.router.routes.extend(chat.routes)  # POST /api/chat, GET /api/chat/{id}/stream and more

`VercelEncoder` is what ``?format=vercel`` of the gateway uses. See docs/ui-protocols.md.

The protocol: https://ai-sdk.dev/docs/ai-sdk-ui/stream-protocol (data stream protocol, ``v1``), as
the packages ``ai`` 6 and 7 read it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tokenwire.errors import MissingExtra
from tokenwire_adapters._web.vercel.encoder import VercelEncoder

if TYPE_CHECKING:
    from tokenwire_adapters._web.vercel.routes import ChatRoutes, ChatTurn

__all__ = ["ChatRoutes", "ChatTurn", "VercelEncoder"]


def __getattr__(name: str) -> Any:
    """Import the routes when they are asked for: the encoder needs no web framework."""
    if name not in ("ChatRoutes", "ChatTurn"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from tokenwire_adapters._web.vercel import routes as vercel_routes
    except ImportError as error:
        raise MissingExtra(
            f'ChatRoutes needs {error.name}: pip install "tokenwire[gateway]"'
        ) from error
    return getattr(vercel_routes, name)
