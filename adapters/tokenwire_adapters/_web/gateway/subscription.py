"""A channel that a WebSocket watches, and how its events become messages."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

from tokenwire.watch import ChannelReader, Item
from tokenwire_adapters._web.gateway.framing import SocketFramer

__all__ = ["Subscription"]

SendText: TypeAlias = Callable[[str, int], Awaitable[None]]
"""Sends a message, which has so many events."""


class Subscription:
    """A channel that a socket watches.

    :param name: what the client calls the subscription, if anything.
    :param response: the only response it is about, if it is.
    :ivar task: what sends its events.
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
        """Send what there is, then what comes, until there is no more."""
        watch = self.watch
        told = False
        while items := await watch.ahydrate():
            told = not watch.hydrating
            await self._send_whole(send, items, watch.position if told else None, first=told)
        if not told:
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
        """Send what only as a whole brings the client to `cursor`.

        :param first: it has then been told all that had happened when it subscribed.
        """
        events = len(items)
        for text in self._framer.whole(items, cursor, reset=first and self.watch.reset):
            await send(text, events)
            events = 0
