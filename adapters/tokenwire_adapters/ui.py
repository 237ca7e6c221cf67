"""What a user interface's protocol is built from; `vercel` and `ag_ui` are two of them.

    from tokenwire_adapters.ui import ProtocolRoutes, RunEncoder

    class MyEncoder(RunEncoder):
        name = "my-protocol"
        ...  # how a message, its parts and its end are written

An encoder that is registered in the entry-point group ``tokenwire.formats`` is what
``?format=my-protocol`` of the gateway uses. A subclass of `ProtocolRoutes` adds routes that start
an agent, join it and stop it. docs/extending.md has a protocol in one file.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tokenwire.errors import MissingExtra
from tokenwire_adapters._web.ui.encoder import RunEncoder
from tokenwire_adapters._web.ui.errors import safe_error
from tokenwire_adapters._web.ui.json import (
    is_json,
    json_bytes,
    json_text,
    media_of,
    parsed,
    reason_of,
    source_of,
    usage_of,
)
from tokenwire_adapters._web.ui.runs import Run, find_run, recent_runs
from tokenwire_adapters._web.ui.state import ENVELOPE, PartState, ResponseState

if TYPE_CHECKING:
    from tokenwire_adapters._web.gateway.asgi import Request
    from tokenwire_adapters._web.gateway.auth import Caller
    from tokenwire_adapters._web.ui.answers import Settled
    from tokenwire_adapters._web.ui.routes import Exchange, ProtocolRoutes, Route, RouteOptions
    from tokenwire_adapters._web.ui.tasks import AgentTasks
    from tokenwire_adapters._web.ui.turn import Turn

__all__ = [
    "ENVELOPE",
    "AgentTasks",
    "Caller",
    "Exchange",
    "PartState",
    "ProtocolRoutes",
    "Request",
    "ResponseState",
    "Route",
    "RouteOptions",
    "Run",
    "RunEncoder",
    "Settled",
    "Turn",
    "find_run",
    "is_json",
    "json_bytes",
    "json_text",
    "media_of",
    "parsed",
    "reason_of",
    "recent_runs",
    "safe_error",
    "source_of",
    "usage_of",
]


_LAZY = {
    "AgentTasks": "ui.tasks",
    "Caller": "gateway.auth",
    "Exchange": "ui.routes",
    "ProtocolRoutes": "ui.routes",
    "Request": "gateway.asgi",
    "Route": "ui.routes",
    "RouteOptions": "ui.routes",
    "Settled": "ui.answers",
    "Turn": "ui.turn",
}


def __getattr__(name: str) -> Any:
    """Import the routes when they are asked for: an encoder needs no web framework."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = import_module(f"tokenwire_adapters._web.{_LAZY[name]}")
    except ImportError as error:
        raise MissingExtra(
            f'{name} needs {error.name}: pip install "tokenwire[gateway]"'
        ) from error
    return getattr(module, name)
