"""Reads a channel in batches, from where a reader starts to where it is closed."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine
from contextlib import suppress
from typing import Any, Self

from tokenwire._io import IoThread
from tokenwire._reading.hub import ChannelHub
from tokenwire._reading.joining import JoinPoint
from tokenwire._reading.registry import HubRegistry
from tokenwire._reading.resume import ResumePoint
from tokenwire._reading.ring import Item
from tokenwire.backend import ReplayFrom, same_log
from tokenwire.errors import InvalidCursor, SinkClosed
from tokenwire.events import Event, ends_response

__all__ = ["ChannelReader"]

_CHUNK = 1024


class ChannelReader:
    """The events of a channel in batches, for gateways: many readers share each `Item`.

    Begin with `Sink.reader`. First `ahydrate` until it is empty: that brings a reader to
    `position`; then `abatch` (or, on a thread, `batch`) until it is empty, which is the end. One
    reader is for one task or thread; only `close` may be called from others.

    :ivar cursor: to resume after all that was taken; what was asked for, before that.
    :ivar conflated: how often this reader fell so far behind that it was given snapshots in place
        of what it missed.
    :ivar reset: the cursor asked for was no longer retained (the log was trimmed, or is another
        one): the first events are snapshots of what is still there. Known once the reader is open.
    :ivar gather: for how many seconds at most events may gather for `abatch` while its event loop
        is busy with its readers; 0, the default, gives them out as soon as they come.
    """

    __slots__ = (
        "__weakref__",
        "_at",
        "_closed",
        "_ended",
        "_hub",
        "_hubs",
        "_io",
        "_known",
        "_midway",
        "_next",
        "_pass_over",
        "_reached",
        "_ready",
        "_start",
        "_twin",
        "_types",
        "channel",
        "conflated",
        "cursor",
        "gather",
        "reset",
    )

    def __init__(
        self,
        io: IoThread,
        hubs: HubRegistry,
        channel: str,
        start: ReplayFrom,
        *,
        midway: bool = False,
        known: Collection[str] = (),
        types: Collection[str] | None = None,
    ) -> None:
        self.channel = channel
        self.cursor = start.after and str(ResumePoint(start.after, midway))
        self.conflated = 0
        self.reset = False
        self.gather = 0.0
        self._io = io
        self._hubs = hubs
        self._start = start
        self._midway = start.after if midway else None
        self._known = frozenset(known)
        self._types = None if types is None else frozenset(types)
        self._hub: ChannelHub | None = None
        self._at = 0  # a position in the hub's ring
        self._pass_over: Any = None
        self._reached = ""  # the cursor up to which everything was taken or is ready
        self._ready: list[Item] = []
        self._next: ReplayFrom | None = None  # what to join with once those that are ready are gone
        self._ended = False
        self._closed = False
        self._twin = False

    @property
    def position(self) -> str | None:
        """The cursor up to which this reader has everything, taken or ready to be taken."""
        return self._reached or None

    @property
    def hydrating(self) -> bool:
        """Whether more snapshots follow of those that bring a reader to `position` together."""
        return self._next is not None

    # -- opening and closing

    async def aopen(self) -> Self:
        """Join now rather than at the first read; what is published from here on is seen.

        :raises InvalidCursor: when the cursor asked for is not one of this channel.
        :raises BackendUnavailable: when the backend cannot be read.
        """
        if self._hub is None and not self._closed:
            await self._io.arun(self._join())
        return self

    def open(self) -> Self:
        """Do what `aopen` does, blocking."""
        if self._hub is None and not self._closed:
            self._io.run(self._join())
        return self

    def close(self) -> None:
        """Stop reading. Idempotent, from any thread; a read under way ends."""
        if self._closed:
            return
        self._closed = True
        self._ready = []
        if self._io.running and not self._twin:
            with suppress(SinkClosed):
                self._io.call(self._leave)

    def __del__(self) -> None:
        if getattr(self, "_hub", None) is not None and not self._closed and not self._twin:
            with suppress(Exception):  # the sink may be gone already
                self.close()

    # -- reading

    async def ahydrate(self) -> list[Item]:
        """Take events that bring a reader to `position`, before any other; empty when it is there.

        Where there are many, they come in pieces, of which one at a time is in memory.

        :raises InvalidCursor, BackendUnavailable: as `aopen` does.
        """
        await self.aopen()
        while True:
            items = self._take_ready()
            if items:
                return items
            if self._next is None or self._hub is None or self._closed:
                return []
            await self._io.arun(self._go_on(self._hub, self._next))

    async def abatch(self) -> list[Item]:
        """Take all events that are there, waiting until there is one; empty at the end.

        :raises InvalidCursor, BackendUnavailable: as `aopen` does.
        :raises SinkClosed: when the sink is closed meanwhile.
        """
        if self._hub is None:
            await self.aopen()
        waited = False
        while (hub := self._hub) is not None and not (self._ended or self._closed):
            items = self._take_ready()
            if items:
                return items
            catch_up = self._catch_up(hub)
            if catch_up is not None:
                await self._io.arun(catch_up)
            elif self._poll(hub):
                if self._ready and not waited:
                    await asyncio.sleep(0)  # a reader that never waits must not starve its loop
                waited = False
            elif hub.closed:
                break
            else:
                gather = self.gather
                future = hub.wait_async(self._at, gather)
                if future is not None:
                    try:
                        await future
                    except asyncio.CancelledError:
                        hub.stop_waiting(future, gather)
                        raise
                    waited = True
        return self._take_ready()

    def batch(self) -> list[Item]:
        """Do what `abatch` does, blocking."""
        if self._hub is None:
            self.open()
        while (hub := self._hub) is not None and not (self._ended or self._closed):
            items = self._take_ready()
            if items:
                return items
            catch_up = self._catch_up(hub)
            if catch_up is not None:
                self._io.run(catch_up)
            elif not self._poll(hub):
                if hub.closed:
                    break
                more = hub.wait_thread(self._at)
                if more is not None:
                    more.wait()
        return self._take_ready()

    def _take_ready(self) -> list[Item]:
        """Take all that is ready, if it is wanted."""
        if not self._ready:
            return []
        ready, self._ready = self._ready, []
        items = [item for item in ready if self._wants(item.event)]
        if items:
            self.cursor = ready[-1].event.cursor or self.cursor
        return items

    def _wants(self, event: Event) -> bool:
        if self._ended:
            return False
        response_id = event.response_id
        only = self._start.response_id
        if only is not None:
            if response_id != only:
                return False
            self._ended = ends_response(event)
        if response_id is not None and response_id in self._known:
            return False
        return self._types is None or event.type in self._types

    def _poll(self, hub: ChannelHub, limit: int = _CHUNK) -> bool:
        """Get ready what the ring has; False when there is nothing, or when we fell behind it."""
        items = hub.ring.read(self._at, limit)
        if not items:
            return False
        self._at += len(items)
        if self._pass_over is not None:
            order = self._hubs.backend.order
            news = [i for i in items if order(i.event.cursor or "") > self._pass_over]
            if news:
                self._pass_over = None
            items = news
        if items:
            self._reached = items[-1].event.cursor or self._reached
            self._ready.extend(items)
        return True

    # -- reading together with others, on one event loop

    def twin(self) -> ChannelReader:
        """Another reader at the same place, usable while this one or another of its kind is open.

        Cancel an `abatch` under way before you close it.
        """
        twin = ChannelReader(
            self._io,
            self._hubs,
            self.channel,
            self._start,
            known=self._known,
            types=self._types,
        )
        twin._twin = True
        twin.gather = self.gather
        twin.follow(self)
        return twin

    def follow(self, other: ChannelReader) -> None:
        """Go on where another reader of the same events is, which has them in this one's place."""
        self._hub = self._hub or other._hub
        self.cursor = other.cursor
        self.conflated = other.conflated
        self.reset = other.reset
        self._midway = other._midway
        self._at = other._at
        self._pass_over = other._pass_over
        self._reached = other._reached
        self._ready = list(other._ready)
        self._next = other._next
        self._ended = other._ended

    def catch_up(self, other: ChannelReader) -> list[Item] | None:
        """Take what another reader of the same events has taken and this one has not.

        :return: None where that cannot be said without waiting: this reader is ahead, or either
            has to read the log first.
        """
        hub = self._hub
        if hub is None or hub is not other._hub or self._closed or other._closed:
            return None
        if self._ready or other._ready or self._next is not None or other._next is not None:
            return None
        count = other._at - self._at
        if count < 0 or hub.ring.state[0] > self._at or self._ended or other._ended:
            return None
        if self._pass_over is not None:
            backend = self._hubs.backend
            if not same_log(backend, other._reached, self._reached):
                return None
            if backend.order(other._reached) < self._pass_over:
                return None
        if count and not self._poll(hub, count):
            return None
        items, cursor = self._take_ready(), self.cursor
        self.follow(other)
        self.cursor = other.cursor or cursor
        return items

    # -- joining, on the I/O thread

    def _catch_up(self, hub: ChannelHub) -> Coroutine[Any, Any, None] | None:
        """What must be run before the ring can be read, if anything."""
        if self._next is not None:
            return self._go_on(hub, self._next)
        if hub.ring.state[0] > self._at:
            return self._rejoin(hub)
        return None

    async def _join(self) -> None:
        hub = await self._hubs.acquire(self.channel)
        try:
            join = await hub.join(self._start)
            self.reset = join.reset
            if self._midway is not None:  # which is a cursor of this channel, as we know now
                everything = ReplayFrom(all=True, response_id=self._start.response_id)
                join = await hub.join(everything, midway=self._midway)
            self._take(join)
        except BaseException:
            self._hubs.release(hub)
            raise
        self._hub = hub
        if self._closed:  # while we joined
            self._leave()

    async def _rejoin(self, hub: ChannelHub) -> None:
        """Catch up by a summary of what the ring no longer has."""
        self.conflated += 1
        self._hubs.stats.conflations += 1
        only = self._start.response_id
        try:
            join = await hub.join(ReplayFrom(after=self._reached, response_id=only))
        except InvalidCursor:  # what is there now is not what this reader has seen
            join = await hub.join(ReplayFrom(all=True, response_id=only))
            self.reset = True
        self._take(join)

    async def _go_on(self, hub: ChannelHub, start: ReplayFrom) -> None:
        """Get the next piece of what is long."""
        self._take(await hub.join(start, midway=self._midway))

    def _take(self, join: JoinPoint) -> None:
        self._at = join.position
        self._pass_over = join.order
        self._reached = join.cursor
        self._next = join.next
        if join.next is None:
            self._midway = None  # from here on, all that comes is news
        self._ready.extend(join.items)

    def _leave(self) -> None:
        hub, self._hub = self._hub, None
        if hub is not None:
            self._hubs.release(hub)
            hub.wake()
