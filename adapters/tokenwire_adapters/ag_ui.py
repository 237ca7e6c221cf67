"""AG-UI 1.0: clients such as ``@ag-ui/client`` and CopilotKit on a Python agent.

    from tokenwire_adapters.ag_ui import AgentRoutes

    agent = AgentRoutes(sink, run)
    app.router.routes.extend(agent.routes)  # POST /agent, POST /agent/connect and more

`AgUiEncoder` is what ``?format=ag-ui`` of the gateway uses. See docs/ui-protocols.md.

The protocol: https://docs.ag-ui.com, version 1.0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tokenwire.errors import MissingExtra
from tokenwire_adapters._web.ag_ui.encoder import AgUiEncoder

if TYPE_CHECKING:
    from tokenwire_adapters._web.ag_ui.routes import AgentRoutes, AgentTurn

__all__ = ["AgUiEncoder", "AgentRoutes", "AgentTurn"]


def __getattr__(name: str) -> Any:
    """Import the routes when they are asked for: the encoder needs no package but the core."""
    if name not in ("AgentRoutes", "AgentTurn"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from tokenwire_adapters._web.ag_ui import routes as ag_ui_routes
    except ImportError as error:
        raise MissingExtra(
            f'AgentRoutes needs {error.name}: pip install "tokenwire[ag-ui]"'
        ) from error
    return getattr(ag_ui_routes, name)
