"""`MemoryBackend`: channels in this process. The default, and what the other backends are held to.

``memory://`` is one store for the whole process: an agent and a gateway that open it separately
meet there. ``memory://NAME`` is another. `MemoryBackend()` has a store of its own.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal
from urllib.parse import parse_qsl

from tokenwire._clock import now_ms
from tokenwire._memory.channel import Channel, Mailbox, parse_cursor
from tokenwire._memory.replay import history, replay
from tokenwire._urls import split_url
from tokenwire.backend import (
    Backend,
    Capabilities,
    ChannelInfo,
    ChannelPage,
    Deleted,
    Deletion,
    Entry,
    Granularity,
    HistoryPage,
    Lease,
    LeaseState,
    Outcome,
    Receiver,
    Replay,
    ReplayFrom,
    Retention,
    Subscription,
)
from tokenwire.errors import InvalidCursor, PublishRejected
from tokenwire.events import check_event

__all__ = ["MemoryBackend", "MemoryStore", "Retention"]

_SWEEP_EVERY = 4096  # publishes
_NAME_MARK = "after:"


class MemoryStore:
    """The channels behind one or more `MemoryBackend`; thread-safe.

    :param granularity: ``"response"`` or ``"token"``.
    :param retention: how much is kept.
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
        return self._channels.get(name) or self._new_channel(name, self._last_number)

    def _new_channel(self, name: str, base: int) -> Channel:
        keep = self.retention_of(name)
        channel = self._channels[name] = Channel(name, self.epoch, base, self.clock, keep)
        return channel

    def _current(self, name: str) -> Channel | None:
        """A channel without what has expired, if there is one."""
        channel = self._channels.get(name)
        if channel is not None:
            channel.reap()
            channel.trim()
        return channel

    # -- writing

    def publish(self, entries: Sequence[Entry]) -> list[Outcome]:
        """See `Backend.publish`."""
        with self._lock:
            self._publishes += len(entries)
            if self._publishes >= _SWEEP_EVERY:
                self._publishes = 0
                self._sweep()
            return [self._publish(entry) for entry in entries]

    def _publish(self, entry: Entry) -> Outcome:
        """Publish an entry; refuse it, and only it, where it is not what readers could take."""
        try:
            for event in entry.events:
                check_event(event)
            return self._channel(entry.channel).publish(entry)
        except Exception as error:
            text = f"cannot be kept: {type(error).__name__}: {error}"[:500]
            return Outcome(error=PublishRejected(text))

    def _sweep(self) -> None:
        """Let go of what is too old in channels that nobody writes to any more."""
        for name, channel in list(self._channels.items()):
            channel.trim()
            age = channel.retention.age
            if (
                age is not None
                and not channel.responses
                and not channel.watched
                and self.clock() - channel.touched > age
            ):
                # Numbers are not used again: a cursor of this log must not fit into the next one.
                self._last_number = max(self._last_number, channel.head)
                del self._channels[name]

    def renew(self, leases: Sequence[Lease]) -> list[LeaseState]:
        """See `Backend.renew`."""
        with self._lock:
            channels = [self._channels.get(lease.channel) for lease in leases]
            return [
                channel.renew(lease) if channel else LeaseState(unknown=True)
                for channel, lease in zip(channels, leases, strict=True)
            ]

    def reap(self, name: str) -> int:
        """See `Backend.reap`."""
        with self._lock:
            channel = self._channels.get(name)
            return channel.reap() if channel else 0

    # -- reading

    def listen(
        self, name: str, receiver: Receiver, kind: Literal["listeners", "controls"]
    ) -> Subscription:
        """Deliver what is appended from now on: all, or (`controls`) cancels and inputs."""
        mailbox = Mailbox(receiver, partial(self._unlisten, name))
        with self._lock:
            getattr(self._channel(name), kind).append(mailbox)
        return mailbox

    def _unlisten(self, name: str, mailbox: Mailbox) -> None:
        """End a subscription; an empty channel that nobody listens to is forgotten."""
        with self._lock:
            mailbox.closed = True
            channel = self._channels.get(name)
            if channel:
                for mailboxes in (channel.listeners, channel.controls):
                    if mailbox in mailboxes:
                        mailboxes.remove(mailbox)
                if channel.head == channel.base and not channel.watched:
                    del self._channels[name]

    def replay(self, name: str, start: ReplayFrom) -> Replay:
        """See `Backend.replay`."""
        with self._lock:
            channel = self._current(name)
            if channel is not None:
                return replay(channel, start, self.granularity)
            if start.after is not None:
                parse_cursor(start.after)
            cursor = f"{self.epoch}-{self._last_number}"
            return Replay(events=(), cursor=cursor, reset=start.after is not None)

    def history(self, name: str, limit: int, before: str | None) -> HistoryPage:
        """See `Backend.history`."""
        with self._lock:
            channel = self._current(name)
            if channel is not None:
                return history(channel, limit, before)
            if before is not None:
                parse_cursor(before)
            return HistoryPage(items=())

    def order(self, cursor: str) -> tuple[str, int]:
        """See `Backend.order`."""
        return parse_cursor(cursor)

    # -- administration

    def delete(self, name: str, deletion: Deletion) -> Deleted:
        """See `Backend.delete`."""
        with self._lock:
            channel = self._channels.get(name)
            if channel is not None:
                channel.reap()
            if deletion.everything:
                return self._delete_channel(name, channel)
            return channel.delete(deletion) if channel else Deleted()

    def _delete_channel(self, name: str, channel: Channel | None) -> Deleted:
        if channel is not None and channel.streaming:
            return Deleted(streaming=tuple(channel.streaming))
        self._retentions.pop(name, None)
        if channel is None:
            return Deleted()
        self._last_number = max(self._last_number, channel.head)
        del self._channels[name]
        if channel.watched:
            # Numbers go on from here, so that live subscriptions see no gap.
            successor = self._new_channel(name, channel.head)
            successor.listeners, successor.controls = channel.listeners, channel.controls
        return Deleted(responses=len(channel.responses), events=len(channel.singles))

    def list_channels(self, prefix: str, limit: int, after: str | None) -> ChannelPage:
        """See `Backend.list_channels`."""
        if after is not None and not after.startswith(_NAME_MARK):
            raise InvalidCursor(f"not a page token: {after[:64]!a}")
        last = "" if after is None else after.removeprefix(_NAME_MARK)
        with self._lock:
            names = sorted(
                name
                for name, channel in self._channels.items()
                if name > last and name.startswith(prefix) and not channel.empty
            )
            page = names[:limit]
            more = _NAME_MARK + page[-1] if len(names) > limit else None
            return ChannelPage(items=tuple(self._info(name) for name in page), next=more)

    def _info(self, name: str) -> ChannelInfo:
        channel = self._channels[name]
        return ChannelInfo(
            name=name,
            responses=len(channel.responses),
            streaming=len(channel.streaming),
            active_at=now_ms() - int((self.clock() - channel.touched) * 1000),
        )

    def retention_of(self, name: str) -> Retention:
        """See `Backend.retention`."""
        return self._retentions.get(name, self.retention)

    def set_retention(self, name: str, retention: Retention | None) -> None:
        """See `Backend.set_retention`."""
        with self._lock:
            if retention is None:
                self._retentions.pop(name, None)
            else:
                self._retentions[name] = retention
            if name in self._channels:
                self._channels[name].retention = self.retention_of(name)


