"""The routes of the gateway, on raw ASGI."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

import msgspec

from tokenwire.errors import TokenwireError
from tokenwire.events import Response
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
from tokenwire_adapters._web.gateway.auth import Caller, same_origin
from tokenwire_adapters._web.gateway.operations import Operations
from tokenwire_adapters._web.gateway.problems import Problem, problem_of
from tokenwire_adapters._web.gateway.service import Core
from tokenwire_adapters._web.gateway.sse import plan_of, serve_events
from tokenwire_adapters._web.gateway.tracing import Span, span
from tokenwire_adapters._web.gateway.websocket import PROTOCOL, Socket

__all__ = ["serve_http", "serve_websocket"]

logger = logging.getLogger("tokenwire.gateway")

_HeaderList: TypeAlias = list[tuple[bytes, bytes]]


class _Exchange:
    """One HTTP request and its response.

    :ivar route: its name, for metrics and spans.
    :ivar status: of the response, once it has begun.
    """

    __slots__ = ("_send", "caller", "headers", "receive", "request", "route", "status")

    def __init__(self, request: Request, receive: Receive, send: Send) -> None:
        self.request = request
        self.receive = receive
        self._send = send
        self.headers: _HeaderList = []
        self.caller: Caller | None = None
        self.route = "none"
        self.status: int | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self._send(message)


async def serve_http(
    core: Core, operations: Operations, scope: Scope, receive: Receive, send: Send
) -> None:
    """Answer one HTTP request. Raises nothing but cancellation."""
    began = time.monotonic()
    origin = _origin(scope)
    headers = core.origins.headers(origin)
    try:
        exchange = _Exchange(Request(scope, core.limits), receive, send)
    except Problem as problem:
        core.refused(problem, None, "a request")
        await _send_problem(send, problem, headers)
        return
    exchange.headers = headers
    with span("tokenwire.gateway.request", {"http.request.method": exchange.request.method}) as sp:
        try:
            await _route(core, operations, exchange, origin)
        except (Problem, TokenwireError, ValueError) as error:
            await _refuse(core, exchange, problem_of(error))
        except Exception as error:
            await _refuse(core, exchange, problem_of(error))
        _finish(core, exchange, sp, began)


def _finish(core: Core, exchange: _Exchange, sp: Span, began: float) -> None:
    key = (exchange.route, exchange.status or 0)
    core.answered[key] = core.answered.get(key, 0) + 1
    sp.set("http.route", exchange.route)
    sp.set("http.response.status_code", exchange.status or 0)
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


async def _refuse(core: Core, exchange: _Exchange, problem: Problem) -> None:
    core.refused(problem, exchange.caller, f"a request ({exchange.route})")
    if exchange.status is None:
        head = exchange.request.method == "HEAD"
        await _send_problem(exchange.send, problem, exchange.headers, head=head)


async def _send_problem(
    send: Send, problem: Problem, headers: _HeaderList, *, head: bool = False
) -> None:
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


def _origin(scope: Scope) -> str | None:
    for name, value in scope.get("headers", ()):
        if name == b"origin":
            return str(value.decode("latin-1"))
    return None


# -- routes


async def _route(
    core: Core, operations: Operations, exchange: _Exchange, origin: str | None
) -> None:
    request = exchange.request
    methods: tuple[str, ...]
    handler: Callable[[Core, _Exchange], Coroutine[Any, Any, None]] | None
    match request.segments:
        case ("channels", _, "events"):
            exchange.route, methods, handler = "events", ("GET",), _events
        case ("channels", _, "responses"):
            exchange.route, methods, handler = "history", ("GET", "HEAD"), _history
        case ("channels", _, "responses", _, "cancel"):
            exchange.route, methods, handler = "cancel", ("POST",), _cancel
        case ("channels", _, "inputs"):
            exchange.route, methods, handler = "inputs", ("POST",), _input
        case ("channels", _, "ws"):
            exchange.route, methods, handler = "ws", ("GET",), _not_a_socket
        case _:
            operation = operations.find(request.segments)
            if operation is None:
                raise Problem("not_found", "there is no such route")
            exchange.route, methods = request.segments[0], ("GET", "HEAD")
            handler = None
            if request.method in methods:
                await operation(request, exchange.send, exchange.headers)
                return
    allow = ", ".join((*methods, "OPTIONS"))
    if request.method == "OPTIONS":
        headers = [(b"allow", allow.encode()), *core.origins.preflight(origin)]
        await send_response(exchange.send, 204, headers=headers)
        return
    if request.method not in methods or handler is None:
        raise Problem("method_not_allowed", f"this route takes {allow}", allow=allow)
    core.requests.require(f"c:{request.client}", "requests")
    if request.method == "POST":
        _check_origin(core, request, origin)
    browser_only = exchange.route == "events"
    exchange.caller = core.guard.identify(request, websocket=False, browser_only=browser_only)
    await handler(core, exchange)


def _check_origin(core: Core, request: Request, origin: str | None) -> None:
    """Refuse what a page of another site sends: a browser sends that without asking first."""
    if origin is None or core.origins.allows(origin) or same_origin(request, origin):
        return
    raise Problem("forbidden", f"pages of {origin[:100]!a} may not talk to this gateway")


def _caller(exchange: _Exchange) -> Caller:
    assert exchange.caller is not None
    return exchange.caller


async def _events(core: Core, exchange: _Exchange) -> None:
    channel = checked_name(exchange.request.segments[1], "channel")
    plan = plan_of(exchange.request, channel)
    caller = _caller(exchange)
    await core.guard.require(caller, channel, "subscribe")
    await serve_events(core, caller, plan, exchange.receive, exchange.send, exchange.headers)


async def _history(core: Core, exchange: _Exchange) -> None:
    request = exchange.request
    channel = checked_name(request.segments[1], "channel")
    limit = request.parameter("limit", 16)
    if limit is not None and not (limit.isascii() and limit.isdecimal()):
        raise Problem("bad_request", "limit must be a number")
    page = await core.history(
        _caller(exchange),
        channel,
        None if limit is None else int(limit),
        request.parameter("before"),
    )
    page["items"] = [_spelled_out(item) for item in page["items"]]
    await send_json(
        exchange.send, 200, page, headers=exchange.headers, head=request.method == "HEAD"
    )


def _spelled_out(response: Response) -> dict[str, Any]:
    """A response with what clients without a library would have to put together of its parts."""
    return {
        **msgspec.to_builtins(response),
        "text": response.text,
        "reasoning": response.reasoning,
        "tool_calls": response.tool_calls,
    }


async def _cancel(core: Core, exchange: _Exchange) -> None:
    request = exchange.request
    channel = checked_name(request.segments[1], "channel")
    response_id = checked_name(request.segments[3], "response id")
    body = await read_json(request, exchange.receive, core.limits)
    if body is not None and not isinstance(body, dict):
        raise Problem("invalid", "the body must be an object")
    reason = _field(body, "reason")
    outcome = await core.cancel(_caller(exchange), channel, response_id, reason)
    status = 200 if outcome["acknowledged"] else 202
    await send_json(exchange.send, status, outcome, headers=exchange.headers)


async def _input(core: Core, exchange: _Exchange) -> None:
    channel = checked_name(exchange.request.segments[1], "channel")
    body = await read_json(exchange.request, exchange.receive, core.limits)
    if not isinstance(body, dict):
        raise Problem("invalid", 'the body must be an object such as {"name": "message"}')
    result = await core.input(
        _caller(exchange), channel, _field(body, "name"), _field(body, "data"), _field(body, "id")
    )
    await send_json(exchange.send, 201, result, headers=exchange.headers)


def _field(body: Any, name: str) -> Any:
    return body.get(name) if body is not None else None


async def _not_a_socket(core: Core, exchange: _Exchange) -> None:
    _ = core, exchange
    raise Problem("bad_request", "this route is for WebSockets")


# -- sockets


async def serve_websocket(core: Core, scope: Scope, receive: Receive, send: Send) -> None:
    """Serve one WebSocket, from its handshake on."""
    await receive()  # websocket.connect
    caller: Caller | None = None
    try:
        request = Request(scope, core.limits)
        match request.segments:
            case ("channels", name, "ws"):
                channel = checked_name(name, "channel")
            case _:
                raise Problem("not_found", "there is no such route")
        core.requests.require(f"c:{request.client}", "requests")
        _check_origin(core, request, _origin(scope))
        try:
            caller = core.guard.identify(request, websocket=True, browser_only=True)
        except Problem as problem:
            if problem.status != 401:
                raise
            core.refused(problem, caller, "a socket")
            # Refused before it is accepted, a browser's script could not tell why.
            await _accept(scope, send)
            await send({"type": "websocket.close", "code": 4401, "reason": problem.detail[:120]})
            return
        with core.lines.admitted(caller), span("tokenwire.gateway.socket", {}):
            await _accept(scope, send)
            socket = Socket(core, caller, channel, send)
            with core.lines.listed(socket):
                await socket.run(receive)
    except (Problem, TokenwireError, ValueError) as error:
        await _deny(core, scope, send, problem_of(error), caller)


async def _accept(scope: Scope, send: Send) -> None:
    offered = scope.get("subprotocols", ())
    await send(
        {"type": "websocket.accept", "subprotocol": PROTOCOL if PROTOCOL in offered else None}
    )


async def _deny(
    core: Core, scope: Scope, send: Send, problem: Problem, caller: Caller | None
) -> None:
    core.refused(problem, caller, "a socket")
    if "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": 4403, "reason": ""})
        return

    async def send_denial(message: Message) -> None:
        await send({**message, "type": f"websocket.{message['type']}"})

    await _send_problem(send_denial, problem, [])
