"""One change of a file, in one transaction: entries, leases, and ends of abandoned responses."""

from __future__ import annotations

import sqlite3
import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, TypeAlias

from tokenwire._clock import now_ms
from tokenwire.backend import Entry, Lease, LeaseState, Outcome
from tokenwire.errors import BackendError, Fenced, GapError, PublishRejected, ResponseUnknown
from tokenwire.events import (
    CancelEvent,
    EndEvent,
    Event,
    InputEvent,
    StartEvent,
    check_event,
    decode_msgpack_batch,
    encode_msgpack_batch,
)
from tokenwire.response import Assembler
from tokenwire_adapters._backends.sqlite.channels import Channel, Channels
from tokenwire_adapters._backends.sqlite.doorbell import topic_of
from tokenwire_adapters._backends.sqlite.records import cursor_of, load_responses, store_body
from tokenwire_adapters._backends.sqlite.worker import File

__all__ = ["Cache", "Change", "microseconds"]

_MAX_ENTRY = 128 * 2**20  # bytes; SQLite itself takes a thousand million
_MAX_CACHED = 1024  # responses
_MIN_UNFOLDED = 8192  # bytes of a response that may be in the log only

Cache: TypeAlias = OrderedDict[tuple[int, str], tuple[int, Assembler]]
"""Responses that are streaming, by channel and id: as they were at the event of a number."""


def microseconds(seconds: float) -> int:
    """A time or a length of time, as numbers of events count them."""
    return int(min(max(seconds, 0.0), 1e10) * 1_000_000)


class _Response:
    """A response's row."""

    def __init__(self, id_: str, row: Sequence[Any]) -> None:
        self.id = id_
        self.number, self.last, self.state, self.fence, self.seq, self.ttl = row[:6]
        self.cancel, self.folded, self.unfolded = row[6:]


