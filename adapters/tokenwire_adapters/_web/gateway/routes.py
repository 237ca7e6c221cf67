"""The routes of the gateway: channels over HTTP and WebSocket."""

from __future__ import annotations

from typing import Any, cast

import msgspec

from tokenwire._ids import check_name
from tokenwire.errors import TokenwireError
from tokenwire.events import Response
from tokenwire_adapters._web.gateway.asgi import (
    Message,
    Receive,
    Request,
    Scope,
    Send,
    read_json,
    read_object,
)
from tokenwire_adapters._web.gateway.auth import Caller
from tokenwire_adapters._web.gateway.dispatch import (
    Exchange,
    Route,
    answer_json,
    check_origin,
    send_problem,
    take_of_exchange,
)
from tokenwire_adapters._web.gateway.many_channels import serve_channels
from tokenwire_adapters._web.gateway.operations import Operations
from tokenwire_adapters._web.gateway.problems import Problem, problem_of
from tokenwire_adapters._web.gateway.service import Service
from tokenwire_adapters._web.gateway.sse import plan_of, serve_events
from tokenwire_adapters._web.gateway.takeover import take_socket_of
from tokenwire_adapters._web.gateway.tracing import span
from tokenwire_adapters._web.gateway.websocket import PROTOCOL, Socket

__all__ = ["ChannelRoutes", "serve_websocket"]


class ChannelRoutes:
    """The HTTP routes of a gateway."""

    def __init__(self, service: Service, operations: Operations) -> None:
        self._service = service
        self._operations = operations
        history = {"GET": self._history, "HEAD": self._history}
        self._events_route = Route("events", {"GET": self._events}, query_token=True)
        self._many_route = Route("events.many", {"POST": self._many})
        self._history_route = Route("history", history)
        self._cancel_route = Route("cancel", {"POST": self._cancel})
        self._inputs_route = Route("inputs", {"POST": self._input})
        self._socket_route = Route("ws", {"GET": self._not_a_socket})

    def find(self, request: Request) -> Route | None:
        """The route of a request; None where there is none."""
        match request.segments:
            case ("channels", _, "events"):
                return self._events_route
            case ("events",):
                return self._many_route
            case ("channels", _, "responses"):
                return self._history_route
            case ("channels", _, "responses", _, "cancel"):
                return self._cancel_route
            case ("channels", _, "inputs"):
                return self._inputs_route
            case ("channels", _, "ws"):
                return self._socket_route
            case _:
                return self._operations.find(request.segments)

    async def _events(self, exchange: Exchange) -> None:
        channel = check_name(exchange.request.segments[1], "channel")
        plan = plan_of(exchange.request, channel)
        await self._service.guard.require(exchange.caller, channel, "subscribe")
        exchange.member = await serve_events(
            self._service,
            exchange.caller,
            plan,
            exchange.receive,
            exchange.send,
            [*self._service.guard.user_headers(exchange.caller), *exchange.headers],
            take_of_exchange(exchange),
        )

    async def _many(self, exchange: Exchange) -> None:
        body = await read_json(exchange.request, exchange.receive, self._service.limits)
        await serve_channels(self._service, exchange, body)

    async def _history(self, exchange: Exchange) -> None:
        request = exchange.request
        channel = check_name(request.segments[1], "channel")
        limit = request.parameter("limit", 16)
        if limit is not None and not (limit.isascii() and limit.isdecimal()):
            raise Problem("bad_request", "limit must be a number")
        page = await self._service.history(
            exchange.caller,
            channel,
            None if limit is None else int(limit),
            request.parameter("before"),
        )
        page["items"] = [_with_joined_parts(item) for item in page["items"]]
        await answer_json(exchange, page)

    async def _cancel(self, exchange: Exchange) -> None:
        request = exchange.request
        channel = check_name(request.segments[1], "channel")
        response_id = check_name(request.segments[3], "response id")
        body = await read_object(request, exchange.receive, self._service.limits)
        outcome = await self._service.cancel(
            exchange.caller, channel, response_id, body.get("reason")
        )
        await answer_json(exchange, outcome, 200 if outcome["acknowledged"] else 202)

    async def _input(self, exchange: Exchange) -> None:
        channel = check_name(exchange.request.segments[1], "channel")
        body = await read_json(exchange.request, exchange.receive, self._service.limits)
        if not isinstance(body, dict):
            raise Problem("invalid", 'the body must be an object such as {"name": "message"}')
        fields = cast("dict[str, Any]", body)
        result = await self._service.input(
            exchange.caller, channel, fields.get("name"), fields.get("data"), fields.get("id")
        )
        await answer_json(exchange, result, 201)

    async def _not_a_socket(self, exchange: Exchange) -> None:
        _ = exchange
        raise Problem("bad_request", "this route is for WebSockets")


def _with_joined_parts(response: Response) -> dict[str, Any]:
    """A response as JSON, with the fields that a client would otherwise join from its parts."""
    return {
        **msgspec.to_builtins(response),
        "text": response.text,
        "reasoning": response.reasoning,
        "tool_calls": response.tool_calls,
    }


# -- sockets


async def serve_websocket(service: Service, scope: Scope, receive: Receive, send: Send) -> None:
    """Serve one WebSocket, from its handshake on."""
    await receive()  # websocket.connect
    caller: Caller | None = None
    try:
        request = Request(scope, service.limits)
        match request.segments:
            case ("channels", name, "ws"):
                channel = check_name(name, "channel")
            case _:
                raise Problem("not_found", "there is no such route")
        service.require_request(f"c:{request.client}")
        check_origin(service, request, request.header(b"origin"))
        try:
            caller = service.guard.identify(request, websocket=True, browser_only=True)
        except Problem as problem:
            if problem.status != 401:
                raise
            service.refused(problem, caller, "a socket")
            # A script in a browser could not read a refusal before the socket is accepted.
            await _accept(scope, send)
            await send({"type": "websocket.close", "code": 4401, "reason": problem.detail[:120]})
            return
        with service.admitted(caller), span("tokenwire.gateway.socket", {}):
            await _accept(scope, send)
            take = take_socket_of(scope, send)
            socket = Socket(service, caller, channel, receive, send, take)
            with service.traffic.connections.monitored(socket):
                await socket.run()
    except (Problem, TokenwireError, ValueError) as error:
        await _deny(service, scope, send, problem_of(error), caller)


async def _accept(scope: Scope, send: Send) -> None:
    offered = scope.get("subprotocols", ())
    await send(
        {"type": "websocket.accept", "subprotocol": PROTOCOL if PROTOCOL in offered else None}
    )


async def _deny(
    service: Service, scope: Scope, send: Send, problem: Problem, caller: Caller | None
) -> None:
    service.refused(problem, caller, "a socket")
    if "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": 4403, "reason": ""})
        return

    async def send_denial(message: Message) -> None:
        await send({**message, "type": f"websocket.{message['type']}"})

    await send_problem(send_denial, problem)
