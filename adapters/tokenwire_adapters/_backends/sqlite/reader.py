"""Reads replays, history and news, each from one state of the file."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from tokenwire._clock import now_ms
from tokenwire._memory.channel import parse_cursor
from tokenwire.backend import HistoryPage, Replay, ReplayFrom
from tokenwire.errors import InvalidCursor
from tokenwire.events import CancelEvent, DataEvent, Event, Response, SnapshotEvent, ToolResultEvent
from tokenwire.response import Assembler, merge_deltas
from tokenwire_adapters._backends.sqlite.database import transaction
from tokenwire_adapters._backends.sqlite.options import Settings
from tokenwire_adapters._backends.sqlite.records import (
    Skip,
    cursor_of,
    decode_entry,
    load_responses,
)
from tokenwire_adapters._backends.sqlite.worker import File

__all__ = ["News", "Reader", "Wanted"]

_MAX_PAGE = 1000  # responses
_OVERHEAD = 256  # bytes of a snapshot beside its text, for the size of pages

_RESPONSES = """
SELECT last, size, id, number, folded, state = 'streaming' FROM responses WHERE channel = ? AND
"""
_LOG = "SELECT last, length(events), events FROM log WHERE channel = ? AND last > ? "


class Wanted(NamedTuple):
    """What a subscription wants to know: what came in a channel after a number of a log."""

    channel: str
    control: bool
    epoch: str
    after: int


class News(NamedTuple):
    """What came.

    :ivar events: None where some may have been removed, or the log is another one.
    """

    epoch: str
    head: int
    events: Sequence[Event] | None


class _Item(NamedTuple):
    """A response, or an event of the log, in a replay: where it is, and how to find it."""

    last: int
    size: int
    row: tuple[str, int, int, bool] | None = None
    events: bytes = b""


class _View:
    """One channel, as it is in one transaction."""

    def __init__(self, file: File, name: str) -> None:
        self.db: sqlite3.Connection = file.db
        self.epoch = file.epoch
        self.name = name
        row = self.db.execute(
            "SELECT id, head, tail FROM channels WHERE name = ?", (name,)
        ).fetchone()
        self.exists = row is not None
        if row is None:
            (floor,) = self.db.execute("SELECT floor FROM meta").fetchone()
            row = (0, floor, floor)
        self.id: int = row[0]
        self.head: int = row[1]
        self.tail: int = row[2]

    def cursor(self, number: int) -> str:
        return cursor_of(self.epoch, number)

    def number(self, cursor: str) -> int | None:
        """The number in a cursor; None where it is of another log, or of a later state of this one.

        :raises InvalidCursor: when it was never handed out.
        """
        epoch, number = parse_cursor(cursor)
        if epoch != self.epoch:
            return None
        if number > self.head and number > time.time_ns() // 1000:
            raise InvalidCursor(f"cursor {cursor!r} is ahead of its channel")
        return number if number <= self.head else None

    def expired(self) -> bool:
        """Whether an abandoned response is to be ended first."""
        now = time.time_ns() // 1000
        find = "SELECT 1 FROM responses WHERE channel = ? AND state = 'streaming' AND lease < ?"
        return self.db.execute(find, (self.id, now)).fetchone() is not None

    def responses(self, where: str, *parameters: Any) -> list[_Item]:
        rows = self.db.execute(_RESPONSES + where, (self.id, *parameters))
        return [
            _Item(last, size + _OVERHEAD, (id_, number, folded, bool(streaming)))
            for last, size, id_, number, folded, streaming in rows
        ]

    def log(self, after: int, where: str = "", *parameters: Any) -> list[_Item]:
        query = _LOG + where + " ORDER BY last"
        rows = self.db.execute(query, (self.id, after, *parameters))
        return [_Item(last, size, None, events) for last, size, events in rows]


class Reader:
    """Answers what readers ask; its methods run on the thread of a worker.

    Those that return None ask for abandoned responses to be ended first.

    :param skip: is called for what cannot be read.
    """

    def __init__(self, settings: Settings, skip: Skip) -> None:
        self._by_token = settings.granularity == "token"
        self._page_bytes = settings.page_bytes
        self._skip = skip

    def has_expired(self, file: File, name: str) -> bool:
        """Whether the lease of a streaming response has run out."""
        with transaction(file.db, "DEFERRED"):
            return _View(file, name).expired()

    # -- replay

    def replay(self, file: File, name: str, start: ReplayFrom) -> Replay | None:
        """Read a replay (see `Backend.replay`)."""
        with transaction(file.db, "DEFERRED"):
            view = _View(file, name)
            if view.expired():
                return None
            number, reset = self._start(view, start)
            retained = number >= view.tail
            if start.after is not None and retained and not reset:
                events = self._decode(view, view.log(number), number)
                if start.response_id is not None:
                    events = [e for e in events if e.response_id == start.response_id]
                if not self._by_token:
                    events = merge_deltas(events)
                return Replay(events=tuple(events), cursor=view.cursor(view.head))
            one_by_one = self._by_token and retained
            items, end = self._page(view, start, number, one_by_one=one_by_one)
            events = self._hydrate(view, items, number, one_by_one=one_by_one)
            rest = None if end is None else ReplayFrom(page=view.cursor(end))
            cursor = view.cursor(view.head if end is None else end)
            return Replay(events=tuple(events), cursor=cursor, reset=reset, next=rest)

    def _start(self, view: _View, start: ReplayFrom) -> tuple[int, bool]:
        """The number after which a replay starts, and whether its cursor is not retained."""
        cursor = start.after or start.page
        if cursor is not None or start.after is not None:
            number = view.number(cursor or "")
            missing = number is None or (start.page is None and number < view.tail)
            return number or 0, missing
        if start.all:
            return 0, False
        if start.since is not None:
            return min(max(start.since, 0) * 1000 - 1, view.head), False
        if start.count is not None:
            return self._number_back(view, start.count), False
        return view.head, False

    def _number_back(self, view: _View, count: int) -> int:
        """The number after which there are so many items."""
        if count <= 0:
            return view.head
        if self._by_token:
            rows = view.db.execute(
                "SELECT last, count FROM log WHERE channel = ? ORDER BY last DESC", (view.id,)
            )
            for last, events in rows:
                if events >= count:
                    after: int = last - count
                    return after
                count -= events
            return 0
        row = view.db.execute(
            "SELECT last FROM responses WHERE channel = ?1 UNION ALL"
            " SELECT last FROM log WHERE channel = ?1 AND kind > 0"
            " ORDER BY last DESC LIMIT 1 OFFSET ?2",
            (view.id, min(count, 10**9) - 1),
        ).fetchone()
        return 0 if row is None else int(row[0]) - 1

    def _page(
        self, view: _View, start: ReplayFrom, number: int, *, one_by_one: bool
    ) -> tuple[list[_Item], int | None]:
        """What a reader without state needs after `number`, in order, and where the page ends."""
        if start.response_id is not None:
            items = view.responses("id = ?", start.response_id)
            items += view.log(number, "AND kind > 0 AND response = ?", start.response_id)
            return sorted(items, key=lambda item: item.last), None
        if one_by_one:
            items = view.responses(
                "first <= ? AND (state = 'streaming' OR last > ?)", number, number
            )
            return sorted(items + view.log(number), key=lambda item: item.last), None
        streaming = view.responses("state = 'streaming'")
        if start.page is not None:  # the pages before had the others
            streaming = [item for item in streaming if item.last > number]
        items = streaming + view.responses(
            "state <> 'streaming' AND last > ? ORDER BY last", number
        )
        items += view.log(number, "AND kind > 0")
        items.sort(key=lambda item: item.last)
        size = 0
        for at, item in enumerate(items):
            size += item.size
            if size > self._page_bytes and at > 0 and items[at - 1].last > number:
                return items[:at], items[at - 1].last
        return items, None

    def _hydrate(
        self, view: _View, items: list[_Item], number: int, *, one_by_one: bool
    ) -> list[Event]:
        loaded = self._load(view, items)
        events: list[Event] = []
        for item in items:
            if item.row is None:
                events += [
                    event
                    for event in self._decode(view, [item], number)
                    if not self._is_in_snapshot(view, event, loaded, one_by_one=one_by_one)
                ]
            elif item.row[0] in loaded:
                cursor, response = view.cursor(item.last), loaded[item.row[0]]
                events.append(SnapshotEvent(response=response, cursor=cursor, ts=now_ms()))
        return events

    def _is_in_snapshot(
        self, view: _View, event: Event, loaded: dict[str, Response], *, one_by_one: bool
    ) -> bool:
        """Whether the snapshot of a response, on this page or another, has what the event says."""
        if event.response_id is None or isinstance(event, CancelEvent | DataEvent):
            return False
        if event.response_id in loaded or one_by_one:
            return event.response_id in loaded
        find = "SELECT 1 FROM responses WHERE channel = ? AND id = ?"
        row = view.db.execute(find, (view.id, event.response_id)).fetchone()
        return isinstance(event, ToolResultEvent) and row is not None

    def _decode(self, view: _View, items: list[_Item], after: int = 0) -> list[Event]:
        events: list[Event] = []
        for item in items:
            decoded = decode_entry(item.events, item.last, view.epoch, self._skip)
            if item.last - len(decoded) < after:  # a part of the entry is known
                decoded = [e for e in decoded if parse_cursor(e.cursor or "")[1] > after]
            events += decoded
        return events

    def _load(self, view: _View, items: list[_Item]) -> dict[str, Response]:
        rows = [item.row for item in items if item.row is not None]
        responses: dict[str, Response] = {}
        for id_, loaded in load_responses(view.db, view.id, view.name, rows).items():
            if isinstance(loaded, Assembler):
                responses[id_] = loaded.response
            else:
                self._skip(f"response {id_!r} of channel {view.name!r}", loaded)
        return responses

    # -- history

    def history(self, file: File, name: str, limit: int, before: str | None) -> HistoryPage | None:
        """Read a page of responses (see `Backend.history`)."""
        with transaction(file.db, "DEFERRED"):
            view = _View(file, name)
            end = view.head + 1 if before is None else view.number(before)
            if end is None:
                return HistoryPage(items=())
            if view.expired():
                return None
            most = min(max(limit, 1), _MAX_PAGE)
            items = view.responses("first < ? ORDER BY first DESC LIMIT ?", end, most + 1)
            size, page = 0, items[:1]
            for item in items[1:most]:
                size += page[-1].size
                if size + item.size > self._page_bytes:
                    break
                page.append(item)
            more = None
            if len(page) < len(items) and page[-1].row is not None:
                find = "SELECT first FROM responses WHERE number = ?"
                more = view.cursor(*view.db.execute(find, (page[-1].row[1],)).fetchone())
            loaded = self._load(view, page)
            found = (loaded.get(item.row[0]) for item in page if item.row is not None)
            return HistoryPage(items=tuple(r for r in found if r is not None), next=more)

    # -- news

    def head(self, file: File, name: str) -> tuple[str, int]:
        """The epoch of the log, and the number of the last event of a channel."""
        with transaction(file.db, "DEFERRED"):
            return file.epoch, _View(file, name).head

    def news(self, file: File, wanted: Sequence[Wanted]) -> list[News]:
        """What came in channels, for each that wants to know."""
        with transaction(file.db, "DEFERRED"):
            return [self._news(_View(file, one.channel), one) for one in wanted]

    def _news(self, view: _View, wanted: Wanted) -> News:
        same = view.epoch == wanted.epoch and wanted.after <= view.head
        if not same or (wanted.after < view.tail and not wanted.control):
            return News(view.epoch, view.head, None)
        items = view.log(wanted.after, "AND kind = 2" if wanted.control else "")
        return News(view.epoch, view.head, self._decode(view, items))

    def version(self, file: File) -> tuple[int, int]:
        """Something that is another when another connection has changed the file."""
        (version,) = file.db.execute("PRAGMA data_version").fetchone()
        return file.number, version
