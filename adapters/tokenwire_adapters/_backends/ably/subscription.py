"""Subscriptions to channels that start from history, and catch up after every interruption."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

from tokenwire._clock import Backoff
from tokenwire._io import retrieve_error
from tokenwire.backend import Receiver
from tokenwire.errors import BackendError
from tokenwire.events import Event
from tokenwire_adapters._backends.ably.connections import RealtimeConnection, subscribe_channel
from tokenwire_adapters._backends.ably.errors import translate
from tokenwire_adapters._backends.ably.history import History
from tokenwire_adapters._backends.ably.quirks import attach_serial, state_of
from tokenwire_adapters._backends.ably.transport_inputs import is_transport_message, join_parts
from tokenwire_adapters._backends.ably.wire import ChannelMessage, from_ably

__all__ = [
    "ChannelSubscription",
    "ChannelSubscriptions",
    "MessageHandler",
    "ReceiverSubscription",
    "starts_known",
]

logger = logging.getLogger("tokenwire")
_MAX_BUFFERED = 10_000  # messages
_MAX_DELAY = 5.0  # seconds between reads of history
_ATTACH_TIMEOUT = 10.0  # seconds
_DETACH_TIMEOUT = 1.0  # seconds
_LATE_APPENDS = 0.7  # seconds: longer than the longest rollup window


class MessageHandler(Protocol):
    """Turns the messages of a channel into events for receivers."""

    async def load(self, messages: list[ChannelMessage]) -> None:
        """Begin with messages from history; their events are not delivered."""
        ...

    async def reload(self, messages: list[ChannelMessage]) -> Sequence[Event]:
        """Handle messages from history after an interruption; return the new events."""
        ...

    def handle(self, msg: ChannelMessage) -> Sequence[Event]:
        """Handle a live message; return the new events."""
        ...

    @property
    def incomplete(self) -> bool:
        """Whether messages are missing, so that history should be read again."""
        ...

    def cursor(self) -> str | None:
        """The cursor of the last event; None where receivers need none (see `Receiver`)."""
        ...


H = TypeVar("H", bound=MessageHandler)


class ReceiverSubscription:
    """One receiver of a channel; the channel is detached when its last receiver leaves."""

    def __init__(
        self,
        owner: ChannelSubscriptions[Any],
        subscription: ChannelSubscription[Any],
        receiver: Receiver,
    ) -> None:
        self.receiver = receiver
        self._owner = owner
        self._subscription = subscription

    async def close(self) -> None:
        await self._owner.remove(self._subscription, self)


class ChannelSubscriptions(Generic[H]):
    """The subscriptions of one connection, one for each channel.

    :param make_handler: makes a handler for the messages of a channel.
    :param page: how many messages of history to read per request.
    :param enough: whether messages from history are enough to start with.
    """

    def __init__(
        self,
        connection: RealtimeConnection,
        history: History,
        make_handler: Callable[[str], H],
        *,
        page: int,
        enough: Callable[[Sequence[ChannelMessage]], bool],
    ) -> None:
        self.connection = connection
        self._history = history
        self._make_handler = make_handler
        self._page = page
        self._enough = enough
        self._by_channel: dict[str, ChannelSubscription[H]] = {}

    def get(self, channel: str) -> ChannelSubscription[H] | None:
        """The subscription to a channel, if there is one."""
        return self._by_channel.get(channel)

    async def read(self, channel: str, attach_serial: str | None) -> list[ChannelMessage]:
        """Read as much of a channel's history as a subscription needs (see `History.read`)."""
        return await self._history.read(
            channel, page=self._page, attach_serial=attach_serial, enough=self._enough
        )

    def open(self, channel: str) -> ChannelSubscription[H]:
        """The subscription to a channel, made where there is none."""
        subscription = self._by_channel.get(channel)
        if subscription is None or subscription.closed:
            handler = self._make_handler(channel)
            subscription = self._by_channel[channel] = ChannelSubscription(self, channel, handler)
        return subscription

    async def add(self, channel: str, receiver: Receiver) -> ReceiverSubscription:
        """Deliver the events of a channel to a receiver from now on.

        :raises BackendError: when the subscription cannot be made now.
        """
        subscription = self.open(channel)
        receiving = ReceiverSubscription(self, subscription, receiver)
        subscription.receivers.append(receiving)  # before waiting: it keeps the subscription open
        try:
            await subscription.ready()
        except BaseException:
            await receiving.close()
            raise
        return receiving

    async def remove(
        self, subscription: ChannelSubscription[H], receiving: ReceiverSubscription
    ) -> None:
        """Remove a receiver, and close the subscription if it was the last."""
        if receiving in subscription.receivers:
            subscription.receivers.remove(receiving)
        if subscription.receivers:
            return
        if self._by_channel.get(subscription.channel) is subscription:
            del self._by_channel[subscription.channel]
        await subscription.close()

    def abandon(self) -> None:
        """Stop everything, without detaching from channels: the connection is closed as well."""
        subscriptions, self._by_channel = self._by_channel, {}
        for subscription in subscriptions.values():
            subscription.abandon()


