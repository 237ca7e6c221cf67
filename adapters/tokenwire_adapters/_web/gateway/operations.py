"""Routes for operators: health, readiness, metrics, the API's description, the browser client."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable
from importlib import resources
from typing import Any, Literal, TypeAlias

from tokenwire._version import __version__
from tokenwire.errors import TokenwireError
from tokenwire_adapters._web.gateway.asgi import Request, Send, send_json, send_response
from tokenwire_adapters._web.gateway.auth import is_local
from tokenwire_adapters._web.gateway.metrics import render
from tokenwire_adapters._web.gateway.openapi import describe
from tokenwire_adapters._web.gateway.problems import Problem
from tokenwire_adapters._web.gateway.service import Core

__all__ = ["MetricsFor", "Operations"]

MetricsFor: TypeAlias = Literal["local", "everyone", "nobody"]
_Operation: TypeAlias = Callable[[Request, Send, list[tuple[bytes, bytes]]], Awaitable[None]]

_STATIC = {
    "tokenwire.js": b"text/javascript; charset=utf-8",
    "tokenwire.d.ts": b"application/typescript; charset=utf-8",
}
_CHECK_TIMEOUT = 3.0
_CHECK_FRESH = 1.0


class Operations:
    """The routes that concern no channel."""

    def __init__(self, core: Core, metrics_for: MetricsFor) -> None:
        self._core = core
        self._metrics_for = metrics_for
        self._checked: tuple[float, bool] | None = None
        self._checking = asyncio.Lock()
        self._routes: dict[str, _Operation] = {
            "healthz": self._health,
            "readyz": self._ready,
            "metrics": self._metrics,
            "openapi.json": self._openapi,
        }

    def find(self, segments: tuple[str, ...]) -> _Operation | None:
        """The operation of a path, if there is one."""
        if len(segments) != 1:
            return None
        if segments[0] in _STATIC:
            return self._static
        return self._routes.get(segments[0])

    async def _health(
        self, request: Request, send: Send, headers: list[tuple[bytes, bytes]]
    ) -> None:
        await _say(request, send, headers, 200, {"status": "ok", "version": __version__})

    async def _ready(
        self, request: Request, send: Send, headers: list[tuple[bytes, bytes]]
    ) -> None:
        if self._core.lines.closing or self._core.sink.closed:
            raise Problem("unavailable", "the server is shutting down", retry_after=5)
        if not await self._backend_answers():
            raise Problem("unavailable", "the backend cannot be reached", retry_after=5)
        await _say(request, send, headers, 200, {"status": "ready"})

    async def _backend_answers(self) -> bool:
        """Ask the backend, but not more than about once a second."""
        async with self._checking:
            now = time.monotonic()
            if self._checked is not None and now - self._checked[0] < _CHECK_FRESH:
                return self._checked[1]
            try:
                async with asyncio.timeout(_CHECK_TIMEOUT):
                    await self._core.sink.ahistory("tokenwire-check", limit=1)
                good = True
            except (TokenwireError, TimeoutError):
                good = False
            self._checked = (time.monotonic(), good)
            return good

    async def _metrics(
        self, request: Request, send: Send, headers: list[tuple[bytes, bytes]]
    ) -> None:
        if self._metrics_for == "nobody":
            raise Problem("not_found", "there is no such route")
        if self._metrics_for == "local" and not is_local(request):
            raise Problem("forbidden", "metrics are for clients of this machine (metrics_for=)")
        kind, body = render(self._core)
        await send_response(
            send,
            200,
            body,
            headers=[(b"content-type", kind.encode()), (b"cache-control", b"no-store"), *headers],
            head=request.method == "HEAD",
        )

    async def _openapi(
        self, request: Request, send: Send, headers: list[tuple[bytes, bytes]]
    ) -> None:
        await _say(request, send, headers, 200, describe(request.root or "/", self._core))

    async def _static(
        self, request: Request, send: Send, headers: list[tuple[bytes, bytes]]
    ) -> None:
        name = request.segments[0]
        path = resources.files("tokenwire_adapters") / "_static" / name
        if not path.is_file():
            raise Problem("not_found", f"this installation has no {name}")
        body = path.read_bytes()
        tag = f'"{hashlib.sha256(body).hexdigest()[:24]}"'
        headers = [
            (b"etag", tag.encode()),
            (b"cache-control", b"public, max-age=300, must-revalidate"),
            (b"x-content-type-options", b"nosniff"),
            # A module is fetched in CORS mode, and is no secret.
            *[pair for pair in headers if not pair[0].startswith(b"access-control-allow-")],
            (b"access-control-allow-origin", b"*"),
        ]
        if tag in (request.header(b"if-none-match") or ""):
            await send({"type": "http.response.start", "status": 304, "headers": headers})
            await send({"type": "http.response.body", "body": b""})
            return
        await send_response(
            send,
            200,
            body,
            headers=[(b"content-type", _STATIC[name]), *headers],
            head=request.method == "HEAD",
        )


async def _say(
    request: Request,
    send: Send,
    headers: list[tuple[bytes, bytes]],
    status: int,
    value: dict[str, Any],
) -> None:
    await send_json(send, status, value, headers=headers, head=request.method == "HEAD")
