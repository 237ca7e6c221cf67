"""Runs the changes of a file, each in a transaction, and what is to be done from time to time."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TypeVar

from tokenwire.backend import Entry, Lease, LeaseState, Outcome
from tokenwire_adapters._backends.sqlite.change import Cache, Change
from tokenwire_adapters._backends.sqlite.database import give_back, transaction
from tokenwire_adapters._backends.sqlite.doorbell import Doorbell
from tokenwire_adapters._backends.sqlite.options import Settings
from tokenwire_adapters._backends.sqlite.retention import Trimmer
from tokenwire_adapters._backends.sqlite.worker import File

__all__ = ["Writer"]

T = TypeVar("T")
_SWEEP_EVERY = 3600.0  # seconds between looks for what is too old in silent channels
_MIN_FREE = 256  # pages that stay free for what is written next, at least
_VACUUM = 512  # pages that are given back at a time


class Writer:
    """Makes all changes; its methods run on the thread of a worker.

    :param doorbell: rung after changes that listeners are to see.
    """

    def __init__(self, settings: Settings, doorbell: Doorbell) -> None:
        self._doorbell = doorbell
        self._trimmer = Trimmer(settings)
        self._cache: Cache = OrderedDict()
        self._event_age = settings.event_age
        self._owed = False  # a listener's queue was full when it was rung
        self._look_at: dict[str, float] = {}  # when to look at channels for old events (monotonic)
        self._look_every = min(max(settings.event_age / 4, 0.1), 15.0)
        self._next_look = self._next_sweep = 0.0

    def publish(self, file: File, entries: Sequence[Entry]) -> list[Outcome]:
        """Publish entries (see `Backend.publish`)."""
        return self.change(file, lambda change: [change.publish(entry) for entry in entries])

    def renew(self, file: File, leases: Sequence[Lease]) -> list[LeaseState]:
        """Renew leases (see `Backend.renew`)."""
        return self.change(file, lambda change: [change.renew(lease) for lease in leases])

    def reap(self, file: File, channel: str) -> int:
        """End abandoned responses (see `Backend.reap`)."""
        return self.change(file, lambda change: change.reap(channel))

    def change(self, file: File, function: Callable[[Change], T]) -> T:
        """Run `function` in a transaction, and ring the doorbell once it is in the file."""
        try:
            with transaction(file.db):
                change = Change(file, self._cache)
                result = function(change)
                for channel in change.channels:
                    self._trimmer.trim(change, channel, by_age=self._is_due(channel.name))
                change.channels.save()
        except BaseException:
            self._cache.clear()  # it may be ahead of the file
            raise
        now = time.monotonic()
        for channel in change.channels:
            name = channel.name
            if self._is_due(name) and not channel.events:
                del self._look_at[name]
            elif self._is_due(name):
                self._look_at[name] = now + self._look_every
            else:
                self._look_at.setdefault(name, now + self._event_age)
        if change.topics or self._owed:
            self._owed = self._doorbell.ring(change.topics)
        return result

    def _is_due(self, name: str) -> bool:
        at = self._look_at.get(name)
        return at is not None and at <= time.monotonic()

    def chores(self, file: File) -> float:
        """Do what is due; return after how many seconds there may be more."""
        if self._owed:
            self._owed = self._doorbell.ring(frozenset())
            if self._owed:
                return 0.005
        now = time.monotonic()
        if now >= self._next_sweep:
            names = self.change(file, self._trimmer.sweep)
            self._look_at.update(dict.fromkeys(names, now))
            self._next_sweep = now + (1.0 if names else _SWEEP_EVERY)
            if names:
                self._next_look = now
        if self._look_at and now >= self._next_look:
            due = [name for name, at in self._look_at.items() if at <= now][:64]
            self.change(file, lambda change: [change.channels.ensure(name) for name in due])
            self._tidy(file)
            self._next_look = now + (self._look_every if len(due) < 64 else 0.05)
        next_ = min(self._next_sweep, self._next_look) if self._look_at else self._next_sweep
        return max(0.0, next_ - time.monotonic())

    def _tidy(self, file: File) -> None:
        """Give unused pages back, some at a time, and have the disk confirm what was written."""
        (free,) = file.db.execute("PRAGMA freelist_count").fetchone()
        (pages,) = file.db.execute("PRAGMA page_count").fetchone()
        if free > max(_MIN_FREE, pages // 8):
            give_back(file.db, _VACUUM)
        file.db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
