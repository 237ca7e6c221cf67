"""Subscriptions to channels, each on the server that has the channel, also after slots move."""

from __future__ import annotations

import asyncio
import logging

from tokenwire._clock import Backoff
from tokenwire._problems import Unreadable
from tokenwire.backend import Receiver
from tokenwire.errors import BackendUnavailable
from tokenwire.events import CancelEvent, InputEvent
from tokenwire_adapters._backends.redis.codec import decode_message
from tokenwire_adapters._backends.redis.cursors import base_key
from tokenwire_adapters._backends.redis.options import Settings
from tokenwire_adapters._backends.redis.topology import Node, Topology

__all__ = ["ChannelSubscription", "Subscriptions"]

logger = logging.getLogger("tokenwire")


class ChannelSubscription:
    """One subscription: decodes messages of a channel and delivers the events to its receiver.

    :param base: the channel's main key; `name` the pub/sub name.
    :param control: deliver cancels and inputs only.
    """

    def __init__(
        self, owner: Subscriptions, base: str, name: str, receiver: Receiver, *, control: bool
    ) -> None:
        self.base = base
        self.name = name
        self.node: Node | None = None
        self.closed = False
        self._owner = owner
        self._receiver = receiver
        self._control = control

    def on_message(self, message: bytes) -> None:
        """Deliver the events of a message."""
        if self.closed:
            return
        try:
            events, before = decode_message(message, self._skip)
        except ValueError as error:
            self._skip(error)
            return
        if events is None:
            self._receiver.resync()
        elif not events:
            return  # the next message shows that something is missing
        elif self._control:
            requests = [event for event in events if isinstance(event, CancelEvent | InputEvent)]
            self._receiver.deliver(requests, None)
        else:
            self._receiver.deliver(events, before)

    def _skip(self, error: object) -> None:
        self._owner.unreadable.skip(f"messages of {self.name!r}", error)

    def on_gap(self) -> None:
        """Have the receiver read what may have been missed."""
        if not self.closed:
            self._receiver.resync()

    async def close(self) -> None:
        """Stop. Nothing is delivered afterwards."""
        self.closed = True
        await self._owner.remove(self)


class Subscriptions:
    """All subscriptions of a backend."""

    def __init__(self, topology: Topology, settings: Settings, unreadable: Unreadable) -> None:
        self.unreadable = unreadable
        topology.on_change = self.follow_slots
        self._topology = topology
        self._settings = settings
        self._active: set[ChannelSubscription] = set()
        self._moving: asyncio.Task[None] | None = None
        self._move_again = False

    async def subscribe(
        self, channel: str, receiver: Receiver, *, control: bool
    ) -> ChannelSubscription:
        """Deliver what is published in `channel` from now on.

        :raises BackendUnavailable: when the server does not take the subscription.
        """
        base = base_key(self._settings.prefix, channel)
        name = f"{base}:{'control' if control else 'live'}"
        subscription = ChannelSubscription(self, base, name, receiver, control=control)
        await self._attach(subscription)
        self._active.add(subscription)
        return subscription

    async def _attach(self, subscription: ChannelSubscription) -> None:
        node = await self._topology.node(subscription.base)
        node.pubsub.sharded = self._topology.sharded
        await node.pubsub.add(subscription.name, subscription)
        subscription.node = node

    async def remove(self, subscription: ChannelSubscription) -> None:
        """End a subscription."""
        self._active.discard(subscription)
        if subscription.node is not None:
            await subscription.node.pubsub.remove(subscription.name, subscription)

    def follow_slots(self) -> None:
        """On a Cluster: move subscriptions to the nodes that have their slots now."""
        if not self._topology.cluster or not self._active:
            return
        self._move_again = True
        if self._moving is None or self._moving.done():
            self._moving = asyncio.ensure_future(self._move_all())

    async def _move_all(self) -> None:
        backoff = Backoff(0.05, 2.0)
        while self._move_again:
            self._move_again = False
            for subscription in list(self._active):
                try:
                    await self._move(subscription)
                except BackendUnavailable:
                    self._move_again = True
                except Exception:
                    self._move_again = True
                    logger.warning(
                        "tokenwire: cannot subscribe to %r", subscription.name, exc_info=True
                    )
            if self._move_again:
                await asyncio.sleep(backoff.next())

    async def _move(self, subscription: ChannelSubscription) -> None:
        node = await self._topology.node(subscription.base)
        confirmed = node is subscription.node and node.pubsub.is_confirmed(subscription.name)
        if subscription.closed or confirmed:
            return
        if subscription.node is not None:
            await subscription.node.pubsub.remove(subscription.name, subscription)
            subscription.node = None
        await self._attach(subscription)
        if subscription.closed:
            await self.remove(subscription)
        else:
            subscription.on_gap()

    async def close(self) -> None:
        """Stop moving subscriptions; the connections are closed by the topology."""
        self._active.clear()
        if self._moving is not None:
            self._moving.cancel()

    def abandon(self) -> None:
        """In a forked child: forget the parent's subscriptions."""
        self._active.clear()
        self._moving = None
