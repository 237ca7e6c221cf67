"""Removes what a channel is to keep no longer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tokenwire_adapters._backends.sqlite.change import Change, Channel, microseconds
from tokenwire_adapters._backends.sqlite.options import Settings

__all__ = ["Trimmer"]

_BATCH = 64  # channels that one transaction of a sweep looks at
_EXPIRED = (
    "SELECT DISTINCT c.name FROM responses AS r JOIN channels AS c ON c.id = r.channel"
    " WHERE r.state = 'streaming' AND r.lease < ? LIMIT ?"
)
_OLD_EVENTS = "SELECT name FROM channels WHERE events > 0 AND head < ? LIMIT ?"
_OLD_ENDED = (
    "SELECT DISTINCT c.name FROM responses AS r JOIN channels AS c ON c.id = r.channel"
    " WHERE r.state <> 'streaming' AND r.last < ? LIMIT ?"
)
_OLD_SINGLES = (
    "SELECT DISTINCT c.name FROM log AS l INDEXED BY singles JOIN channels AS c ON c.id = l.channel"
    " WHERE l.kind > 0 AND l.last < ? LIMIT ?"
)


class Trimmer:
    """Trims channels, each in a transaction that changes it, and finds those that nobody changes.

    What streams is always kept. Counts may be exceeded by an eighth, so that not every change
    removes something.
    """

    def __init__(self, settings: Settings) -> None:
        self._keep = keep = settings.retention
        self._age = None if keep.age is None else microseconds(keep.age)
        by_token = settings.granularity == "token"
        self._event_age = self._age if by_token else microseconds(settings.event_age)

    def trim(self, change: Change, channel: Channel, *, by_age: bool) -> None:
        """Remove what is beyond the limits.

        :param by_age: look also for what is too old.
        """
        keep = self._keep
        removed = 0
        if by_age or channel.singles > _roughly(keep.responses):
            removed = self._trim_singles(change, channel)
        if (
            by_age
            or removed > channel.tail
            or channel.events > _roughly(keep.events)
            or channel.event_bytes > _roughly(keep.event_bytes)
        ):
            self._trim_log(change, channel, removed)
        if by_age or channel.name in change.ended:
            self._trim_ended(change, channel)

    def _trim_singles(self, change: Change, channel: Channel) -> int:
        oldest = 0 if self._age is None else change.now - self._age
        upto = 0
        for (last,) in _rows(
            change,
            "SELECT last FROM log INDEXED BY singles WHERE channel = ? AND kind > 0 ORDER BY last",
            channel.id,
        ):
            if last >= oldest and channel.singles <= self._keep.responses:
                break
            channel.singles -= 1
            upto = last
        change.db.execute(
            "DELETE FROM log WHERE channel = ? AND kind > 0 AND last <= ?", (channel.id, upto)
        )
        return upto

    def _trim_log(self, change: Change, channel: Channel, removed: int) -> None:
        """Advance the tail, and remove what is before it, but of text that is nowhere else."""
        keep = self._keep
        oldest = 0 if self._event_age is None else change.now - self._event_age
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
        change.db.execute(
            "DELETE FROM log WHERE channel = ? AND kind = 0 AND last <= ? AND NOT EXISTS"
            " (SELECT 1 FROM responses AS r WHERE r.channel = log.channel AND r.id = log.response"
            " AND r.state = 'streaming' AND r.folded < log.last)",
            (channel.id, channel.tail),
        )

    def _trim_ended(self, change: Change, channel: Channel) -> None:
        """Remove responses that have ended, those that have not changed for longest first."""
        keep = self._keep
        oldest = 0 if self._age is None else change.now - self._age
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
        too_old = (
            (_OLD_EVENTS, self._event_age),
            (_OLD_ENDED, self._age),
            (_OLD_SINGLES, self._age),
        )
        for query, age in too_old:
            if age is not None:
                names += [name for (name,) in db.execute(query, (now - age, _BATCH))]
        if self._age is not None:
            self._remove_empty(change, now - self._age)
        return names

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


def _roughly(limit: int) -> int:
    return limit + limit // 8


def _rows(change: Change, query: str, *parameters: int) -> Iterable[Any]:
    """The rows of a query, one by one: whoever has seen enough need not read the rest."""
    cursor = change.db.execute(query, parameters)
    try:
        yield from cursor
    finally:
        cursor.close()
