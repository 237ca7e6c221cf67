"""One WebSocket: requests in, replies and the events of many channels out.

The protocol is in docs/gateway.md.
"""

from __future__ import annotations

import asyncio
from contextlib import ExitStack, suppress
from typing import Any, Final

import msgspec

from tokenwire._clock import now_ms
from tokenwire._ids import check_name
from tokenwire.watch import ChannelReader
from tokenwire_adapters._web.gateway.asgi import Message, Receive, Send
from tokenwire_adapters._web.gateway.auth import Caller
from tokenwire_adapters._web.gateway.connections import Connection, Disconnected, retry_hint
from tokenwire_adapters._web.gateway.goodbye import CLOSE_CODES, CLOSE_TIMEOUT
from tokenwire_adapters._web.gateway.problems import Problem, problem_of
from tokenwire_adapters._web.gateway.service import Service
from tokenwire_adapters._web.gateway.socket_requests import SocketRequest, start_of
from tokenwire_adapters._web.gateway.socket_writer import SocketWriter
from tokenwire_adapters._web.gateway.subscription import Subscription
from tokenwire_adapters._web.gateway.takeover import TakeSocket

__all__ = ["PROTOCOL", "Socket"]

PROTOCOL: Final = "tokenwire.v1"
_PRIVATE = 3000  # close codes from here on are for applications
_FLOOD = 50  # refused messages in a row that end a socket


