"""Event streams (WHATWG HTML, section 9.2)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from tokenwire.backend import same_log
from tokenwire.encoding import Encoder, StreamPlan, find_encoder
from tokenwire.watch import ChannelReader, ResumePoint
from tokenwire_adapters._web.gateway.asgi import Message, Receive, Request, Send, send_response
from tokenwire_adapters._web.gateway.auth import Caller
from tokenwire_adapters._web.gateway.connections import Admission, Connection, Disconnected, Reason
from tokenwire_adapters._web.gateway.framing import StreamFramer, named
from tokenwire_adapters._web.gateway.goodbye import (
    CLOSE_TIMEOUT,
    KEEP_ALIVE,
    failed,
    last_of_dropped,
)
from tokenwire_adapters._web.gateway.member import Member
from tokenwire_adapters._web.gateway.problems import Problem
from tokenwire_adapters._web.gateway.service import Service
from tokenwire_adapters._web.gateway.takeover import Take

__all__ = ["STREAM_HEADERS", "plan_of", "serve_events", "serve_reader"]

STREAM_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    # no-transform: a proxy that compressed would hold tokens back until it has a block full.
    (b"cache-control", b"no-cache, no-store, no-transform"),
    (b"x-accel-buffering", b"no"),
    (b"x-content-type-options", b"nosniff"),
]
_CLOSES = (b"connection", b"close")
_OPEN = b": open\n"
_RETRY = b"retry: 2000\n"
_PIECE = 256 * 1024  # bytes given to the server at a time


def plan_of(request: Request, channel: str) -> StreamPlan:
    """Read the parameters of an event stream. :raises Problem: where they are wrong."""
    last = request.header(b"last-event-id")
    if last is not None:
        try:
            # EventSource sends UTF-8; header values are latin-1 in ASGI.
            last = last.encode("latin-1").decode()
        except UnicodeError as error:
            raise Problem("bad_cursor", "Last-Event-ID is not UTF-8") from error
        if len(last) > 512:
            raise Problem("bad_cursor", "Last-Event-ID is over 512 characters")
    after = last or request.parameter("after")
    return StreamPlan(
        channel=channel,
        after=after,
        rewind=None if after else request.parameter("rewind", 32),
        response_id=request.parameter("response"),
        format=request.parameter("format", 64) or "native",
        wait=_is_wanted(request, "wait"),
        gather=_is_wanted(request, "gather"),
    )


def _is_wanted(request: Request, name: str) -> bool:
    value = request.parameter(name)
    if value not in (None, "0", "1"):
        raise Problem("bad_request", f"{name} is 0 or 1")
    return value != "0"


def encoder_for(name: str) -> Callable[[], Encoder]:
    """Find a format. :raises Problem: ``bad_format`` when there is none of this name."""
    try:
        return find_encoder(name)
    except ValueError as error:
        raise Problem("bad_format", str(error)) from error


async def serve_events(
    service: Service,
    caller: Caller,
    plan: StreamPlan,
    receive: Receive,
    send: Send,
    headers: list[tuple[bytes, bytes]],
    take: Take | None = None,
) -> Member | None:
    """Serve one event stream, from its parameters to its end.

    :param take: takes over the transport, where that can be done (see `takeover`).
    :return: what the stream has become, still to be started; None when it has ended.
    :raises Problem: before the response has started; afterwards, errors are sent in the stream.
    """
    encoder = encoder_for(plan.format)()
    with service.admitted(caller) as admission:
        reader = await _open(service, plan, encoder)
        if reader is None:
            await send_response(send, 204, headers=[(b"cache-control", b"no-store"), *headers])
            return None
        return await serve_reader(
            service, caller, plan, encoder, reader, receive, send, headers, take, admission
        )


async def serve_reader(
    service: Service,
    caller: Caller,
    plan: StreamPlan,
    encoder: Encoder,
    reader: ChannelReader,
    receive: Receive,
    send: Send,
    headers: list[tuple[bytes, bytes]],
    take: Take | None = None,
    admission: Admission | None = None,
) -> Member | None:
    """Serve an open reader, and close it.

    :param admission: of the caller, which the stream keeps where it takes over its transport.
    :return: as `serve_events`.
    """
    framer = StreamFramer(encoder)
    stream = _Stream(service, caller, receive, send, framer, reader, plan)
    if take is not None and admission is not None and framer.shareable:
        stream.offer(take, admission)
    try:
        with service.traffic.connections.monitored(stream):
            await stream.run(headers)
    finally:
        if stream.member is None:
            reader.close()
    return stream.member


async def _open(service: Service, plan: StreamPlan, encoder: Encoder) -> ChannelReader | None:
    """Open the channel for an encoder; None when there is nothing to send."""
    if await _nothing_to_send(service, plan):
        return None
    return await service.within(encoder.open(service.sink, plan))


async def _nothing_to_send(service: Service, plan: StreamPlan) -> bool:
    """Whether a client returns for a response whose end it has, or does not want to wait."""
    if (
        not plan.wait
        and plan.response_id is None
        and not await service.anything_streams(plan.channel)
    ):
        return True
    if plan.response_id is None or plan.after is None or ResumePoint.parse(plan.after).midway:
        return False
    response, cursor = await service.look_up(plan.channel, plan.response_id)
    if response is None or not response.ended or cursor is None:
        return False
    backend = service.sink.backend
    if not same_log(backend, plan.after, cursor):
        return False
    try:
        return bool(backend.order(plan.after) >= backend.order(cursor))
    except TypeError:  # cursors of an earlier log
        return False


class _Stream(Connection):
    """One open event stream."""

    reason: Reason | None

    def __init__(
        self,
        service: Service,
        caller: Caller,
        receive: Receive,
        send: Send,
        framer: StreamFramer,
        reader: ChannelReader,
        plan: StreamPlan,
    ) -> None:
        super().__init__(service, caller, receive, send, "sse")
        reader.gather = service.limits.gather if plan.gather else 0.0
        self.member: Member | None = None
        self._take: Take | None = None
        self._admission: Admission | None = None
        self._service = service
        self._framer = framer
        self._reader = reader
        self._plan = plan
        self._retry = _RETRY

    def offer(self, take: Take, admission: Admission) -> None:
        """Have the stream take over its transport as soon as it is level with the channel."""
        self._take, self._admission = take, admission

    def _taken_over(self) -> bool:
        """Become a member of a group of streams, if that can be done now."""
        if self._take is None or self._admission is None or self._retry or self._lock.locked():
            return False
        plan, reader = self._plan, self._reader
        key = (self.loop, plan.channel, plan.format, plan.response_id, reader.gather)
        ends = plan.response_id is not None
        member = Member(self._service, self.caller, self._framer, reader, key, ends=ends)
        if not member.take(self._take, self._admission):
            return False
        self.member = member
        self._service.traffic.connections.replace(self, member)
        return True

    async def run(self, headers: list[tuple[bytes, bytes]]) -> None:
        more = [(k.lower().encode(), v.encode()) for k, v in self._framer.encoder.headers.items()]
        await self.send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [*STREAM_HEADERS, *([_CLOSES] if self._take else []), *more, *headers],
            }
        )
        last = b""
        listener = asyncio.create_task(self._listen())
        try:
            with self.serving():
                last = await self._pump()
        except Exception as error:
            last = failed(self._framer, error)
        finally:
            listener.cancel()
        if self.member is not None:
            return
        if self.reason is not None:
            last = last_of_dropped(self._framer, self.reason)
        if self.reason == "gone":
            return
        if self.reason == "slow":
            await self.reset()
            return
        # Whoever was not dropped has the time that it has for anything else that is sent.
        limit = self._service.limits.send_timeout if self.reason is None else CLOSE_TIMEOUT
        with suppress(TimeoutError, Disconnected):
            async with asyncio.timeout(limit):
                await self._send_last(last)
        await self.flushed(limit)
        await self.raise_cancellation()

    def _with_retry(self, data: bytes) -> bytes:
        """`data`, with the hint in its first message if no message was sent before."""
        if not data or data.startswith(b":"):
            return data
        retry, self._retry = self._retry, b""
        return retry + data

    async def _send_last(self, data: bytes) -> None:
        data = self._with_retry(data)
        self._service.traffic.count_sent(0, len(data))
        await self.send({"type": "http.response.body", "body": data, "more_body": False})

    async def _listen(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.drop("gone")

    async def _pump(self) -> bytes:
        """Send events until there are no more; return what is to be sent last."""
        framer = self._framer
        if await self._pump_past() or self._taken_over() or await self._pump_live():
            return b"" if self.member is not None else framer.end()
        if self._plan.response_id is None:
            self.reason = "bye"  # the sink was closed
        return framer.end()

    async def _pump_past(self) -> bool:
        """Send what had happened; True when nothing is to be sent any more."""
        framer, reader = self._framer, self._reader
        await self._write(framer.begin() or _OPEN)
        while not framer.finished and (items := await reader.ahydrate()):
            for data in framer.whole(items):
                await self._write(data, len(items))
        if not framer.finished:
            await self._ready()
        return framer.finished

    async def _pump_live(self) -> bool:
        """Send what happens; True when the encoder has finished, or the stream is taken over."""
        framer, reader = self._framer, self._reader
        whole, conflated = False, 0
        while items := await reader.abatch():
            if whole or conflated != reader.conflated:
                whole, conflated = reader.hydrating, reader.conflated
                for data in framer.whole(items):
                    await self._write(data, len(items))
            else:
                data = framer.live(items)
                if data:
                    await self._write(data, len(items))
            if framer.finished or self._taken_over():
                return True
        return False

    async def _ready(self) -> None:
        if self._framer.native:
            cursor = self._reader.position
            message: dict[str, Any] = {"type": "ready", "cursor": cursor}
            if self._reader.reset:
                message["reset"] = True
            await self._write(named("ready", message, id=cursor))

    async def _write(self, data: bytes, events: int = 0) -> None:
        data = self._with_retry(data)
        self._service.traffic.count_sent(events, len(data))
        for begin in range(0, len(data), _PIECE):
            piece = data[begin : begin + _PIECE]  # the server holds no more for a slow client
            await self.send({"type": "http.response.body", "body": piece, "more_body": True})

    def keep_alive(self) -> Message:
        self._service.traffic.count_sent(0, len(KEEP_ALIVE))
        return {"type": "http.response.body", "body": KEEP_ALIVE, "more_body": True}
