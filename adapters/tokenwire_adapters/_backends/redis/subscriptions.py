"""Subscriptions: which server each belongs to, also after slots have moved."""

from __future__ import annotations

import asyncio
import logging

from tokenwire._clock import Backoff
from tokenwire.backend import Receiver
from tokenwire.errors import BackendUnavailable, DecodeError
from tokenwire.events import CancelEvent, InputEvent
from tokenwire_adapters._backends.redis.codec import decode_message
from tokenwire_adapters._backends.redis.cursors import base_key
from tokenwire_adapters._backends.redis.options import Settings
from tokenwire_adapters._backends.redis.topology import Node, Servers

__all__ = ["Listening", "Stand"]

logger = logging.getLogger("tokenwire")


class Stand:
    """A subscription: hands what is heard to its receiver."""

    def __init__(
        self, listening: Listening, base: str, name: str, receiver: Receiver, *, control: bool
    ) -> None:
        self.base = base
        self.name = name
        self.node: Node | None = None
        self.closed = False
        self._listening = listening
        self._receiver = receiver
        self._control = control

    def heard(self, message: bytes) -> None:
        """Take a message from the server."""
        if self.closed:
            return
        try:
            events, before = decode_message(message)
        except (DecodeError, ValueError):
            logger.warning("tokenwire: passed over a message that is not ours in %r", self.name)
            return
        if events is None:
            self._receiver.resync()
        elif self._control:
            heard = [event for event in events if isinstance(event, CancelEvent | InputEvent)]
            self._receiver.deliver(heard, None)
        else:
            self._receiver.deliver(events, before)

    def missed(self) -> None:
        """Learn that messages may have been missed."""
        if not self.closed:
            self._receiver.resync()

    async def close(self) -> None:
        """Stop. Nothing is delivered afterwards."""
        self.closed = True
        await self._listening.forget(self)


class Listening:
    """All subscriptions of a backend."""

    def __init__(self, servers: Servers, settings: Settings) -> None:
        self._servers = servers
        self._settings = settings
        self._stands: set[Stand] = set()
        self._moving: asyncio.Task[None] | None = None
        self._again = False

    async def listen(self, channel: str, receiver: Receiver, *, control: bool) -> Stand:
        """Deliver what is published in `channel` from now on.

        :raises BackendUnavailable: when the server does not take the subscription.
        """
        base = base_key(self._settings.prefix, channel)
        name = f"{base}:{'control' if control else 'live'}"
        stand = Stand(self, base, name, receiver, control=control)
        await self._settle(stand)
        self._stands.add(stand)
        return stand

    async def _settle(self, stand: Stand) -> None:
        node = await self._servers.node(stand.base)
        node.live.sharded = self._servers.sharded
        await node.live.add(stand.name, stand)
        stand.node = node

    async def forget(self, stand: Stand) -> None:
        """End a subscription."""
        self._stands.discard(stand)
        if stand.node is not None:
            await stand.node.live.remove(stand.name, stand)

    def moved(self) -> None:
        """Have subscriptions follow their slots (on a Cluster)."""
        if not self._servers.cluster or not self._stands:
            return
        self._again = True
        if self._moving is None or self._moving.done():
            self._moving = asyncio.ensure_future(self._follow())

    async def _follow(self) -> None:
        backoff = Backoff(0.05, 2.0)
        while self._again:
            self._again = False
            for stand in list(self._stands):
                try:
                    await self._follow_one(stand)
                except BackendUnavailable:
                    self._again = True
                except Exception:
                    self._again = True
                    logger.warning("tokenwire: cannot listen to %r", stand.name, exc_info=True)
            if self._again:
                await asyncio.sleep(backoff.next())

    async def _follow_one(self, stand: Stand) -> None:
        node = await self._servers.node(stand.base)
        if stand.closed or (node is stand.node and node.live.stands(stand.name)):
            return
        if stand.node is not None:
            await stand.node.live.remove(stand.name, stand)
            stand.node = None
        await self._settle(stand)
        if stand.closed:
            await self.forget(stand)
        else:
            stand.missed()

    async def close(self) -> None:
        """Stop following."""
        self._stands.clear()
        if self._moving is not None:
            self._moving.cancel()

    def abandon(self) -> None:
        """Forget all, in a forked child."""
        self._stands.clear()
        self._moving = None
