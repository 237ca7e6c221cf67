"""The log of the in-memory backend: what is written, who listens, and what is kept."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

from msgspec.structs import force_setattr

from tokenwire._clock import now_ms
from tokenwire._memory.channel import (
    Channel,
    LogEntry,
    Mailbox,
    StoredResponse,
)
from tokenwire.backend import (
    Entry,
    Granularity,
    Lease,
    LeaseState,
    Outcome,
    Receiver,
    Retention,
    Subscription,
)
from tokenwire.errors import Fenced, GapError, PublishRejected, ResponseUnknown
from tokenwire.events import (
    ENDED,
    CancelEvent,
    EndEvent,
    Event,
    InputEvent,
    StartEvent,
    check_event,
)

__all__ = ["MemoryLog", "MemorySubscription"]

_MAX_PENDING_CANCELS = 1024
_MAX_KEYS = 4096
_SWEEP_EVERY = 4096  # publishes


class MemoryLog:
    """The writing side of a `MemoryStore`: publishes, leases, listeners and retention."""

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
        self.epoch = epoch or os.urandom(4).hex()
        self._lock = threading.RLock()
        self._channels: dict[str, Channel] = {}
        self._retentions: dict[str, Retention] = {}  # of channels that have their own
        self._publishes = 0
        self._last_number = 0  # of all events of channels that were let go of

    def after_fork(self) -> None:
        """Start with a fresh lock, and without the parent's listeners, in a forked child."""
        self._lock = threading.RLock()
        for channel in self._channels.values():
            channel.listeners.clear()
            channel.controls.clear()

    def _channel(self, name: str) -> Channel:
        channel = self._channels.get(name)
        if channel is None:
            channel = self._channels[name] = Channel(name, self.epoch, self._last_number)
        return channel

    # -- writing

    def publish(self, entries: Sequence[Entry]) -> list[Outcome]:
        """See `Backend.publish`."""
        with self._lock:
            self._publishes += len(entries)
            if self._publishes >= _SWEEP_EVERY:
                self._publishes = 0
                self._sweep()
            return [self._publish_one(entry) for entry in entries]

    def _publish_one(self, entry: Entry) -> Outcome:
        """Publish an entry; refuse it, and only it, where it is not what readers could take."""
        try:
            for event in entry.events:
                check_event(event)
            return self._publish(self._channel(entry.channel), entry)
        except Exception as error:
            text = f"cannot be kept: {type(error).__name__}: {error}"[:500]
            return Outcome(error=PublishRejected(text))

    def _publish(self, channel: Channel, entry: Entry) -> Outcome:
        channel.touched = now = self.clock()
        if entry.response_id is None:
            return self._publish_single(channel, entry)
        stored = channel.responses.get(entry.response_id)
        if stored is None:
            if not isinstance(entry.events[0], StartEvent):
                return Outcome(error=ResponseUnknown(f"no response {entry.response_id!r} here"))
            stored = StoredResponse(entry.response_id, entry.fence, entry.lease)
            stored.first = channel.head + 1
        elif stored.fence != entry.fence:
            return Outcome(
                error=Fenced(f"response {entry.response_id!r} belongs to another producer")
            )
        waiting = channel.cancels.get(entry.response_id) if channel.cancels else None
        if entry.seq <= stored.seq:
            return Outcome(cursor=channel.cursor(stored.last), cancel=waiting)
        assembler = stored.assembler
        if assembler.state in ENDED:
            return Outcome(error=Fenced(f"response {entry.response_id!r} has ended"))
        try:
            if len(entry.events) > 1:
                assembler.check(entry.events)
            for event in entry.events:
                assembler.apply(event, channel=channel.name)
        except GapError as error:
            return Outcome(error=PublishRejected(str(error)))
        if stored.seq < 0:
            channel.responses[entry.response_id] = stored
            channel.streaming[entry.response_id] = stored
        stored.seq = entry.seq
        stored.lease_until = now + stored.ttl
        cursor = self._append(channel, entry.events, now)
        stored.last, stored.last_at = channel.head, now
        if assembler.state in ENDED:
            self._ended(channel, stored)
        return Outcome(cursor=cursor, cancel=waiting)

    def _publish_single(self, channel: Channel, entry: Entry) -> Outcome:
        if entry.key is not None and entry.key in channel.keys:
            return channel.keys[entry.key]
        state = None
        for event in entry.events:
            if isinstance(event, CancelEvent):
                stored = channel.responses.get(event.response_id)
                state = stored.assembler.state if stored else None
                if stored is None or not stored.assembler.ended:
                    channel.cancels[event.response_id] = event
                    if len(channel.cancels) > _MAX_PENDING_CANCELS:
                        channel.cancels.popitem(last=False)
            elif event.response_id is not None and event.response_id in channel.responses:
                stored = channel.responses[event.response_id]
                if stored.assembler.apply(event):
                    stored.last, stored.last_at = channel.head + 1, channel.touched
        cursor = self._append(channel, entry.events, channel.touched, single=True)
        outcome = Outcome(cursor=cursor, state=state)
        if entry.key is not None:
            channel.keys[entry.key] = outcome
            if len(channel.keys) > _MAX_KEYS:
                channel.keys.popitem(last=False)
        return outcome

    def _append(
        self, channel: Channel, events: Sequence[Event], now: float, *, single: bool = False
    ) -> str:
        """Append events to the log, and hand them out; return the cursor of the last one."""
        before = channel.head
        cursor = None
        for event in events:
            channel.head += 1
            cursor = channel.cursor(channel.head)
            force_setattr(event, "cursor", cursor)
            item = LogEntry(channel.head, now, event)
            channel.tail.append(item)
            channel.tail_size += item.size
            if single:
                channel.singles.append(item)
        self._trim_tail(channel)
        if channel.listeners:
            self._hand_out(channel.listeners, events, channel.cursor(before))
        if channel.controls and single:  # what is asked of producers is no response's
            requests = [e for e in events if isinstance(e, CancelEvent | InputEvent)]
            if requests:
                self._hand_out(channel.controls, requests, None)
        return cursor or channel.cursor(before)

    def _hand_out(
        self, mailboxes: list[Mailbox], events: Sequence[Event], after: str | None
    ) -> None:
        for mailbox in mailboxes:
            mailbox.put(events, after)
        if any(mailbox.closed for mailbox in mailboxes):
            mailboxes[:] = [mailbox for mailbox in mailboxes if not mailbox.closed]

    def _ended(self, channel: Channel, stored: StoredResponse) -> None:
        response_id = stored.assembler.id
        channel.streaming.pop(response_id, None)
        channel.cancels.pop(response_id, None)
        channel.ended[response_id] = stored.assembler.length
        channel.ended_size += stored.assembler.length
        self._trim_ended(channel)

    # -- keeping within bounds

    def _trim_tail(self, channel: Channel) -> None:
        keep = self._retentions.get(channel.name, self.retention)
        tail = channel.tail
        while tail and (len(tail) > keep.events or channel.tail_size > keep.event_bytes):
            channel.tail_size -= tail.popleft().size
        while len(channel.singles) > keep.responses:
            channel.singles.popleft()

    def _trim_ended(self, channel: Channel) -> None:
        keep = self._retentions.get(channel.name, self.retention)
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
            age = self._retentions.get(name, self.retention).age
            if (
                age is not None
                and not channel.responses
                and not channel.listeners
                and not channel.controls
                and self.clock() - channel.touched > age
            ):
                # Numbers are not used again: a cursor of this log must not fit into the next one.
                self._last_number = max(self._last_number, channel.head)
                del self._channels[name]

    # -- leases

    def renew(self, leases: Sequence[Lease]) -> list[LeaseState]:
        """See `Backend.renew`."""
        with self._lock:
            return [self._renew(lease) for lease in leases]

    def _renew(self, lease: Lease) -> LeaseState:
        channel = self._channels.get(lease.channel)
        stored = channel.responses.get(lease.response_id) if channel else None
        if channel is None or stored is None:
            return LeaseState(unknown=True)
        if stored.fence != lease.fence or stored.assembler.ended:
            return LeaseState(lost=True)
        stored.ttl = lease.ttl
        stored.lease_until = self.clock() + lease.ttl
        return LeaseState(cancel=channel.cancels.get(lease.response_id))

    def reap(self, name: str) -> int:
        """See `Backend.reap`."""
        with self._lock:
            channel = self._channels.get(name)
            return self._reap(channel) if channel else 0

    def _reap(self, channel: Channel) -> int:
        now = self.clock()
        expired = [stored for stored in channel.streaming.values() if stored.lease_until < now]
        for stored in expired:
            end = EndEvent(
                response_id=stored.assembler.id,
                state="abandoned",
                error=f"its producer gave no sign of life for {stored.ttl:g} s",
                ts=now_ms(),
            )
            stored.assembler.apply(end)
            self._append(channel, [end], now)
            stored.last, stored.last_at = channel.head, now
            self._ended(channel, stored)
        return len(expired)

    # -- reading

    def listen(
        self, name: str, receiver: Receiver, kind: Literal["listeners", "controls"]
    ) -> Subscription:
        """Deliver what is appended from now on: all, or (`controls`) cancels and inputs."""
        mailbox = Mailbox(receiver)
        with self._lock:
            getattr(self._channel(name), kind).append(mailbox)
        return MemorySubscription(partial(self._unlisten, name, mailbox))

    def _unlisten(self, name: str, mailbox: Mailbox) -> None:
        """End a subscription; an empty channel that nobody listens to is forgotten."""
        with self._lock:
            mailbox.closed = True
            channel = self._channels.get(name)
            if channel:
                for mailboxes in (channel.listeners, channel.controls):
                    if mailbox in mailboxes:
                        mailboxes.remove(mailbox)
                if channel.head == channel.base and not channel.listeners and not channel.controls:
                    del self._channels[name]


class MemorySubscription:
    """A receiver's place among the listeners of a channel."""

    def __init__(self, end: Callable[[], None]) -> None:
        self._end = end

    async def close(self) -> None:
        self._end()
