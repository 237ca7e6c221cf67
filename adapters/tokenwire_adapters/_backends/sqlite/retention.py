"""Removes what a channel is to keep no longer."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Any

from tokenwire.backend import Retention
from tokenwire_adapters._backends.sqlite.change import Change, microseconds
from tokenwire_adapters._backends.sqlite.channels import Channel
from tokenwire_adapters._backends.sqlite.options import Settings

__all__ = ["Trimmer", "load_retention", "remove_folded", "store_retention"]

_BATCH = 64  # channels that one transaction of a sweep looks at
_MAX = 2**63 - 1  # the largest integer that SQLite stores
_EXPIRED = (
    "SELECT DISTINCT c.name FROM responses AS r JOIN channels AS c ON c.id = r.channel"
    " WHERE r.state = 'streaming' AND r.lease < ? LIMIT ?"
)
# What is too old, in channels with the usual retention, and in those with one of their own.
_OLD_EVENTS = "SELECT name FROM channels WHERE events > 0 AND head < ? LIMIT ?"
_OLD_TOKENS = """
SELECT c.name FROM channels AS c WHERE c.events > 0 AND c.head < ?
  AND NOT EXISTS (SELECT 1 FROM retentions AS t WHERE t.channel = c.name) LIMIT ?
"""
_OWN_TOKENS = """
SELECT c.name FROM retentions AS t JOIN channels AS c ON c.name = t.channel
WHERE t.age IS NOT NULL AND c.events > 0 AND c.head < ? - t.age * 1000000 LIMIT ?
"""
_OLD_ENDED = """
SELECT DISTINCT c.name FROM responses AS r JOIN channels AS c ON c.id = r.channel
WHERE r.state <> 'streaming' AND r.last < ?
  AND NOT EXISTS (SELECT 1 FROM retentions AS t WHERE t.channel = c.name) LIMIT ?
"""
_OWN_ENDED = """
SELECT c.name FROM retentions AS t JOIN channels AS c ON c.name = t.channel
WHERE t.age IS NOT NULL AND EXISTS (SELECT 1 FROM responses AS r WHERE r.channel = c.id
  AND r.state <> 'streaming' AND r.last < ? - t.age * 1000000) LIMIT ?
"""
_OLD_SINGLES = """
SELECT DISTINCT c.name FROM log AS l INDEXED BY singles JOIN channels AS c ON c.id = l.channel
WHERE l.kind > 0 AND l.last < ?
  AND NOT EXISTS (SELECT 1 FROM retentions AS t WHERE t.channel = c.name) LIMIT ?
"""
_OWN_SINGLES = """
SELECT c.name FROM retentions AS t JOIN channels AS c ON c.name = t.channel
WHERE t.age IS NOT NULL AND EXISTS (SELECT 1 FROM log AS l INDEXED BY singles
  WHERE l.channel = c.id AND l.kind > 0 AND l.last < ? - t.age * 1000000) LIMIT ?
