"""One subscription per channel and process, from which any number of watchers read."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from tokenwire._clock import Backoff
from tokenwire._io import IoThread
from tokenwire._reading.dedup import Deduplicator
from tokenwire._reading.joining import Joins
from tokenwire._reading.ring import Ring, RingLimits
from tokenwire._reading.waiting import Waiters, Wake
from tokenwire._results import HubStats
from tokenwire.backend import Backend, Replay, ReplayFrom, Subscription, same_log
from tokenwire.errors import BackendUnavailable, InvalidCursor
from tokenwire.events import Event

__all__ = ["ChannelHub"]

logger = logging.getLogger("tokenwire")


@dataclass(slots=True)
class _Delivery:
    """Events that wait to be taken."""

    events: Sequence[Event]
    after: str | None
    log_read: bool = False  # the log has been read since they came


class ChannelHub:
    """The events of one channel, each once and in order, in a bounded log.

    Used on the I/O thread, but for `ring`, `wait_async` and `wait_thread`, which watchers use from
    wherever they are. They join with `join`, then read the ring, each from a position of its own.

    :param wake: wakes watchers that wait on other loops.
    :ivar join: finds out where a watcher starts (see `Joins.join`).
    :ivar users: how many watchers there are.
    :ivar active_at: when the last event came, by the I/O loop's clock.
    """

    def __init__(
        self,
        channel: str,
        *,
        backend: Backend,
        io: IoThread,
        stats: HubStats,
        limits: RingLimits,
        wake: Wake,
    ) -> None:
        self.channel = channel
        self.ring = Ring(limits, backend.order)
        self.users = 0
        self.closed = False
        self.active_at = 0.0
        self.join = Joins(channel, backend, io, stats, self.ring, self.resync).join
        self._backend = backend
        self._io = io
        self._stats = stats
        self._waiters = Waiters(wake)
        self._deduplicator = Deduplicator()
        self._ready = False
        self._queue: deque[_Delivery] = deque()
        self._synced: Any = None  # the order of the head when it was last read from the log
        self._subscription: Subscription | None = None
        self._syncing: asyncio.Task[Any] | None = None
        self._again = False  # the log is to be read once more

    # -- the subscription

    async def open(self) -> None:
        """Subscribe and learn what is streaming.

        :raises BackendUnavailable: when that cannot be done now.
        """
        self._subscription = await self._backend.subscribe(self.channel, self)
        self._again = False
        self._begin(await self._backend.replay(self.channel, ReplayFrom()))
        self._ready = True
        self._take_queued()
        if self._again:
            self.resync()

    def _begin(self, live: Replay) -> None:
        """Go on after `live`, a replay of what is streaming."""
        self._deduplicator = Deduplicator()
        for event in live.events:
            self._deduplicator.admit(event)
        self._deduplicator.missed_start = False
        self.ring.begin(live.cursor)
        self._synced = self._backend.order(live.cursor)

    async def close(self) -> None:
        """Unsubscribe; watchers drain what they have and end."""
        self.closed = True
        if self._syncing is not None:
            self._syncing.cancel()
        if self._subscription is not None:
            await self._subscription.close()
        self._waiters.notify()

    @property
    def streaming(self) -> bool:
        """Whether any response of the channel has not ended, as far as is known here."""
        return bool(self._deduplicator.streaming)

    def deliver(self, events: Sequence[Event], after: str | None) -> None:
        """Take events from the backend (see `Receiver`)."""
        if self.closed or not events:
            return
        if self._queue or not self._ready or self._syncing is not None:
            self._queue.append(_Delivery(events, after))
        elif not self._take(events, after):
            self._queue.append(_Delivery(events, after))
            self.resync()

    def resync(self) -> None:
        """Read again from the last event seen (see `Receiver`)."""
        if not self._ready or self._syncing is not None:
            self._again = True  # what was missed may have come after it was read
        elif not self.closed:
            self._stats.resyncs += 1
            self._syncing = self._io.spawn(self._resync())

    def _take(self, events: Sequence[Event], after: str | None) -> bool:
        """Put events in the ring; False where the log must be read to know what they are."""
        ring = self.ring
        if after != ring.head:
            news = self._news(events, after)
            if news is None:
                return False
            self._stats.repeats_dropped += len(events) - len(news)
            events = news
            if not events:
                return True
        self._admit(events)
        ring.head = events[-1].cursor or ring.head
        self._waiters.notify()
        if self._deduplicator.missed_start:
            self._deduplicator.missed_start = False
            self.resync()
        return True

    def _news(self, events: Sequence[Event], after: str | None) -> Sequence[Event] | None:
        """What of a delivery comes after the head.

        :return: None where something before it is missing, and where it is neither news nor a
            repeat: the log is another one now, or something that is not in it was delivered.
        """
        order, ring = self._backend.order, self.ring
        if not same_log(self._backend, events[0].cursor or "", ring.head):
            return None
        head = order(ring.head)
        if after is not None and order(after) > head:
            return None
        places = [order(event.cursor or "") for event in events]
        if self._synced < places[-1] <= head and not ring.has(places[-1]):
            return None
        return [event for event, place in zip(events, places, strict=True) if place > head]

    def _admit(self, events: Sequence[Event]) -> None:
        self.active_at = asyncio.get_running_loop().time()
        stats = self._stats
        for event in events:
            admitted = self._deduplicator.admit(event)
            if admitted is None:
                stats.repeats_dropped += 1
            else:
                self.ring.append(admitted)
                stats.delivered_events += 1

    def _take_queued(self) -> None:
        while self._queue and self._syncing is None:
            delivery = self._queue[0]
            if self._take(delivery.events, delivery.after):
                self._queue.popleft()
            elif delivery.log_read:  # and nothing there leads to it
                self._queue.popleft()
                self._stats.misplaced += 1
            else:
                self.resync()

    async def _resync(self) -> None:
        ring = self.ring
        try:
            missed, live = await self._read_missed()
        finally:
            self._syncing = None
        if missed is None or missed.next is not None:
            # Skip a gap too long to replay here; each watcher catches up by itself.
            self._begin(live)
        else:
            self._admit(missed.events)
            ring.head = missed.cursor
            # A response whose start was missed for good is healed by its snapshot; it takes the
            # cursor of the head, so that the ring stays in order.
            order = self._backend.order
            head = self._synced = order(ring.head)
            self._admit(
                [
                    replace(event, cursor=ring.head)
                    for event in live.events
                    if order(event.cursor or "") <= head
                ]
            )
            self._deduplicator.missed_start = False
        self._waiters.notify()
        self._take_queued()
        if self._again:
            self.resync()

    async def _read_missed(self) -> tuple[Replay | None, Replay]:
        """Read what came after the last event seen, and what is streaming, until that succeeds.

        :return: None in place of what came where that cannot be said: the log is another one.
        """
        backoff = Backoff(0.05, 5.0)
        head = self.ring.head
        while True:
            self._again = False
            for delivery in self._queue:
                delivery.log_read = True
            try:
                missed = await self._read_after(head)
                live = await self._backend.replay(self.channel, ReplayFrom())
            except Exception as error:
                if not isinstance(error, BackendUnavailable):
                    logger.warning("tokenwire: reading %r failed", self.channel, exc_info=True)
                await asyncio.sleep(backoff.next())
            else:
                return missed, live

    async def _read_after(self, head: str) -> Replay | None:
        try:
            missed = await self._backend.replay(self.channel, ReplayFrom(after=head))
        except InvalidCursor:  # the backend lost its memory
            return None
        return missed if same_log(self._backend, missed.cursor, head) else None

    # -- waking watchers

    def wait_async(self, position: int, gather: float = 0.0) -> asyncio.Future[None] | None:
        """A future of the running loop that is done when there is more; None when there is.

        :param gather: seconds by which it may be later while the loop is busy.
        """
        future = self._waiters.future(gather)
        return None if self.closed or self.ring.end > position else future

    def stop_waiting(self, future: asyncio.Future[None], gather: float = 0.0) -> None:
        """Forget a future of `wait_async` whose wait was cancelled."""
        self._waiters.discard(future, gather)

    def wait_thread(self, position: int) -> threading.Event | None:
        """An event that is set when there is more; None when there is."""
        event = self._waiters.event()
        return None if self.closed or self.ring.end > position else event

    def wake(self) -> None:
        """Wake all watchers, to look whether they were closed."""
        self._waiters.notify()
