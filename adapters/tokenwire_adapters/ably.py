"""`AblyBackend`: channels on Ably, for watchers anywhere, with or without tokenwire.

``ably://APP.KEY:SECRET`` or ``ably://?key_env=ABLY_API_KEY``; docs/ably.md has the settings, what
our messages look like, the rights and the channel rule that are needed, and what happens when
things break.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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
    from tokenwire_adapters._backends.ably.connections import Link, Rest
except ImportError as error:
    raise MissingExtra('ably:// needs ably-python: pip install "tokenwire[ably]"') from error

from tokenwire_adapters._backends.ably.cursors import Order, parse
from tokenwire_adapters._backends.ably.doctor import check
from tokenwire_adapters._backends.ably.history import History
from tokenwire_adapters._backends.ably.options import Settings, settings_of
from tokenwire_adapters._backends.ably.publisher import Writing
from tokenwire_adapters._backends.ably.subscriber import Watching

__all__ = ["AblyBackend"]

_left_behind: list[Any] = []


class AblyBackend(Backend):
    """Channels on Ably.

    :param url: ``ably://APP.KEY:SECRET``; query parameters are settings.
    :param client: in place of a key or token, an `ably.AblyRealtime` or `ably.AblyRest`. How it
        authenticates and where it connects is taken over; its own connection is neither used nor
        closed, so it may belong to any event loop.
    :param settings: see docs/ably.md; among them ``key``, ``token``, ``auth_url``,
        ``auth_callback``, ``client_id``, ``granularity``, ``dialect`` and ``rollup_window``.
    :raises ValueError: when something of this is wrong.
    """

    def __init__(self, url: str | None = None, *, client: Any = None, **settings: Any) -> None:
        self.settings: Settings = settings_of(url, client, settings)
        self.granularity = self.settings.granularity
        self.capabilities = Capabilities(
            window=self.settings.window, fencing="reader", dedupe=False, resume="snapshots"
        )
        self._made: tuple[Link, Link, Rest, Writing, Watching] | None = None

    @classmethod
    def from_url(cls, url: str, **options: Any) -> AblyBackend:
        """Open a URL; the entry point ``ably`` names this class."""
        return cls(url, **options)

    def use_rollup(self, window: float) -> None:
        if self.settings.rollup_window is None and self._made is None:
            self.settings = replace(self.settings, rollup_window=window)

    def __repr__(self) -> str:
        return f"AblyBackend({self.settings.shown})"

    @property
    def _parts(self) -> tuple[Link, Link, Rest, Writing, Watching]:
        """The connections, made on the loop that uses them."""
        if self._made is None:
            # Without heartbeats ably-python takes a quiet connection for a lost one.
            beats = {"heartbeats": "true"}
            params = {"echo": "false", **beats}
            if self.settings.rollup_window is not None:
                params["appendRollupWindow"] = str(round(1000 * self.settings.rollup_window))
            out = Link(self.settings, params, "publishing")
            back = Link(self.settings, beats, "watching")
            rest = Rest(self.settings)
            watching = Watching(back, rest, self.settings)
            history = History(rest, self.settings.reach)
            writing = Writing(out, history, self.settings, watching.state)
            self._made = out, back, rest, writing, watching
        return self._made

    async def publish(self, entries: Sequence[Entry]) -> Sequence[Outcome]:
        return await self._parts[3].publish(entries)

    async def subscribe(self, channel: str, receiver: Receiver) -> Subscription:
        return await self._parts[4].subscribe(channel, receiver)

    async def control(self, channel: str, receiver: Receiver) -> Subscription:
        return await self._parts[3].control(channel, receiver)

    async def replay(self, channel: str, start: ReplayFrom) -> Replay:
        return await self._parts[4].replay(channel, start)

    async def history(self, channel: str, *, limit: int, before: str | None = None) -> HistoryPage:
        return await self._parts[4].history(channel, limit, before)

    async def renew(self, leases: Sequence[Lease]) -> Sequence[LeaseState]:
        return await self._parts[3].renew(leases)

    async def reap(self, channel: str) -> int:
        return await self._parts[4].reap(channel)

    def order(self, cursor: str) -> Order:
        return parse(cursor)

    async def check(self) -> dict[str, Any]:
        out, back, rest, _, _ = self._parts
        return await check(self.settings, out, back, rest)

    async def close(self) -> None:
        made, self._made = self._made, None
        if made is not None:
            out, back, rest, writing, watching = made
            await writing.close()
            await watching.close()
            await out.close()
            await back.close()
            await rest.close()

    def after_fork(self) -> None:
        # Kept, so that nothing of the parent's is closed here when it is collected.
        _left_behind.append(self._made)
        self._made = None
