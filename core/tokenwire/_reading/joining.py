"""Where a watcher starts: what it must know first, and from where on the ring gives it the rest."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec.structs import replace

from tokenwire._io import IoThread, result_of
from tokenwire._reading.dedup import Deduplicator
from tokenwire._reading.resume import ResumePoint
from tokenwire._reading.ring import Item, Ring
from tokenwire._results import HubStats
from tokenwire.backend import Backend, Replay, ReplayFrom, same_log
from tokenwire.events import CancelEvent, DataEvent, Event, SnapshotEvent
from tokenwire.response import Transcript

__all__ = ["JoinPoint", "Joins"]

_LIVE = ReplayFrom()
_REPLAYS_KEPT = 16
_REPLAY_FRESH = 1.0  # seconds in which watchers that join alike share one replay
_PAGE_FRESH = 0.1  # likewise, one piece of a long one: while it is sent, the next can be read


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


def with_resume_cursors(events: Sequence[Event], cursor: str, *, more: bool = False) -> list[Item]:
    """Events that bring a watcher to `cursor`, each with the cursor to resume after it.

    :param more: whether others come behind them, without which these are not all.
    """
    if not more and not any(isinstance(event, SnapshotEvent) for event in events):
        return list(map(Item, events))
    if not events:
        return []
    # Only all of them together bring a reader to where it may go on event by event.
    *before, last = events
    items = [
        Item(replace(event, cursor=str(ResumePoint(event.cursor or cursor, midway=True))))
        for event in before
    ]
    items.append(Item(replace(last, cursor=str(ResumePoint(cursor, midway=more)))))
    return items


def changed_since(join: JoinPoint, cursor: str, backend: Backend) -> JoinPoint:
    """Reduce a join to what a reader lacks that stopped midway: all that changed after `cursor`."""
    if not same_log(backend, join.cursor, cursor):
        return join  # all of it
    order = backend.order
    after = order(cursor)
    transcript = Transcript()
    changed: dict[str, str] = {}
    rest: list[Event] = []
    for event in join.events:
        response = transcript.apply(event)
        at = event.cursor or ""
        if response is not None and not isinstance(event, CancelEvent | DataEvent):
            changed[response.id] = at
        elif order(at) > after:
            rest.append(event)
    rest += [
        SnapshotEvent(response=transcript[response_id], cursor=at)
        for response_id, at in changed.items()
        if order(at) > after
    ]
    rest.sort(key=lambda event: order(event.cursor or ""))
    items = with_resume_cursors(rest, join.cursor, more=join.next is not None)
    return replace(join, events=rest, items=items)


@dataclass(slots=True, eq=False)
class SharedReplay:
    """A replay for watchers that join alike, and the items that each of them is given."""

    until: float
    task: asyncio.Task[Replay]
    events: list[Event] | None = None
    items: list[Item] = field(default_factory=list[Item])

    def admitted(self, replay: Replay) -> list[Event]:
        """The events of the replay that a watcher is to know, computed once."""
        if self.events is None:
            admit = Deduplicator(lenient=True).admit
            self.events = [event for event in map(admit, replay.events) if event is not None]
            self.items = with_resume_cursors(
                self.events, replay.cursor, more=replay.next is not None
            )
        return self.events


class Joins:
    """Finds out where watchers of one channel start. Used on the I/O thread only.

    :param ring: the log of the channel's hub.
    :param on_other_log: called when the channel's log is not the one that the ring has.
    """

    def __init__(
        self,
        channel: str,
        backend: Backend,
        io: IoThread,
        stats: HubStats,
        ring: Ring,
        on_other_log: Callable[[], None],
    ) -> None:
        self._channel = channel
        self._on_other_log = on_other_log
        self._backend = backend
        self._io = io
        self._stats = stats
        self._ring = ring
        self._replays: OrderedDict[ReplayFrom, SharedReplay] = OrderedDict()

    async def join(self, start: ReplayFrom, *, midway: str | None = None) -> JoinPoint:
        """Find out where a watcher starts.

        :param midway: the cursor at which it stopped between snapshots: it is given only what
            changed since.
        :raises InvalidCursor: when `start.after` is not a cursor of this channel.
        :raises BackendUnavailable: when the backend cannot be read now.
        """
        join = await self._join(start)
        return join if midway is None else changed_since(join, midway, self._backend)

    async def _join(self, start: ReplayFrom) -> JoinPoint:
        self._stats.joins += 1
        if start.after is not None and start.response_id is None and self._in_ring(start.after):
            at = self._ring.position_after(self._backend.order(start.after))
            if at is not None:
                return JoinPoint([], at, None, start.after)
        events: list[Event] = []
        reset = False
        while True:
            shared = await self._replay(start)
            replay = shared.task.result()
            admitted = shared.admitted(replay)
            reset = reset or replay.reset
            more = replay.next is not None
            order = self._backend.order(replay.cursor)
            if more:
                position: int | None = -1
            elif self._in_ring(replay.cursor):
                position = self._ring.position_after(order, ahead=True)
            else:
                self._on_other_log()
                position = -1  # so that the reader joins again, after this replay
            items = shared.items
            if events:
                admitted = [*events, *admitted]
                items = with_resume_cursors(admitted, replay.cursor, more=more)
            if position is not None:
                return JoinPoint(
                    admitted, position, order, replay.cursor, reset, items, replay.next
                )
            # The ring went on without us: continue from there.
            events = admitted
            start = ReplayFrom(after=replay.cursor, response_id=start.response_id)

    def _in_ring(self, cursor: str) -> bool:
        """Whether a cursor may be of the log that the ring has."""
        return same_log(self._backend, cursor, self._ring.head)

    async def _replay(self, start: ReplayFrom) -> SharedReplay:
        """Replay, sharing it among watchers that join alike at about the same time."""
        loop = asyncio.get_running_loop()
        shared = self._replays.get(start)
        if shared is None or not self._usable(shared, start, loop.time()):
            self._stats.replays += 1
            task = self._io.spawn(self._backend.replay(self._channel, start))
            fresh = _REPLAY_FRESH if start.page is None else _PAGE_FRESH
            shared = self._replays[start] = SharedReplay(loop.time() + fresh, task)
            self._replays.move_to_end(start)
            while len(self._replays) > _REPLAYS_KEPT:
                self._replays.popitem(last=False)
            loop.call_later(2 * fresh, self._discard, start, shared, fresh)
        await result_of(shared.task)
        return shared

    def _discard(self, start: ReplayFrom, shared: SharedReplay, fresh: float) -> None:
        """Let go of a replay, and of the frames that encoders made of it, which may be large."""
        if self._replays.get(start) is not shared:
            return
        if not shared.task.done():
            loop = asyncio.get_running_loop()
            loop.call_later(fresh, self._discard, start, shared, fresh)
        else:
            del self._replays[start]

    def _usable(self, shared: SharedReplay, start: ReplayFrom, now: float) -> bool:
        task = shared.task
        if not task.done():
            return True
        if task.cancelled() or task.exception() is not None or now >= shared.until:
            return False
        replay = task.result()
        if replay.next is not None:
            return True
        if not self._in_ring(replay.cursor):
            return False
        order, settled = self._backend.order(replay.cursor), self._ring.settled
        if start == _LIVE and settled and order < self._backend.order(settled):
            return False  # with what came since, it would bring a live watcher what is past
        return self._ring.position_after(order, ahead=True) is not None
