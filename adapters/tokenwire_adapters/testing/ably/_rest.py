"""The REST interface, as far as token streaming needs it.

Spec: RSL1 (publish), RSL2 (history), RSL11 (one message), RSL14 (versions), RSL15 (update,
delete, append), RSP3 and RSP4 (presence), RSC16 (time), TG (pages).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import urlencode

from tokenwire_adapters.testing._json import as_list, as_object
from tokenwire_adapters.testing.ably._application import Application, channel_of
from tokenwire_adapters.testing.ably._auth import Principal
from tokenwire_adapters.testing.ably._channel import Channel, Publisher
from tokenwire_adapters.testing.ably._errors import AblyError
from tokenwire_adapters.testing.ably._faults import ActiveFaults
from tokenwire_adapters.testing.ably._http import Request, Response
from tokenwire_adapters.testing.ably._message import Operation, StoredMessage
from tokenwire_adapters.testing.ably._protocol import (
    MessageAction,
    Wire,
    decode,
    encode,
    member_to_wire,
)
from tokenwire_adapters.testing.ably._publishing import check_operations
from tokenwire_adapters.testing.ably._serials import now_ms

__all__ = ["Rest"]

_T = TypeVar("_T")
_PAGE = 100
_PAGE_LIMIT = 1000


class Rest:
    """Answers REST requests."""

    def __init__(self, application: Application, faults: ActiveFaults) -> None:
        self._application = application
        self._faults = faults

    def answer(self, request: Request) -> Response:
        """Answer one request; errors become Ably error bodies."""
        self._application.stats["rest_requests"] += 1
        binary = _wants_binary(request)
        try:
            self._faults.before_rest()
            status, value, headers = self._route(request, binary)
            return _respond(status, value, binary, headers)
        except AblyError as error:
            info = error.info
            headers = {"X-Ably-Errorcode": str(info.code), "X-Ably-Errormessage": info.message}
            return _respond(info.http_status, {"error": info.wire()}, binary, headers)

    def _route(self, request: Request, binary: bool) -> tuple[int, Any, dict[str, str]]:
        method = request.method
        match method, request.parts:
            case "OPTIONS", _:
                return 204, None, {}
            case "GET", ["time"]:
                return 200, [now_ms()], {}
            case "POST", ["keys", key_name, "requestToken"]:
                return 201, self._token(key_name, request), {}
            case _, ["channels", name, *rest]:
                principal = self._application.auth.from_headers(request.headers, request.query)
                channel = channel_of(self._application, name)
                return self._channel(request, principal, channel, rest, binary)
            case _:
                pass
        raise AblyError(40400, f"could not find path: {request.path}")

    def _token(self, key_name: str, request: Request) -> Any:
        body = _body(request)
        if as_object(body).get("mac"):
            return self._application.auth.request_token(key_name, body)
        self._application.auth.from_headers(request.headers, request.query)
        return self._application.auth.request_token(key_name, body, signed=False)

    def _channel(
        self,
        request: Request,
        principal: Principal,
        channel: Channel,
        rest: list[str],
        binary: bool,
    ) -> tuple[int, Any, dict[str, str]]:
        match request.method, rest:
            case "GET", []:
                principal.require("channel-metadata", channel.name)
                active = bool(channel.attachments)
                return 200, {"channelId": channel.name, "status": {"isActive": active}}, {}
            case "GET", ["messages"] | ["history"]:
                principal.require("history", channel.name)
                return self._history(request, channel, binary)
            case "POST", ["messages"]:
                return 201, self._publish(request, principal, channel), {}
            case "GET", ["messages", serial]:
                principal.require("history", channel.name)
                message = _find(channel, serial)
                return 200, message.wire(message.latest, binary), {}
            case "GET", ["messages", serial, "versions"]:
                principal.require("history", channel.name)
                message = _find(channel, serial)
                # Appends are not kept as versions (docs: updates-deletes, the table).
                return 200, [message.wire(version, binary) for version in message.versions], {}
            case "PATCH", ["messages", serial]:
                return 200, self._update(request, principal, channel, serial), {}
            case "GET", ["presence"]:
                principal.require("subscribe", channel.name)
                return (
                    200,
                    [member_to_wire(member, binary) for member in channel.members.values()],
                    {},
                )
            case "GET", ["presence", "history"]:
                principal.require("history", channel.name)
                return self._presence_history(request, channel, binary)
            case _:
                pass
        raise AblyError(40400, f"could not find path: {request.path}")

    # -- publishing ---------------------------------------------------------------------------

    def _publish(self, request: Request, principal: Principal, channel: Channel) -> Wire:
        body = _body(request)
        messages = as_list(body) if isinstance(body, list) else [body]
        operations = [Operation.from_wire(message) for message in messages]
        if any(op.action is not MessageAction.CREATE for op in operations):
            raise AblyError(40030, "updates, deletes and appends are sent with PATCH")
        check_operations(operations, principal, channel, self._application.settings)
        serials = channel.publish(operations, _publisher(principal))
        message_id = (operations[0].id or serials[0] or "").rpartition(":")[0]
        return {"channel": channel.name, "messageId": message_id, "serials": serials}

    def _update(
        self, request: Request, principal: Principal, channel: Channel, serial: str
    ) -> Wire:
        body = _body(request)
        if not isinstance(body, dict):
            raise AblyError(40000, "a message must be an object")
        operation = Operation.from_wire({**body, "serial": serial})
        if operation.action is MessageAction.CREATE:
            operation.action = MessageAction.UPDATE
        check_operations([operation], principal, channel, self._application.settings)
        version = channel.publish([operation], _publisher(principal))[0]
        return {"channel": channel.name, "serial": serial, "versionSerial": version}

    # -- history ------------------------------------------------------------------------------

    def _history(
        self, request: Request, channel: Channel, binary: bool
    ) -> tuple[int, Any, dict[str, str]]:
        query = request.query
        # Clients send from_serial; the specification names it fromSerial (RTL10b).
        until = query.get("from_serial") or query.get("fromSerial")
        messages = list(
            channel.history(start=_number(query, "start"), end=_number(query, "end"), until=until)
        )
        if _direction(query) == "forwards":
            messages.reverse()
        page, headers = _page(messages, query, request.parts[-1], lambda message: message.serial)
        return 200, [message.wire(message.latest, binary) for message in page], headers

    def _presence_history(
        self, request: Request, channel: Channel, binary: bool
    ) -> tuple[int, Any, dict[str, str]]:
        events = list(enumerate(channel.presence_history))
        if _direction(request.query) == "backwards":
            events.reverse()
        page, headers = _page(events, request.query, "history", lambda event: f"{event[0]:09d}")
        return 200, [member_to_wire(wire, binary) for _, wire in page], headers


def _page(
    items: Sequence[_T], query: dict[str, str], path: str, place: Callable[[_T], str]
) -> tuple[list[_T], dict[str, str]]:
    """Cut out one page, with the Link headers that lead on (TG; docs: rest-api, "Pagination").

    A page starts after an item and not at a number, so that what is published meanwhile neither
    repeats nor hides an item.
    """
    limit = _number(query, "limit")
    limit = _PAGE if limit is None else limit
    if not 1 <= limit <= _PAGE_LIMIT:
        raise AblyError(40003, "Invalid limit param")
    start = 0
    if "cursor" in query:
        places = [place(item) for item in items]
        if query["cursor"] not in places:
            raise AblyError(40011, "pagination sequence no longer valid")
        start = places.index(query["cursor"]) + 1
    page = list(items[start : start + limit])
    base = {key: value for key, value in query.items() if key != "cursor"}
    targets = {"first": base, "current": query}
    if start + limit < len(items):
        targets["next"] = {**base, "cursor": place(page[-1])}
    links = [f'<./{path}?{urlencode(params)}>; rel="{rel}"' for rel, params in targets.items()]
    return page, {"Link": ", ".join(links)}


def _direction(query: dict[str, str]) -> str:
    direction = query.get("direction", "backwards")
    if direction not in {"backwards", "forwards"}:
        raise AblyError(40003, "Invalid direction param")
    return direction


def _number(query: dict[str, str], name: str) -> int | None:
    value = query.get(name)
    if value is None:
        return None
    if not value.isdigit():
        raise AblyError(40003, f"Invalid {name} param")
    return int(value)


def _find(channel: Channel, serial: str) -> StoredMessage:
    message = channel.messages.get(serial)
    if message is None:
        raise AblyError(40400, f"no message has the serial {serial}")
    return message


def _publisher(principal: Principal) -> Publisher:
    return Publisher(None, None if principal.client_id == "*" else principal.client_id)


def _wants_binary(request: Request) -> bool:
    if "format" in request.query:
        return request.query["format"] == "msgpack"
    return "application/x-msgpack" in request.headers.get("accept", "")


def _body(request: Request) -> Any:
    return decode(request.body, "msgpack" in request.headers.get("content-type", ""))


def _respond(status: int, value: Any, binary: bool, headers: dict[str, str]) -> Response:
    body = b"" if value is None else encode(value, binary)
    content_type = "application/x-msgpack" if binary else "application/json"
    raw = body.encode() if isinstance(body, str) else body
    return Response(status, raw, content_type, headers)
