"""Routes of a UI protocol: what `ChatRoutes` and `AgentRoutes` share. Raw ASGI."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeAlias, cast

import msgspec
from starlette.routing import BaseRoute, Route

from tokenwire import default_sink
from tokenwire.encoding import Encoder, StreamPlan
from tokenwire.sink import Sink
from tokenwire.watch import ChannelReader
from tokenwire_adapters._web.gateway.asgi import (
    Message,
    Receive,
    Request,
    Scope,
    Send,
    checked_name,
    read_json,
    send_json,
    send_response,
)
from tokenwire_adapters._web.gateway.auth import Authorize, Caller, Guard, same_origin
from tokenwire_adapters._web.gateway.cors import Origins
from tokenwire_adapters._web.gateway.limits import Limits
from tokenwire_adapters._web.gateway.problems import Problem, problem_of
from tokenwire_adapters._web.gateway.service import Core
from tokenwire_adapters._web.gateway.sse import serve_watch
from tokenwire_adapters._web.gateway.tokens import Tokens
from tokenwire_adapters._web.ui.tasks import AgentTasks

__all__ = ["LIMITS", "Exchange", "Handler", "Routes"]

logger = logging.getLogger("tokenwire.gateway")

LIMITS = Limits(input_bytes=4 * 2**20)
"""The gateway's limits, but for bodies: pages send the whole conversation."""


class Exchange:
    """One request and what is needed to answer it."""

    __slots__ = ("caller", "headers", "names", "receive", "request", "send")

    def __init__(
        self,
        request: Request,
        names: Sequence[str],
        caller: Caller,
        receive: Receive,
        send: Send,
        headers: list[tuple[bytes, bytes]],
    ) -> None:
        self.request = request
        self.names = names
        self.caller = caller
        self.receive = receive
        self.send = send
        self.headers = headers


Handler: TypeAlias = Callable[[Exchange], Awaitable[None]]


