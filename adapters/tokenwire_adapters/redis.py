"""`RedisBackend`: channels in Redis or Valkey, for many processes on many machines.

``redis://``, ``rediss://``, ``unix://``, ``redis+sentinel://`` and ``redis+cluster://`` (the last
two with ``rediss+`` as well), or a client of ``redis.asyncio``. docs/redis.md has the settings,
the keys, the rights that are needed, and what happens when things break.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tokenwire.backend import (
    Backend,
    Capabilities,
    Entry,
    HistoryPage,
    Lease,
    LeaseState,
    Outcome,
    Receiver,
    Replay,
    ReplayFrom,
)
from tokenwire.errors import MissingExtra
from tokenwire.memory import Retention

try:
    from tokenwire_adapters._backends.redis.options import (
        Settings,
        Target,
        from_client,
        from_url,
        settings_of,
    )
except ImportError as error:
    raise MissingExtra('redis:// needs redis-py: pip install "tokenwire[redis]"') from error

from tokenwire_adapters._backends.redis.cursors import parse
from tokenwire_adapters._backends.redis.publisher import Writing
from tokenwire_adapters._backends.redis.reader import Reading
from tokenwire_adapters._backends.redis.subscriptions import Listening, Stand
from tokenwire_adapters._backends.redis.topology import Servers

__all__ = ["RedisBackend", "Retention"]


class RedisBackend(Backend):
    """Channels in Redis.

    :param url: where; see docs/redis.md. Query parameters are settings, and what redis-py takes
        (``ssl_ca_certs``, ``ssl_certfile``, ``ssl_keyfile``, …).
    :param client: in place of a URL, a client of ``redis.asyncio`` (`Redis`, with or without
        Sentinel, or `RedisCluster`). Connections are made as it makes them; its own are neither
        used nor closed, so it may belong to any event loop.
    :param settings: ``prefix``, ``granularity``, ``retention`` (or its fields), ``timeout``,
        ``health``, ``page_bytes``, ``replicas``; with a URL also what redis-py takes.
    :raises ValueError: when something of this is wrong.
    """

    capabilities = Capabilities()

    def __init__(self, url: str | None = None, *, client: Any = None, **settings: Any) -> None:
        if (url is None) == (client is None):
            raise ValueError("give a URL or a client, one of them")
        target: Target
        if url is not None:
            target, chosen = from_url(url, settings)
        else:
            target, chosen = from_client(client), settings_of(settings)
        self.settings: Settings = chosen
        self.granularity = chosen.granularity
        self._target = target
        self._reset()

    @classmethod
    def from_url(cls, url: str, **options: Any) -> RedisBackend:
        """Open a URL; the entry points of ``tokenwire.backends`` name this class."""
        return cls(url, **options)

    def __repr__(self) -> str:
        return f"RedisBackend({self._target.kind} {self._target.shown})"

    def _reset(self) -> None:
        self._servers = Servers(self._target, self.settings, self._moved)
        self._writing = Writing(self._servers, self.settings)
        self._reading = Reading(self._servers, self.settings, self._writing)
        self._listening = Listening(self._servers, self.settings)

    def _moved(self) -> None:
        self._listening.moved()

    async def publish(self, entries: Sequence[Entry]) -> Sequence[Outcome]:
        return await self._writing.publish(entries)

    async def subscribe(self, channel: str, receiver: Receiver) -> Stand:
        return await self._listening.listen(channel, receiver, control=False)

    async def control(self, channel: str, receiver: Receiver) -> Stand:
        return await self._listening.listen(channel, receiver, control=True)

    async def replay(self, channel: str, start: ReplayFrom) -> Replay:
        return await self._reading.replay(channel, start)

    async def history(self, channel: str, *, limit: int, before: str | None = None) -> HistoryPage:
        return await self._reading.history(channel, limit, before)

    async def renew(self, leases: Sequence[Lease]) -> Sequence[LeaseState]:
        return await self._writing.renew(leases)

    async def reap(self, channel: str) -> int:
        return await self._reading.reap(channel)

    def order(self, cursor: str) -> tuple[int, int, int]:
        return parse(cursor)

    async def check(self) -> dict[str, Any]:
        return await self._reading.check()

    async def close(self) -> None:
        await self._listening.close()
        await self._servers.close()

    def after_fork(self) -> None:
        self._listening.abandon()
        self._servers.abandon()
        self._reset()