class Socket(Connection):
    """One accepted socket.

    :param channel: the one in its path, for messages that name none.
    :param take: takes over its messages, where its server offers that.
    """

    def __init__(
        self,
        service: Service,
        caller: Caller,
        channel: str,
        receive: Receive,
        send: Send,
        take: TakeSocket | None = None,
    ) -> None:
        super().__init__(service, caller, receive, send, "ws")
        self._writer: SocketWriter | None = None
        if take is not None:
            writer = SocketWriter(send, self._part)
            if writer.take(take):
                self._writer, self._send = writer, writer.send
        self._service = service
        self._channel = channel
        self._subscriptions: dict[tuple[str, str | None], Subscription | None] = {}
        self._requests: set[asyncio.Task[None]] = set()
        self._received_at = self.opened_at
        self._excess = 0
        self._close: tuple[int, str] | None = None
        self._counted = ExitStack()
        self._counted_as = caller.principal

    # -- serving

    async def run(self) -> None:
        """Serve the socket until it ends."""
        try:
            with self.serving():
                await self._send_message(self._hello())
                await self._listen()
        except Exception as error:
            problem_of(error)
            self._close = (1011, "internal error")
        finally:
            await self._release()
        if self.reason == "gone" or (self.reason == "slow" and await self.reset()):
            return
        with suppress(Exception):
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._send_close()
        await self.flushed(CLOSE_TIMEOUT)
        await self.raise_cancellation()

    def _hello(self) -> dict[str, Any]:
        guard, limits = self._service.guard, self._service.limits
        state = "none" if guard.tokens is None else "done"
        bounds = {
            "message_bytes": limits.message_bytes,
            "input_bytes": limits.input_bytes,
            "channels": limits.channels_per_socket,
            "pending": limits.pending_per_socket,
        }
        return {
            "op": "hello",
            "protocol": 1,
            "auth": "required" if guard.wants_token(self.caller) else state,
            "expires": _milliseconds(self.caller.expires),
            "idle": limits.idle_timeout,
            "limits": bounds,
        }

    async def _listen(self) -> None:
        while self._close is None:
            message = await self._receive()
            if message["type"] == "websocket.disconnect":
                self.reason = "gone"
                return
            if message["type"] == "websocket.receive":
                await self._take(message.get("text"))

    async def _send_close(self) -> None:
        if self.reason == "bye":
            await self._send_message({"op": "bye", "retry": retry_hint()})
        elif self.reason in ("expired", "unauthorized"):
            code = "token_expired" if self.reason == "expired" else "unauthorized"
            await self._send_message(
                {"op": "error", "error": Problem(code, CLOSE_CODES[self.reason][1]).error()}
            )
        number, text = self._close or (CLOSE_CODES[self.reason] if self.reason else (1000, ""))
        try:
            await self.send({"type": "websocket.close", "code": number, "reason": text})
        except Disconnected:
            raise
        except Exception:  # daphne takes 1000 and 3000 to 4999 only, and leaves the socket open
            if number >= _PRIVATE:
                raise
            number += _PRIVATE
            await self.send({"type": "websocket.close", "code": number, "reason": text})

    async def _release(self) -> None:
        tasks = [*self._requests, *filter(None, map(self._end, [*self._subscriptions]))]
        for task in self._requests:
            task.cancel()
        self._counted.close()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _part(self) -> None:
        """Have its subscriptions leave their groups: the client does not read."""
        for subscription in filter(None, list(self._subscriptions.values())):
            subscription.part()

    def monitor(self, now: float) -> None:
        for subscription in filter(None, self._subscriptions.values()):
            self.sent_at = max(self.sent_at, subscription.sent_at)
        super().monitor(now)

    def check(self, now: float) -> None:
        """Called about once a second."""
        limits = self._service.limits
        if self._service.guard.wants_token(self.caller):
            if now - self.opened_at > limits.auth_timeout:
                self.drop("unauthorized")
        elif self._subscriptions or self._requests:
            self._received_at = now
        elif now - self._received_at > limits.idle_timeout:
            self.drop("idle")

    def keep_alive(self) -> Message:
        return {"type": "websocket.send", "text": '{"op":"ping"}'}

    async def _send_message(self, message: dict[str, Any]) -> None:
        await self.send({"type": "websocket.send", "text": msgspec.json.encode(message).decode()})

    # -- requests

    async def _take(self, text: str | None) -> None:
        """Take one message; what is not one ends the socket."""
        limits = self._service.limits
        self._received_at = self.loop.time()
        if text is None:
            self._close = (4400, "messages are JSON in text frames")
            return
        # A code point has at most 4 bytes: only count bytes where it can matter.
        if len(text) * 4 > limits.message_bytes and len(text.encode()) > limits.message_bytes:
            self._close = (1009, "message too large")
            return
        request = SocketRequest.parse(text)
        if request is None:
            self._close = (4400, "not a message of this protocol")
        elif request.op != "pong" or request.id is not None:
            await self._dispatch(request.op, request.id, request.fields)

    async def _dispatch(self, op: str, request_id: Any, fields: dict[str, Any]) -> None:
        service = self._service
        try:
            service.require_request(self.caller.key, "messages")
            if len(self._requests) >= service.limits.pending_per_socket:
                raise Problem("rate_limited", "too many requests at a time", retry_after=0.5)
        except Problem as problem:
            self._excess += 1
            if self._excess > _FLOOD:
                self.drop("flood")
            await self._refuse(request_id, problem)
            return
        self._excess = 0
        if op == "auth":  # in order: what comes next needs what it grants
            await self._answer(op, request_id, fields)
            return
        task = asyncio.create_task(self._answer(op, request_id, fields))
        self._requests.add(task)
        task.add_done_callback(self._requests.discard)

    async def _answer(self, op: str, request_id: Any, fields: dict[str, Any]) -> None:
        with suppress(Disconnected):
            try:
                await self._work(op, request_id, fields)
            except Disconnected:
                raise
            except Exception as error:
                await self._refuse(request_id, problem_of(error))

    async def _work(self, op: str, request_id: Any, fields: dict[str, Any]) -> None:
        match op:
            case "subscribe":  # replies before its events come
                await self._subscribe(request_id, fields)
                return
            case "auth":
                result = await self._auth(fields)
            case "unsubscribe":
                result = await self._unsubscribe(fields)
            case "history":
                result = await self._history(fields)
            case "cancel":
                result = await self._cancel(fields)
            case "input":
                result = await self._input(fields)
            case "ping":
                result = {"ts": now_ms()}
            case _:
                raise Problem("bad_request", f"no such op: {op[:32]!a}")
        await self._send_message({"op": "reply", "id": request_id, "result": result})

    async def _refuse(self, request_id: Any, problem: Problem) -> None:
        self._service.refused(problem, self.caller, "a message")
        await self._send_message({"op": "error", "id": request_id, "error": problem.error()})
        if problem.status == 401 and self._service.guard.wants_token(self.caller):
            self.drop("unauthorized")

    def _channel_of(self, fields: dict[str, Any]) -> str:
        channel = fields.get("channel")
        return check_name(self._channel if channel is None else channel, "channel")

    async def _auth(self, fields: dict[str, Any]) -> dict[str, Any]:
        token = fields.get("token")
        if not isinstance(token, str):
            raise Problem("bad_request", "auth needs a token")
        before = self.caller.grant
        self._service.guard.admit(self.caller, token)
        grant = self.caller.grant
        if before is None:
            self._count()
        elif grant is None or grant.subject != before.subject:
            self._close = (4403, "another principal needs another socket")
            raise Problem("forbidden", self._close[1])
        await self._recheck()
        return {
            "principal": self.caller.principal,
            "expires": _milliseconds(self.caller.expires),
        }

    def _count(self) -> None:
        """Count the socket for its principal, who may become known only after the handshake.

        :raises Problem: ``rate_limited`` when that has too many already.
        """
        if self._counted_as is None and self.caller.principal is not None:
            connections = self._service.traffic.connections
            self._counted.enter_context(
                connections.principal_admitted(self.caller, self._service.limits)
            )
            self._counted_as = self.caller.principal

    async def _recheck(self) -> None:
        """End the subscriptions that the new rights do not cover."""
        for key, subscription in list(self._subscriptions.items()):
            if subscription is None:
                continue
            try:
                await self._service.guard.require(self.caller, subscription.channel, "subscribe")
            except Problem as problem:
                self._end(key)
                await self._send_message({**subscription.about("error"), "error": problem.error()})

    async def _history(self, fields: dict[str, Any]) -> dict[str, Any]:
        return await self._service.history(
            self.caller, self._channel_of(fields), fields.get("limit"), fields.get("before")
        )

    async def _cancel(self, fields: dict[str, Any]) -> dict[str, Any]:
        return await self._service.cancel(
            self.caller,
            self._channel_of(fields),
            check_name(fields.get("response"), "response id"),
            fields.get("reason"),
        )

    async def _input(self, fields: dict[str, Any]) -> dict[str, Any]:
        return await self._service.input(
            self.caller,
            self._channel_of(fields),
            fields.get("name"),
            fields.get("data"),
            fields.get("input_id"),
        )

    # -- subscriptions

    async def _subscribe(self, request_id: Any, fields: dict[str, Any]) -> None:
        service, channel = self._service, self._channel_of(fields)
        start = start_of(fields)
        key = (channel, start.name)
        if key in self._subscriptions:
            raise Problem("bad_request", f"channel {channel!a} is subscribed to already")
        if len(self._subscriptions) >= service.limits.channels_per_socket:
            raise Problem(
                "rate_limited",
                f"a socket has at most {service.limits.channels_per_socket} subscriptions",
            )
        self._subscriptions[key] = None  # reserved while the caller is authorized
        watch: ChannelReader | None = None
        try:
            await service.guard.require(self.caller, channel, "subscribe")
            user = service.guard.user_digest(self.caller)
            self._count()  # `authorize` has named the principal
            watch = service.sink.reader(
                channel, after=start.after, rewind=start.rewind, response_id=start.response
            )
            watch.gather = service.limits.gather if start.gather else 0.0
            await service.within(watch.aopen())
        except BaseException:
            del self._subscriptions[key]
            if watch is not None:
                watch.close()
            raise
        subscription = Subscription(channel, start.name, start.response, watch)
        if self._writer is not None:
            subscription.share_with(service.fanout, self._writer, service.traffic.count_sent)
        self._subscriptions[key] = subscription
        result = {k: v for k, v in subscription.about("").items() if k != "op"}
        if user is not None:
            result["user"] = user
        await self._send_message({"op": "reply", "id": request_id, "result": result})
        subscription.task = asyncio.create_task(self._pump(key, subscription))

    async def _unsubscribe(self, fields: dict[str, Any]) -> dict[str, Any]:
        name = None if fields.get("sub") is None else check_name(fields["sub"], "sub")
        key = (self._channel_of(fields), name)
        if self._subscriptions.get(key) is None:
            raise Problem("bad_request", f"channel {key[0]!a} is not subscribed to")
        task = self._end(key)
        if task is not None:
            await asyncio.wait([task])
        return {}

    def _end(self, key: tuple[str, str | None]) -> asyncio.Task[None] | None:
        subscription = self._subscriptions.pop(key, None)
        if subscription is None:
            return None
        subscription.watch.close()
        if subscription.task is not None:
            subscription.task.cancel()
        return subscription.task

    async def _pump(self, key: tuple[str, str | None], subscription: Subscription) -> None:
        try:
            await subscription.send_events(self._send_text)
        except Disconnected:
            return
        except Exception as error:
            farewell = {**subscription.about("error"), "error": problem_of(error).error()}
        else:
            if subscription.response is None or self._service.sink.closed:
                self.drop("bye")
                return
            farewell = subscription.about("end")
        if self._subscriptions.get(key) is subscription:
            del self._subscriptions[key]
            subscription.watch.close()
            self._received_at = self.loop.time()
            with suppress(Disconnected):
                await self._send_message(farewell)

    async def _send_text(self, text: str, events: int) -> None:
        self._service.traffic.count_sent(events, len(text))
        await self.send({"type": "websocket.send", "text": text})


def _milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds * 1000)
