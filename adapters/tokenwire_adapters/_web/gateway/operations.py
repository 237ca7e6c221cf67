"""Routes for operators: health, readiness, metrics, the API's description, the browser client."""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from functools import lru_cache
from typing import Literal, TypeAlias

from tokenwire._version import __version__
from tokenwire.errors import TokenwireError
from tokenwire_adapters._web.gateway.asgi import NOSNIFF, send_response, unstored
from tokenwire_adapters._web.gateway.auth import is_local
from tokenwire_adapters._web.gateway.dispatch import Exchange, Handler, Route, answer_json
from tokenwire_adapters._web.gateway.metrics import render
from tokenwire_adapters._web.gateway.openapi import describe
from tokenwire_adapters._web.gateway.problems import Problem
from tokenwire_adapters._web.gateway.service import Service

__all__ = ["MetricsFor", "Operations"]

MetricsFor: TypeAlias = Literal["local", "everyone", "nobody"]

_STATIC = {
    "tokenwire.js": b"text/javascript; charset=utf-8",
    "tokenwire-tabs.js": b"text/javascript; charset=utf-8",
    "tokenwire-tab-lines.js": b"text/javascript; charset=utf-8",
    "tokenwire.d.ts": b"application/typescript; charset=utf-8",
    "ai-sdk.js": b"text/javascript; charset=utf-8",
    "ai-sdk-message.js": b"text/javascript; charset=utf-8",
    "ai-sdk.d.ts": b"application/typescript; charset=utf-8",
}
_CORS = b"access-control-allow-"
_CHECK_TIMEOUT = 3.0  # seconds
_CHECK_FRESH = 1.0  # seconds


class Operations:
    """The routes that concern no channel."""

    def __init__(self, service: Service, metrics_for: MetricsFor) -> None:
        self._service = service
        self._metrics_for = metrics_for
        self._checked: tuple[float, bool] | None = None
        self._checking = asyncio.Lock()
        handlers: dict[str, Handler] = {
            "healthz": self._health,
            "readyz": self._ready,
            "metrics": self._metrics,
            "openapi.json": self._openapi,
            **dict.fromkeys(_STATIC, self._static),
        }
        self._routes = {
            name: Route(name, {"GET": handler, "HEAD": handler}, guarded=False)
            for name, handler in handlers.items()
        }

    def find(self, segments: tuple[str, ...]) -> Route | None:
        """The route of a path; None where there is none."""
        return self._routes.get(segments[0]) if len(segments) == 1 else None

    async def _health(self, exchange: Exchange) -> None:
        await answer_json(exchange, {"status": "ok", "version": __version__})

    async def _ready(self, exchange: Exchange) -> None:
        if self._service.closing or self._service.sink.closed:
            raise Problem("unavailable", "the server is shutting down", retry_after=5)
        if not await self._backend_answers():
            raise Problem("unavailable", "the backend cannot be reached", retry_after=5)
        await answer_json(exchange, {"status": "ready"})

    async def _backend_answers(self) -> bool:
        """Ask the backend, but not more than about once a second."""
        async with self._checking:
            now = time.monotonic()
            if self._checked is not None and now - self._checked[0] < _CHECK_FRESH:
                return self._checked[1]
            try:
                async with asyncio.timeout(_CHECK_TIMEOUT):
                    await self._service.sink.ahistory("tokenwire-check", limit=1)
                good = True
            except (TokenwireError, TimeoutError):
                good = False
            self._checked = (time.monotonic(), good)
            return good

    async def _metrics(self, exchange: Exchange) -> None:
        if self._metrics_for == "nobody":
            raise Problem("not_found", "there is no such route")
        if self._metrics_for == "local" and not is_local(exchange.request):
            raise Problem("forbidden", "metrics are for clients of this machine (metrics_for=)")
        kind, body = render(self._service)
        head = exchange.request.method == "HEAD"
        headers = [*unstored(kind.encode()), *exchange.headers]
        await send_response(exchange.send, 200, body, headers=headers, head=head)

    async def _openapi(self, exchange: Exchange) -> None:
        await answer_json(exchange, describe(exchange.request.root or "/", self._service))

    async def _static(self, exchange: Exchange) -> None:
        from importlib import resources  # which takes as long as a tenth of the gateway

        request = exchange.request
        name = request.segments[0]
        path = resources.files("tokenwire_adapters") / "_static" / name
        if not path.is_file():
            raise Problem("not_found", f"this installation has no {name}")
        body = path.read_bytes()
        is_packed = accepts_gzip(request.header(b"accept-encoding") or "")
        if is_packed:
            body = _packed(body)
        tag = f'"{hashlib.sha256(body).hexdigest()[:24]}"'
        headers = [
            (b"etag", tag.encode()),
            (b"vary", b"accept-encoding"),
            *([(b"content-encoding", b"gzip")] if is_packed else []),
            (b"cache-control", b"public, max-age=300, must-revalidate"),
            NOSNIFF,
            # A module is fetched in CORS mode, and is no secret.
            *[pair for pair in exchange.headers if not pair[0].startswith(_CORS)],
            (b"access-control-allow-origin", b"*"),
        ]
        if tag in (request.header(b"if-none-match") or ""):
            await exchange.send({"type": "http.response.start", "status": 304, "headers": headers})
            await exchange.send({"type": "http.response.body", "body": b""})
            return
        headers.insert(0, (b"content-type", _STATIC[name]))
        await send_response(
            exchange.send, 200, body, headers=headers, head=request.method == "HEAD"
        )


def accepts_gzip(accepted: str) -> bool:
    """Whether a client takes gzip, by its ``Accept-Encoding``."""
    for item in accepted.lower().split(","):
        name, _, parameters = item.partition(";")
        if name.strip() in ("gzip", "x-gzip"):
            return not re.fullmatch(r"\s*q=0(\.0*)?\s*", parameters)
    return False


@lru_cache(maxsize=8)
def _packed(body: bytes) -> bytes:
    import gzip  # as above

    return gzip.compress(body, 9, mtime=0)
