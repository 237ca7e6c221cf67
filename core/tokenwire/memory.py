"""`MemoryBackend`: channels in this process. The default, and what the other backends are held to.

``memory://`` is one store for the whole process: an agent and a gateway that open it separately
meet there. ``memory://NAME`` is another. `MemoryBackend()` made by hand has a store of its own.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Literal
from urllib.parse import parse_qs, urlsplit

import msgspec
from msgspec.structs import force_setattr

from tokenwire.backend import (
    Backend,
    Capabilities,
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
    DeltaEvent,
    EndEvent,
    Event,
    InputEvent,
    SnapshotEvent,
    StartEvent,
)
from tokenwire.response import Assembler

__all__ = ["MemoryBackend", "MemoryStore", "Retention"]


class Retention(msgspec.Struct, frozen=True, kw_only=True):
    """How much a store keeps, for each channel; what streams is always kept.

    :ivar responses: how many ended responses.
    :ivar age: seconds after which ended responses and single events go; None for no limit.
    :ivar bytes: text of ended responses, in code points.
    :ivar events: how many recent events can be continued one by one after a cursor; older cursors
        are answered with snapshots.
    :ivar event_bytes: the text of these events, in code points.
    """

    responses: int = 1000
    age: float | None = 24 * 3600.0
    bytes: int = 64 * 2**20
    events: int = 4096
    event_bytes: int = 2**20


class _Logged:
    """An event at its place in the log."""

    __slots__ = ("at", "event", "n", "size")

    def __init__(self, n: int, at: float, event: Event) -> None:
        self.n = n
        self.at = at
        self.event = event
        self.size = len(event.text) if isinstance(event, DeltaEvent) else 64


class _Kept:
    """A response, its producer and its place in the log."""

    __slots__ = ("assembler", "fence", "first", "last", "last_at", "lease_until", "seq", "ttl")

    def __init__(self, response_id: str, fence: str | None, ttl: float) -> None:
        self.assembler = Assembler(response_id)
        self.fence = fence
        self.seq = -1
        self.ttl = ttl
        self.lease_until = 0.0
        self.first = 0
        self.last = 0
        self.last_at = 0.0


class _Mailbox:
    """Hands events to a receiver, on its loop, in order, from whichever thread they come."""

    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver
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

    def _drain(self) -> None:
        self.scheduled = False
        while self.waiting and not self.closed:
            self.receiver.deliver(*self.waiting.popleft())


class _Channel:
    """The log of one channel."""

    def __init__(self, name: str, epoch: str) -> None:
        self.name = name
        self.epoch = epoch
        self.head = 0  # the number of the last event; the first has 1
        self.tail: deque[_Logged] = deque()
        self.tail_size = 0
        self.singles: deque[_Logged] = deque()  # events without a producer, kept longer
        self.responses: dict[str, _Kept] = {}
        self.ended: OrderedDict[str, int] = OrderedDict()  # id to size, oldest first
        self.ended_size = 0
        self.streaming: dict[str, _Kept] = {}
        self.cancels: OrderedDict[str, CancelEvent] = OrderedDict()
        self.keys: OrderedDict[str, Outcome] = OrderedDict()
        self.listeners: list[_Mailbox] = []
        self.controls: list[_Mailbox] = []
        self.touched = 0.0

    def cursor(self, n: int) -> str:
        return f"{self.epoch}-{n}"


_MAX_PENDING_CANCELS = 1024
_MAX_KEYS = 4096
_SWEEP_EVERY = 4096  # publishes


class MemoryStore:
    """The channels behind one or more `MemoryBackend`; thread-safe.

    :param clock: monotonic seconds, for leases and ages; tests give their own.
    """

    def __init__(
        self,
        *,
        granularity: Granularity = "response",
        retention: Retention | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.granularity: Granularity = granularity
        self.retention = retention or Retention()
        self.clock = clock
        self.epoch = secrets.token_hex(4)
        self._lock = threading.RLock()
        self._channels: dict[str, _Channel] = {}
        self._publishes = 0

    def after_fork(self) -> None:
        """Start with a fresh lock, and without the parent's listeners, in a forked child."""
        self._lock = threading.RLock()
        for channel in self._channels.values():
            channel.listeners.clear()
            channel.controls.clear()

    def _channel(self, name: str) -> _Channel:
        channel = self._channels.get(name)
        if channel is None:
            channel = self._channels[name] = _Channel(name, self.epoch)
        return channel

    # -- writing

    def publish(self, entries: Sequence[Entry]) -> list[Outcome]:
        with self._lock:
            self._publishes += len(entries)
            if self._publishes >= _SWEEP_EVERY:
                self._publishes = 0
                self._sweep()
            return [self._publish(self._channel(entry.channel), entry) for entry in entries]

    def _publish(self, channel: _Channel, entry: Entry) -> Outcome:
        channel.touched = self.clock()
        if entry.response_id is None:
            return self._publish_single(channel, entry)
        kept = channel.responses.get(entry.response_id)
        if isinstance(entry.events[0], StartEvent) and kept is None:
            kept = _Kept(entry.response_id, entry.fence, entry.lease)
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

    def _publish_single(self, channel: _Channel, entry: Entry) -> Outcome:
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

    def _append(self, channel: _Channel, events: Sequence[Event], *, single: bool = False) -> None:
        after = channel.cursor(channel.head)
        now = self.clock()
        for event in events:
            channel.head += 1
            force_setattr(event, "cursor", channel.cursor(channel.head))
            logged = _Logged(channel.head, now, event)
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
        self, mailboxes: list[_Mailbox], events: Sequence[Event], after: str | None
    ) -> None:
        for mailbox in mailboxes:
            mailbox.put(events, after)
        if any(mailbox.closed for mailbox in mailboxes):
            mailboxes[:] = [mailbox for mailbox in mailboxes if not mailbox.closed]

    def _ended(self, channel: _Channel, kept: _Kept) -> None:
        response_id = kept.assembler.id
        channel.streaming.pop(response_id, None)
        channel.cancels.pop(response_id, None)
        channel.ended[response_id] = kept.assembler.length
        channel.ended_size += kept.assembler.length
        self._trim_ended(channel)

    # -- keeping within bounds

    def _trim_tail(self, channel: _Channel) -> None:
        keep = self.retention
        while channel.tail and (
            len(channel.tail) > keep.events or channel.tail_size > keep.event_bytes
        ):
            channel.tail_size -= channel.tail.popleft().size
        while len(channel.singles) > keep.responses:
            channel.singles.popleft()

    def _trim_ended(self, channel: _Channel) -> None:
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
        if channel is None or kept is None or kept.fence != lease.fence or kept.assembler.ended:
            return LeaseState(lost=True)
        kept.ttl = lease.ttl
        kept.lease_until = self.clock() + lease.ttl
        return LeaseState(cancel=channel.cancels.get(lease.response_id))

    def reap(self, name: str) -> int:
        with self._lock:
            channel = self._channels.get(name)
            return self._reap(channel) if channel else 0

    def _reap(self, channel: _Channel) -> int:
        now = self.clock()
        dead = [kept for kept in channel.streaming.values() if kept.lease_until < now]
        for kept in dead:
            end = EndEvent(
                response_id=kept.assembler.id,
                state="abandoned",
                error=f"its producer gave no sign of life for {kept.ttl:g} s",
                ts=int(time.time() * 1000),
            )
            kept.assembler.apply(end)
            self._append(channel, [end])
            kept.last, kept.last_at = channel.head, now
            self._ended(channel, kept)
        return len(dead)

    # -- reading

    def listen(
        self, name: str, receiver: Receiver, kind: Literal["listeners", "controls"]
    ) -> _MemorySubscription:
        mailbox = _Mailbox(receiver)
        with self._lock:
            getattr(self._channel(name), kind).append(mailbox)
        return _MemorySubscription(self, name, mailbox)

    def unlisten(self, name: str, mailbox: _Mailbox) -> None:
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

    def _replay(self, channel: _Channel, start: ReplayFrom) -> Replay:
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
                events = _merge(events)
        else:
            events = self._hydrate(channel, n, wanted)
        return Replay(events=tuple(events), cursor=channel.cursor(channel.head), reset=reset)

    def _hydrate(self, channel: _Channel, n: int, wanted: str | None) -> list[Event]:
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
                ts=int(time.time() * 1000),
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

    def _retained(self, channel: _Channel, n: int) -> bool:
        return n >= channel.head - len(channel.tail)

    def _number_at(self, channel: _Channel, since: int) -> int:
        at = self.clock() - (time.time() - since / 1000)
        later = [kept.last for kept in channel.responses.values() if kept.last_at >= at]
        later += [logged.n for logged in channel.singles if logged.at >= at]
        if self.granularity == "token":
            later = [logged.n for logged in channel.tail if logged.at >= at] or later
        return min(later, default=channel.head + 1) - 1

    def _number_back(self, channel: _Channel, count: int) -> int:
        if count <= 0:
            return channel.head
        if self.granularity == "token":
            return max(0, channel.head - count)
        items = [kept.last for kept in channel.responses.values()]
        items += [logged.n for logged in channel.singles]
        items.sort()
        return items[-count] - 1 if count <= len(items) else 0

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


