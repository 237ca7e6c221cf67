"""Sinks on the local Ably."""

from __future__ import annotations

from typing import Any

from tokenwire import Sink
from tokenwire_adapters.ably import AblyBackend
from tokenwire_adapters.testing.ably import ServerThread

__all__ = ["backend", "sink"]


def backend(thread: ServerThread, client_id: str | None = "agent", **settings: Any) -> AblyBackend:
    """A backend on the server of `thread`, with a token of its own."""
    settings.setdefault("token", thread.server.token(client_id))
    if settings["token"] is None:  # it is asked for: by this client
        settings["client_id"] = client_id
    where = {"endpoint": "127.0.0.1", "port": thread.server.port, "tls": False}
    return AblyBackend(**{**where, **settings})


def sink(thread: ServerThread, client_id: str | None = "agent", **settings: Any) -> Sink:
    """A sink on such a backend."""
    options = {
        name: settings.pop(name)
        for name in ("lease", "rollup", "strict", "close_timeout")
        if name in settings
    }
    return Sink(backend(thread, client_id, **settings), **{"lease": 60.0, **options})
