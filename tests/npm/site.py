"""A page with a script, beside a gateway."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from starlette.applications import Starlette
from starlette.routing import Mount

import tokenwire
from tests.adapters.gateway.support import serving
from tests.e2e.bundles import page_routes
from tokenwire_adapters.asgi import Gateway

__all__ = ["site"]


@contextlib.contextmanager
def site(sink: tokenwire.Sink, script: str, body: str = "") -> Iterator[str]:
    """Serve it, and yield its URL. The gateway is mounted at /stream.

    :param body: what is within the element `root` before the script runs.
    """
    routes = [*page_routes(script, body=body), Mount("/stream", Gateway(sink))]
    with serving(Starlette(routes=routes)) as server:
        yield server.url
