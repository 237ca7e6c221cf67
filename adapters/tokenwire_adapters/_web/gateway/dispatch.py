"""Answers HTTP requests: limits, identity, errors, headers, spans and metrics of all routes."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import msgspec

from tokenwire_adapters._web.gateway.asgi import (
    Headers,
    Message,
    Receive,
    Request,
    Scope,
    Send,
    header_of,
    send_response,
    unstored,
)
from tokenwire_adapters._web.gateway.auth import Caller, same_origin
from tokenwire_adapters._web.gateway.connections import Admission, flushed
from tokenwire_adapters._web.gateway.member import Member
from tokenwire_adapters._web.gateway.problems import Problem, problem_of
from tokenwire_adapters._web.gateway.service import Service
from tokenwire_adapters._web.gateway.takeover import Take, take_of
from tokenwire_adapters._web.gateway.tracing import Span, span

__all__ = [
    "Exchange",
    "Find",
    "Handler",
    "Route",
    "admitted",
    "answer_json",
    "check_origin",
    "send_problem",
    "serve_http",
    "take_of_exchange",
]

logger = logging.getLogger("tokenwire.gateway")

_LARGE = 64 * 1024  # bytes of a body that the kernel may not take at once


class Exchange:
    """One HTTP request and its response.

    :ivar headers: headers that every response to this request has.
    :ivar route: the route's name, for metrics and spans.
    :ivar status: of the response, once it has begun.
    :ivar sent: bytes of its body that the server was given.
    :ivar admission: of its connection, where that has been counted.
    :ivar member: what the response has become, if it has taken over its transport.
    """

    __slots__ = (
        "_caller",
        "_send",
        "admission",
        "headers",
        "member",
        "receive",
        "request",
        "route",
        "sent",
        "status",
    )

    def __init__(
        self, request: Request, receive: Receive, send: Send, headers: list[tuple[bytes, bytes]]
    ) -> None:
        self.request = request
        self.receive = receive
        self.headers = headers
        self.route = "none"
        self.status: int | None = None
        self.sent = 0
        self.admission: Admission | None = None
        self.member: Member | None = None
        self._send = send
        self._caller: Caller | None = None

    async def send(self, message: Message) -> None:
        """Send an ASGI message of the response."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
        self.sent += len(message.get("body", b""))
        await self._send(message)

    @property
    def caller(self) -> Caller:
        """The client; known on guarded routes only."""
        assert self._caller is not None
        return self._caller

    @caller.setter
    def caller(self, caller: Caller) -> None:
        self._caller = caller


def admitted(service: Service, exchange: Exchange) -> Admission:
    """Count the connection of an exchange, from before it is opened until it is closed.

    :raises Problem: ``unavailable`` or ``rate_limited`` when there are too many.
    """
    exchange.admission = service.admitted(exchange.caller)
    return exchange.admission


def take_of_exchange(exchange: Exchange) -> Take | None:
    """How to take over the transport of an exchange, where its server offers that."""
    return take_of(exchange.request.scope, exchange._send)  # pyright: ignore[reportPrivateUsage]


Handler: TypeAlias = Callable[[Exchange], Awaitable[None]]


class Route(NamedTuple):
    """What a path leads to.

    :ivar name: for metrics and spans.
    :ivar handlers: by method.
    :ivar guarded: whether rates are limited and the caller is identified.
    :ivar query_token: whether a token may come in the query, since browsers can send no header.
    """

    name: str
    handlers: Mapping[str, Handler]
    guarded: bool = True
    query_token: bool = False


Find: TypeAlias = Callable[[Request], Route | None]
"""Finds the route of a request; None where there is none."""


async def serve_http(
    service: Service, find: Find, scope: Scope, receive: Receive, send: Send
) -> None:
    """Answer one HTTP request. Raises nothing but cancellation."""
    began = time.monotonic()
    origin = header_of(scope, b"origin")
    headers = service.origins.headers(origin)
    try:
        exchange = Exchange(Request(scope, service.limits), receive, send, headers)
    except Problem as problem:
        service.refused(problem, None, "a request")
        await send_problem(send, problem, headers)
        return
    with span("tokenwire.gateway.request", {"http.request.method": exchange.request.method}) as sp:
        try:
            await _answer(service, find, exchange, origin)
            if (
                exchange.member is None
                and exchange.sent > _LARGE
                and scope.get("http_version") in ("1.0", "1.1")
            ):
                await flushed(receive, send, timeout=service.limits.send_timeout)
        except Exception as error:
            await _refuse(service, exchange, problem_of(error))
        finish = partial(
            _finish, service, exchange.route, exchange.status, exchange.request.client, sp, began
        )
        if exchange.member is None:
            finish()
        else:
            sp.keep()
            exchange.member.start(finish)


async def _answer(service: Service, find: Find, exchange: Exchange, origin: str | None) -> None:
    request = exchange.request
    route = find(request)
    if route is None:
        raise Problem("not_found", "there is no such route")
    exchange.route = route.name
    allow = ", ".join((*route.handlers, "OPTIONS"))
    if request.method == "OPTIONS":
        headers = [(b"allow", allow.encode()), *service.origins.preflight(origin)]
        await send_response(exchange.send, 204, headers=headers)
        return
    handler = route.handlers.get(request.method)
    if handler is None:
        raise Problem("method_not_allowed", f"this route takes {allow}", allow=allow)
    if route.guarded:
        service.require_request(f"c:{request.client}")
        if request.method == "POST":
            check_origin(service, request, origin)
        exchange.caller = service.guard.identify(
            request, websocket=False, browser_only=route.query_token
        )
    await handler(exchange)


def check_origin(service: Service, request: Request, origin: str | None) -> None:
    """Refuse requests of another site's page, which browsers send without asking first.

    :raises Problem: ``forbidden``.
    """
    if origin is None or service.origins.allows(origin) or same_origin(request, origin):
        return
    raise Problem("forbidden", f"pages of {origin[:100]!a} may not send requests here")


async def answer_json(exchange: Exchange, value: Any, status: int = 200) -> None:
    """Answer with JSON that must not be stored."""
    headers = [*unstored(b"application/json"), *exchange.headers]
    body, head = msgspec.json.encode(value), exchange.request.method == "HEAD"
    await send_response(exchange.send, status, body, headers=headers, head=head)


async def _refuse(service: Service, exchange: Exchange, problem: Problem) -> None:
    service.refused(
        problem,
        exchange._caller,  # pyright: ignore[reportPrivateUsage]
        f"a request ({exchange.route})",
    )
    if exchange.status is None:
        head = exchange.request.method == "HEAD"
        await send_problem(exchange.send, problem, exchange.headers, head=head)


async def send_problem(
    send: Send, problem: Problem, headers: Headers = (), *, head: bool = False
) -> None:
    """Send a response with a problem document (RFC 9457)."""
    headers = [*unstored(b"application/problem+json"), *problem.headers(), *headers]
    await send_response(send, problem.status, problem.document(), headers=headers, head=head)


def _finish(
    service: Service, route: str, status: int | None, client: str, sp: Span, began: float
) -> None:
    answered, key = service.traffic.answered, (route, status or 0)
    answered[key] = answered.get(key, 0) + 1
    sp.set("http.route", route)
    sp.set("http.response.status_code", status or 0)
    sp.end()
    logger.debug(
        "tokenwire gateway: %s answered %s",
        route,
        status,
        extra={
            "tokenwire_route": route,
            "tokenwire_status": status,
            "tokenwire_client": client,
            "tokenwire_seconds": round(time.monotonic() - began, 6),
        },
    )
