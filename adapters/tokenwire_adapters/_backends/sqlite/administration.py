"""Administration of channels: deletion, the list of channels, retention of a channel."""

from __future__ import annotations

import asyncio
import logging
import time
from functools import partial

from tokenwire._clock import Backoff
from tokenwire.backend import ChannelInfo, ChannelPage, Deleted, Deletion, Retention
from tokenwire.errors import BackendError, BackendUnavailable, InvalidCursor
from tokenwire.events import InputEvent
from tokenwire_adapters._backends.sqlite.change import Change
from tokenwire_adapters._backends.sqlite.channels import Channel
from tokenwire_adapters._backends.sqlite.database import give_back, transaction
from tokenwire_adapters._backends.sqlite.options import Settings
from tokenwire_adapters._backends.sqlite.records import Skip, decode_entry
from tokenwire_adapters._backends.sqlite.retention import (
    load_retention,
    remove_folded,
    store_retention,
)
from tokenwire_adapters._backends.sqlite.worker import File, Worker
from tokenwire_adapters._backends.sqlite.writer import Writer

__all__ = ["Administrator"]

logger = logging.getLogger("tokenwire")

_NAME_MARK = "after:"
_MAX_PAGE = 1000  # channels
_VACUUM = 4096  # pages that are given back at a time, so that others can write in between
_CHANNELS = """
SELECT c.name, c.head, c.ended,
  (SELECT count(*) FROM responses AS r WHERE r.channel = c.id AND r.state = 'streaming') AS open
FROM channels AS c
WHERE c.name >= ? AND c.name > ? AND (c.events > 0 OR c.singles > 0 OR c.ended > 0 OR open > 0)
ORDER BY c.name
"""


class Administrator:
    """Runs what an operator asks for.

    :param writing: runs changes, which `writer` makes; `reading` runs the rest.
    :param skip: is called for what cannot be read.
    """

    def __init__(
        self, settings: Settings, writing: Worker, reading: Worker, writer: Writer, skip: Skip
    ) -> None:
        self._settings = settings
        self._writing = writing
        self._reading = reading
        self._writer = writer
        self._skip = skip

    # -- deletion

    async def delete(self, channel: str, deletion: Deletion) -> Deleted:
        """Delete from a channel, in one transaction (see `Backend.delete`)."""
        function = partial(_delete, name=channel, deletion=deletion, skip=self._skip)
        deleted = await self._writing.run(partial(self._writer.change, function=function))
        if deleted.responses or deleted.events:
            await self._erase()
        return deleted

    async def _erase(self) -> None:
        """Erase deleted text from the files, too. It is out of reach for readers already."""
        backoff, deadline = Backoff(0.001, 0.1), time.monotonic() + self._settings.timeout
        try:
            while not await self._writing.run(_vacuum):
                pass
            while not await self._writing.run(_empty_wal):
                if time.monotonic() > deadline:
                    raise BackendUnavailable("somebody reads an earlier state of it")
                await asyncio.sleep(backoff.next())
        except BackendError as error:
            logger.warning("tokenwire: deleted text is not erased from the files yet: %s", error)

    # -- the list of channels

    async def list_channels(self, prefix: str, limit: int, after: str | None) -> ChannelPage:
        """Read a page of channels, by name (see `Backend.list_channels`)."""
        if after is not None and not after.startswith(_NAME_MARK):
            raise InvalidCursor(f"not a page token: {after[:64]!a}")
        last = "" if after is None else after.removeprefix(_NAME_MARK)
        most = min(max(limit, 1), _MAX_PAGE)
        return await self._reading.run(partial(_list, prefix=prefix, last=last, most=most))

    # -- retention

    async def retention(self, channel: str) -> Retention:
        """Read the retention of a channel (see `Backend.retention`)."""
        own = await self._reading.run(lambda file: load_retention(file.db, channel))
        return own or self._settings.retention

    async def set_retention(self, channel: str, retention: Retention | None) -> None:
        """Set the retention of a channel (see `Backend.set_retention`)."""
        await self._writing.run(
            partial(
                self._writer.change,
                function=lambda change: store_retention(change.db, channel, retention),
            )
        )


def _delete(change: Change, name: str, deletion: Deletion, skip: Skip) -> Deleted:
    change.reap(name)
    channel = change.channels.get(name)
    if deletion.everything:
        return _delete_channel(change, name, channel)
    return Deleted() if channel is None else _delete_some(change, channel, deletion, skip)


