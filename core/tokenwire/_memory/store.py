"""The channels of the in-memory backend."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Sequence
from typing import Literal

from msgspec.structs import force_setattr

from tokenwire._clock import now_ms
from tokenwire._memory.channel import (
    Channel,
    LogEntry,
    Mailbox,
    Retention,
    StoredResponse,
    parse_cursor,
)
from tokenwire.backend import (
    Entry,
    Granularity,
    HistoryPage,
    Lease,
    LeaseState,
    Outcome,
    Receiver,
    Replay,
    ReplayFrom,
)
from tokenwire.errors import Fenced, GapError, InvalidCursor, PublishRejected, ResponseUnknown
from tokenwire.events import (
    CancelEvent,
    DataEvent,
    EndEvent,
    Event,
    InputEvent,
    SnapshotEvent,
    StartEvent,
)
from tokenwire.response import merge_deltas

__all__ = ["MemoryStore"]

_MAX_PENDING_CANCELS = 1024
_MAX_KEYS = 4096
_SWEEP_EVERY = 4096  # publishes


class MemoryStore:
    """The channels behind one or more `MemoryBackend`; thread-safe.

    :param clock: monotonic seconds, for leases and ages; tests give their own.
    :param epoch: eight letters or digits with which cursors begin, by default random. A store that
        is filled again with the same entries and epoch has the same cursors.
    """

    def __init__(
        self,
        *,
        granularity: Granularity = "response",
        retention: Retention | None = None,
        clock: Callable[[], float] = time.monotonic,
        epoch: str | None = None,
    ) -> None:
        self.granularity: Granularity = granularity
        self.retention = retention or Retention()
        self.clock = clock
        self.epoch = epoch or secrets.token_hex(4)
        self._lock = threading.RLock()
        self._channels: dict[str, Channel] = {}
        self._publishes = 0

    def after_fork(self) -> None:
        """Start with a fresh lock, and without the parent's listeners, in a forked child."""
        self._lock = threading.RLock()
        for channel in self._channels.values():
            channel.listeners.clear()
            channel.controls.clear()

    def _channel(self, name: str) -> Channel:
        channel = self._channels.get(name)
        if channel is None:
            channel = self._channels[name] = Channel(name, self.epoch)
        return channel

    # -- writing

    def publish(self, entries: Sequence[Entry]) -> list[Outcome]:
        with self._lock:
            self._publishes += len(entries)
            if self._publishes >= _SWEEP_EVERY:
                self._publishes = 0
                self._sweep()
            return [self._publish(self._channel(entry.channel), entry) for entry in entries]

    def _publish(self, channel: Channel, entry: Entry) -> Outcome:
        channel.touched = self.clock()
        if entry.response_id is None:
            return self._publish_single(channel, entry)
        kept = channel.responses.get(entry.response_id)
        if isinstance(entry.events[0], StartEvent) and kept is None:
            kept = StoredResponse(entry.response_id, entry.fence, entry.lease)
            kept.first = channel.head + 1
        elif kept is None:
            return Outcome(error=ResponseUnknown(f"no response {entry.response_id!r} here"))
        elif kept.fence != entry.fence:
            return Outcome(
                error=Fenced(f"response {entry.response_id!r} belongs to another producer")
            )
        waiting = channel.cancels.get(entry.response_id)
        if entry.seq <= kept.seq:
            return Outcome(cursor=channel.cursor(kept.last), cancel=waiting)
        if kept.assembler.ended:
            return Outcome(error=Fenced(f"response {entry.response_id!r} has ended"))
        try:
            if len(entry.events) > 1:
                kept.assembler.check(entry.events)
            for event in entry.events:
                kept.assembler.apply(event, channel=channel.name)
        except GapError as error:
            return Outcome(error=PublishRejected(str(error)))
        channel.responses[entry.response_id] = kept
        channel.streaming[entry.response_id] = kept
        kept.seq = entry.seq
        kept.lease_until = self.clock() + kept.ttl
        self._append(channel, entry.events)
        kept.last, kept.last_at = channel.head, channel.touched
        if kept.assembler.ended:
            self._ended(channel, kept)
        return Outcome(cursor=channel.cursor(channel.head), cancel=waiting)

    def _publish_single(self, channel: Channel, entry: Entry) -> Outcome:
        if entry.key is not None and entry.key in channel.keys:
            return channel.keys[entry.key]
        state = None
        for event in entry.events:
            if isinstance(event, CancelEvent):
                kept = channel.responses.get(event.response_id)
                state = kept.assembler.state if kept else None
                if kept is None or not kept.assembler.ended:
                    channel.cancels[event.response_id] = event
                    if len(channel.cancels) > _MAX_PENDING_CANCELS:
                        channel.cancels.popitem(last=False)
            elif event.response_id is not None and event.response_id in channel.responses:
                kept = channel.responses[event.response_id]
                if kept.assembler.apply(event):
                    kept.last, kept.last_at = channel.head + 1, channel.touched
        self._append(channel, entry.events, single=True)
        outcome = Outcome(cursor=channel.cursor(channel.head), state=state)
        if entry.key is not None:
            channel.keys[entry.key] = outcome
            if len(channel.keys) > _MAX_KEYS:
                channel.keys.popitem(last=False)
        return outcome

    def _append(self, channel: Channel, events: Sequence[Event], *, single: bool = False) -> None:
        after = channel.cursor(channel.head)
        now = self.clock()
        for event in events:
            channel.head += 1
            force_setattr(event, "cursor", channel.cursor(channel.head))
            logged = LogEntry(channel.head, now, event)
            channel.tail.append(logged)
            channel.tail_size += logged.size
            if single:
                channel.singles.append(logged)
        self._trim_tail(channel)
        self._hand_out(channel.listeners, events, after)
        if channel.controls:
            heard = [e for e in events if isinstance(e, CancelEvent | InputEvent)]
            if heard:
                self._hand_out(channel.controls, heard, None)

    def _hand_out(
        self, mailboxes: list[Mailbox], events: Sequence[Event], after: str | None
    ) -> None:
        for mailbox in mailboxes:
            mailbox.put(events, after)
        if any(mailbox.closed for mailbox in mailboxes):
            mailboxes[:] = [mailbox for mailbox in mailboxes if not mailbox.closed]

    def _ended(self, channel: Channel, kept: StoredResponse) -> None:
        response_id = kept.assembler.id
        channel.streaming.pop(response_id, None)
        channel.cancels.pop(response_id, None)
        channel.ended[response_id] = kept.assembler.length
        channel.ended_size += kept.assembler.length
        self._trim_ended(channel)

    # -- keeping within bounds

    def _trim_tail(self, channel: Channel) -> None:
        keep = self.retention
        while channel.tail and (
            len(channel.tail) > keep.events or channel.tail_size > keep.event_bytes
        ):
            channel.tail_size -= channel.tail.popleft().size
        while len(channel.singles) > keep.responses:
            channel.singles.popleft()

    def _trim_ended(self, channel: Channel) -> None:
        keep = self.retention
        limit = None if keep.age is None else self.clock() - keep.age
        while channel.ended:
            oldest, size = next(iter(channel.ended.items()))
            old = limit is not None and channel.responses[oldest].last_at < limit
            if (
                not old
                and len(channel.ended) <= keep.responses
                and channel.ended_size <= keep.bytes
            ):
                break
            del channel.ended[oldest], channel.responses[oldest]
            channel.ended_size -= size
        if limit is not None:
            while channel.singles and channel.singles[0].at < limit:
                channel.singles.popleft()
            while channel.tail and channel.tail[0].at < limit:
                channel.tail_size -= channel.tail.popleft().size

    def _sweep(self) -> None:
        """Let go of what is too old in channels that nobody writes to any more."""
        for name, channel in list(self._channels.items()):
            self._trim_ended(channel)
            age = self.retention.age
            if (
                age is not None
                and not channel.responses
                and not channel.listeners
                and not channel.controls
                and self.clock() - channel.touched > age
            ):
                del self._channels[name]

    # -- leases

    def renew(self, leases: Sequence[Lease]) -> list[LeaseState]:
        with self._lock:
            return [self._renew(lease) for lease in leases]

    def _renew(self, lease: Lease) -> LeaseState:
        channel = self._channels.get(lease.channel)
        kept = channel.responses.get(lease.response_id) if channel else None
        if channel is None or kept is None:
            return LeaseState(unknown=True)
        if kept.fence != lease.fence or kept.assembler.ended:
            return LeaseState(lost=True)
        kept.ttl = lease.ttl
        kept.lease_until = self.clock() + lease.ttl
        return LeaseState(cancel=channel.cancels.get(lease.response_id))

    def reap(self, name: str) -> int:
        with self._lock:
            channel = self._channels.get(name)
            return self._reap(channel) if channel else 0

    def _reap(self, channel: Channel) -> int:
        now = self.clock()
        dead = [kept for kept in channel.streaming.values() if kept.lease_until < now]
        for kept in dead:
            end = EndEvent(
                response_id=kept.assembler.id,
                state="abandoned",
                error=f"its producer gave no sign of life for {kept.ttl:g} s",
                ts=now_ms(),
            )
            kept.assembler.apply(end)
            self._append(channel, [end])
            kept.last, kept.last_at = channel.head, now
            self._ended(channel, kept)
        return len(dead)

    # -- reading

    def listen(
        self, name: str, receiver: Receiver, kind: Literal["listeners", "controls"]
    ) -> MemorySubscription:
        mailbox = Mailbox(receiver)
        with self._lock:
            getattr(self._channel(name), kind).append(mailbox)
        return MemorySubscription(self, name, mailbox)

    def unlisten(self, name: str, mailbox: Mailbox) -> None:
        with self._lock:
            mailbox.closed = True
            channel = self._channels.get(name)
            if channel:
                for mailboxes in (channel.listeners, channel.controls):
                    if mailbox in mailboxes:
                        mailboxes.remove(mailbox)
                if not channel.head and not channel.listeners and not channel.controls:
                    del self._channels[name]

    def replay(self, name: str, start: ReplayFrom) -> Replay:
        with self._lock:
            channel = self._channels.get(name)
            if channel is None:
                if start.after is not None:
                    self.number(start.after, head=None)
                return Replay(events=(), cursor=f"{self.epoch}-0", reset=start.after is not None)
            self._reap(channel)
            self._trim_ended(channel)
            return self._replay(channel, start)

    def _replay(self, channel: Channel, start: ReplayFrom) -> Replay:
        reset = False
        exact = False  # whether the reader has state, so that events may follow one by one
        if start.after is not None:
            n = self.number(start.after, head=channel.head)
            exact = n is not None and self._retained(channel, n)
            reset = not exact
            n = n or 0
        elif start.all:
            n = 0
        elif start.since is not None:
            n = self._number_at(channel, start.since)
        elif start.count is not None:
            n = self._number_back(channel, start.count)
        else:
            n = channel.head
        wanted = start.response_id
        if exact:
            tail = [logged.event for logged in channel.tail if logged.n > n]
            events = [e for e in tail if wanted is None or e.response_id == wanted]
            if self.granularity == "response":
                events = merge_deltas(events)
        else:
            events = self._hydrate(channel, n, wanted)
        return Replay(events=tuple(events), cursor=channel.cursor(channel.head), reset=reset)

    def _hydrate(self, channel: Channel, n: int, wanted: str | None) -> list[Event]:
        """What a reader without state needs to know of everything after `n`, and what streams."""
        found: list[tuple[int, Event]] = []
        one_by_one = self.granularity == "token" and self._retained(channel, n)
        whole: set[str] = set()
        for response_id, kept in channel.responses.items():
            if wanted is not None:
                if response_id != wanted:
                    continue
            elif kept.last <= n and kept.assembler.ended:
                continue
            if one_by_one and kept.first > n:
                continue  # its events follow below, one by one
            whole.add(response_id)
            snapshot = SnapshotEvent(
                response=kept.assembler.response,
                cursor=channel.cursor(kept.last),
                ts=now_ms(),
            )
            found.append((kept.last, snapshot))
        for logged in channel.tail if one_by_one else channel.singles:
            event = logged.event
            if logged.n <= n or (wanted is not None and event.response_id != wanted):
                continue
            if event.response_id in whole and not isinstance(event, CancelEvent | DataEvent):
                continue  # it is in the snapshot
            found.append((logged.n, event))
        found.sort(key=lambda pair: pair[0])
        return [event for _, event in found]

    def _retained(self, channel: Channel, n: int) -> bool:
        return n >= channel.head - len(channel.tail)

    def _number_at(self, channel: Channel, since: int) -> int:
        at = self.clock() - (time.time() - since / 1000)
        later = [kept.last for kept in channel.responses.values() if kept.last_at >= at]
        later += [logged.n for logged in channel.singles if logged.at >= at]
        if self.granularity == "token":
            later = [logged.n for logged in channel.tail if logged.at >= at] or later
        return min(later, default=channel.head + 1) - 1

    def _number_back(self, channel: Channel, count: int) -> int:
        if count <= 0:
            return channel.head
        if self.granularity == "token":
            return max(0, channel.head - count)
        items = [kept.last for kept in channel.responses.values()]
        items += [logged.n for logged in channel.singles]
        items.sort()
        return items[-count] - 1 if count <= len(items) else 0

    def order(self, cursor: str) -> tuple[str, int]:
        """See `Backend.order`."""
        return parse_cursor(cursor)

    def number(self, cursor: str, head: int | None) -> int | None:
        """The number in `cursor`; None where it is another epoch's."""
        epoch, n = parse_cursor(cursor)
        if epoch != self.epoch or head is None:
            return None
        if n > head:
            raise InvalidCursor(f"cursor {cursor!r} is ahead of its channel")
        return n

    def history(self, name: str, limit: int, before: str | None) -> HistoryPage:
        with self._lock:
            channel = self._channels.get(name)
            if channel is None:
                if before is not None:
                    self.number(before, head=None)
                return HistoryPage(items=())
            self._reap(channel)
            self._trim_ended(channel)
            end = None if before is None else self.number(before, head=channel.head)
            if before is not None and end is None:
                return HistoryPage(items=())
            older = sorted(
                (kept for kept in channel.responses.values() if end is None or kept.first < end),
                key=lambda kept: kept.first,
                reverse=True,
            )
            page = older[:limit]
            more = channel.cursor(page[-1].first) if len(older) > limit and page else None
            return HistoryPage(items=tuple(kept.assembler.response for kept in page), next=more)


class MemorySubscription:
    def __init__(self, store: MemoryStore, channel: str, mailbox: Mailbox) -> None:
        self._store = store
        self._channel = channel
        self._mailbox = mailbox

    async def close(self) -> None:
        self._store.unlisten(self._channel, self._mailbox)
