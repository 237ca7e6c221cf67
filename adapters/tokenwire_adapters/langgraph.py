"""LangChain's clients on a Python agent, without LangGraph's server.

    from tokenwire_adapters.langgraph import LangGraphRoutes

    routes = LangGraphRoutes(sink, agent)
    app.router.routes.extend(routes.routes)  # apiUrl of useStream: /langgraph

For ``useStream`` of ``@langchain/langgraph-sdk`` and of ``@langchain/react``. `LangGraphEncoder` is
what ``?format=langgraph`` of the gateway uses. See docs/ui-protocols.md.

The protocols: https://docs.langchain.com (the API of its agent server), and ``langchain-protocol``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tokenwire.errors import MissingExtra
from tokenwire_adapters._web.langgraph.encoder import LangGraphEncoder

if TYPE_CHECKING:
    from tokenwire_adapters._web.langgraph.routes import LangGraphRoutes
    from tokenwire_adapters._web.langgraph.turn import LangGraphTurn

__all__ = ["LangGraphEncoder", "LangGraphRoutes", "LangGraphTurn"]


def __getattr__(name: str) -> Any:
    """Import the routes when they are asked for: the encoder needs no package but the core."""
    if name not in ("LangGraphRoutes", "LangGraphTurn"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from tokenwire_adapters._web.langgraph import routes, turn
    except ImportError as error:
        raise MissingExtra(
            f'{name} needs {error.name}: pip install "tokenwire[gateway]"'
        ) from error
    return getattr(turn if name == "LangGraphTurn" else routes, name)
