"""`jsonl:///path/to/file`: channels in a file, which one process at a time can open.

Each line is a change. `MemoryStore` has the rules: who may write, what is kept, what watchers need.
"""

from __future__ import annotations

import fcntl
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec

from tokenwire import backend
from tokenwire.errors import BackendMisconfigured, BackendUnavailable
from tokenwire.events import KnownEvent
from tokenwire.memory import MemoryStore

T = TypeVar("T")


class StoredEntry(backend.Entry, frozen=True, kw_only=True):  # with a type that msgspec decodes
    events: tuple[KnownEvent, ...]


class Change(msgspec.Struct, frozen=True, omit_defaults=True):
    """A line of the file. The first has only the epoch, with which all cursors begin."""

    time: float
    epoch: str | None = None
    entry: StoredEntry | None = None
    lease: backend.Lease | None = None
    reaped: str = ""  # a channel of which abandoned responses were ended


class Journal:
    """An open file and its store; thread-safe."""

    def __init__(self, path: Path, granularity: backend.Granularity) -> None:
        self.path = path
        self.users = 0
        self._lock = threading.Lock()
        self._time = 0.0  # the store's clock: the time of the last change or read
        try:
            self.file = path.open("a+b", buffering=0)
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise BackendMisconfigured(f"cannot open {path}, or it is in use: {error}") from error
        lines = path.read_bytes().split(b"\n")[:-1]  # without one that a crash left unfinished
        self._size = self.file.truncate(sum(len(line) + 1 for line in lines))
        changes = [msgspec.json.decode(line, type=Change) for line in lines]
        if not changes:
            changes = [Change(time.time(), epoch=secrets.token_hex(4))]
            self._write(changes[0])
        epoch = changes[0].epoch
        self.store = MemoryStore(granularity=granularity, clock=lambda: self._time, epoch=epoch)
        for change in changes[1:]:
            self._apply(change)

    def _apply(self, change: Change) -> Any:
        self._time = change.time
        if change.entry is not None:
            return self.store.publish([change.entry])[0]
        if change.lease is not None:
            return self.store.renew([change.lease])[0]
        return self.store.reap(change.reaped)

    def _write(self, change: Change) -> None:
        line = msgspec.json.encode(change) + b"\n"
        try:
            if self.file.write(line) < len(line):
                raise OSError("the disk is full")
        except OSError as error:
            self.file.truncate(self._size)
            raise BackendUnavailable(f"cannot write to {self.path}: {error}") from error
        self._size += len(line)

    def change(self, change: Change) -> Any:
        """Write a change, then apply it."""
        with self._lock:
            self._write(change)
            return self._apply(change)

    def read(self, channel: str, query: Callable[[int], T]) -> T:
        """End abandoned responses of a channel; call `query` with how many those were."""
        with self._lock:
            change = Change(time.time(), reaped=channel)
            if count := self._apply(change):
                self._write(change)
            return query(count)


_journals: dict[Path, Journal] = {}  # one for all sinks of this process
_opening = threading.Lock()


class JsonLinesBackend(backend.Backend):
    """Channels in a file of JSON lines."""

    def __init__(self, path: str | Path, *, granularity: backend.Granularity = "response") -> None:
        path = Path(path).resolve()
        with _opening:
            self._journal = _journals.get(path) or Journal(path, granularity)
            _journals[path] = self._journal
            self._journal.users += 1
        self._store = self._journal.store
        self.granularity = self._store.granularity

    @classmethod
    def from_url(cls, url: str, **options: Any) -> backend.Backend:
        parts = urlsplit(url)
        return cls(unquote(parts.path), **options, **cast("Any", dict(parse_qsl(parts.query))))

    async def publish(self, entries: Sequence[backend.Entry]) -> Sequence[backend.Outcome]:
        changes = [Change(time.time(), entry=cast("StoredEntry", entry)) for entry in entries]
        return [self._journal.change(change) for change in changes]

    async def renew(self, leases: Sequence[backend.Lease]) -> Sequence[backend.LeaseState]:
        return [self._journal.change(Change(time.time(), lease=lease)) for lease in leases]

    async def subscribe(self, channel: str, receiver: backend.Receiver) -> backend.Subscription:
        return self._store.listen(channel, receiver, "listeners")

    async def control(self, channel: str, receiver: backend.Receiver) -> backend.Subscription:
        return self._store.listen(channel, receiver, "controls")

    async def replay(self, channel: str, start: backend.ReplayFrom) -> backend.Replay:
        return self._journal.read(channel, lambda _: self._store.replay(channel, start))

    async def history(
        self, channel: str, *, limit: int, before: str | None = None
    ) -> backend.HistoryPage:
        return self._journal.read(channel, lambda _: self._store.history(channel, limit, before))

    async def reap(self, channel: str) -> int:
        return self._journal.read(channel, lambda count: count)

    def order(self, cursor: str) -> tuple[str, int]:
        return self._store.order(cursor)

    async def close(self) -> None:
        with _opening:
            self._journal.users -= 1
            if not self._journal.users:
                _journals.pop(self._journal.path).file.close()
