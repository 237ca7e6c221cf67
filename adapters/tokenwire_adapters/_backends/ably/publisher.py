"""Serves producers: publishes entries as messages, renews leases, and delivers requests."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from tokenwire.backend import Entry, Lease, LeaseState, Outcome, Receiver
from tokenwire.errors import BackendError, BackendUnavailable, Fenced, ResponseUnknown
from tokenwire.events import CancelEvent, Event, InputEvent, StartEvent, State, ToolResultEvent
from tokenwire_adapters._backends.ably.ai_transport import AiTransportWriter
from tokenwire_adapters._backends.ably.connections import RealtimeConnection
from tokenwire_adapters._backends.ably.cursors import format_cursor
from tokenwire_adapters._backends.ably.event_messages import event_messages
from tokenwire_adapters._backends.ably.history import History
from tokenwire_adapters._backends.ably.message_per_response import PerResponseWriter
from tokenwire_adapters._backends.ably.message_per_token import PerTokenWriter
from tokenwire_adapters._backends.ably.options import Settings
from tokenwire_adapters._backends.ably.ordering import Ordering
from tokenwire_adapters._backends.ably.ownership import Ownership
from tokenwire_adapters._backends.ably.rate_limit import RateLimiter
from tokenwire_adapters._backends.ably.response_writer import MessageSender, ResponseWriter
from tokenwire_adapters._backends.ably.subscription import (
    ChannelSubscription,
    ChannelSubscriptions,
    ReceiverSubscription,
)

__all__ = ["Publisher"]

logger = logging.getLogger("tokenwire")

_MAX_WRITERS = 1024  # more are kept for a while after their responses end, for retried entries
_OWNERSHIP_TIMEOUT = 10.0  # seconds that a start waits to learn whether its id is taken
_DEFAULT_ROLLUP = 0.04  # seconds, Ably's


class Publisher:
    """Publishes entries, renews leases, and delivers cancels and inputs to producers.

    :param state_of: reads the state of a response that another producer writes.
    """

    def __init__(
        self,
        connection: RealtimeConnection,
        history: History,
        settings: Settings,
        state_of: Callable[[str, str], Awaitable[State | None]],
    ) -> None:
        self._connection = connection
        self._settings = settings
        self._state_of = state_of
        rollup = settings.rollup_window
        limiter = RateLimiter(settings.rate, _DEFAULT_ROLLUP if rollup is None else rollup)
        self._sender = MessageSender(connection, settings, limiter)
        self._writers: dict[tuple[str, str], ResponseWriter] = {}
        self._ordering = Ordering()
        self._subscriptions = ChannelSubscriptions(
            connection,
            history,
            lambda channel: Ownership(lambda response_id: self._check_owner(channel, response_id)),
            page=settings.claim_depth,
            enough=lambda _: True,  # one page
        )

    # -- publishing

    async def publish(self, entries: Sequence[Entry]) -> Sequence[Outcome]:
        """Publish entries; the operations of each response are sent in the order of the calls."""
        tasks = [asyncio.ensure_future(self._publish(entry)) for entry in entries]
        outcomes = await asyncio.gather(*tasks)
        errors = [outcome.error for outcome in outcomes]
        if all(isinstance(error, BackendUnavailable) for error in errors) and errors[0]:
            raise errors[0]
        return outcomes

    async def _publish(self, entry: Entry) -> Outcome:
        response_id = entry.response_id
        try:
            if isinstance(entry.events[0], CancelEvent) and response_id is None:
                return await self._publish_events(entry, lambda: None)  # a cancel never waits
            async with self._ordering.enter(entry.channel, single=response_id is None) as ticket:
                if response_id is None:
                    return await self._publish_events(entry, ticket.release)
                return await self._publish_response(entry, response_id, ticket.release)
        except BackendError as error:
            return Outcome(error=error)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            logger.exception("tokenwire: unexpected error in the Ably backend")
            return Outcome(error=BackendUnavailable(f"{type(error).__name__} while publishing"))

    async def _publish_response(
        self, entry: Entry, response_id: str, on_sent: Callable[[], None]
    ) -> Outcome:
        key = (entry.channel, response_id)
        writer = self._writers.get(key)
        begins = isinstance(entry.events[0], StartEvent)
        if writer is None or (begins and writer.done and writer.fence != entry.fence):
            if not begins:
                raise ResponseUnknown(f"no response {response_id!r} is being written here")
            writer = self._writers[key] = self._make_writer(entry)
            self._trim()
        if writer.fence != entry.fence:
            raise Fenced(f"response {response_id!r} belongs to another producer")
        await writer.publish(entry, on_sent)
        if begins:
            await self._claim(entry.channel, writer)
        subscription = self._subscriptions.get(entry.channel)
        if subscription is None:
            return Outcome(cursor=writer.cursor)
        cancels = subscription.handler.cancels
        if writer.done:
            cancels.pop(response_id, None)
        return Outcome(cursor=writer.cursor, cancel=cancels.get(response_id))

    def _make_writer(self, entry: Entry) -> ResponseWriter:
        if self._settings.dialect == "ai-transport":

            async def conversation() -> Ownership:
                subscription = self._subscriptions.open(entry.channel)
                await _wait_ready(subscription)
                return subscription.handler

            return AiTransportWriter(entry, self._sender, conversation)
        if self._settings.granularity == "token":
            return PerTokenWriter(entry, self._sender)
        return PerResponseWriter(entry, self._sender)

    async def _claim(self, channel: str, writer: ResponseWriter) -> None:
        """Find out whether another producer has the response's id already.

        :raises Fenced: when it has.
        """
        await _wait_ready(self._subscriptions.open(channel))
        self._check_owner(channel, writer.id)
        if writer.fenced is not None:
            raise writer.fenced

    def _check_owner(self, channel: str, response_id: str) -> None:
        """Fence a writer whose response has ended, or belongs to another producer."""
        writer = self._writers.get((channel, response_id))
        subscription = self._subscriptions.get(channel)
        if writer is None or subscription is None:
            return
        ownership = subscription.handler
        if ownership.ended.get(response_id) == writer.fence and not writer.done:
            writer.fenced = Fenced(f"response {response_id!r} was ended as abandoned")
        elif response_id in ownership.owners:
            first, fence = ownership.owners[response_id]
            if fence != writer.fence and (writer.first is None or first < writer.first):
                writer.fenced = Fenced(f"response {response_id!r} belongs to another producer")

    def _trim(self) -> None:
        if len(self._writers) > _MAX_WRITERS:
            for key, writer in list(self._writers.items()):
                if writer.done or writer.fenced is not None:
                    del self._writers[key]
                if len(self._writers) <= _MAX_WRITERS // 2:
                    break

    # -- single events

    async def _publish_events(self, entry: Entry, on_sent: Callable[[], None]) -> Outcome:
        """Publish events that any process may publish."""
        channel = await self._connection.channel(entry.channel)
        tasks: list[asyncio.Task[Any]] = []
        for index, event in enumerate(entry.events):
            key = f"{entry.key or id(entry)}-{index}"
            for message in self._event_messages(entry.channel, event, key):
                await self._sender.limiter.wait()
                tasks.append(self._sender.create(channel, message, f"publishing {event.type}"))
        on_sent()
        serials = [await task for task in tasks]
        state = None
        for event in entry.events:
            if isinstance(event, CancelEvent):
                state = await self._known_state(entry.channel, event.response_id)
        self._deliver_locally(entry)
        cursor = format_cursor((serials[-1], 0, 0)) if serials else None
        return Outcome(cursor=cursor, state=state)

    def _event_messages(self, channel: str, event: Event, key: str) -> list[Any]:
        if isinstance(event, ToolResultEvent):
            writer = self._writers.get((channel, event.response_id or ""))
            if writer is not None:  # it has ended, or the result would have come with the rest
                return writer.result_messages(event, key)
        return event_messages(event, key, self._sender.max_event)

    async def _known_state(self, channel: str, response_id: str) -> State | None:
        writer = self._writers.get((channel, response_id))
        if writer is not None and writer.first is not None and writer.fenced is None:
            return writer.state
        return await self._state_of(channel, response_id)

    def _deliver_locally(self, entry: Entry) -> None:
        """Deliver cancels and inputs to this process's producers: Ably does not echo them."""
        subscription = self._subscriptions.get(entry.channel)
        if subscription is None:
            return
        requests: list[Event] = []
        for event in entry.events:
            if isinstance(event, CancelEvent):
                subscription.handler.note_cancel(event)
            if isinstance(event, CancelEvent | InputEvent):
                requests.append(event)
        subscription.deliver(requests, None)

    async def control(self, channel: str, receiver: Receiver) -> ReceiverSubscription:
        """Deliver cancels and inputs from now on (see `Backend.control`)."""
        return await self._subscriptions.add(channel, receiver)

    # -- leases

    async def renew(self, leases: Sequence[Lease]) -> Sequence[LeaseState]:
        """Renew leases (see `Backend.renew`)."""
        return await asyncio.gather(*(self._renew(lease) for lease in leases))

    async def _renew(self, lease: Lease) -> LeaseState:
        """Send a heartbeat, where nothing else was sent for a quarter of the lease."""
        writer = self._writers.get((lease.channel, lease.response_id))
        if writer is None:
            return LeaseState(unknown=True)
        if writer.fenced is not None or writer.done or writer.fence != lease.fence:
            return LeaseState(lost=True)
        if time.monotonic() - writer.last_accepted > lease.ttl / 4:
            await writer.send_heartbeat(lease.ttl)
        subscription = self._subscriptions.get(lease.channel)
        if subscription is None:
            return LeaseState()
        return LeaseState(cancel=subscription.handler.cancels.get(lease.response_id))

    def close(self) -> None:
        """Stop all subscriptions; the connection is closed elsewhere."""
        self._subscriptions.abandon()


async def _wait_ready(subscription: ChannelSubscription[Any]) -> None:
    """Wait for a subscription, a while: a key without the right to subscribe can publish."""
    try:
        async with asyncio.timeout(_OWNERSHIP_TIMEOUT):
            await subscription.ready()
    except (BackendError, TimeoutError):
        pass