class _MemorySubscription:
    def __init__(self, store: MemoryStore, channel: str, mailbox: _Mailbox) -> None:
        self._store = store
        self._channel = channel
        self._mailbox = mailbox

    async def close(self) -> None:
        self._store.unlisten(self._channel, self._mailbox)


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


def _merge(events: Iterable[Event]) -> list[Event]:
    """Join deltas that follow one another in the same part."""
    merged: list[Event] = []
    texts: list[str] = []
    first: DeltaEvent | None = None
    last: DeltaEvent | None = None

    def flush() -> None:
        nonlocal first
        if first is not None and last is not None:
            if first is last:
                merged.append(first)
            else:
                joined = msgspec.structs.replace(last, offset=first.offset, text="".join(texts))
                merged.append(joined)
            first = None
            texts.clear()

    for event in events:
        if isinstance(event, DeltaEvent):
            if (
                first is None
                or last is None
                or (last.response_id, last.part) != (event.response_id, event.part)
                or last.offset + len(last.text) != event.offset
            ):
                flush()
                first = event
            last = event
            texts.append(event.text)
        else:
            flush()
            merged.append(event)
    flush()
    return merged


_process_stores: dict[str, MemoryStore] = {}
_process_lock = threading.Lock()


class MemoryBackend(Backend):
    """A backend within this process.

    :param store: a store to share with other backends; by default one of its own.
    :param granularity: ``"response"`` or ``"token"``, for a store of its own.
    :param retention: how much a store of its own keeps.
    :param clock: monotonic seconds, for a store of its own.
    """

    capabilities = Capabilities(inline=True, durable=False)

    def __init__(
        self,
        store: MemoryStore | None = None,
        *,
        granularity: Granularity = "response",
        retention: Retention | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.store = store or MemoryStore(granularity=granularity, retention=retention, clock=clock)
        self.granularity = self.store.granularity

    @classmethod
    def from_url(cls, url: str, *, granularity: Granularity | None = None) -> MemoryBackend:
        """Open ``memory://`` or ``memory://NAME``, the same store each time in one process.

        ``?granularity=token`` and the argument hold for a store that this call makes.
        """
        parts = urlsplit(url)
        name = parts.netloc + parts.path
        asked = granularity or parse_qs(parts.query).get("granularity", [None])[0]
        if asked not in ("response", "token", None):
            raise ValueError(f"granularity must be 'response' or 'token', not {asked!r}")
        wanted: Granularity = "token" if asked == "token" else "response"
        with _process_lock:
            store = _process_stores.get(name)
            if store is None:
                store = _process_stores[name] = MemoryStore(granularity=wanted)
        if asked and store.granularity != asked:
            raise ValueError(f"{url!r} is already open with granularity {store.granularity!r}")
        return cls(store)

    async def publish(self, entries: Sequence[Entry]) -> Sequence[Outcome]:
        return self.store.publish(entries)

    def publish_nowait(self, entries: Sequence[Entry]) -> Sequence[Outcome]:
        return self.store.publish(entries)

    async def subscribe(self, channel: str, receiver: Receiver) -> _MemorySubscription:
        return self.store.listen(channel, receiver, "listeners")

    async def control(self, channel: str, receiver: Receiver) -> _MemorySubscription:
        return self.store.listen(channel, receiver, "controls")

    async def replay(self, channel: str, start: ReplayFrom) -> Replay:
        return self.store.replay(channel, start)

    async def history(self, channel: str, *, limit: int, before: str | None = None) -> HistoryPage:
        return self.store.history(channel, limit, before)

    async def renew(self, leases: Sequence[Lease]) -> Sequence[LeaseState]:
        return self.store.renew(leases)

    async def reap(self, channel: str) -> int:
        return self.store.reap(channel)

    def order(self, cursor: str) -> tuple[str, int]:
        return parse_cursor(cursor)

    async def close(self) -> None:
        """Leave the store as it is: others may use it."""

    def after_fork(self) -> None:
        self.store.after_fork()
