"""An event stream of many channels: what a WebSocket sends, over one HTTP response.

Browsers keep at most six HTTP/1.1 connections to a site, so that a stream for each channel soon
takes them all. The protocol is in docs/gateway.md.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

import msgspec

from tokenwire_adapters._web.gateway.asgi import Message
from tokenwire_adapters._web.gateway.dispatch import Exchange, admitted
from tokenwire_adapters._web.gateway.problems import Problem
from tokenwire_adapters._web.gateway.service import Service
from tokenwire_adapters._web.gateway.sse import STREAM_HEADERS
from tokenwire_adapters._web.gateway.websocket import Socket

__all__ = ["serve_channels"]

_TYPES: dict[str, tuple[type, ...]] = {
    "channel": (str,),
    "sub": (str,),
    "after": (str,),
    "rewind": (str, int),
    "response": (str,),
    "gather": (bool,),
}


async def serve_channels(service: Service, exchange: Exchange, body: Any) -> None:
    """Serve one stream, from the subscriptions in its request's body to its end.

    :raises Problem: before the response has started; afterwards, errors are sent in the stream.
    """
    requests = _requests(body, service.limits.channels_per_socket)
    if service.guard.wants_token(exchange.caller):
        raise Problem("unauthorized", "a valid token is needed")
    with admitted(service, exchange):
        stream = _Stream(service, exchange, requests)
        with service.traffic.connections.monitored(stream):
            await stream.run()


def _requests(body: Any, most: int) -> list[dict[str, Any]]:
    """The subscriptions that a body asks for, as requests of the socket's protocol."""
    fields = cast("dict[str, Any]", body) if isinstance(body, dict) else {}
    subscriptions = fields.get("subscriptions")
    if not isinstance(subscriptions, list) or not subscriptions:
        raise Problem("invalid", 'the body must be {"subscriptions": [{"channel": "…"}, …]}')
    listed = cast("list[Any]", subscriptions)
    if len(listed) > most:
        raise Problem("invalid", f"a stream has at most {most} subscriptions")
    requests: list[dict[str, Any]] = []
    for number, subscription in enumerate(listed):
        if not isinstance(subscription, dict) or "channel" not in subscription:
            raise Problem("invalid", "each subscription must be an object with a channel")
        fields = cast("dict[str, Any]", subscription)
        request = {name: fields[name] for name in _TYPES if fields.get(name) is not None}
        for name, value in request.items():
            if not isinstance(value, _TYPES[name]):
                raise Problem("invalid", f"{name} is of the wrong type")
        requests.append({"op": "subscribe", "id": number, **request})
    return requests


class _Stream(Socket):
    """A socket whose client has said beforehand what it has to say.

    Each message is the data of one server-sent event. A close is one more message,
    ``{"op": "close", "code": …}``, at the end of the response.
    """

    def __init__(
        self, service: Service, exchange: Exchange, requests: list[dict[str, Any]]
    ) -> None:
        super().__init__(service, exchange.caller, "", self._receive_next, self._send_as_event)
        self.kind = "sse"
        self.receive = exchange.receive  # the name by which the server's transport is found
        self._respond = exchange.send
        self._headers = exchange.headers
        self._waiting = requests[::-1]
        self._begun = False

    async def _receive_next(self) -> Message:
        """The next request, once fewer than the allowed number are worked on; at last the end."""
        if self._waiting:
            while len(self._requests) >= self._service.limits.pending_per_socket:
                await asyncio.wait(self._requests, return_when=asyncio.FIRST_COMPLETED)
            text = msgspec.json.encode(self._waiting.pop()).decode()
            return {"type": "websocket.receive", "text": text}
        while (await self.receive())["type"] != "http.disconnect":
            pass
        return {"type": "websocket.disconnect"}

    async def _send_as_event(self, message: Message) -> None:
        if not self._begun:
            self._begun = True
            headers = [*STREAM_HEADERS, *self._headers]
            await self._respond({"type": "http.response.start", "status": 200, "headers": headers})
        more = message["type"] == "websocket.send"
        text = message["text"] if more else f'{{"op":"close","code":{message["code"]}}}'
        data = f"data: {text}\n\n".encode()
        await self._respond({"type": "http.response.body", "body": data, "more_body": more})
