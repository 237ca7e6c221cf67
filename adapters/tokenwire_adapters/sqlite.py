"""`SQLiteBackend`: channels in a file, for all processes of one machine, with nothing to install.

``sqlite:///chat.db`` is relative to the current directory, ``sqlite:////srv/chat.db`` absolute.
docs/sqlite.md lists the settings, what is durable, and what happens when something fails.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from tokenwire._memory.channel import parse_cursor
from tokenwire._problems import Unreadable
from tokenwire.backend import (
    Backend,
    Capabilities,
    ChannelPage,
    Deleted,
    Deletion,
    Entry,
    HistoryPage,
    Lease,
    LeaseState,
    Outcome,
    Receiver,
    Replay,
    ReplayFrom,
)
from tokenwire.errors import BackendUnavailable
from tokenwire.memory import Retention
from tokenwire_adapters._backends.sqlite.administration import Administrator
from tokenwire_adapters._backends.sqlite.database import describe
from tokenwire_adapters._backends.sqlite.doorbell import Doorbell
from tokenwire_adapters._backends.sqlite.options import from_url
from tokenwire_adapters._backends.sqlite.reader import Reader
from tokenwire_adapters._backends.sqlite.subscriptions import ChannelSubscription, Subscriptions
from tokenwire_adapters._backends.sqlite.worker import File, Worker
from tokenwire_adapters._backends.sqlite.writer import Writer

__all__ = ["Retention", "SQLiteBackend"]

T = TypeVar("T")


class SQLiteBackend(Backend):
    """Channels in a SQLite file.

    Two threads have a connection each: one writes, one reads; SQLite lets both go on at a time.

    :param url: ``sqlite:///relative/path`` or ``sqlite:////absolute/path``; query parameters are
        settings.
    :param settings: ``granularity``, ``retention`` (or its fields), ``synchronous`` (``"NORMAL"``
        or ``"FULL"``), ``timeout`` (seconds), ``page_bytes``, ``event_age`` (seconds).
    :raises ValueError: when the URL or a setting is wrong.
    """

    capabilities = Capabilities(delete=True, list_channels=True, channel_retention=True)

    def __init__(self, url: str, **settings: Any) -> None:
        self.settings = from_url(url, settings)
        self.granularity = self.settings.granularity
        self._open()

    @classmethod
    def from_url(cls, url: str, **options: Any) -> SQLiteBackend:
        """Open a URL; the entry point of ``tokenwire.backends`` names this class."""
        return cls(url, **options)

    def __repr__(self) -> str:
        return f"SQLiteBackend({self.settings.path!r})"

    def _open(self) -> None:
        self._unreadable = Unreadable()
        self._doorbell = Doorbell(self.settings.path)
        self._writer = Writer(self.settings, self._doorbell)
        self._reader = Reader(self.settings, self._unreadable.skip)
        self._writing = Worker(self.settings, "tokenwire-sqlite-write", self._writer.chores)
        self._reading = Worker(self.settings, "tokenwire-sqlite-read")
        self._administrator = Administrator(
            self.settings, self._writing, self._reading, self._writer, self._unreadable.skip
        )
        listening = Doorbell(self.settings.path)
        self._subscriptions = Subscriptions(self._reader, self._reading, listening)

    async def publish(self, entries: Sequence[Entry]) -> Sequence[Outcome]:
        return await self._writing.run(partial(self._writer.publish, entries=entries))

    async def subscribe(self, channel: str, receiver: Receiver) -> ChannelSubscription:
        return await self._subscriptions.subscribe(channel, receiver, control=False)

    async def control(self, channel: str, receiver: Receiver) -> ChannelSubscription:
        return await self._subscriptions.subscribe(channel, receiver, control=True)

    async def replay(self, channel: str, start: ReplayFrom) -> Replay:
        read = partial(self._reader.replay, name=channel, start=start)
        return await self._read(channel, read)

    async def history(self, channel: str, *, limit: int, before: str | None = None) -> HistoryPage:
        read = partial(self._reader.history, name=channel, limit=limit, before=before)
        return await self._read(channel, read)

    async def _read(self, channel: str, read: Callable[[File], T | None]) -> T:
        for _ in range(8):
            result = await self._reading.run(read)
            if result is not None:
                return result
            await self.reap(channel)
        raise BackendUnavailable("abandoned responses cannot be ended")

    async def renew(self, leases: Sequence[Lease]) -> Sequence[LeaseState]:
        return await self._writing.run(partial(self._writer.renew, leases=leases))

    async def reap(self, channel: str) -> int:
        if not await self._reading.run(partial(self._reader.has_expired, name=channel)):
            return 0
        return await self._writing.run(partial(self._writer.reap, channel=channel))

    async def delete(self, channel: str, deletion: Deletion) -> Deleted:
        return await self._administrator.delete(channel, deletion)

    async def list_channels(
        self, *, prefix: str = "", limit: int = 100, after: str | None = None
    ) -> ChannelPage:
        return await self._administrator.list_channels(prefix, limit, after)

    async def retention(self, channel: str) -> Retention:
        return await self._administrator.retention(channel)

    async def set_retention(self, channel: str, retention: Retention | None) -> None:
        await self._administrator.set_retention(channel, retention)

    def order(self, cursor: str) -> tuple[str, int]:
        return parse_cursor(cursor)

    def log_of(self, cursor: str) -> str | None:
        return parse_cursor(cursor)[0]

    @property
    def unreadable(self) -> int:
        return self._unreadable.count

    async def check(self) -> dict[str, Any]:
        await self._writing.run(partial(self._writer.publish, entries=()))
        begun = time.perf_counter()
        await self.history("tokenwire-check", limit=1)
        round_trip = time.perf_counter() - begun
        return {
            "backend": "SQLiteBackend",
            "path": self.settings.path,
            **await self._reading.run(lambda file: describe(file.db)),
            "granularity": self.settings.granularity,
            "synchronous": self.settings.synchronous,
            "round trip": f"{round_trip * 1000:.2f} ms",
        }

    async def close(self) -> None:
        self._subscriptions.close()
        await self._reading.close()
        await self._writing.close()
        self._doorbell.abandon()

    def after_fork(self) -> None:
        self._subscriptions.abandon()
        self._doorbell.abandon()
        self._open()