def _delete_channel(change: Change, name: str, channel: Channel | None) -> Deleted:
    db = change.db
    deleted = Deleted()
    if channel is not None:
        rows = db.execute(
            "SELECT id FROM responses WHERE channel = ? AND state = 'streaming' ORDER BY id",
            (channel.id,),
        ).fetchall()
        if rows:
            return Deleted(streaming=tuple(id_ for (id_,) in rows))
        db.execute(
            "DELETE FROM bodies WHERE response IN (SELECT number FROM responses WHERE channel = ?)",
            (channel.id,),
        )
        responses = db.execute("DELETE FROM responses WHERE channel = ?", (channel.id,)).rowcount
        db.execute("DELETE FROM log WHERE channel = ?", (channel.id,))
        change.channels.remove(channel)
        deleted = Deleted(responses=responses, events=channel.singles)
    store_retention(db, name, None)
    return deleted


def _delete_some(change: Change, channel: Channel, deletion: Deletion, skip: Skip) -> Deleted:
    """Delete responses and inputs; cursors from before the last of them are not continued."""
    db = change.db
    streaming: list[str] = []
    responses, upto = 0, 0
    for id_ in sorted(deletion.response_ids):
        row = db.execute(
            "SELECT number, state, last, size FROM responses WHERE channel = ? AND id = ?",
            (channel.id, id_),
        ).fetchone()
        if row is None:
            continue
        number, state, last, size = row
        if state == "streaming":
            streaming.append(id_)
            continue
        db.execute("DELETE FROM bodies WHERE response = ?", (number,))
        db.execute("DELETE FROM responses WHERE number = ?", (number,))
        channel.ended -= 1
        channel.ended_bytes -= size
        responses, upto = responses + 1, max(upto, last)
    ids = deletion.response_ids.difference(streaming)
    events, last = _delete_events(change, channel, ids, deletion.senders, skip)
    upto = max(upto, last)
    if upto > channel.tail:
        channel.tail = upto
        channel.events, channel.event_bytes = db.execute(
            "SELECT coalesce(sum(count), 0), coalesce(sum(length(events)), 0) FROM log"
            " WHERE channel = ? AND kind = 0 AND last > ?",
            (channel.id, upto),
        ).fetchone()
        remove_folded(db, channel)
    return Deleted(responses=responses, events=events, streaming=tuple(streaming))


def _delete_events(
    change: Change,
    channel: Channel,
    response_ids: frozenset[str],
    senders: frozenset[str],
    skip: Skip,
) -> tuple[int, int]:
    """Delete rows of the log; return how many were of anybody, and the number of the last."""
    doomed: list[tuple[int, int]] = []
    singles = 0
    rows = change.db.execute(
        "SELECT last, kind, response, CASE kind WHEN 2 THEN events END FROM log"
        " WHERE channel = ? ORDER BY last",
        (channel.id,),
    )
    for last, kind, response_id, events in rows:
        matches = response_id in response_ids
        if kind == 2:  # a cancel or an input
            for event in decode_entry(events, last, change.epoch, skip):
                if isinstance(event, InputEvent):
                    matches = event.sender in senders
        if matches:
            doomed.append((channel.id, last))
            singles += kind > 0
    change.db.executemany("DELETE FROM log WHERE channel = ? AND last = ?", doomed)
    channel.singles -= singles
    return singles, doomed[-1][1] if doomed else 0


def _vacuum(file: File) -> bool:
    """Drop some free pages from the file, with what is left on them; return whether all are."""
    (free,) = file.db.execute("PRAGMA freelist_count").fetchone()
    (mode,) = file.db.execute("PRAGMA auto_vacuum").fetchone()
    give_back(file.db, _VACUUM)
    # 2: incremental; another file may have taken its place
    return bool(free <= _VACUUM or mode != 2)


def _empty_wal(file: File) -> bool:
    """Empty the write-ahead log, which has earlier states of pages; return whether it is empty."""
    busy, _, _ = file.db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return not busy


def _list(file: File, prefix: str, last: str, most: int) -> ChannelPage:
    items: list[ChannelInfo] = []
    with transaction(file.db, "DEFERRED"):
        # The names that begin with the prefix follow it without a gap: SQLite compares bytes.
        for name, head, ended, streaming in file.db.execute(_CHANNELS, (prefix, last)):
            if not name.startswith(prefix):
                break
            if len(items) == most:
                return ChannelPage(items=tuple(items), next=_NAME_MARK + items[-1].name)
            items.append(
                ChannelInfo(
                    name=name,
                    responses=ended + streaming,
                    streaming=streaming,
                    active_at=head // 1000,
                )
            )
    return ChannelPage(items=tuple(items))
