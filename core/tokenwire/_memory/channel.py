"""One channel of the in-memory backend: its log, who may write to it, and what is kept of it."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from msgspec.structs import force_setattr

from tokenwire._clock import now_ms
from tokenwire.backend import (
    Deleted,
    Deletion,
    Entry,
    Lease,
    LeaseState,
    Outcome,
    Receiver,
    Retention,
)
from tokenwire.errors import Fenced, GapError, InvalidCursor, PublishRejected, ResponseUnknown
from tokenwire.events import (
    ENDED,
    CancelEvent,
    DeltaEvent,
    EndEvent,
    Event,
    InputEvent,
    StartEvent,
)
from tokenwire.response import Assembler

__all__ = ["Channel", "LogEntry", "Mailbox", "StoredResponse", "parse_cursor"]

_MAX_PENDING_CANCELS = 1024
_MAX_KEYS = 4096


class LogEntry:
    """An event at its place in the log."""

    __slots__ = ("at", "event", "n", "size")

    def __init__(self, n: int, at: float, event: Event) -> None:
        self.n = n
        self.at = at
        self.event = event
        self.size = len(event.text) if type(event) is DeltaEvent else 64


@dataclass(slots=True, eq=False)
class StoredResponse:
    """A response, its producer and its place in the log."""

    assembler: Assembler
    fence: str | None
    ttl: float
    first: int
    last: int = 0
    last_at: float = 0.0
    lease_until: float = 0.0
    seq: int = -1


class Mailbox:
    """Hands events to a receiver, on its loop, in order, from whichever thread they come.

    :param leave: takes it out of the channel.
    """

    def __init__(self, receiver: Receiver, leave: Callable[[Mailbox], None]) -> None:
        self.receiver = receiver
        self._leave = leave
        self.loop = asyncio.get_running_loop()
        self.waiting: deque[tuple[Sequence[Event], str | None]] = deque()
        self.scheduled = False
        self.closed = False

    def put(self, events: Sequence[Event], after: str | None) -> None:
        """Called under the store's lock."""
        self.waiting.append((events, after))
        if not self.scheduled:
            self.scheduled = True
            try:
                self.loop.call_soon_threadsafe(self._drain)
            except RuntimeError:  # the loop is gone, and so is who listened there
                self.closed = True

    async def close(self) -> None:
        """Hand out nothing more (see `Subscription`)."""
        self._leave(self)

    def _drain(self) -> None:
        self.scheduled = False
        while self.waiting and not self.closed:
            self.receiver.deliver(*self.waiting.popleft())


