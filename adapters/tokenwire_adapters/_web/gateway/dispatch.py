"""Dispatches HTTP requests to the handlers of routes, of the gateway and of UI protocols alike."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple, TypeAlias

from tokenwire_adapters._web.gateway.asgi import (
    Headers,
    Message,
    Receive,
    Request,
    Scope,
    Send,
    header_of,
    send_response,
)
from tokenwire_adapters._web.gateway.auth import Caller, same_origin
from tokenwire_adapters._web.gateway.problems import Problem, problem_of
from tokenwire_adapters._web.gateway.service import Service
from tokenwire_adapters._web.gateway.tracing import Span, span

__all__ = ["Exchange", "Find", "Handler", "Route", "check_origin", "dispatch", "send_problem"]

logger = logging.getLogger("tokenwire.gateway")


class Exchange:
    """One HTTP request and its response.

    :ivar authenticated: who makes the request, once that is checked; see `caller`.
    :ivar headers: to add to every response: those of CORS.
    :ivar names: the segments of the path below the mount point, decoded.
    :ivar route: the name of the route, for metrics and spans.
    :ivar status: of the response, once it has begun.
    """

    __slots__ = (
        "_send",
        "authenticated",
        "headers",
        "names",
        "origin",
        "receive",
        "request",
        "route",
        "status",
    )

    def __init__(
        self, request: Request, receive: Receive, send: Send, headers: list[tuple[bytes, bytes]]
    ) -> None:
        self.request = request
        self.names: tuple[str, ...] = request.segments
        self.origin = request.header(b"origin")
        self.headers = headers
        self.receive = receive
        self.route = "none"
        self.status: int | None = None
        self._send = send
        self.authenticated: Caller | None = None

    @property
    def caller(self) -> Caller:
        """Who makes the request; routes that are public have none."""
        assert self.authenticated is not None
        return self.authenticated

    async def send(self, message: Message) -> None:
        """Send an ASGI message of the response."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self._send(message)


Handler: TypeAlias = Callable[[Exchange], Awaitable[None]]


class Route(NamedTuple):
    """A route that a path leads to.

    :param name: for metrics and spans.
    :param handlers: by HTTP method.
    :param public: whether it is answered without access rules and rate limits.
    :param query_token: whether a token may come in the query: browsers send no header here.
    """

    name: str
    handlers: Mapping[str, Handler]
    public: bool = False
    query_token: bool = False


Find: TypeAlias = Callable[[Exchange], Route | None]
"""Finds the route of a request; may set `Exchange.names`."""


async def dispatch(
    service: Service, find: Find, scope: Scope, receive: Receive, send: Send
) -> None:
    """Answer one HTTP request. Raises nothing but cancellation."""
    began = time.monotonic()
    origin = header_of(scope, b"origin")
    headers = service.origins.headers(origin)
    try:
        exchange = Exchange(Request(scope, service.limits), receive, send, headers)
    except Problem as problem:
        service.log_refusal(problem, None, "a request")
        await send_problem(send, problem, headers)
        return
    method = exchange.request.method
    with span("tokenwire.gateway.request", {"http.request.method": method}) as current:
        try:
            await _route(service, find, exchange)
        except Exception as error:
            answer = problem_of(error)
            service.log_refusal(answer, exchange.authenticated, f"a request ({exchange.route})")
            if exchange.status is None:
                await send_problem(exchange.send, answer, headers, head=method == "HEAD")
        _record(service, exchange, current, began)


async def _route(service: Service, find: Find, exchange: Exchange) -> None:
    request, origin = exchange.request, exchange.origin
    route = find(exchange)
    if route is None:
        raise Problem("not_found", "there is no such route")
    exchange.route = route.name
    allow = ", ".join([*route.handlers, "OPTIONS"])
    if request.method == "OPTIONS":
        allowed = [(b"allow", allow.encode()), *service.origins.preflight(origin)]
        await send_response(exchange.send, 204, headers=allowed)
        return
    handler = route.handlers.get(request.method)
    if handler is None:
        raise Problem("method_not_allowed", f"this route takes {allow}", allow=allow)
    if not route.public:
        service.requests.require(f"c:{request.client}", "requests")
        if request.method == "POST":
            check_origin(service, request, origin)
        exchange.authenticated = service.guard.identify(
            request, websocket=False, browser_only=route.query_token
        )
    await handler(exchange)


def check_origin(service: Service, request: Request, origin: str | None) -> None:
    """Refuse pages of other sites, whose requests a browser may send without a preflight.

    :raises Problem: ``forbidden``.
    """
    if origin is None or service.origins.allows(origin) or same_origin(request, origin):
        return
    raise Problem("forbidden", f"pages of {origin[:100]!a} may not talk to this gateway")


def _record(service: Service, exchange: Exchange, current: Span, began: float) -> None:
    status = exchange.status or 0
    key = (exchange.route, status)
    answered = service.traffic.answered
    answered[key] = answered.get(key, 0) + 1
    current.set("http.route", exchange.route)
    current.set("http.response.status_code", status)
    logger.debug(
        "tokenwire gateway: %s answered %s",
        exchange.route,
        exchange.status,
        extra={
            "tokenwire_route": exchange.route,
            "tokenwire_status": exchange.status,
            "tokenwire_client": exchange.request.client,
            "tokenwire_seconds": round(time.monotonic() - began, 6),
        },
    )


async def send_problem(
    send: Send, problem: Problem, headers: Headers = (), *, head: bool = False
) -> None:
    """Send an error as a problem document (RFC 9457)."""
    await send_response(
        send,
        problem.status,
        problem.document(),
        headers=[
            (b"content-type", b"application/problem+json"),
            (b"cache-control", b"no-store"),
            (b"x-content-type-options", b"nosniff"),
            *problem.headers(),
            *headers,
        ],
        head=head,
    )