_process_stores: dict[str, MemoryStore] = {}
_process_lock = threading.Lock()


class MemoryBackend(Backend):
    """A backend within this process.

    :param store: a store to share with other backends; by default one of its own.
    :param granularity: ``"response"`` or ``"token"``, for a store of its own.
    :param retention: how much a store of its own keeps.
    :param clock: monotonic seconds, for a store of its own.
    """

    capabilities = Capabilities(
        inline=True, delete=True, list_channels=True, channel_retention=True
    )

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

        :raises ValueError: when the URL has another parameter, or a wrong one.
        """
        parts = split_url(url)
        name = parts.netloc + parts.path
        parameters = dict(parse_qsl(parts.query, keep_blank_values=True))
        asked = granularity or parameters.pop("granularity", None)
        if parameters:
            raise ValueError("a memory:// URL has no parameter but granularity")
        if asked not in ("response", "token", None):
            raise ValueError("granularity must be 'response' or 'token'")
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

    async def subscribe(self, channel: str, receiver: Receiver) -> Subscription:
        return self.store.listen(channel, receiver, "listeners")

    async def control(self, channel: str, receiver: Receiver) -> Subscription:
        return self.store.listen(channel, receiver, "controls")

    async def replay(self, channel: str, start: ReplayFrom) -> Replay:
        return self.store.replay(channel, start)

    async def history(self, channel: str, *, limit: int, before: str | None = None) -> HistoryPage:
        return self.store.history(channel, limit, before)

    async def renew(self, leases: Sequence[Lease]) -> Sequence[LeaseState]:
        return self.store.renew(leases)

    async def reap(self, channel: str) -> int:
        return self.store.reap(channel)

    async def delete(self, channel: str, deletion: Deletion) -> Deleted:
        return self.store.delete(channel, deletion)

    async def list_channels(
        self, *, prefix: str = "", limit: int = 100, after: str | None = None
    ) -> ChannelPage:
        return self.store.list_channels(prefix, limit, after)

    async def retention(self, channel: str) -> Retention:
        return self.store.retention_of(channel)

    async def set_retention(self, channel: str, retention: Retention | None) -> None:
        self.store.set_retention(channel, retention)

    def order(self, cursor: str) -> tuple[str, int]:
        return self.store.order(cursor)

    def log_of(self, cursor: str) -> str:
        return self.store.order(cursor)[0]

    async def close(self) -> None:
        """Leave the store as it is: others may use it."""

    def after_fork(self) -> None:
        self.store.after_fork()
