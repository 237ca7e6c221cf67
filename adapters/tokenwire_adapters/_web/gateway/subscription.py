"""A channel that a WebSocket watches, and how its events become messages."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, TypeAlias

from tokenwire.watch import ChannelReader, Item
from tokenwire_adapters._web.gateway.fanout import Fanout, Group, GroupKey
from tokenwire_adapters._web.gateway.framing import SocketFramer
from tokenwire_adapters._web.gateway.socket_writer import SocketWriter, text_frame

__all__ = ["Subscription"]

SendText: TypeAlias = Callable[[str, int], Awaitable[None]]
"""Sends a message with that many events."""


class _BatchFramer:
    """Frames what a reader reads, batch by batch.

    :param window_bits: see `text_frame`.
    """

    __slots__ = ("_conflated", "_framer", "_whole", "_window_bits")

    finished = False

    def __init__(self, framer: SocketFramer, window_bits: int | None = None) -> None:
        self._framer = framer
        self._window_bits = window_bits
        self._whole = False  # the next batch belongs to snapshots that are good only as a whole
        self._conflated = 0

    def texts(self, items: Sequence[Item], reader: ChannelReader) -> Iterator[str]:
        """The messages of one batch."""
        if not items:
            return
        if self._whole or self._conflated != reader.conflated:
            self._whole, self._conflated = reader.hydrating, reader.conflated
            yield from self._framer.whole(items, None if self._whole else reader.cursor)
        else:
            yield from self._framer.live(items)

    def batch(self, items: Sequence[Item], reader: ChannelReader) -> Iterator[bytes]:
        """The messages of one batch, as bytes."""
        return (text.encode() for text in self.texts(items, reader))

    def end(self) -> bytes:
        """Nothing: each socket says by itself that a subscription is over."""
        return b""

    def wire(self, data: bytes) -> bytes:
        """A message as a frame."""
        return text_frame(data, self._window_bits)

    def fork(self) -> _BatchFramer:
        """A framer that is as far as this one."""
        other = _BatchFramer(self._framer, self._window_bits)
        other._whole, other._conflated = self._whole, self._conflated
        return other

    def same_as(self, other: _BatchFramer) -> bool:
        """Whether both frame what comes alike: those of level readers do."""
        _ = other
        return True


class Subscription:
    """A channel that a socket watches.

    :param name: the client's name for the subscription, if any.
    :param response: the only response it follows, if any.
    :ivar task: the task that sends its events.
    """

    __slots__ = (
        "_fanout",
        "_group",
        "_key",
        "_out",
        "_socket_framer",
        "_writer",
        "channel",
        "count_sent",
        "framer",
        "name",
        "response",
        "task",
        "watch",
        "write",
    )

    def __init__(
        self, channel: str, name: str | None, response: str | None, watch: ChannelReader
    ) -> None:
        self.channel = channel
        self.name = name
        self.response = response
        self.watch = watch
        self.task: asyncio.Task[None] | None = None
        self._socket_framer = SocketFramer(channel, name)
        self.framer = _BatchFramer(self._socket_framer)
        self._writer: SocketWriter | None = None
        self._group: Group[_BatchFramer] | None = None
        self._out: asyncio.Future[bool] | None = None

    def about(self, op: str) -> dict[str, Any]:
        """The head of a message about this subscription."""
        head: dict[str, Any] = {"op": op, "channel": self.channel}
        if self.name is not None:
            head["sub"] = self.name
        return head

    def share_with(
        self, fanout: Fanout, writer: SocketWriter, count_sent: Callable[[int, int], None]
    ) -> None:
        """Have it written to together with those of other sockets, while they are level.

        :param writer: of its socket.
        :param count_sent: counts events, and bytes.
        """
        loop, gather = asyncio.get_running_loop(), self.watch.gather
        alike = (self.channel, self.name, self.response, gather, writer.window_bits)
        self._fanout = fanout
        self._key: GroupKey = (loop, "ws", *alike)
        self._writer = writer
        self.framer = _BatchFramer(self._socket_framer, writer.window_bits)
        self.write = writer.write
        self.count_sent = count_sent

    async def send_events(self, send: SendText) -> None:
        """Send what has happened, then what happens, until the channel or response ends."""
        watch = self.watch
        ready = False
        while items := await watch.ahydrate():
            ready = not watch.hydrating
            await self._send_whole(send, items, watch.position if ready else None, first=ready)
        if not ready:
            await self._send_whole(send, (), watch.position, first=True)
        while True:
            if await self._shared():
                return
            items = await watch.abatch()
            if not items:
                return
            events = len(items)
            for text in self.framer.texts(items, watch):
                await send(text, events)
                events = 0

    async def _send_whole(
        self, send: SendText, items: Sequence[Item], cursor: str | None, *, first: bool = False
    ) -> None:
        """Send items of which only the last message brings the client to `cursor`.

        :param first: with this, the client has all that had happened when it subscribed.
        """
        events = len(items)
        for text in self._socket_framer.whole(items, cursor, reset=first and self.watch.reset):
            await send(text, events)
            events = 0

    # -- as a member of a group

    async def _shared(self) -> bool:
        """Be a member of a group for as long as that lasts; return whether the end was reached."""
        if self._writer is None or self._writer.paused:
            return False
        self._fanout.enter(self._key, self)
        if self._group is None:
            return False
        self._out = asyncio.get_running_loop().create_future()
        try:
            return await self._out
        finally:
            self._out = None
            self.part()

    def part(self) -> None:
        """Leave the group, if it is in one."""
        if self._group is not None:
            self._group.part_with(self)

    @property
    def sent_at(self) -> float:
        """When it was last written to together with others (the loop's time)."""
        return 0.0 if self._group is None else self._group.sent_at

    def writer(self) -> Callable[[bytes], None]:
        """What writes to its transport."""
        return self.write

    @property
    def reader(self) -> ChannelReader:
        """Its own reader, which is at rest while it is in a group."""
        return self.watch

    @property
    def paused(self) -> bool:
        """Whether its client has not read what was written."""
        return self._writer is None or self._writer.paused

    def send(self, data: bytes, events: int = 0) -> None:
        """Write a message to this client alone."""
        if data:
            self.count_sent(events, len(data))
            self.write(self.framer.wire(data))

    def joined(self, group: Group[_BatchFramer], framer: _BatchFramer) -> None:
        """Be a member of a group, whose framer this is."""
        self._group = group
        self.framer = framer

    def leave(self, leader: ChannelReader, framer: _BatchFramer) -> None:
        """Be no member of the group any more, whose reader is here."""
        self._group = None
        self.framer = framer
        self.watch.follow(leader)
        self._set_out(ended=False)

    def reached_end(self, error: Exception | None = None, last: bytes | None = None) -> None:
        """The channel, response or sink has ended, or cannot be read any more."""
        _ = last
        if error is not None and self._out is not None and not self._out.done():
            self._out.set_exception(error)
        self._set_out(ended=True)
        self.part()

    def _set_out(self, *, ended: bool) -> None:
        if self._out is not None and not self._out.done():
            self._out.set_result(ended)
