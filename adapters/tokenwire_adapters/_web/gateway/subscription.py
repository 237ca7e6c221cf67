"""A channel that a WebSocket watches, and how its events become messages."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

from tokenwire.watch import ChannelReader, Item
from tokenwire_adapters._web.gateway.framing import SocketFramer

__all__ = ["Subscription"]

SendText: TypeAlias = Callable[[str, int], Awaitable[None]]
"""Sends a message with that many events."""


class Subscription:
    """A channel that a socket watches.

    :param name: the client's name for the subscription, if any.
    :param response: the only response it follows, if any.
    :ivar task: the task that sends its events.
    """

    __slots__ = ("_framer", "channel", "name", "response", "task", "watch")

    def __init__(
        self, channel: str, name: str | None, response: str | None, watch: ChannelReader
    ) -> None:
        self.channel = channel
        self.name = name
        self.response = response
        self.watch = watch
        self.task: asyncio.Task[None] | None = None
        self._framer = SocketFramer(channel, name)

    def about(self, op: str) -> dict[str, Any]:
        """The head of a message about this subscription."""
        head: dict[str, Any] = {"op": op, "channel": self.channel}
        if self.name is not None:
            head["sub"] = self.name
        return head

    async def send_events(self, send: SendText) -> None:
        """Send what has happened, then what happens, until the channel or response ends."""
        watch = self.watch
        ready = False
        while items := await watch.ahydrate():
            ready = not watch.hydrating
            await self._send_whole(send, items, watch.position if ready else None, first=ready)
        if not ready:
            await self._send_whole(send, (), watch.position, first=True)
        whole, conflated = False, 0
        while items := await watch.abatch():
            if whole or conflated != watch.conflated:
                whole, conflated = watch.hydrating, watch.conflated
                await self._send_whole(send, items, None if whole else watch.cursor)
            else:
                await send(self._framer.live(items), len(items))

    async def _send_whole(
        self, send: SendText, items: Sequence[Item], cursor: str | None, *, first: bool = False
    ) -> None:
        """Send items of which only the last message brings the client to `cursor`.

        :param first: with this, the client has all that had happened when it subscribed.
        """
        events = len(items)
        for text in self._framer.whole(items, cursor, reset=first and self.watch.reset):
            await send(text, events)
            events = 0
