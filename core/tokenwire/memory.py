"""`MemoryBackend`: channels in this process. The default, and what the other backends are held to.

``memory://`` is one store for the whole process: an agent and a gateway that open it separately
meet there. ``memory://NAME`` is another. `MemoryBackend()` has a store of its own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from urllib.parse import parse_qsl

from tokenwire._memory.store import MemoryStore
from tokenwire._urls import split_url
from tokenwire.backend import (
    Backend,
    Capabilities,
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

__all__ = ["MemoryBackend", "MemoryStore", "Retention"]


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