class Routes:
    """An ASGI 3 app with a few routes under one path.

    :ivar routes: the same as Starlette's routes, to add to an app of Starlette or FastAPI.
    """

    def __init__(
        self,
        sink: Sink | None,
        agent: Callable[[Any], Any],
        *,
        path: str,
        channel: Callable[[str], str] | None,
        authorize: Authorize | None,
        tokens: Tokens | None,
        allow_origins: Iterable[str],
        limits: Limits | None,
    ) -> None:
        if sink is not None and not isinstance(sink, Sink):
            raise ValueError("sink must be a tokenwire.Sink, as tokenwire.open_sink gives it")
        if not path.startswith("/") or path.endswith("/"):
            raise ValueError(f"path must begin with a slash and not end with one, not {path!r}")
        self.sink: Sink = default_sink() if sink is None else sink
        self.turns = AgentTasks(self.sink, agent)
        self._path = path
        self._channel: Callable[[str], str] = channel or str
        self._core = Core(
            self.sink,
            guard=Guard(authorize, tokens),
            limits=limits or LIMITS,
            origins=Origins(allow_origins),
            owner=None,
        )
        self._depth = path.count("/")
        app = _App(self)
        self.routes: list[BaseRoute] = [
            Route(path, app, name=f"tokenwire{path}"),
            Route(f"{path}/{{rest:path}}", app, name=f"tokenwire{path}/"),
        ]

    @abstractmethod
    def _find(self, names: Sequence[str]) -> dict[str, Handler]:
        """The handlers of a path below ours, by method; empty where there are none."""
        raise NotImplementedError

    async def aclose(self) -> None:
        """Stop the agents that run here, and let go of the pages."""
        self._core.lines.close()
        await self.turns.aclose()
        await self._core.lines.closed(5.0)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request (ASGI 3), whose path is the full one or the one below a mount."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await self._serve(scope, receive, send)
        else:
            raise ValueError(f"these routes do not serve {scope['type']!r}")

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                await self.aclose()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def sent(message: Message) -> None:
            nonlocal begun
            begun = begun or message["type"] == "http.response.start"
            await send(message)

        origin = next((v.decode("latin-1") for k, v in scope["headers"] if k == b"origin"), None)
        headers = self._core.origins.headers(origin)
        caller: Caller | None = None
        try:
            request = Request(scope, self._core.limits)
            handlers = self._find(self._below(request.segments))
            if not handlers:
                raise Problem("not_found", "there is no such route")
            if request.method == "OPTIONS":
                preflight = self._core.origins.preflight(origin)
                await send_response(sent, 204, headers=preflight)
                return
            handler = handlers.get(request.method)
            if handler is None:
                allow = ", ".join([*handlers, "OPTIONS"])
                raise Problem("method_not_allowed", f"this route takes {allow}", allow=allow)
            self._core.requests.require(f"c:{request.client}", "requests")
            self._check_origin(request, origin)
            caller = self._core.guard.identify(request, websocket=False, browser_only=False)
            names = self._below(request.segments)
            await handler(Exchange(request, names, caller, receive, sent, headers))
        except Exception as error:
            problem = problem_of(error)
            self._core.refused(problem, caller, "a request")
            if begun:
                return
            await send_response(
                sent,
                problem.status,
                problem.document(),
                headers=[
                    (b"content-type", b"application/problem+json"),
                    (b"cache-control", b"no-store"),
                    *problem.headers(),
                    *headers,
                ],
            )

    def _below(self, segments: Sequence[str]) -> Sequence[str]:
        """The path below ours: the app may be mounted there, or see the full path."""
        ours = self._path.split("/")[1:]
        segments = list(segments)
        if segments[: self._depth] == ours:
            segments = segments[self._depth :]
        return [each for each in segments if each] if segments in ([], [""]) else segments

    def _check_origin(self, request: Request, origin: str | None) -> None:
        """Refuse what a page of another site sends without asking first."""
        if request.method != "POST" or origin is None:
            return
        if self._core.origins.allows(origin) or same_origin(request, origin):
            return
        raise Problem("forbidden", f"pages of {origin[:100]!a} may not talk to this agent")

    # -- for handlers

    async def _may(self, exchange: Exchange, name: str, action: str) -> str:
        """The channel of a conversation, where the caller may do `action` there."""
        channel = checked_name(self._channel(checked_name(name, "chat id")), "channel")
        await self._core.guard.require(exchange.caller, channel, action)
        return channel

    async def _body(self, exchange: Exchange) -> dict[str, Any]:
        body = await read_json(exchange.request, exchange.receive, self._core.limits)
        if body is not None and not isinstance(body, dict):
            raise Problem("invalid", "the body must be an object")
        return cast("dict[str, Any]", body or {})

    async def _watch_from(
        self, channel: str, begin: Callable[[], Awaitable[None]]
    ) -> ChannelReader:
        """Watch a channel, and only then begin what is to be seen there."""
        watch = self.sink.reader(channel)
        try:
            await self._core.within(watch.aopen())
            await begin()
        except BaseException:
            watch.close()
            raise
        return watch

    async def _stream(
        self, exchange: Exchange, channel: str, encoder: Encoder, watch: ChannelReader
    ) -> None:
        plan = StreamPlan(channel=channel, format=encoder.name)
        await serve_watch(
            self._core,
            exchange.caller,
            plan,
            encoder,
            watch,
            exchange.receive,
            exchange.send,
            exchange.headers,
        )

    async def _json(self, exchange: Exchange, value: Any, status: int = 200) -> None:
        await send_json(exchange.send, status, value, headers=exchange.headers)

    async def _nothing(self, exchange: Exchange) -> None:
        headers = [(b"cache-control", b"no-store"), *exchange.headers]
        await send_response(exchange.send, 204, headers=headers)

    async def _stop(self, exchange: Exchange, channel: str, run: str | None) -> None:
        self._core.inputs.require(exchange.caller.key, "cancels and inputs")
        outcomes = await self.turns.cancel(channel, run=run, reason="stopped by the user")
        first = outcomes[0] if outcomes else None
        await self._json(
            exchange,
            {
                "success": first is None or first.acknowledged,
                "run": None if first is None else first.response_id,
                "state": None if first is None else first.state,
            },
            200 if first is None or first.acknowledged else 202,
        )


class _App:
    """Makes Starlette's `Route` take routes as an app of their own, with all methods."""

    def __init__(self, routes: Routes) -> None:
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._routes(scope, receive, send)


def encoded_size(value: Any) -> int:
    """Bytes that a value has as JSON."""
    return len(msgspec.json.encode(value))
