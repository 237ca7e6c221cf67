"""`Proxy`: the ASGI app."""

from __future__ import annotations

from collections.abc import Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Self
from urllib.parse import quote

import httpx
from starlette.requests import HTTPConnection
from starlette.types import Receive, Scope, Send

from tokenwire import Sink, open_sink
from tokenwire._lifetime import run_first_response_callbacks
from tokenwire._options import choose_on_cancel
from tokenwire.backend import Backend
from tokenwire.instrument import OnCancel, Options
from tokenwire_adapters._agents.own_proxy import PUBLISHED
from tokenwire_adapters._agents.wires.recognition import HttpRequest, may_be_model_call
from tokenwire_adapters._tools.proxy.access import Authorize, check_access
from tokenwire_adapters._tools.proxy.body import ClientGone, RequestBody
from tokenwire_adapters._tools.proxy.errors import ProxyError
from tokenwire_adapters._tools.proxy.exchange import Exchange
from tokenwire_adapters._tools.proxy.headers import CHANNEL, RUN, names_of
from tokenwire_adapters._tools.proxy.recording import Recording, record_request
from tokenwire_adapters._tools.proxy.upstreams import Upstream, Upstreams
from tokenwire_adapters._tools.proxy.websocket import pass_websocket, refuse_websocket

__all__ = ["MAX_BODY", "Proxy"]

MAX_BODY = 128 * 2**20
"""Bytes of a request's body that are passed on by default."""

_MAX_HEADERS = 64 * 1024  # bytes of a request's headers