class ChannelSubscription(Generic[H]):
    """A channel attached on one connection, for any number of receivers.

    :ivar handler: turns its messages into events.
    :ivar is_ready: whether it is attached, and has loaded history.
    """

    def __init__(self, owner: ChannelSubscriptions[H], channel: str, handler: H) -> None:
        self.channel = channel
        self.handler = handler
        self.receivers: list[ReceiverSubscription] = []
        self.closed = False
        self.is_ready = False
        self._owner = owner
        self._connection = owner.connection
        self._attached: Any = None
        self._buffer: list[ChannelMessage] | None = []  # while history is read
        self._arrived: list[ChannelMessage] = []
        self._opening: asyncio.Task[None] | None = None
        self._catching_up: asyncio.Task[None] | None = None
        self._reload_again = False

    async def ready(self) -> None:
        """Wait until it is attached, and has loaded history.

        :raises BackendError: when that fails now; call again to try again.
        """
        if self.is_ready:
            return
        if self._opening is None or self._opening.done():
            self._opening = self._connection.spawn(self._open())
            self._opening.add_done_callback(retrieve_error)
        await asyncio.shield(self._opening)

    async def _open(self) -> None:
        await self._attach()
        messages = await self._read(just_attached=True)
        await self.handler.load(messages)
        self.is_ready = True
        self._handle_buffer()
        if not self._is_complete:
            self._catch_up()
        self._connection.on_replaced.append(self._on_client_replaced)

    async def _attach(self) -> None:
        channel = await self._connection.channel(self.channel)
        if channel is not self._attached:
            self._attached = channel

            def on_state(change: Any) -> None:
                self._on_state(channel, change)

            channel.on(on_state)
            try:
                await subscribe_channel(channel, self._on_message, _ATTACH_TIMEOUT)
            except Exception:
                self._attached = None
                raise
        elif state_of(channel) != "attached":
            try:
                async with asyncio.timeout(_ATTACH_TIMEOUT):
                    await channel.attach()
            except Exception as error:
                raise translate(error, f"attaching to {self.channel!r}") from error
        else:
            return
        self._reload_again = False  # history has what came before

    def _on_state(self, channel: Any, change: Any) -> None:
        """Catch up when the channel's state says that messages may have been missed."""
        if channel is not self._attached or self.closed:
            return
        state = state_of(change)
        if state == "attached" and not change.resumed:
            self._catch_up()
        elif state in ("failed", "suspended", "detached"):
            if change.reason is not None and self.is_ready:
                problem = translate(change.reason, f"listening to {self.channel!r}")
                logger.warning("tokenwire: %s", problem)
            self._catch_up(attach=state != "suspended")

    def _on_client_replaced(self) -> None:
        if not self.closed:
            self._catch_up(attach=True)

    # -- messages

    def _on_message(self, message: Any) -> None:
        if self.closed:
            return
        msg = from_ably(message)
        if msg is None:
            return
        if self._buffer is not None:
            self._buffer.append(msg)
            if len(self._buffer) > _MAX_BUFFERED:
                self._buffer.clear()
                self._reload_again = True
            return
        self._arrived.append(msg)
        if is_transport_message(msg):  # what belongs to it comes in the same turn of the loop
            asyncio.get_running_loop().call_soon(self._handle_arrived)
        else:
            self._handle_arrived()

    def _handle_arrived(self) -> None:
        arrived, self._arrived = self._arrived, []
        if self._buffer is not None:
            self._buffer += arrived
            return
        for msg in join_parts(arrived):
            self._handle(msg)
        if self.handler.incomplete:
            self._catch_up(delay=_LATE_APPENDS)

    def _handle(self, msg: ChannelMessage) -> None:
        before = self.handler.cursor()
        self.deliver(self.handler.handle(msg), before)

    def _handle_buffer(self) -> None:
        """Handle the buffered messages, and from now on each as it comes."""
        buffer, self._buffer = self._buffer or [], None
        for msg in join_parts(buffer):
            self._handle(msg)

    def deliver(self, events: Sequence[Event], before: str | None) -> None:
        """Deliver events to all receivers.

        :param before: the cursor before them (see `Receiver.deliver`).
        """
        if events:
            for receiving in tuple(self.receivers):
                receiving.receiver.deliver(events, before)

    # -- catching up

    def _catch_up(self, *, attach: bool = False, delay: float = 0.0) -> None:
        """Read history again, in the background, for messages that were missed.

        :param attach: attach again first.
        :param delay: seconds in which the missing messages may still arrive.
        """
        if self.closed:
            return
        if not self.is_ready:  # it is being opened
            self._reload_again = True
            return
        if self._catching_up is not None and not self._catching_up.done():
            self._reload_again = self._reload_again or not delay
            return
        self._catching_up = self._connection.spawn(self._reload(attach, delay))

    @property
    def _is_complete(self) -> bool:
        return not self._reload_again and not self.handler.incomplete

    async def _reload(self, attach: bool, initial_delay: float) -> None:
        backoff = Backoff(0.1, _MAX_DELAY)
        if initial_delay:
            await asyncio.sleep(initial_delay)
            if self._is_complete:
                return
        just_attached = not initial_delay
        while not self.closed:
            try:
                if attach or self._attached is None or state_of(self._attached) != "attached":
                    await self._attach()
                if self._buffer is None:
                    self._buffer = []
                messages = await self._read(just_attached=just_attached)
                before = self.handler.cursor()
                self.deliver(await self.handler.reload(messages), before)
            except BackendError:
                await asyncio.sleep(backoff.next())
                continue
            except Exception:
                logger.warning("tokenwire: reading %r failed", self.channel, exc_info=True)
                await asyncio.sleep(_MAX_DELAY)
                continue
            self._handle_buffer()
            if self._is_complete:
                return
            attach = just_attached = False
            # The missing messages may not have been published yet.
            await asyncio.sleep(backoff.next())
            if self._is_complete:
                return
            self._reload_again = False

    async def _read(self, *, just_attached: bool) -> list[ChannelMessage]:
        """Read history; up to where the channel was attached, if that was just now."""
        serial = attach_serial(self._attached) if just_attached else None
        return await self._owner.read(self.channel, serial)

    # -- closing

    def abandon(self) -> None:
        """Stop, without detaching: the connection is closed as well."""
        self.closed = True
        for task in (self._catching_up, self._opening):
            if task is not None:
                task.cancel()

    async def close(self) -> None:
        """Stop, and detach from the channel."""
        self.closed = True
        if self._on_client_replaced in self._connection.on_replaced:
            self._connection.on_replaced.remove(self._on_client_replaced)
        if self._catching_up is not None:
            self._catching_up.cancel()
        channel, self._attached = self._attached, None
        if channel is not None:
            try:
                channel.unsubscribe(self._on_message)
                async with asyncio.timeout(_DETACH_TIMEOUT):
                    await channel.detach()
                client = await self._connection.client()
                client.channels.release(self.channel)
            except Exception:
                logger.debug("tokenwire: detaching from %r failed", self.channel, exc_info=True)


def starts_known(messages: Sequence[ChannelMessage]) -> bool:
    """Whether messages include the start of every response that they belong to."""
    responses: set[Any] = set()
    started: set[Any] = set()
    for msg in messages:
        if msg.is_native and "type" not in msg.headers:
            response_id = msg.headers.get("responseId")
            (started if "start" in msg.headers else responses).add(response_id)
    return responses <= started
