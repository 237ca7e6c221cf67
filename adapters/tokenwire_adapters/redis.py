"""`RedisBackend`: channels in Redis or Valkey, for many processes on many machines.

``redis://``, ``rediss://``, ``unix://``, ``redis+sentinel://`` and ``redis+cluster://`` (the last
two with ``rediss+`` as well), or a client of ``redis.asyncio``. docs/redis.md lists the settings,
the keys, the permissions that are needed, and what happens during failures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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
    Retention,
)
from tokenwire.errors import MissingExtra

try:
    from tokenwire_adapters._backends.redis.options import (
        Settings,
        Target,
        from_client,
        from_url,
        make_settings,
    )
except ImportError as error:
    raise MissingExtra('redis:// needs redis-py: pip install "tokenwire[redis]"') from error

from tokenwire_adapters._backends.redis.administration import Administrator
from tokenwire_adapters._backends.redis.cursors import Position, log_of, parse_cursor
from tokenwire_adapters._backends.redis.publisher import Publisher
from tokenwire_adapters._backends.redis.reader import Reader
from tokenwire_adapters._backends.redis.subscriptions import ChannelSubscription, Subscriptions
from tokenwire_adapters._backends.redis.topology import Topology

__all__ = ["RedisBackend", "Retention"]


class RedisBackend(Backend):
    """Channels in Redis.

    :param url: where the server is; see docs/redis.md. Query parameters are settings, or
        connection arguments of redis-py (``ssl_ca_certs``, ``ssl_certfile``, ``ssl_keyfile``, …).
    :param client: in place of a URL, a client of ``redis.asyncio`` (`Redis`, with or without
        Sentinel, or `RedisCluster`). New connections are made with its arguments; its own are
        neither used nor closed, so it may belong to any event loop.
    :param settings: ``prefix``, ``granularity``, ``retention`` (or its fields), ``timeout``
        (seconds), ``health`` (seconds), ``page_bytes``, ``replicas``; with a URL also connection
        arguments of redis-py.
    :raises ValueError: when the URL, the client or a setting is wrong.
    """

    capabilities = Capabilities(delete=True, list_channels=True, channel_retention=True)

    def __init__(self, url: str | None = None, *, client: Any = None, **settings: Any) -> None:
        if (url is None) == (client is None):
            raise ValueError("give a URL or a client, one of them")
        self._target: Target
        self.settings: Settings
        if url is not None:
            self._target, self.settings = from_url(url, settings)
        else:
            self._target, self.settings = from_client(client), make_settings(settings)
        self.granularity = self.settings.granularity
        self._connect()

    @classmethod
    def from_url(cls, url: str, **options: Any) -> RedisBackend:
        """Open a URL; the entry points of ``tokenwire.backends`` name this class."""
        return cls(url, **options)

    def __repr__(self) -> str:
        return f"RedisBackend({self._target.kind} {self._target.label})"

    def _connect(self) -> None:
        self._topology = Topology(self._target, self.settings)
        self._unreadable = Unreadable()
        self._publisher = Publisher(self._topology, self.settings)
        self._reader = Reader(self._topology, self.settings, self._publisher, self._unreadable)
        self._administrator = Administrator(
            self._topology, self.settings, self._reader, self._unreadable
        )
        self._subscriptions = Subscriptions(self._topology, self.settings, self._unreadable)

    async def publish(self, entries: Sequence[Entry]) -> Sequence[Outcome]:
        return await self._publisher.publish(entries)

    async def subscribe(self, channel: str, receiver: Receiver) -> ChannelSubscription:
        return await self._subscriptions.subscribe(channel, receiver, control=False)

    async def control(self, channel: str, receiver: Receiver) -> ChannelSubscription:
        return await self._subscriptions.subscribe(channel, receiver, control=True)

    async def replay(self, channel: str, start: ReplayFrom) -> Replay:
        return await self._reader.replay(channel, start)

    async def history(self, channel: str, *, limit: int, before: str | None = None) -> HistoryPage:
        return await self._reader.history(channel, limit, before)

    async def renew(self, leases: Sequence[Lease]) -> Sequence[LeaseState]:
        return await self._publisher.renew(leases)

    async def reap(self, channel: str) -> int:
        return await self._reader.reap(channel)

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

    def order(self, cursor: str) -> Position:
        return parse_cursor(cursor)

    def log_of(self, cursor: str) -> str | None:
        return log_of(cursor)

    @property
    def unreadable(self) -> int:
        return self._unreadable.count

    async def check(self) -> dict[str, Any]:
        return await self._reader.check()

    async def close(self) -> None:
        await self._subscriptions.close()
        await self._topology.close()

    def after_fork(self) -> None:
        self._subscriptions.abandon()
        self._topology.abandon()
        self._connect()
