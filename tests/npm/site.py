"""A page with a script, beside a gateway."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount, Route

import tokenwire
from tests.adapters.gateway.support import serving
from tokenwire_adapters.asgi import Gateway

__all__ = ["site"]

_HEAD = '<!doctype html><html lang="en"><meta charset="utf-8"><title>Page</title>'
_ICON = '<link rel="icon" href="data:,">'


@contextlib.contextmanager
def site(sink: tokenwire.Sink, script: str, body: str = "") -> Iterator[str]:
    """Serve it, and yield its URL. The gateway is mounted at /stream.

    :param body: what is within the element `root` before the script runs.
    """

    def html(request: Request) -> Response:
        root = f'<div id="root">{body}</div><script type="module" src="/page.js"></script>'
        return HTMLResponse(_HEAD + _ICON + root)

    def javascript(request: Request) -> Response:
        return Response(script, media_type="text/javascript")

    routes = [Route("/", html), Route("/page.js", javascript), Mount("/stream", Gateway(sink))]
    with serving(Starlette(routes=routes)) as server:
        yield server.url
