"""An event stream whose server has handed over its transport: it has no task of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from tokenwire.watch import ChannelReader
from tokenwire_adapters._web.gateway.auth import NO_CONNECTION, Caller
from tokenwire_adapters._web.gateway.connections import Admission, Owner, Reason
from tokenwire_adapters._web.gateway.fanout import Group, GroupKey
from tokenwire_adapters._web.gateway.framing import LAST_CHUNK, StreamFramer, chunk
from tokenwire_adapters._web.gateway.goodbye import (
    CLOSE_TIMEOUT,
    KEEP_ALIVE,
    failed,
    last_of_dropped,
)
from tokenwire_adapters._web.gateway.quirks import reset
from tokenwire_adapters._web.gateway.service import Service
from tokenwire_adapters._web.gateway.takeover import Take, Taken, WritableTransport

__all__ = ["Member"]

_PIECE = 256 * 1024  # bytes written at a time to a client that catches up


class Member:
    """An event stream that writes to its transport itself; also the transport's protocol.

    :param key: what it has in common with streams that may be written to together.
    :param ends: whether it ends of itself; else its end is that of the sink.
    :ivar sending_since: since when its client has not read what was written; None while it has.
    """

    __slots__ = (
        "_admission",
        "_ends",
        "_fanout",
        "_group",
        "_key",
        "_on_end",
        "_reader",
        "_resumed",
        "_sent_at",
        "_taken",
        "_task",
        "_timer",
        "_traffic",
        "caller",
        "framer",
        "kind",
        "loop",
        "owner",
        "reason",
        "sending_since",
        "write",
    )

    def __init__(
        self,
        service: Service,
        caller: Caller,
        framer: StreamFramer,
        reader: ChannelReader,
        key: GroupKey,
        *,
        ends: bool,
    ) -> None:
        self.owner: Owner = service
        self._traffic = service.traffic
        self.caller = caller
        self.kind = "sse"
        self.framer = framer
        self.loop = asyncio.get_running_loop()
        self.reason: Reason | None = None
        self.sending_since: float | None = None
        self.write: Callable[[bytes], None] = _not_yet
        self._admission: Admission | None = None
        self._fanout = service.fanout
        self._ends = ends
        self._group: Group[StreamFramer] | None = None
        self._key = key
        self._on_end: Callable[[], None] | None = None
        self._reader = reader
        self._resumed: asyncio.Future[None] | None = None
        self._sent_at = self.loop.time()
        self._taken: Taken | None = None
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def take(self, take: Take, admission: Admission) -> bool:
        """Take over the transport, and with it the reader and the admission; False where not."""
        taken = take(self)
        if taken is None:
            return False
        self._taken = taken
        self.write = taken.transport.write
        self._admission = admission.hand_over()
        self.caller.connection = NO_CONNECTION  # its headers are not needed any more
        return True

    def start(self, on_end: Callable[[], None] | None) -> None:
        """Go on, now that the request's own coroutine does not.

        :param on_end: called when the connection is closed.
        """
        self._on_end = on_end
        self.go_on()

    def writer(self) -> Callable[[bytes], None]:
        """What writes to its transport."""
        return self.write

    @property
    def reader(self) -> ChannelReader:
        """Its own reader, which is at rest while it is in a group."""
        return self._reader

    @property
    def transport(self) -> WritableTransport | None:
        """The transport, for servers that close all of them; None once it is closed."""
        return None if self._taken is None else self._taken.transport

    # -- called by the server and the transport

    def connection_made(self, transport: Any) -> None:
        """Nothing: the connection has been there since its request."""

    def data_received(self, data: bytes) -> None:
        """Ignore what a client sends behind its request: the connection ends with this response."""

    def eof_received(self) -> None:
        """The client closes; so does the transport."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed: give everything back."""
        _ = exc
        taken, self._taken = self._taken, None
        if taken is None:
            return
        taken.forget(self)
        if self._timer is None:  # the end was not ours
            self.reason = self.reason or "gone"
        self._stop()
        self.sending_since = None
        self._reader.close()
        if self._timer is not None:
            self._timer.cancel()
        if self._admission is not None:
            self._admission.close()
        self._traffic.connections.ended(self)
        if self._on_end is not None:
            self._on_end()

    def pause_writing(self) -> None:
        """The client does not read: leave the group."""
        self.sending_since = self.loop.time()
        if self._group is not None:
            self._group.part_with(self)

    def resume_writing(self) -> None:
        """The client has read: catch up with the group."""
        self.sending_since = None
        if self._resumed is not None:
            if not self._resumed.done():
                self._resumed.set_result(None)
        elif self._timer is None:
            self.go_on()

    def shutdown(self) -> None:
        """The server begins to stop."""
        self.drop("bye")

    # -- called by the monitor

    def monitor(self, now: float) -> None:
        """Keep the stream alive, expire it, drop it where its client does not read."""
        limits, since = self.owner.limits, self.sending_since
        if since is not None and now - since > limits.send_timeout:
            self.drop("slow")
        elif self.caller.grant is not None and self.owner.guard.expired(self.caller):
            self.drop("expired")
        elif since is None and self._timer is None:
            group = self._group
            sent_at = self._sent_at if group is None else max(self._sent_at, group.sent_at)
            if now - sent_at >= limits.keep_alive:
                self.send(KEEP_ALIVE)

    def drop(self, reason: Reason) -> None:
        """End the stream. The first reason counts."""
        if self.reason is None and self._taken is not None and self._timer is None:
            self.reason = reason
            self.end()

    def drop_soon(self, reason: Reason) -> None:
        """`drop`, from any thread."""
        with suppress(RuntimeError):  # the loop is closed, and the connection with it
            self.loop.call_soon_threadsafe(self.drop, reason)

    # -- writing

    def send(self, data: bytes, events: int = 0) -> None:
        """Write data to this client alone."""
        if data and self._taken is not None:
            self._sent_at = self.loop.time()
            self._traffic.count_sent(events, len(data))
            self.write(chunk(data))

    def go_on(self) -> None:
        """Enter the group, at once where that can be done, else once this stream has caught up."""
        if self._taken is None or self._group is not None or self._task is not None:
            return
        if self.sending_since is None and self._enter():
            return
        self._task = self.loop.create_task(self._catch_up())

    def _enter(self) -> bool:
        self._fanout.enter(self._key, self)
        if self.framer.finished:  # with what it lacked
            self.reached_end()
        return self._group is not None or self._timer is not None

    @property
    def paused(self) -> bool:
        """Whether its client has not read what was written."""
        return self.sending_since is not None

    def joined(self, group: Group[StreamFramer], framer: StreamFramer) -> None:
        """Be a member of a group, whose framer this is."""
        self._group = group
        self.framer = framer

    def leave(self, leader: ChannelReader, framer: StreamFramer) -> None:
        """Be no member of the group any more, whose reader is here."""
        self._group = None
        self.framer = framer
        if self._taken is not None:
            self._reader.follow(leader)

    async def _catch_up(self) -> None:
        error: Exception | None = None
        try:
            while True:
                await self._writable()
                if self._enter():
                    return
                items = await self._reader.abatch()
                if not items:
                    break
                for data in self.framer.whole(items):
                    for begin in range(0, len(data), _PIECE):
                        await self._writable()
                        self.send(data[begin : begin + _PIECE])
                self._traffic.count_sent(len(items), 0)
                if self.framer.finished:
                    break
        except Exception as failure:
            error = failure
        finally:
            self._task = None
        self.reached_end(error)

    async def _writable(self) -> None:
        while self.sending_since is not None:
            self._resumed = self.loop.create_future()
            try:
                await self._resumed
            finally:
                self._resumed = None

    def reached_end(self, error: Exception | None = None, last: bytes | None = None) -> None:
        """The channel, response or sink has ended, or cannot be read any more."""
        if self.reason is None and error is None and not (self._ends or self.framer.finished):
            self.reason = "bye"  # the sink was closed
        self.end(error, last)

    def end(self, error: Exception | None = None, last: bytes | None = None) -> None:
        """Send what comes last, and close once the client has it."""
        taken = self._taken
        if taken is None or self._timer is not None:
            return
        self._stop()
        if self.reason == "slow":
            self._timer = self.loop.call_later(0, _nothing)
            reset(taken.transport)
            return
        patience = CLOSE_TIMEOUT
        if self.reason is not None:
            last = last_of_dropped(self.framer, self.reason)
        else:  # who was not dropped has the time that it has for anything else that is sent
            patience = self.owner.limits.send_timeout
            if error is not None:
                last = failed(self.framer, error)
            elif last is None:
                last = self.framer.end()
        self.send(last)
        self.write(LAST_CHUNK)
        self._timer = self.loop.call_later(patience, reset, taken.transport)
        taken.transport.close()

    def _stop(self) -> None:
        """Take no more events."""
        group, self._group = self._group, None
        if group is not None:
            group.part_with(self)
        if self._task is not None:
            self._task.cancel()
            self._task = None


def _not_yet(data: bytes) -> None:
    _ = data
    raise RuntimeError("the transport has not been taken over")


def _nothing() -> None:
    pass