class Change:
    """What one transaction does. A method that refuses an entry leaves all as it was.

    :param cache: the writer's; it must be emptied when the transaction fails.
    :ivar epoch: the name of the log, with which cursors begin.
    :ivar now: microseconds since 1970.
    :ivar channels: the rows of channels; whoever runs the transaction saves them.
    :ivar topics: where there are news for listeners.
    :ivar ended: channels in which a response has ended.
    """

    def __init__(self, file: File, cache: Cache) -> None:
        self.db = file.db
        self.now = time.time_ns() // 1000
        self.channels = Channels(file.db)
        self.topics: set[bytes] = set()
        self.ended: set[str] = set()
        self.epoch = file.epoch
        self._cache = cache

    # -- entries

    def publish(self, entry: Entry) -> Outcome:
        """Publish one entry; refuse it, and only it, where it is not what readers could take."""
        try:
            events = _encode(entry)
            channel = self.channels.ensure(entry.channel)
            if entry.response_id is None:
                return self._publish_single(channel, entry)
            return self._publish_of_response(channel, entry, entry.response_id, events)
        except sqlite3.Error:
            raise
        except BackendError as error:
            return Outcome(error=error)
        except Exception as error:
            text = f"cannot be kept: {type(error).__name__}: {error}"[:500]
            return Outcome(error=PublishRejected(text))

    def _publish_of_response(
        self, channel: Channel, entry: Entry, response_id: str, encoded: bytes
    ) -> Outcome:
        response = self._response(channel, response_id)
        if response is None:
            if not isinstance(entry.events[0], StartEvent):
                raise ResponseUnknown(f"no response {response_id!r} here")
            assembler = Assembler(response_id)
            _apply(assembler, entry.events, channel.name)
            response = self._begin(channel, entry, response_id)
        elif response.fence != entry.fence:
            raise Fenced(f"response {response_id!r} belongs to another producer")
        elif entry.seq <= response.seq:
            return self._outcome(response)
        elif response.state != "streaming":
            raise Fenced(f"response {response_id!r} has ended")
        else:
            assembler = self._assembler(channel, response)
            _apply(assembler, entry.events, channel.name)
        response.seq = entry.seq
        waiting = self._outcome(response).cancel
        self._write(channel, response, assembler, encoded, len(entry.events))
        return Outcome(cursor=cursor_of(self.epoch, response.last), cancel=waiting)

    def _begin(self, channel: Channel, entry: Entry, response_id: str) -> _Response:
        """Make the row of a response, with a cancel that came before its start."""
        cancel = self.db.execute(
            "UPDATE log INDEXED BY requests SET state = 'streaming'"
            " WHERE channel = ? AND kind = 2 AND response = ? AND state IS NULL RETURNING events",
            (channel.id, response_id),
        ).fetchall()
        self.db.execute(
            "INSERT INTO responses"
            " (channel, id, first, last, state, fence, seq, ttl, lease, cancel, folded, unfolded,"
            " size) VALUES (?, ?, ?, 0, 'streaming', ?, -1, ?, 0, ?, 0, 0, 0)",
            (
                channel.id,
                response_id,
                max(channel.head + 1, self.now),
                entry.fence,
                microseconds(entry.lease),
                cancel[-1][0] if cancel else None,
            ),
        )
        response = self._response(channel, response_id)
        assert response is not None
        return response

    def _outcome(self, response: _Response) -> Outcome:
        return Outcome(
            cursor=cursor_of(self.epoch, response.last), cancel=_decode_cancel(response.cancel)
        )

    def _write(
        self,
        channel: Channel,
        response: _Response,
        assembler: Assembler,
        encoded: bytes,
        count: int,
    ) -> None:
        """Write events that `assembler` has taken; the body when it ends, or the log has much."""
        response.last = self._append(channel, encoded, count, 0, response.id)
        response.unfolded += len(encoded)
        key = (channel.id, response.id)
        self._cache.pop(key, None)
        ended = assembler.ended
        if ended or response.unfolded > max(_MIN_UNFOLDED, assembler.length):
            store_body(self.db, response.number, assembler)
            response.folded, response.unfolded = response.last, 0
        self.db.execute(
            "UPDATE responses SET last = ?, seq = ?, lease = ?, folded = ?, unfolded = ?, size = ?"
            " WHERE number = ?",
            (
                response.last,
                response.seq,
                self.now + response.ttl,
                response.folded,
                response.unfolded,
                assembler.length,
                response.number,
            ),
        )
        if ended:
            self._ended(channel, response, str(assembler.state), assembler.length)
        else:
            self._cache[key] = (response.last, assembler)
            if len(self._cache) > _MAX_CACHED:
                self._cache.popitem(last=False)

    def _ended(self, channel: Channel, response: _Response, state: str, size: int) -> None:
        self.db.execute(
            "UPDATE responses SET state = ?, cancel = NULL, size = ? WHERE number = ?",
            (state, size, response.number),
        )
        channel.ended += 1
        channel.ended_bytes += size
        self.ended.add(channel.name)

    def _publish_single(self, channel: Channel, entry: Entry) -> Outcome:
        """Publish events that anybody may write: each is a row of its own."""
        if entry.key is not None:
            find = "SELECT last, state FROM log WHERE channel = ? AND key = ?"
            row = self.db.execute(find, (channel.id, entry.key)).fetchone()
            if row is not None:
                return Outcome(cursor=cursor_of(self.epoch, row[0]), state=row[1])
        state, last = None, 0
        for number, event in enumerate(entry.events, 1):
            encoded = encode_msgpack_batch([event])
            response = self._response(channel, event.response_id) if event.response_id else None
            kind = 2 if isinstance(event, CancelEvent | InputEvent) else 1
            if isinstance(event, CancelEvent):
                state = response.state if response else None
            key = entry.key if number == len(entry.events) else None
            assembler = None
            if response is not None and not isinstance(event, CancelEvent):
                assembler = self._assembler(channel, response)  # before the log has the event
            last = self._append(channel, encoded, 1, kind, event.response_id, key, state)
            if response is None:
                continue
            if assembler is not None:
                self._add_result(response, assembler, event, last)
            elif response.state == "streaming":
                self.db.execute(
                    "UPDATE responses SET cancel = ? WHERE number = ?", (encoded, response.number)
                )
        return Outcome(cursor=cursor_of(self.epoch, last), state=state)

    def _add_result(
        self, response: _Response, assembler: Assembler, event: Event, last: int
    ) -> None:
        """Fold an event of another than its producer into a response: the result of a tool."""
        if assembler.apply(event):
            store_body(self.db, response.number, assembler)
            self.db.execute(
                "UPDATE responses SET last = ?, folded = ?, unfolded = 0 WHERE number = ?",
                (last, last, response.number),
            )

    def _append(
        self,
        channel: Channel,
        encoded: bytes,
        count: int,
        kind: int,
        response_id: str | None,
        key: str | None = None,
        state: str | None = None,
    ) -> int:
        """Add a row to the log; return the number of its last event."""
        channel.head = max(channel.head + 1, self.now) + count - 1
        self.db.execute(
            "INSERT INTO log VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (channel.id, channel.head, count, kind, response_id, key, state, encoded),
        )
        if kind == 0:
            channel.events += count
            channel.event_bytes += len(encoded)
        else:
            channel.singles += 1
        self.topics.add(topic_of(channel.name, control=False))
        if kind == 2:
            self.topics.add(topic_of(channel.name, control=True))
        return channel.head

    # -- responses

    def _response(self, channel: Channel, response_id: str) -> _Response | None:
        row = self.db.execute(
            "SELECT number, last, state, fence, seq, ttl, cancel, folded, unfolded"
            " FROM responses WHERE channel = ? AND id = ?",
            (channel.id, response_id),
        ).fetchone()
        return None if row is None else _Response(response_id, row)

    def _assembler(self, channel: Channel, response: _Response) -> Assembler:
        """The response so far, from the cache where that has it as it is in the file.

        :raises PublishRejected: when what the file has of it is damaged.
        """
        last, assembler = self._cache.pop((channel.id, response.id), (0, None))
        if assembler is None or last != response.last:
            streaming = response.state == "streaming"
            row = (response.id, response.number, response.folded, streaming)
            loaded = load_responses(self.db, channel.id, channel.name, [row])[response.id]
            if isinstance(loaded, Exception):
                raise PublishRejected(f"response {response.id!r} is damaged: {loaded}")
            return loaded
        return assembler

    # -- leases

    def renew(self, lease: Lease) -> LeaseState:
        """Renew one lease."""
        row = self.db.execute(
            "SELECT r.number, r.fence, r.state, r.cancel FROM responses AS r"
            " JOIN channels AS c ON c.id = r.channel WHERE c.name = ? AND r.id = ?",
            (lease.channel, lease.response_id),
        ).fetchone()
        if row is None:
            return LeaseState(unknown=True)
        number, fence, state, cancel = row
        if fence != lease.fence or state != "streaming":
            return LeaseState(lost=True)
        ttl = microseconds(lease.ttl)
        self.db.execute(
            "UPDATE responses SET ttl = ?, lease = ? WHERE number = ?",
            (ttl, self.now + ttl, number),
        )
        return LeaseState(cancel=_decode_cancel(cancel))

    def reap(self, name: str) -> int:
        """End the responses of a channel whose lease ran out; return how many."""
        rows = self.db.execute(
            "SELECT r.id FROM responses AS r JOIN channels AS c ON c.id = r.channel"
            " WHERE c.name = ? AND r.state = 'streaming' AND r.lease < ?",
            (name, self.now),
        ).fetchall()
        for (response_id,) in rows:
            channel = self.channels.ensure(name)
            response = self._response(channel, response_id)
            if response is not None:
                self._abandon(channel, response)
        return len(rows)

    def _abandon(self, channel: Channel, response: _Response) -> None:
        seconds = response.ttl / 1_000_000
        end = EndEvent(
            response_id=response.id,
            state="abandoned",
            error=f"its producer gave no sign of life for {seconds:g} s",
            ts=now_ms(),
        )
        try:
            assembler = self._assembler(channel, response)
        except PublishRejected:  # damaged: readers pass over it
            self.db.execute("DELETE FROM bodies WHERE response = ?", (response.number,))
            self._append(channel, encode_msgpack_batch([end]), 1, 0, response.id)
            self._ended(channel, response, "abandoned", 0)
        else:
            assembler.apply(end)
            self._write(channel, response, assembler, encode_msgpack_batch([end]), 1)


def _encode(entry: Entry) -> bytes:
    """Encode the events of an entry, and see that the rest of it can be stored.

    :raises ValueError, TypeError, OverflowError: where something cannot be.
    """
    for event in entry.events:
        check_event(event)
    for name in (entry.channel, entry.response_id, entry.fence, entry.key):
        (name or "").encode()
    if not -(2**63) <= entry.seq < 2**63:
        raise OverflowError("seq")
    encoded = encode_msgpack_batch(entry.events)
    if len(encoded) > _MAX_ENTRY:
        raise PublishRejected(f"{len(encoded)} bytes at once are more than SQLite should take")
    return encoded


def _apply(assembler: Assembler, events: Sequence[Event], channel: str) -> None:
    """Fold events, all or none.

    :raises PublishRejected: when something before them is missing.
    """
    try:
        assembler.check(events)
        for event in events:
            assembler.apply(event, channel=channel)
    except GapError as error:
        raise PublishRejected(str(error)) from error


def _decode_cancel(encoded: bytes | None) -> CancelEvent | None:
    if encoded is None:
        return None
    (event,) = decode_msgpack_batch(encoded)
    return event if isinstance(event, CancelEvent) else None
