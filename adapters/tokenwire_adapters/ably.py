"""`AblyBackend`: channels on Ably, for watchers anywhere, with or without tokenwire.

``ably://APP.KEY:SECRET`` or ``ably://?key_env=ABLY_API_KEY``; docs/ably.md lists the settings, the
format of messages, the capabilities and the channel rule that are needed, and what happens during
failures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from msgspec.structs import replace

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
    Subscription,
)
from tokenwire.errors import MissingExtra

try:
    from tokenwire_adapters._backends.ably.connections import RealtimeConnection, RestClient
except ImportError as error:
    raise MissingExtra('ably:// needs ably-python: pip install "tokenwire[ably]"') from error

from tokenwire_adapters._backends.ably.cursors import Position, parse_cursor
from tokenwire_adapters._backends.ably.doctor import check
from tokenwire_adapters._backends.ably.history import History
from tokenwire_adapters._backends.ably.options import Settings, make_settings
from tokenwire_adapters._backends.ably.publisher import Publisher
from tokenwire_adapters._backends.ably.reassembly import unreadable
from tokenwire_adapters._backends.ably.subscriber import Subscriber

__all__ = ["AblyBackend"]

_abandoned: list[Any] = []


class _Parts(NamedTuple):
    """What is made on first use, on the event loop that uses it."""

    publishing: RealtimeConnection
    watching: RealtimeConnection
    rest: RestClient
    publisher: Publisher
    subscriber: Subscriber


class AblyBackend(Backend):
    """Channels on Ably.

    :param url: ``ably://APP.KEY:SECRET``; query parameters are settings.
    :param client: in place of a key or token, an `ably.AblyRealtime` or `ably.AblyRest`: its
        authentication and endpoint are used, but not its connection, so it may belong to any
        event loop.
    :param settings: see docs/ably.md; among them ``key``, ``token``, ``auth_url``,
        ``auth_callback``, ``client_id``, ``granularity``, ``dialect`` and ``rollup_window``
        (milliseconds).
    :raises ValueError: when the URL, the client or a setting is wrong.
    """

    def __init__(self, url: str | None = None, *, client: Any = None, **settings: Any) -> None:
        self.settings: Settings = make_settings(url, client, settings)
        self.granularity = self.settings.granularity
        self.capabilities = Capabilities(window=self.settings.window, fencing="reader")
        self._opened: _Parts | None = None

    @classmethod
    def from_url(cls, url: str, **options: Any) -> AblyBackend:
        """Open a URL; the entry point ``ably`` names this class."""
        return cls(url, **options)

    def use_rollup(self, window: float) -> None:
        if self.settings.rollup_window is None and self._opened is None:
            self.settings = replace(self.settings, rollup_window=window)

    def __repr__(self) -> str:
        return f"AblyBackend({self.settings.label})"

    @property
    def _parts(self) -> _Parts:
        if self._opened is None:
            settings = self.settings
            # Without heartbeats ably-python takes a quiet connection for a lost one.
            watch_params = {"heartbeats": "true"}
            publish_params = {"echo": "false", **watch_params}
            if settings.rollup_window is not None:
                publish_params["appendRollupWindow"] = str(round(1000 * settings.rollup_window))
            publishing = RealtimeConnection(settings, publish_params, "publishing")
            watching = RealtimeConnection(settings, watch_params, "watching")
            rest = RestClient(settings)
            subscriber = Subscriber(watching, rest, settings)
            history = History(rest, settings.reach)
            publisher = Publisher(publishing, history, settings, subscriber.state)
            self._opened = _Parts(publishing, watching, rest, publisher, subscriber)
        return self._opened

    async def publish(self, entries: Sequence[Entry]) -> Sequence[Outcome]:
        return await self._parts.publisher.publish(entries)

    async def subscribe(self, channel: str, receiver: Receiver) -> Subscription:
        return await self._parts.subscriber.subscribe(channel, receiver)

    async def control(self, channel: str, receiver: Receiver) -> Subscription:
        return await self._parts.publisher.control(channel, receiver)

    async def replay(self, channel: str, start: ReplayFrom) -> Replay:
        return await self._parts.subscriber.replay(channel, start)

    async def history(self, channel: str, *, limit: int, before: str | None = None) -> HistoryPage:
        return await self._parts.subscriber.history(channel, limit, before)

    async def renew(self, leases: Sequence[Lease]) -> Sequence[LeaseState]:
        return await self._parts.publisher.renew(leases)

    async def reap(self, channel: str) -> int:
        return await self._parts.subscriber.reap(channel)

    @property
    def unreadable(self) -> int:
        return unreadable.count

    def order(self, cursor: str) -> Position:
        return parse_cursor(cursor)

    async def check(self) -> dict[str, Any]:
        parts = self._parts
        return await check(self.settings, parts.publishing, parts.watching, parts.rest)

    async def close(self) -> None:
        parts, self._opened = self._opened, None
        if parts is not None:
            parts.publisher.close()
            parts.subscriber.close()
            await parts.publishing.close()
            await parts.watching.close()
            await parts.rest.close()

    def after_fork(self) -> None:
        # A reference stays, so that garbage collection does not close the parent's connections.
        _abandoned.append(self._opened)
        self._opened = None