class Proxy:
    """Passes requests on to model providers, byte for byte, and publishes what models reply.

    An ASGI 3 app. ``/NAME/…`` leads to the upstream of that name, and anything else to the default
    one. A request may name its channel and its run in the headers ``X-Tokenwire-Channel`` and
    ``X-Tokenwire-Run``, which go no further. Keys pass through; they are neither kept nor logged.
    Without `authorize` only clients on the same machine are answered.

    :param upstreams: URLs by name, as ``{"openai": "https://api.openai.com/v1"}``.
    :param sink: a sink, which stays yours to close, or the URL of one, which the proxy opens and
        closes; by default ``$TOKENWIRE_URL``, else ``memory://``.
    :param channel: of requests that name none; by default ``$TOKENWIRE_CHANNEL``.
    :param run: the agent run of requests that name none; by default each has one of its own.
    :param metadata: published with each response.
    :param default: the upstream of paths that begin with no name; by default the only one there is.
    :param on_cancel: what the client meets once a watcher has cancelled: the end of its stream
        (``"end"``, the default), or a connection that breaks off (``"raise"``).
    :param authorize: ``authorize(connection, upstream, channel)``, sync (run in a thread) or async:
        True allows, False and None refuse. `connection` is Starlette's `HTTPConnection`; `channel`
        is None where the request names none.
    :param max_body: bytes of a request's body at most.
    :raises ValueError: for arguments that are not valid.
    """

    def __init__(
        self,
        upstreams: Mapping[str, str],
        sink: Sink | Backend | str | None = None,
        *,
        channel: str | None = None,
        run: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        default: str | None = None,
        on_cancel: OnCancel | None = None,
        authorize: Authorize | None = None,
        max_body: int = MAX_BODY,
    ) -> None:
        if authorize is not None and not callable(authorize):
            raise ValueError("authorize must be a function")
        if max_body < 1:
            raise ValueError(f"max_body must be 1 byte or more, not {max_body!r}")
        self.upstreams = Upstreams(upstreams, default)
        self._authorize = authorize
        self._max_body = max_body
        self._on_cancel: OnCancel = choose_on_cancel(on_cancel, None, "end")
        self._channel = channel
        self._run = run
        self._metadata = dict(metadata or {})
        self._owns_sink = not isinstance(sink, Sink)
        self.sink = sink if isinstance(sink, Sink) else open_sink(sink)
        self._client: httpx.AsyncClient | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection (ASGI 3)."""
        kind = scope["type"]
        if kind == "http":
            await self._serve_http(scope, receive, send)
        elif kind == "websocket":
            await self._serve_websocket(scope, receive, send)
        elif kind == "lifespan":
            await self._serve_lifespan(receive, send)
        else:
            raise ValueError(f"the proxy does not serve {kind!r}")

    async def aclose(self) -> None:
        """Close connections to upstreams that are idle, and the sink, if the proxy opened it."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()
        if self._owns_sink:
            await self.sink.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def _serve_lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.aclose()
        await send({"type": "lifespan.shutdown.complete"})

    async def _serve_http(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = False

        async def send_noting(message: Any) -> None:
            nonlocal began
            began = True
            await send(message)

        try:
            exchange = await self._exchange(scope, receive)
            await exchange.run(scope, receive, send_noting)
        except ClientGone:
            return
        except ProxyError as error:
            if not began:
                await error.response()(scope, receive, send)

    async def _serve_websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            upstream, path, _ = await self._admit(scope)
            if path.endswith("/responses"):
                raise ProxyError(
                    426, "use_http", "this proxy reads these over HTTP, not over a WebSocket"
                )
            await pass_websocket(upstream, _target(scope, path), scope, receive, send)
        except ProxyError as error:
            await refuse_websocket(error, send)

    async def _exchange(self, scope: Scope, receive: Receive) -> Exchange:
        """Check a request, and read of it what is needed.

        :raises ProxyError: when it is not passed on.
        :raises ClientGone: when the client hangs up meanwhile.
        """
        upstream, path, headers = await self._admit(scope)
        stream = RequestBody(receive, headers, self._max_body)
        has_body = "content-length" in headers or "transfer-encoding" in headers
        body: bytes | RequestBody = stream if has_body else b""
        target = _target(scope, path)
        recording: Recording | None = None
        if PUBLISHED in headers:  # by the client, which is below `tokenwire run` as this proxy is
            run_first_response_callbacks()
        elif may_be_model_call(scope["method"], path):
            body = await stream.read()
            url = upstream.origin + target.decode("latin-1")
            request = HttpRequest(scope["method"], url, headers, body)
            recording = record_request(request, self._options(headers, upstream))
        return Exchange(self._http_client(), upstream, target, body, recording, self._on_cancel)

    async def _admit(self, scope: Scope) -> tuple[Upstream, str, Mapping[str, str]]:
        """Check a request; return its upstream, its path there, and its headers.

        :raises ProxyError: when it is not passed on.
        """
        if sum(len(name) + len(value) + 4 for name, value in scope["headers"]) > _MAX_HEADERS:
            raise ProxyError(
                431, "headers_too_large", f"this proxy takes {_MAX_HEADERS} bytes of headers"
            )
        headers = names_of(scope["headers"])
        upstream, path = self.upstreams.find(_path(scope))
        channel = headers.get(CHANNEL) or None
        await check_access(self._authorize, HTTPConnection(scope), upstream.name, channel)
        return upstream, path, headers

    def _options(self, headers: Mapping[str, str], upstream: Upstream) -> Options:
        return Options(
            self.sink,
            headers.get(CHANNEL) or self._channel,
            run=headers.get(RUN) or self._run,
            metadata={"upstream": upstream.name, **self._metadata},
            on_cancel=self._on_cancel,
        )

    def _http_client(self) -> httpx.AsyncClient:
        if self._client is None:
            self._client = httpx.AsyncClient(
                # No cookie is kept: none is sent from here, so they would only take memory.
                cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=100),
            )
        return self._client


def _path(scope: Scope) -> str:
    """The path below where the app is mounted, percent-encoded as the client sent it."""
    raw: bytes | None = scope.get("raw_path")
    path = quote(scope["path"]) if raw is None else raw.partition(b"?")[0].decode("latin-1")
    root = quote(scope.get("root_path", "")).rstrip("/")
    return path[len(root) :] if root and path.startswith(f"{root}/") else path


def _target(scope: Scope, path: str) -> bytes:
    """The path at the upstream, with the query."""
    query: bytes = scope.get("query_string", b"")
    return path.encode("latin-1") + (b"?" + query if query else b"")
