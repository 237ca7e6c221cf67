"""One subscription per channel and process, one bounded log, and a position for each watcher.

Everything here runs on the I/O thread, but for `Ring.read` and `ChannelHub.wait_*`, which watchers
call from wherever they are.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from bisect import bisect_right
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from tokenwire._clock import Backoff, jitter
from tokenwire._io import IoThread
from tokenwire._reading.dedup import Deduplicator
from tokenwire._reading.ring import Item, Ring
from tokenwire._results import HubStats
from tokenwire.backend import Backend, Replay, ReplayFrom, Subscription
from tokenwire.errors import BackendUnavailable, InvalidCursor
from tokenwire.events import Event, SnapshotEvent

__all__ = [
    "MIDWAY",
    "ChannelHub",
    "Deduplicator",
    "HubRegistry",
    "HubStats",
    "Item",
    "JoinPoint",
    "Ring",
]

logger = logging.getLogger("tokenwire")

# What comes before the last of several snapshots has a cursor of this form. A reader that stops
# there lacks responses that began before it: to go on, it is given them whole, not as events.
MIDWAY = "~"

_REPLAYS_KEPT = 16
_REPLAY_FRESH = 1.0  # seconds in which watchers that join alike share one replay
_PAGE_FRESH = 0.1  # likewise, one piece of a long one: while it is told, there is the next


class JoinPoint(msgspec.Struct, frozen=True):
    """Where a watcher starts.

    :ivar events: what it is to know first.
    :ivar position: where it goes on in the ring.
    :ivar order: events in the ring up to here are to be passed over; None for none.
    :ivar cursor: up to where the watcher knows everything, once it has the events.
    :ivar reset: the cursor that it came with is no longer retained, see `Replay`.
    :ivar items: the events as it is given them, shared by all that join alike.
    :ivar next: what to join with when it has the events, which are only the first of them; None
        when they are all, and `position`, `order` and `cursor` hold.
    """

    events: Sequence[Event]
    position: int
    order: Any
    cursor: str
    reset: bool = False
    items: Sequence[Item] = ()
    next: ReplayFrom | None = None


def given(events: Sequence[Event], cursor: str, *, more: bool = False) -> list[Item]:
    """Events that bring a watcher to `cursor`, each with the cursor to resume after it.

    :param more: whether others come behind them, without which these are not all.
    """
    if more:
        cursor = MIDWAY + cursor
    elif not any(isinstance(event, SnapshotEvent) for event in events):
        return list(map(Item, events))
    if not events:
        return []
    # Only all of them together bring a reader to where it may go on event by event.
    return [
        *(Item(replace(event, cursor=MIDWAY + (event.cursor or cursor))) for event in events[:-1]),
        Item(replace(events[-1], cursor=cursor)),
    ]


class SharedReplay:
    """A replay for watchers that join alike, and what they are given."""

    __slots__ = ("events", "items", "task", "until")

    def __init__(self, until: float, task: asyncio.Task[Replay]) -> None:
        self.until = until
        self.task = task
        self.events: list[Event] | None = None
        self.items: list[Item] = []

    def admitted(self, replay: Replay) -> list[Event]:
        """The events of the replay that a watcher is to know, found out once."""
        if self.events is None:
            tracker = Deduplicator(lenient=True)
            self.events = [e for e in map(tracker.admit, replay.events) if e is not None]
            self.items = given(self.events, replay.cursor, more=replay.next is not None)
        return self.events


class ChannelHub:
    """What one process knows of one channel."""

    def __init__(self, registry: HubRegistry, channel: str) -> None:
        self.channel = channel
        self.ring = Ring(registry.ring_events, registry.ring_bytes)
        self.users = 0
        self.closed = False
        self.active_at = 0.0
        self._registry = registry
        self._backend = registry.backend
        self._tracker = Deduplicator()
        self._head = ""
        self._floor = ""  # the cursor before the first event that the ring held from ...
        self._floor_at = 0  # ... this position on
        self._ready = False
        self._queue: deque[tuple[Sequence[Event], str | None]] = deque()
        self._subscription: Subscription | None = None
        self._syncing: asyncio.Task[Any] | None = None
        self._replays: OrderedDict[ReplayFrom, SharedReplay] = OrderedDict()
        self._lock = threading.Lock()
        self._async_waiters: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
        self._thread_waiters: list[threading.Event] = []

    # -- the subscription

    async def open(self) -> None:
        """Subscribe and learn what is streaming.

        :raises BackendUnavailable: when that cannot be done now.
        """
        self._subscription = await self._backend.subscribe(self.channel, self)
        replay = await self._backend.replay(self.channel, ReplayFrom())
        for event in replay.events:
            self._tracker.admit(event)
        self._tracker.missed_start = False
        self._head = self._floor = replay.cursor
        self._ready = True
        self._take_queued()

    async def close(self) -> None:
        """Unsubscribe; watchers drain what they have and end."""
        self.closed = True
        if self._syncing is not None:
            self._syncing.cancel()
        if self._subscription is not None:
            await self._subscription.close()
        self._notify()

    @property
    def streaming(self) -> bool:
        """Whether any response of the channel has not ended, as far as is known here."""
        return bool(self._tracker.streaming)

    def deliver(self, events: Sequence[Event], after: str | None) -> None:
        """Take events from the backend (see `Receiver`)."""
        if self.closed or not events:
            return
        if not self._ready or self._syncing is not None:
            self._queue.append((events, after))
        elif not self._take(events, after):
            self._queue.append((events, after))
            self.resync()

    def resync(self) -> None:
        """Read again from the last event seen (see `Receiver`)."""
        if self._ready and self._syncing is None and not self.closed:
            self._registry.stats.resyncs += 1
            self._syncing = self._registry.io.spawn(self._resync())

    def _take(self, events: Sequence[Event], after: str | None) -> bool:
        """Put events in the ring; False where something before them is missing."""
        order = self._backend.order
        if after != self._head:
            head = order(self._head)
            if after is not None and order(after) > head:
                return False
            news = [event for event in events if order(event.cursor or "") > head]
            self._registry.stats.repeats_dropped += len(events) - len(news)
            events = news
            if not events:
                return True
        self._admit(events)
        if self._tracker.missed_start:
            self._tracker.missed_start = False
            self._head = events[-1].cursor or self._head
            self._notify()
            self.resync()
            return True
        self._head = events[-1].cursor or self._head
        self._notify()
        return True

    def _admit(self, events: Sequence[Event]) -> None:
        self.active_at = self._registry.now()
        stats = self._registry.stats
        for event in events:
            admitted = self._tracker.admit(event)
            if admitted is None:
                stats.repeats_dropped += 1
            else:
                self.ring.append(admitted)
                stats.delivered_events += 1

    def _take_queued(self) -> None:
        while self._queue and self._syncing is None:
            events, after = self._queue.popleft()
            if not self._take(events, after):
                self._queue.appendleft((events, after))
                self.resync()

    async def _resync(self) -> None:
        backoff = Backoff(0.05, 5.0)
        start = ReplayFrom(after=self._head)
        try:
            while True:
                try:
                    missed = await self._backend.replay(self.channel, start)
                    live = await self._backend.replay(self.channel, ReplayFrom())
                    break
                except InvalidCursor:  # the backend lost its memory: start over
                    start = ReplayFrom(all=True)
                except Exception as error:
                    if not isinstance(error, BackendUnavailable):
                        logger.warning("tokenwire: reading %r failed", self.channel, exc_info=True)
                    await asyncio.sleep(backoff.next())
        finally:
            self._syncing = None
        if missed.next is not None:
            self._start_over(live)
            return
        self._admit(missed.events)
        self._head = missed.cursor
        # A response whose start was missed for good is healed by its snapshot; it takes the
        # cursor of the head, so that the ring stays in order.
        order = self._backend.order
        head = order(self._head)
        self._admit(
            [
                replace(event, cursor=self._head)
                for event in live.events
                if order(event.cursor or "") <= head
            ]
        )
        self._tracker.missed_start = False
        self._notify()
        self._take_queued()

    def _start_over(self, live: Replay) -> None:
        """Go on from now: what was missed is long, so watchers read it, each at its own pace."""
        self._tracker = Deduplicator()
        for event in live.events:
            self._tracker.admit(event)
        self._tracker.missed_start = False
        self.ring.skip()
        self._head = self._floor = live.cursor
        self._floor_at = self.ring.end
        self._notify()
        self._take_queued()

    # -- joining

    async def join(self, start: ReplayFrom) -> JoinPoint:
        """Find out where a watcher starts.

        :raises InvalidCursor: when `start.after` is not a cursor of this channel.
        :raises BackendUnavailable: when the backend cannot be read now.
        """
        self._registry.stats.joins += 1
        if start.after is not None and start.response_id is None:
            position = self._position(self._backend.order(start.after))
            if position is not None:
                return JoinPoint([], position, None, start.after)
        events: list[Event] = []
        reset = False
        while True:
            shared = await self._replay(start)
            replay = shared.task.result()
            admitted = shared.admitted(replay)
            reset = reset or replay.reset
            more = replay.next is not None
            order = self._backend.order(replay.cursor)
            position = -1 if more else self._position(order, ahead=True)
            items = shared.items
            if events:
                admitted = [*events, *admitted]
                items = given(admitted, replay.cursor, more=more)
            if position is not None:
                return JoinPoint(
                    admitted, position, order, replay.cursor, reset, items, replay.next
                )
            # The ring went on without us: continue from there.
            events = admitted
            start = ReplayFrom(after=replay.cursor, response_id=start.response_id)

    def _position(self, order: Any, *, ahead: bool = False) -> int | None:
        """The ring position right after `order`; None when the ring does not reach that far."""
        base, items = self.ring.state
        key = self._backend.order
        floor = key(self._floor) if base == self._floor_at else key(items[0].event.cursor or "")
        if order < floor or (not ahead and order > key(self._head)):
            return None
        return base + bisect_right(items, order, key=lambda item: key(item.event.cursor or ""))

    async def _replay(self, start: ReplayFrom) -> SharedReplay:
        """Replay, sharing it among watchers that join alike at about the same time."""
        now = self._registry.now()
        shared = self._replays.get(start)
        if shared is None or not self._usable(shared, now):
            self._registry.stats.replays += 1
            task = self._registry.io.spawn(self._backend.replay(self.channel, start))
            fresh = _REPLAY_FRESH if start.page is None else _PAGE_FRESH
            shared = self._replays[start] = SharedReplay(now + fresh, task)
            self._replays.move_to_end(start)
            while len(self._replays) > _REPLAYS_KEPT:
                self._replays.popitem(last=False)
            self._registry.later(2 * fresh, self._forget, start, shared, fresh)
        await asyncio.shield(shared.task)
        return shared

    def _forget(self, start: ReplayFrom, shared: SharedReplay, fresh: float) -> None:
        """Let go of a replay, and of what encoders made of it, which may be large."""
        if self._replays.get(start) is not shared:
            return
        if not shared.task.done():
            self._registry.later(fresh, self._forget, start, shared, fresh)
        else:
            del self._replays[start]

    def _usable(self, shared: SharedReplay, now: float) -> bool:
        task = shared.task
        return not task.done() or (
            not task.cancelled()
            and task.exception() is None
            and now < shared.until
            and (
                task.result().next is not None
                or self._position(self._backend.order(task.result().cursor), ahead=True) is not None
            )
        )

    # -- waking watchers

    def wait_async(self, position: int) -> asyncio.Future[None] | None:
        """A future of the running loop that is done when there is more; None when there is."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        with self._lock:
            self._async_waiters.setdefault(loop, []).append(future)
        return None if self.closed or self.ring.end > position else future

    def wait_thread(self, position: int, event: threading.Event) -> bool:
        """Have `event` set when there is more; False when there is already."""
        with self._lock:
            self._thread_waiters.append(event)
        return not (self.closed or self.ring.end > position)

    def wake(self) -> None:
        """Wake all watchers, to look whether they were closed."""
        self._notify()

    def _notify(self) -> None:
        with self._lock:
            waiting, self._async_waiters = self._async_waiters, {}
            threads, self._thread_waiters = self._thread_waiters, []
        if waiting:
            self._registry.wake(waiting)
        for event in threads:
            event.set()


