"""`Watch`: what happened, then what happens, without a gap or a repeat between them."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

from msgspec import structs

from tokenwire._reading.hub import MIDWAY, ChannelHub, HubRegistry, Item, JoinPoint, given
from tokenwire.backend import ReplayFrom
from tokenwire.errors import InvalidCursor, SinkClosed
from tokenwire.events import CancelEvent, DataEvent, EndEvent, Event, SnapshotEvent
from tokenwire.response import Transcript

if TYPE_CHECKING:
    from types import TracebackType

    from tokenwire._io import IoThread

__all__ = ["MIDWAY", "Watch", "parse_rewind"]

_REWIND = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)(ms|s|m|h|d)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_MAX_CURSOR = 512
_CHUNK = 1024


def parse_rewind(rewind: str | int) -> ReplayFrom:
    """Understand ``"30s"``, ``"2m"`` (also ms, h, d), a count (``50`` or ``"50"``) or ``"all"``.

    :raises ValueError: when it is none of these.
    """
    if isinstance(rewind, bool) or not isinstance(rewind, str | int):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValueError("rewind must be a duration such as '2m', a count, or 'all'")
    if isinstance(rewind, int) or (rewind.isascii() and rewind.isdecimal()):
        count = int(rewind) if len(str(rewind)) <= 9 else -1
        if not 0 <= count <= 1_000_000:
            raise ValueError("rewind: the count must be from 0 to 1000000")
        return ReplayFrom(count=count)
    if rewind == "all":
        return ReplayFrom(all=True)
    match = _REWIND.fullmatch(rewind) if rewind.isascii() else None
    if match is None:
        raise ValueError(
            f"rewind must be a duration such as '30s' or '2m', a count, or 'all',"
            f" not {rewind[:64]!r}"
        )
    seconds = float(match[1]) * _UNITS[match[2]]
    return ReplayFrom(since=int((time.time() - seconds) * 1000))


class Watch:
    """The events of a channel, for ``async for`` on any loop or ``for`` on any thread.

    Begin with `Sink.watch`. One watch is for one reader. It goes on until it is closed, its sink
    is, or, when it watches one response, that response has ended.

    :ivar cursor: of the last event given out; give it to `after` to go on from there elsewhere.
    :ivar conflated: how often this watcher fell so far behind that it was given a summary.
    :ivar reset: `after` was no longer retained (the log was trimmed, or is another one): what was
        given first are snapshots of what is still there. Known once the watch is open.
    """

    def __init__(
        self,
        io: IoThread,
        hubs: HubRegistry,
        channel: str,
        start: ReplayFrom,
        *,
        known: Collection[str] = (),
        types: Collection[str] | None = None,
    ) -> None:
        if start.after is not None and not 0 < len(start.after) <= _MAX_CURSOR:
            raise InvalidCursor("a cursor has 1 to 512 characters")
        self.channel = channel
        self.cursor: str | None = start.after
        self._beyond: str | None = None
        if start.after is not None and start.after.startswith(MIDWAY):
            self._beyond = start.after.removeprefix(MIDWAY)
            start = ReplayFrom(after=self._beyond, response_id=start.response_id)
        self.conflated = 0
        self.reset = False
        self._io = io
        self._hubs = hubs
        self._start = start
        self._known = frozenset(known)
        self._types = None if types is None else frozenset(types)
        self._hub: ChannelHub | None = None
        self._position = 0
        self._pass_over: Any = None
        self._at = ""  # up to where everything was taken, wanted or not
        self._ready: deque[Item] = deque()
        self._next: ReplayFrom | None = None  # what to join with when those that are ready are gone
        self._ended = False
        self._closed = False

    @property
    def position(self) -> str | None:
        """The cursor up to which this watch has everything, given out or waiting; for gateways.

        Right after `open`, a reader that takes what is waiting knows all there is up to here.
        """
        return self._at or None

    @property
    def waiting(self) -> bool:
        """Whether events are there to be taken. Right after `open`: those that hydrate a reader."""
        return bool(self._ready)

    @property
    def hydrating(self) -> bool:
        """Whether what hydrates a reader, or catches it up, goes on after what it was given.

        All of it together brings a reader to where it may go on event by event.
        """
        return self._next is not None

    # -- for `async for`

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        while True:
            event = self._next_ready()
            if event is not None:
                return event
            try:
                more = await self._afill()
            except SinkClosed:
                more = False
            if not more:
                raise StopAsyncIteration

    async def abatch(self) -> list[Item]:
        """Take everything that is there, waiting until there is something; empty at the end."""
        while True:
            while not self._ready:
                if not await self._afill():
                    return []
            items = self._take_ready()
            if items:
                return items

    async def ahydrate(self) -> list[Item]:
        """Take what hydrates a reader, before anything else; empty when it is all there.

        Where there is much of it, it comes in pieces of which one at a time is in memory.
        """
        await self.aopen()
        while True:
            if self._ready:
                items = self._take_ready()
                if items:
                    return items
            if self._next is None or self._hub is None or self._closed:
                return []
            await self._io.arun(self._go_on(self._hub, self._next))

    async def aopen(self) -> Self:
        """Join now rather than at the first event; what is published from here on is seen.

        :raises InvalidCursor: when `after` is not a cursor of this channel.
        :raises BackendUnavailable: when the backend cannot be read.
        """
        if self._hub is None and not self._closed:
            await self._io.arun(self._join())
        return self

    async def _afill(self) -> bool:
        """Get something ready; False at the end."""
        if self._hub is None and not (self._closed or self._ended):
            await self.aopen()
        waited = False
        while not self._ready:
            hub = self._hub
            if self._ended or self._closed or hub is None:
                return False
            if self._next is not None:
                await self._io.arun(self._go_on(hub, self._next))
            elif self._poll(hub):
                if self._ready and not waited:
                    await asyncio.sleep(0)  # a reader that never waits must not starve its loop
            elif hub.ring.state[0] > self._position:
                await self._io.arun(self._rejoin(hub))
            elif hub.closed:
                return False
            else:
                future = hub.wait_async(self._position)
                if future is not None:
                    await future
                    waited = True
        return True

    async def aclose(self) -> None:
        """Stop watching. Idempotent; an iteration under way ends."""
        self.close()

    async def __aenter__(self) -> Self:
        return await self.aopen()

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    # -- for `for`

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        while True:
            event = self._next_ready()
            if event is not None:
                return event
            try:
                more = self._fill()
            except SinkClosed:
                more = False
            if not more:
                raise StopIteration

    def open(self) -> Self:
        """Do what `aopen` does, blocking."""
        if self._hub is None and not self._closed:
            self._io.run(self._join())
        return self

    def _fill(self) -> bool:
        if self._hub is None and not (self._closed or self._ended):
            self.open()
        while not self._ready:
            hub = self._hub
            if self._ended or self._closed or hub is None:
                return False
            if self._next is not None:
                self._io.run(self._go_on(hub, self._next))
                continue
            if self._poll(hub):
                continue
            if hub.ring.state[0] > self._position:
                self._io.run(self._rejoin(hub))
            elif hub.closed:
                return False
            else:
                more = threading.Event()
                if hub.wait_thread(self._position, more):
                    more.wait()
        return True

    def close(self) -> None:
        """Stop watching. Idempotent, from any thread; an iteration under way ends."""
        if self._closed:
            return
        self._closed = True
        self._ready.clear()
        if self._io.running:
            with suppress(SinkClosed):
                self._io.call(self._leave)

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_hub", None) is not None and not self._closed:
            with suppress(Exception):  # the sink may be gone already
                self.close()

    # -- both

    def _take_ready(self) -> list[Item]:
        """Take all that is ready, if it is wanted."""
        taken, self._ready = self._ready, deque()
        last = taken[-1].event.cursor
        self._reached(last)
        items = [item for item in taken if self._wants(item.event)]
        if items:
            self.cursor = last or self.cursor
        return items

    def _reached(self, cursor: str | None) -> None:
        if cursor is not None and not cursor.startswith(MIDWAY):
            self._at = cursor

    def _next_ready(self) -> Event | None:
        while self._ready:
            event = self._ready.popleft().event
            self._reached(event.cursor)
            if self._wants(event):
                self.cursor = event.cursor or self.cursor
                return event
        return None

    def _wants(self, event: Event) -> bool:
        if self._ended:
            return False
        response_id = event.response_id
        only = self._start.response_id
        if only is not None:
            if response_id != only:
                return False
            if isinstance(event, EndEvent) or (
                isinstance(event, SnapshotEvent) and event.response.ended
            ):
                self._ended = True
        if response_id is not None and response_id in self._known:
            return False
        return self._types is None or event.type in self._types

    def _poll(self, hub: ChannelHub) -> bool:
        """Take what the ring has; False when there is nothing, or when we fell behind it."""
        items = hub.ring.read(self._position, _CHUNK)
        if not items:
            return False
        self._position += len(items)
        if self._pass_over is not None:
            order = self._hubs.backend.order
            news = [i for i in items if order(i.event.cursor or "") > self._pass_over]
            if news:
                self._pass_over = None
            items = news
        self._ready.extend(items)
        return True

    async def _join(self) -> None:
        hub = await self._hubs.acquire(self.channel)
        try:
            joined = await hub.join(self._start)
            self.reset = joined.reset
            if self._beyond is not None:  # which is a cursor of this channel, as we know now
                start = ReplayFrom(all=True, response_id=self._start.response_id)
                joined = self._rest_of(await hub.join(start), self._beyond)
            self._take(joined)
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
        start = ReplayFrom(after=self._at, response_id=self._start.response_id)
        self._take(await hub.join(start))

    async def _go_on(self, hub: ChannelHub, start: ReplayFrom) -> None:
        """Get the next piece of what is long."""
        joined = await hub.join(start)
        if self._beyond is not None:
            joined = self._rest_of(joined, self._beyond)
        self._take(joined)

    def _rest_of(self, joined: JoinPoint, beyond: str) -> JoinPoint:
        """What a reader lacks that stopped midway: all that changed since, as it stands."""
        order = self._hubs.backend.order
        after = order(beyond)
        transcript = Transcript()
        changed: dict[str, str] = {}
        rest: list[Event] = []
        for event in joined.events:
            response = transcript.apply(event)
            cursor = event.cursor or ""
            if response is not None and not isinstance(event, CancelEvent | DataEvent):
                changed[response.id] = cursor
            elif order(cursor) > after:
                rest.append(event)
        rest += [
            SnapshotEvent(response=transcript[response_id], cursor=cursor)
            for response_id, cursor in changed.items()
            if order(cursor) > after
        ]
        rest.sort(key=lambda event: order(event.cursor or ""))
        items = given(rest, joined.cursor, more=joined.next is not None)
        return structs.replace(joined, events=rest, items=items)

    def _take(self, joined: JoinPoint) -> None:
        self._position = joined.position
        self._pass_over = joined.order
        self._at = joined.cursor
        self._next = joined.next
        if joined.next is None:
            self._beyond = None  # from here on, all that comes is news
        self._ready.extend(joined.items)

    def _leave(self) -> None:
        hub, self._hub = self._hub, None
        if hub is not None:
            self._hubs.release(hub)
            hub.wake()
