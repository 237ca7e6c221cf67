"""`Gateway`: channels as an ASGI app."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Self

from tokenwire import Sink, open_sink
from tokenwire._ids import check_name
from tokenwire.backend import Backend
from tokenwire.encoding import StreamPlan, find_encoder
from tokenwire_adapters._web.gateway.asgi import Receive, Scope, Send, serve_lifespan
from tokenwire_adapters._web.gateway.auth import Authorize, Guard
from tokenwire_adapters._web.gateway.cors import Origins
from tokenwire_adapters._web.gateway.dispatch import serve_http
from tokenwire_adapters._web.gateway.events_response import EventsResponse
from tokenwire_adapters._web.gateway.limits import Limits
from tokenwire_adapters._web.gateway.log_masking import protect
from tokenwire_adapters._web.gateway.operations import MetricsFor, Operations
from tokenwire_adapters._web.gateway.routes import ChannelRoutes, serve_websocket
from tokenwire_adapters._web.gateway.service import Service
from tokenwire_adapters._web.gateway.tokens import Tokens

__all__ = ["Gateway"]

_MIN_TAB_KEY = 32  # bytes


class Gateway:
    """Channels over HTTP and WebSocket: an ASGI 3 app, to mount anywhere or to run alone.

    Without `authorize` and `tokens` only clients on the same machine are answered.

    :param sink: a sink, which stays yours to close, or the URL of one, which the gateway opens
        and closes; by default ``$TOKENWIRE_URL``, else ``memory://``.
    :param authorize: ``authorize(connection, channel, action)``, sync (run in a thread) or async.
        `connection` is Starlette's `HTTPConnection`; `action` is ``subscribe``,
        ``history``, ``cancel`` or ``input``. It returns a principal (a string that names the
        user) or True to allow, False to refuse, or raises `AccessDenied` or `PermissionError`.
        None refuses, too.
    :param tokens: checks signed tokens. With both, both must allow.
    :param allow_origins: exact origins whose pages may use the gateway, beside its own.
    :param limits: what it takes.
    :param owner: a metadata field: a response may be cancelled only by the principal that this
        field of it names.
    :param metrics_for: who may read ``/metrics``.
    :param tab_key: a secret of at least 32 bytes, the same in all processes that serve the same
        pages: with it, tabs of one user know each other and share a connection, and nothing else
        is done with it. By default derived from the secret of `tokens`; without one, random, so
        that tabs share only where they have met the same process.
    :raises ValueError: for arguments that are not valid.
    """

    def __init__(
        self,
        sink: Sink | Backend | str | None = None,
        *,
        authorize: Authorize | None = None,
        tokens: Tokens | None = None,
        allow_origins: Iterable[str] = (),
        limits: Limits | None = None,
        owner: str | None = None,
        metrics_for: MetricsFor = "local",
        tab_key: str | bytes | None = None,
    ) -> None:
        if authorize is not None and not callable(authorize):
            raise ValueError("authorize must be a function")
        if tokens is not None and not isinstance(tokens, Tokens):
            raise ValueError("tokens must be a Tokens object, with your keys")
        secret = tab_key.encode() if isinstance(tab_key, str) else tab_key
        if secret is not None and not (isinstance(secret, bytes) and len(secret) >= _MIN_TAB_KEY):
            raise ValueError(f"tab_key must be a secret of at least {_MIN_TAB_KEY} bytes")
        if metrics_for not in ("local", "everyone", "nobody"):
            raise ValueError("metrics_for must be 'local', 'everyone' or 'nobody'")
        self._metrics_for: MetricsFor = metrics_for
        self._open: Callable[[], Sink] | None = None
        if isinstance(sink, Sink):
            self.sink = sink
        else:
            self._open = partial(open_sink, sink)
            self.sink = self._open()
        self._make_service = partial(
            Service,
            guard=Guard(authorize, tokens, secret),
            limits=limits or Limits(),
            origins=Origins(allow_origins),
            owner=owner,
        )
        self._serve_sink()
        if tokens is not None:
            protect("uvicorn.access", "uvicorn.error")

    def _serve_sink(self) -> None:
        self._service = self._make_service(self.sink)
        self._routes = ChannelRoutes(self._service, Operations(self._service, self._metrics_for))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection (ASGI 3)."""
        kind = scope["type"]
        if kind == "http":
            await serve_http(self._service, self._routes.find, scope, receive, send)
        elif kind == "websocket":
            await serve_websocket(self._service, scope, receive, send)
        elif kind == "lifespan":
            await serve_lifespan(receive, send, self.startup, self.shutdown)
        else:
            raise ValueError(f"the gateway does not serve {kind!r}")

    def events(
        self,
        channel: str,
        *,
        after: str | None = None,
        rewind: str | int | None = None,
        response_id: str | None = None,
        format: str = "native",
        response: str | None = None,
    ) -> EventsResponse:
        """An event stream as the response of a handler of your own, which has authorized it.

        Parameters as those of `Sink.watch` and the route; nothing is read from the request.

        :param response: the older name of `response_id`.
        :raises InvalidName, InvalidCursor, ValueError: for arguments that are not valid.
        """
        check_name(channel, "channel")
        if response is not None:
            if response_id is not None:
                raise ValueError("give response_id= only: response= is its older name")
            response_id = response
        self.sink.reader(
            channel, after=after, rewind=rewind, response_id=response_id
        )  # checks them
        find_encoder(format)
        plan = StreamPlan(
            channel=channel,
            after=after,
            rewind=None if rewind is None else str(rewind),
            response_id=response_id,
            format=format,
        )
        return EventsResponse(self._service, plan)

    @property
    def connections(self) -> int:
        """How many event streams and sockets of this sink are open, also those of chat routes."""
        return len(self._service.traffic.connections)

    async def startup(self) -> None:
        """Take connections, also after a `shutdown`.

        Call it when an app starts that may be served more than once; a gateway that is the app
        itself does so in its lifespan. Idempotent.
        """
        if self._open is not None and self.sink.closed:
            self.sink = self._open()
            self._serve_sink()
        self._service.reopen()

    async def shutdown(self, timeout: float = 5.0) -> bool:
        """Take no more connections, tell clients to reconnect elsewhere, and wait for that.

        Call it when the app shuts down, before the server waits for its connections where you can.
        Under uvicorn, whoever runs it, open streams end by themselves as soon as the server begins
        to; a gateway that is the app itself does all of it in its lifespan. Idempotent.

        :param timeout: how long to wait, in seconds.
        :return: whether all of its connections have ended.
        """
        self._service.close()
        done = await self._service.closed(timeout)
        if self._open is not None:
            await self.sink.aclose()
        return done

    async def __aenter__(self) -> Self:
        await self.startup()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.shutdown()
