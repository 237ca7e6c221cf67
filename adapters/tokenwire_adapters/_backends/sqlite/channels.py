"""The rows of channels, as one transaction reads, changes and writes them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence

__all__ = ["Channel", "Channels"]


class Channel:
    """A channel's row; the schema says what the columns are."""

    def __init__(self, name: str, row: Sequence[int]) -> None:
        self.name = name
        self.id, self.head, self.tail, self.events, self.event_bytes = row[:5]
        self.singles, self.ended, self.ended_bytes = row[5:]


class Channels:
    """The channels that a transaction has used; iterating gives their rows."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._rows: dict[str, Channel] = {}

    def __iter__(self) -> Iterator[Channel]:
        return iter(self._rows.values())

    def get(self, name: str) -> Channel | None:
        """The row of a channel, if there is one."""
        if name not in self._rows:
            row = self._db.execute(
                "SELECT id, head, tail, events, event_bytes, singles, ended, ended_bytes"
                " FROM channels WHERE name = ?",
                (name,),
            ).fetchone()
            if row is None:
                return None
            self._rows[name] = Channel(name, row)
        return self._rows[name]

    def ensure(self, name: str) -> Channel:
        """The row of a channel; inserts it where there is none."""
        channel = self.get(name)
        if channel is None:
            self._db.execute(
                "INSERT INTO channels (name, head, tail, events, event_bytes, singles, ended,"
                " ended_bytes) SELECT ?, floor, floor, 0, 0, 0, 0, 0 FROM meta",
                (name,),
            )
            channel = self.get(name)
            assert channel is not None
        return channel

    def remove(self, channel: Channel) -> None:
        """Remove the row of a channel; its numbers are not used again."""
        self._db.execute("UPDATE meta SET floor = max(floor, ?)", (channel.head,))
        self._db.execute("DELETE FROM channels WHERE id = ?", (channel.id,))
        del self._rows[channel.name]

    def save(self) -> None:
        """Write the rows back."""
        self._db.executemany(
            "UPDATE channels SET head = ?, tail = ?, events = ?, event_bytes = ?, singles = ?,"
            " ended = ?, ended_bytes = ? WHERE id = ?",
            [
                (c.head, c.tail, c.events, c.event_bytes, c.singles, c.ended, c.ended_bytes, c.id)
                for c in self
            ],
        )