def _wake(futures: list[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)


class HubRegistry:
    """The hubs of one sink. Used on the I/O thread only."""

    def __init__(
        self,
        backend: Backend,
        io: IoThread,
        *,
        ring_events: int = 2048,
        ring_bytes: int = 2**20,
        linger: float = 5.0,
        reap_every: float = 5.0,
    ) -> None:
        self.backend = backend
        self.io = io
        self.ring_events = ring_events
        self.ring_bytes = ring_bytes
        self.stats = HubStats()
        self._linger = linger
        self._reap_every = reap_every
        self._hubs: dict[str, asyncio.Task[ChannelHub]] = {}
        self._reaper: asyncio.Task[Any] | None = None
        self._wakes: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
        self._closed = False
        self.watchers = 0

    def after_fork(self) -> None:
        """Forget the parent's hubs."""
        self._hubs = {}
        self._reaper = None
        self._wakes = {}
        self.watchers = 0

    def now(self) -> float:
        """Seconds on the loop's clock."""
        return asyncio.get_running_loop().time()

    def later(self, delay: float, call: Callable[..., object], *values: object) -> None:
        """Call something after so many seconds."""
        asyncio.get_running_loop().call_later(delay, call, *values)

    def wake(self, waiting: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]]) -> None:
        """Wake watchers, those of all channels that have news in one call for each loop."""
        if not self._wakes:
            asyncio.get_running_loop().call_soon(self._wake)
        for loop, futures in waiting.items():
            self._wakes.setdefault(loop, []).extend(futures)

    def _wake(self) -> None:
        wakes, self._wakes = self._wakes, {}
        for loop, futures in wakes.items():
            try:
                loop.call_soon_threadsafe(_wake, futures)
            except RuntimeError:  # that loop is closed, and its watchers with it
                continue

    @property
    def channels(self) -> int:
        """How many channels are subscribed to."""
        return len(self._hubs)

    async def acquire(self, channel: str) -> ChannelHub:
        """Get the hub of `channel`, open; pair each call with one of `release`.

        :raises BackendUnavailable: when the backend cannot be read now.
        """
        while True:
            task = self._hubs.get(channel)
            if task is None or (task.done() and (task.cancelled() or task.exception())):
                task = self.io.spawn(self._open(channel))
                self._hubs[channel] = task
            hub = await asyncio.shield(task)
            if not hub.closed or self._closed:  # else its last user left while we waited
                break
        hub.users += 1
        self.watchers += 1
        if self._reaper is None:
            self._reaper = self.io.spawn(self._reap())
        return hub

    async def _open(self, channel: str) -> ChannelHub:
        hub = ChannelHub(self, channel)
        try:
            await hub.open()
        except BaseException:
            await hub.close()
            raise
        return hub

    def release(self, hub: ChannelHub) -> None:
        """Say that one user of `hub` is done; the last one's hub is closed a little later."""
        hub.users -= 1
        self.watchers -= 1
        if hub.users == 0 and not hub.closed:
            self.later(self._linger, self._drop, hub)

    def _drop(self, hub: ChannelHub) -> None:
        if hub.users == 0 and not hub.closed:
            self._hubs.pop(hub.channel, None)
            self.io.spawn(hub.close())

    async def _reap(self) -> None:
        """End responses whose producer died, in the channels that somebody here watches."""
        while True:
            await asyncio.sleep(jitter(self._reap_every, 0.2))
            for task in list(self._hubs.values()):
                if not task.done() or task.cancelled() or task.exception():
                    continue
                hub = task.result()
                quiet = self.now() - hub.active_at >= min(1.0, self._reap_every)
                if hub.streaming and quiet:
                    try:
                        self.stats.reaped += await self.backend.reap(hub.channel)
                    except BackendUnavailable:
                        break  # and try again next time
                    except Exception:
                        logger.warning("tokenwire: reaping %r failed", hub.channel, exc_info=True)

    async def close(self) -> None:
        """Close all hubs."""
        self._closed = True
        if self._reaper is not None:
            self._reaper.cancel()
        for task in self._hubs.values():
            if task.done() and not task.cancelled() and not task.exception():
                await task.result().close()
            else:
                task.cancel()
        self._hubs.clear()
