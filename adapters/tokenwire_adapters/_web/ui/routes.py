"""`ProtocolRoutes`: the base of the routes of a UI protocol. An ASGI app."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, TypeVar, cast

import msgspec
from starlette.routing import BaseRoute
from starlette.routing import Route as StarletteRoute

from tokenwire import default_sink
from tokenwire.encoding import Encoder, StreamPlan
from tokenwire.sink import Sink
from tokenwire.watch import ChannelReader
from tokenwire_adapters._web.gateway.asgi import (
    Receive,
    Scope,
    Send,
    checked_name,
    read_json,
    send_json,
    send_response,
    serve_lifespan,
)
from tokenwire_adapters._web.gateway.auth import Authorize, Guard
from tokenwire_adapters._web.gateway.cors import Origins
from tokenwire_adapters._web.gateway.dispatch import Exchange, Handler, Route, dispatch
from tokenwire_adapters._web.gateway.gateway import Gateway
from tokenwire_adapters._web.gateway.limits import Limits
from tokenwire_adapters._web.gateway.problems import Problem
from tokenwire_adapters._web.gateway.service import Service, share, shared_by_owner, shared_by_sink
from tokenwire_adapters._web.gateway.sse import serve_watch
from tokenwire_adapters._web.gateway.tokens import Tokens
from tokenwire_adapters._web.ui.tasks import AgentTasks

__all__ = ["Exchange", "Handler", "ProtocolRoutes", "Route"]

T = TypeVar("T")

_BODY_BYTES = 4 * 2**20  # pages send the whole conversation
_CLOSE_TIMEOUT = 5.0


class ProtocolRoutes:
    """An ASGI 3 app with the routes of a UI protocol under one path, which start an agent.

    Open streams count with those of the gateway of the same sink: in `Gateway.connections`, in
    its metrics and towards its limits. That is `gateway`, or else the first `Gateway` that was
    made for the sink by the time of the first request. Without a gateway, all routes of a sink
    count together.

    :param sink: where answers are kept; by default the gateway's, else the process's own.
    :param agent: ``agent(turn)``, a coroutine function or a function that is run in a thread.
    :param path: of the first route.
    :param channel: maps the id of a conversation to the name of its channel.
    :param authorize: as `Gateway` has it. Without it and `tokens`, `gateway`'s rules apply, where
        that is given; else only clients of this machine are answered.
    :param tokens: checks signed tokens.
    :param allow_origins: exact origins whose pages are answered, beside the app's own; by default
        those of `gateway`, where that is given.
    :param limits: by default the gateway's, with bodies of up to 4 MiB.
    :param gateway: the gateway to share connections, metrics and limits with.
    :ivar routes: the same as Starlette's routes, to add to an app of Starlette or FastAPI.
    :ivar tasks: the runs of the agent in this process.
    :raises ValueError: for arguments that are not valid.
    """

    def __init__(
        self,
        sink: Sink | None,
        agent: Callable[[Any], Any],
        *,
        path: str,
        channel: Callable[[str], str] | None = None,
        authorize: Authorize | None = None,
        tokens: Tokens | None = None,
        allow_origins: Iterable[str] = (),
        limits: Limits | None = None,
        gateway: Gateway | None = None,
    ) -> None:
        if sink is not None and not isinstance(sink, Sink):
            raise ValueError("sink must be a tokenwire.Sink, as tokenwire.open_sink gives it")
        if not path.startswith("/") or path.endswith("/"):
            raise ValueError(f"path must begin with a slash and not end with one, not {path!r}")
        if gateway is not None and not isinstance(gateway, Gateway):
            raise ValueError("gateway must be a tokenwire_adapters.asgi.Gateway")
        if gateway is not None and sink not in (None, gateway.sink):
            raise ValueError("the gateway is one of another sink")
        if sink is None:
            sink = default_sink() if gateway is None else gateway.sink
        self.sink: Sink = sink
        self.tasks = AgentTasks(self.sink, agent)
        self._path = path
        self._prefix = tuple(path.split("/")[1:])
        self._channel: Callable[[str], str] = channel or str
        self._guard = Guard(authorize, tokens)
        self._origins = Origins(allow_origins)
        self._limits = limits
        self._gateway = gateway
        app = _App(self)
        self.routes: list[BaseRoute] = [
            StarletteRoute(path, app, name=f"tokenwire{path}"),
            StarletteRoute(f"{path}/{{rest:path}}", app, name=f"tokenwire{path}/"),
        ]

    @abstractmethod
    def find(self, names: Sequence[str]) -> Route | None:
        """The route of a path, given the segments below `path`; None where there is none."""
        raise NotImplementedError

    @cached_property
    def service(self) -> Service:
        """Access rules, limits and counts; settled at the first request."""
        guard: Guard | None = self._guard
        origins: Origins | None = self._origins
        if self._gateway is not None:
            parent: Service | None = shared_by_owner(self._gateway)
            if self._guard.authorize is None and self._guard.tokens is None:
                guard = None
            origins = self._origins if self._origins.allowed else None
        else:
            parent = shared_by_sink(self.sink)
        if parent is None:
            parent = Service(
                self.sink,
                guard=self._guard,
                limits=Limits(),
                origins=self._origins,
            )
            share(self, parent)
        size = max(parent.limits.input_bytes, _BODY_BYTES)
        limits = self._limits or msgspec.structs.replace(parent.limits, input_bytes=size)
        return parent.derived(guard=guard, origins=origins, limits=limits)

    async def aclose(self) -> None:
        """Stop the agents that run here, and end the streams."""
        self.service.close()
        await self.tasks.aclose()
        await self.service.wait_closed(_CLOSE_TIMEOUT)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request (ASGI 3), whose path is the full one or the one below a mount."""
        if scope["type"] == "lifespan":
            await serve_lifespan(receive, send, self.aclose)
        elif scope["type"] == "http":
            await dispatch(self.service, self._find, scope, receive, send)
        else:
            raise ValueError(f"these routes do not serve {scope['type']!r}")

    def _find(self, exchange: Exchange) -> Route | None:
        names = exchange.names
        if names[: len(self._prefix)] == self._prefix:  # not mounted there: the full path
            names = names[len(self._prefix) :]
        exchange.names = () if names == ("",) else names
        return self.find(exchange.names)

    # -- for handlers

    async def channel_of(self, exchange: Exchange, name: str, action: str) -> str:
        """The channel of the conversation `name`, where the caller may do `action`.

        :raises InvalidName, Problem: when it is no name, or the caller may not.
        """
        channel = checked_name(self._channel(checked_name(name, "chat id")), "channel")
        await self.service.guard.require(exchange.caller, channel, action)
        return channel

    async def read_body(self, exchange: Exchange) -> dict[str, Any]:
        """The JSON object in the body; empty where there is none. :raises Problem: for others."""
        body = await read_json(exchange.request, exchange.receive, self.service.limits)
        if body is not None and not isinstance(body, dict):
            raise Problem("invalid", "the body must be an object")
        return cast("dict[str, Any]", body or {})

    @contextmanager
    def admitted(self, exchange: Exchange) -> Generator[None, None, None]:
        """Count a stream from before it is opened until it ends. :raises Problem: at the limit."""
        with self.service.admitted(exchange.caller):
            yield

    async def within(self, awaitable: Awaitable[T]) -> T:
        """Await the backend for a limited time. :raises Problem: ``unavailable``."""
        return await self.service.within(awaitable)

    def limit_inputs(self, exchange: Exchange, what: str) -> None:
        """Count an input towards the caller's rate. :raises Problem: ``rate_limited``."""
        self.service.inputs.require(exchange.caller.key, what)

    async def reader_before(
        self, channel: str, begin: Callable[[], Awaitable[None]]
    ) -> ChannelReader:
        """Open a reader of a channel, and only then call `begin`, so that nothing is missed."""
        reader = self.sink.reader(channel)
        try:
            await self.within(reader.aopen())
            await begin()
        except BaseException:
            reader.close()
            raise
        return reader

    async def stream(
        self, exchange: Exchange, channel: str, encoder: Encoder, reader: ChannelReader
    ) -> None:
        """Answer with an event stream, to its end, and close `reader`."""
        await serve_watch(
            self.service,
            exchange.caller,
            StreamPlan(channel=channel, format=encoder.name),
            encoder,
            reader,
            exchange.receive,
            exchange.send,
            exchange.headers,
        )

    async def send_json(self, exchange: Exchange, value: Any, status: int = 200) -> None:
        """Answer with JSON."""
        await send_json(exchange.send, status, value, headers=exchange.headers)

    async def send_nothing(self, exchange: Exchange) -> None:
        """Answer 204: there is nothing to stream."""
        headers = [(b"cache-control", b"no-store"), *exchange.headers]
        await send_response(exchange.send, 204, headers=headers)

    async def stop(self, exchange: Exchange, channel: str, run: str | None) -> None:
        """Stop a run, by default the one under way, and answer with the outcome."""
        self.limit_inputs(exchange, "cancels and inputs")
        outcomes = await self.tasks.cancel(channel, run=run, reason="stopped by the user")
        first = outcomes[0] if outcomes else None
        acknowledged = first is None or first.acknowledged
        await self.send_json(
            exchange,
            {
                "success": acknowledged,
                "run": None if first is None else first.response_id,
                "state": None if first is None else first.state,
            },
            200 if acknowledged else 202,
        )


class _App:
    """Makes Starlette's `Route` treat routes as an ASGI app, with all methods."""

    def __init__(self, routes: ProtocolRoutes) -> None:
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._routes(scope, receive, send)