class Channel:
    """The log of one channel. Used under the lock of its store.

    :param base: the first event has the number after it.
    :param clock: monotonic seconds.
    :ivar head: the number of the last event.
    :ivar singles: events without a producer, kept longer than those in `tail`.
    :ivar ended: the responses that have ended, oldest first, with their sizes.
    :ivar keys: outcomes of entries that have an id.
    """

    def __init__(
        self, name: str, epoch: str, base: int, clock: Callable[[], float], retention: Retention
    ) -> None:
        self.name = name
        self.epoch = epoch
        self.base = base
        self.head = base
        self.clock = clock
        self.retention = retention
        self.tail: deque[LogEntry] = deque()
        self.tail_size = 0
        self.singles: deque[LogEntry] = deque()
        self.responses: dict[str, StoredResponse] = {}
        self.ended: OrderedDict[str, int] = OrderedDict()
        self.ended_size = 0
        self.streaming: dict[str, StoredResponse] = {}
        self.cancels: OrderedDict[str, CancelEvent] = OrderedDict()
        self.keys: OrderedDict[str, Outcome] = OrderedDict()
        self.listeners: list[Mailbox] = []
        self.controls: list[Mailbox] = []
        self.touched = 0.0

    def cursor(self, n: int) -> str:
        """The cursor of event number `n`."""
        return f"{self.epoch}-{n}"

    @property
    def empty(self) -> bool:
        """Whether nothing is kept."""
        return not (self.responses or self.singles or self.tail)

    @property
    def watched(self) -> bool:
        """Whether anybody listens."""
        return bool(self.listeners or self.controls)

    # -- writing

    def publish(self, entry: Entry) -> Outcome:
        """Append an entry, if its writer may write and its events fit."""
        self.touched = now = self.clock()
        if entry.response_id is None:
            return self._publish_single(entry)
        stored = self.responses.get(entry.response_id)
        if stored is None:
            if not isinstance(entry.events[0], StartEvent):
                return Outcome(error=ResponseUnknown(f"no response {entry.response_id!r} here"))
            assembler = Assembler(entry.response_id)
            stored = StoredResponse(assembler, entry.fence, entry.lease, first=self.head + 1)
        elif stored.fence != entry.fence:
            return Outcome(
                error=Fenced(f"response {entry.response_id!r} belongs to another producer")
            )
        waiting = self.cancels.get(entry.response_id) if self.cancels else None
        if entry.seq <= stored.seq:
            return Outcome(cursor=self.cursor(stored.last), cancel=waiting)
        assembler = stored.assembler
        if assembler.state in ENDED:
            return Outcome(error=Fenced(f"response {entry.response_id!r} has ended"))
        try:
            if len(entry.events) > 1:
                assembler.check(entry.events)
            for event in entry.events:
                assembler.apply(event, channel=self.name)
        except GapError as error:
            return Outcome(error=PublishRejected(str(error)))
        if stored.seq < 0:
            self.responses[entry.response_id] = stored
            self.streaming[entry.response_id] = stored
        stored.seq = entry.seq
        stored.lease_until = now + stored.ttl
        cursor = self._append(entry.events, now)
        stored.last, stored.last_at = self.head, now
        if assembler.state in ENDED:
            self._end(stored)
        return Outcome(cursor=cursor, cancel=waiting)

    def _publish_single(self, entry: Entry) -> Outcome:
        if entry.key is not None and entry.key in self.keys:
            return self.keys[entry.key]
        state = None
        for event in entry.events:
            if isinstance(event, CancelEvent):
                stored = self.responses.get(event.response_id)
                state = stored.assembler.state if stored else None
                if stored is None or not stored.assembler.ended:
                    self.cancels[event.response_id] = event
                    if len(self.cancels) > _MAX_PENDING_CANCELS:
                        self.cancels.popitem(last=False)
            elif event.response_id is not None and event.response_id in self.responses:
                stored = self.responses[event.response_id]
                if stored.assembler.apply(event):
                    stored.last, stored.last_at = self.head + 1, self.touched
        cursor = self._append(entry.events, self.touched, single=True)
        outcome = Outcome(cursor=cursor, state=state)
        if entry.key is not None:
            self.keys[entry.key] = outcome
            if len(self.keys) > _MAX_KEYS:
                self.keys.popitem(last=False)
        return outcome

    def _append(self, events: Sequence[Event], now: float, *, single: bool = False) -> str:
        """Append events to the log, and hand them out; return the cursor of the last one."""
        before = self.head
        cursor = None
        for event in events:
            self.head += 1
            cursor = self.cursor(self.head)
            force_setattr(event, "cursor", cursor)
            item = LogEntry(self.head, now, event)
            self.tail.append(item)
            self.tail_size += item.size
            if single:
                self.singles.append(item)
        self._trim_tail()
        if self.listeners:
            self._hand_out(self.listeners, events, self.cursor(before))
        if self.controls and single:  # what is asked of producers is no response's
            requests = [e for e in events if isinstance(e, CancelEvent | InputEvent)]
            if requests:
                self._hand_out(self.controls, requests, None)
        return cursor or self.cursor(before)

    def _hand_out(
        self, mailboxes: list[Mailbox], events: Sequence[Event], after: str | None
    ) -> None:
        for mailbox in mailboxes:
            mailbox.put(events, after)
        if any(mailbox.closed for mailbox in mailboxes):
            mailboxes[:] = [mailbox for mailbox in mailboxes if not mailbox.closed]

    def _end(self, stored: StoredResponse) -> None:
        response_id = stored.assembler.id
        self.streaming.pop(response_id, None)
        self.cancels.pop(response_id, None)
        self.ended[response_id] = stored.assembler.length
        self.ended_size += stored.assembler.length
        self.trim()

    # -- keeping within bounds

    def _trim_tail(self) -> None:
        keep = self.retention
        tail = self.tail
        while tail and (len(tail) > keep.events or self.tail_size > keep.event_bytes):
            self.tail_size -= tail.popleft().size
        while len(self.singles) > keep.responses:
            self.singles.popleft()

    def trim(self) -> None:
        """Let go of what is too old, and of responses that are too many or too long."""
        keep = self.retention
        limit = None if keep.age is None else self.clock() - keep.age
        while self.ended:
            oldest, size = next(iter(self.ended.items()))
            old = limit is not None and self.responses[oldest].last_at < limit
            if not old and len(self.ended) <= keep.responses and self.ended_size <= keep.bytes:
                break
            del self.ended[oldest], self.responses[oldest]
            self.ended_size -= size
        if limit is not None:
            while self.singles and self.singles[0].at < limit:
                self.singles.popleft()
            while self.tail and self.tail[0].at < limit:
                self.tail_size -= self.tail.popleft().size

    # -- leases

    def renew(self, lease: Lease) -> LeaseState:
        """Renew the lease of a response."""
        stored = self.responses.get(lease.response_id)
        if stored is None:
            return LeaseState(unknown=True)
        if stored.fence != lease.fence or stored.assembler.ended:
            return LeaseState(lost=True)
        stored.ttl = lease.ttl
        stored.lease_until = self.clock() + lease.ttl
        return LeaseState(cancel=self.cancels.get(lease.response_id))

    def reap(self) -> int:
        """End the responses whose lease is over; say how many."""
        now = self.clock()
        expired = [stored for stored in self.streaming.values() if stored.lease_until < now]
        for stored in expired:
            end = EndEvent(
                response_id=stored.assembler.id,
                state="abandoned",
                error=f"its producer gave no sign of life for {stored.ttl:g} s",
                ts=now_ms(),
            )
            stored.assembler.apply(end)
            self._append([end], now)
            stored.last, stored.last_at = self.head, now
            self._end(stored)
        return len(expired)

    # -- deletion

    def delete(self, deletion: Deletion) -> Deleted:
        """Delete what is named, but for what is streaming."""
        streaming = deletion.response_ids & self.streaming.keys()
        response_ids = deletion.response_ids - streaming
        responses = response_ids & self.responses.keys()
        for response_id in responses:
            del self.responses[response_id]
            self.ended_size -= self.ended.pop(response_id)
        for response_id in response_ids:
            self.cancels.pop(response_id, None)
        kept: deque[LogEntry] = deque()
        cursors: set[str | None] = set()
        for item in self.singles:
            if _concerns(item, response_ids, deletion.senders):
                cursors.add(item.event.cursor)
            else:
                kept.append(item)
        self.singles = kept
        # Their ids are forgotten, so that they can be sent, or imported, again.
        for key in [key for key, outcome in self.keys.items() if outcome.cursor in cursors]:
            del self.keys[key]
        events = len(cursors)
        if responses or events:
            self.tail.clear()  # older cursors are answered with snapshots of what is left
            self.tail_size = 0
        return Deleted(responses=len(responses), events=events, streaming=tuple(sorted(streaming)))


def _concerns(item: LogEntry, response_ids: Collection[str], senders: Collection[str]) -> bool:
    event = item.event
    if isinstance(event, InputEvent):
        return event.sender in senders
    return event.response_id in response_ids


def parse_cursor(cursor: str) -> tuple[str, int]:
    """Split a cursor into epoch and number.

    :raises InvalidCursor: when it is not one of ours.
    """
    epoch, dash, number = cursor.partition("-")
    if (
        not dash
        or len(epoch) != 8
        or not epoch.isalnum()
        or not (number.isascii() and number.isdigit() and len(number) <= 18)
    ):
        raise InvalidCursor(f"not a cursor: {cursor[:64]!a}")
    return epoch, int(number)