"""


class Trimmer:
    """Trims channels, each in a transaction that changes it, and finds those that nobody changes.

    What streams is always kept. Counts may be exceeded by an eighth, so that not every change
    removes something.
    """

    def __init__(self, settings: Settings) -> None:
        self._keep = settings.retention
        self._by_token = settings.granularity == "token"
        self._event_age = microseconds(settings.event_age)

    def trim(self, change: Change, channel: Channel, *, by_age: bool) -> None:
        """Remove what is beyond the limits.

        :param by_age: look also for what is too old.
        """
        keep = load_retention(change.db, channel.name) or self._keep
        removed = 0
        if by_age or channel.singles > _roughly(keep.responses):
            removed = self._trim_singles(change, channel, keep)
        if (
            by_age
            or removed > channel.tail
            or channel.events > _roughly(keep.events)
            or channel.event_bytes > _roughly(keep.event_bytes)
        ):
            self._trim_log(change, channel, keep, removed)
        if by_age or channel.name in change.ended:
            self._trim_ended(change, channel, keep)

    def _trim_singles(self, change: Change, channel: Channel, keep: Retention) -> int:
        oldest = _oldest(change, keep)
        upto = 0
        for (last,) in _rows(
            change,
            "SELECT last FROM log INDEXED BY singles WHERE channel = ? AND kind > 0 ORDER BY last",
            channel.id,
        ):
            if last >= oldest and channel.singles <= keep.responses:
                break
            channel.singles -= 1
            upto = last
        change.db.execute(
            "DELETE FROM log WHERE channel = ? AND kind > 0 AND last <= ?", (channel.id, upto)
        )
        return upto

    def _trim_log(self, change: Change, channel: Channel, keep: Retention, removed: int) -> None:
        """Advance the tail, and remove what is before it, but of text that is nowhere else."""
        oldest = _oldest(change, keep) if self._by_token else change.now - self._event_age
        for last, count, size in _rows(
            change,
            "SELECT last, count, length(events) FROM log"
            " WHERE channel = ? AND kind = 0 AND last > ? ORDER BY last",
            channel.id,
            channel.tail,
        ):
            within = channel.events <= keep.events and channel.event_bytes <= keep.event_bytes
            if within and last >= oldest and last > removed:
                break
            channel.events -= count
            channel.event_bytes -= size
            channel.tail = last
        channel.tail = max(channel.tail, removed)
        remove_folded(change.db, channel)

    def _trim_ended(self, change: Change, channel: Channel, keep: Retention) -> None:
        """Remove responses that have ended, those that have not changed for longest first."""
        oldest = _oldest(change, keep)
        numbers: list[tuple[int]] = []
        for number, last, size in _rows(
            change,
            "SELECT number, last, size FROM responses"
            " WHERE channel = ? AND state <> 'streaming' ORDER BY last",
            channel.id,
        ):
            within = channel.ended <= keep.responses and channel.ended_bytes <= keep.bytes
            if within and last >= oldest:
                break
            channel.ended -= 1
            channel.ended_bytes -= size
            numbers.append((number,))
        change.db.executemany("DELETE FROM bodies WHERE response = ?", numbers)
        change.db.executemany("DELETE FROM responses WHERE number = ?", numbers)

    def sweep(self, change: Change) -> list[str]:
        """Find channels in which something is too old; remove those that are empty and old.

        Their abandoned responses are ended. The caller trims them; there may be more.
        """
        db, now = change.db, change.now
        names = [name for (name,) in db.execute(_EXPIRED, (now, _BATCH))]
        for name in names:
            change.reap(name)
        for query, before in self._queries(now):
            names += [name for (name,) in db.execute(query, (before, _BATCH))]
        if self._keep.age is not None:
            self._remove_empty(change, now - microseconds(self._keep.age))
        return names

    def _queries(self, now: int) -> list[tuple[str, int]]:
        """What to ask for channels in which something is too old, each with its first parameter."""
        queries = [(_OWN_ENDED, now), (_OWN_SINGLES, now)]
        if self._by_token:
            queries.append((_OWN_TOKENS, now))
        else:
            queries.append((_OLD_EVENTS, now - self._event_age))
        if self._keep.age is not None:
            oldest = now - microseconds(self._keep.age)
            queries += [(_OLD_ENDED, oldest), (_OLD_SINGLES, oldest)]
            if self._by_token:
                queries.append((_OLD_TOKENS, oldest))
        return queries

    def _remove_empty(self, change: Change, oldest: int) -> None:
        """Remove old channels without anything; their numbers are not used again."""
        change.db.execute(
            "UPDATE meta SET floor ="
            " max(floor, coalesce((SELECT max(head) FROM channels WHERE head < ?), 0))",
            (oldest,),
        )
        change.db.execute(
            "DELETE FROM channels WHERE head < ? AND events = 0 AND singles = 0 AND ended = 0"
            " AND NOT EXISTS (SELECT 1 FROM responses AS r WHERE r.channel = channels.id)",
            (oldest,),
        )


def load_retention(db: sqlite3.Connection, name: str) -> Retention | None:
    """The retention of a channel's own, if it has one."""
    row = db.execute(
        "SELECT responses, age, bytes, events, event_bytes FROM retentions WHERE channel = ?",
        (name,),
    ).fetchone()
    if row is None:
        return None
    responses, age, size, events, event_bytes = row
    return Retention(
        responses=responses, age=age, bytes=size, events=events, event_bytes=event_bytes
    )


def store_retention(db: sqlite3.Connection, name: str, retention: Retention | None) -> None:
    """Give a channel a retention of its own, or take it away."""
    if retention is None:
        db.execute("DELETE FROM retentions WHERE channel = ?", (name,))
        return
    keep = retention
    counts = [min(n, _MAX) for n in (keep.responses, keep.bytes, keep.events, keep.event_bytes)]
    db.execute(
        "INSERT OR REPLACE INTO retentions (channel, age, responses, bytes, events, event_bytes)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (name, keep.age, *counts),
    )


def remove_folded(db: sqlite3.Connection, channel: Channel) -> None:
    """Remove events of producers up to the tail, but of text that is nowhere else."""
    db.execute(
        "DELETE FROM log WHERE channel = ? AND kind = 0 AND last <= ? AND NOT EXISTS"
        " (SELECT 1 FROM responses AS r WHERE r.channel = log.channel AND r.id = log.response"
        " AND r.state = 'streaming' AND r.folded < log.last)",
        (channel.id, channel.tail),
    )


def _oldest(change: Change, keep: Retention) -> int:
    """The number before which everything is too old."""
    return 0 if keep.age is None else change.now - microseconds(keep.age)


def _roughly(limit: int) -> int:
    return limit + limit // 8


def _rows(change: Change, query: str, *parameters: int) -> Iterable[Any]:
    """The rows of a query, one by one: whoever has seen enough need not read the rest."""
    cursor = change.db.execute(query, parameters)
    try:
        yield from cursor
    finally:
        cursor.close()
