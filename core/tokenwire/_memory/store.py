"""The store of the in-memory backend: its log, and what readers ask of it."""

from __future__ import annotations

import time

from tokenwire._clock import now_ms
from tokenwire._memory.administration import MemoryAdministration
from tokenwire._memory.channel import Channel, parse_cursor
from tokenwire.backend import HistoryPage, Replay, ReplayFrom
from tokenwire.errors import InvalidCursor
from tokenwire.events import CancelEvent, DataEvent, Event, SnapshotEvent
from tokenwire.response import merge_deltas

__all__ = ["MemoryStore"]


class MemoryStore(MemoryAdministration):
    """The channels behind one or more `MemoryBackend`; thread-safe.

    :param granularity: ``"response"`` or ``"token"``.
    :param retention: how much is kept.
    :param clock: monotonic seconds, for leases and ages; tests give their own.
    :param epoch: eight letters or digits with which cursors begin, by default random. A store that
        is filled again with the same entries and epoch has the same cursors.
    """

    def replay(self, name: str, start: ReplayFrom) -> Replay:
        """See `Backend.replay`."""
        with self._lock:
            channel = self._channels.get(name)
            if channel is None:
                if start.after is not None:
                    self.number(start.after, head=None)
                return Replay(
                    events=(),
                    cursor=f"{self.epoch}-{self._last_number}",
                    reset=start.after is not None,
                )
            self._reap(channel)
            self._trim_ended(channel)
            return self._replay(channel, start)

    def _replay(self, channel: Channel, start: ReplayFrom) -> Replay:
        reset = False
        exact = False  # whether the reader has state, so that events may follow one by one
        if start.after is not None:
            n = self.number(start.after, head=channel.head)
            exact = n is not None and self._retained(channel, n)
            reset = not exact
            n = n or 0
        elif start.all:
            n = 0
        elif start.since is not None:
            n = self._number_at(channel, start.since)
        elif start.count is not None:
            n = self._number_back(channel, start.count)
        else:
            n = channel.head
        only = start.response_id
        if exact:
            tail = [item.event for item in channel.tail if item.n > n]
            events = [e for e in tail if only is None or e.response_id == only]
            if self.granularity == "response":
                events = merge_deltas(events)
        else:
            events = self._hydrate(channel, n, only)
        return Replay(events=tuple(events), cursor=channel.cursor(channel.head), reset=reset)

    def _hydrate(self, channel: Channel, n: int, only: str | None) -> list[Event]:
        """What a reader without state needs to know of everything after `n`, and what streams."""
        positioned: list[tuple[int, Event]] = []
        one_by_one = self.granularity == "token" and self._retained(channel, n)
        whole: set[str] = set()
        for response_id, stored in channel.responses.items():
            if only is not None:
                if response_id != only:
                    continue
            elif stored.last <= n and stored.assembler.ended:
                continue
            if one_by_one and stored.first > n:
                continue  # its events follow below, one by one
            whole.add(response_id)
            snapshot = SnapshotEvent(
                response=stored.assembler.response,
                cursor=channel.cursor(stored.last),
                ts=now_ms(),
            )
            positioned.append((stored.last, snapshot))
        for item in channel.tail if one_by_one else channel.singles:
            event = item.event
            if item.n <= n or (only is not None and event.response_id != only):
                continue
            if event.response_id in whole and not isinstance(event, CancelEvent | DataEvent):
                continue  # it is in the snapshot
            positioned.append((item.n, event))
        positioned.sort(key=lambda pair: pair[0])
        return [event for _, event in positioned]

    def _retained(self, channel: Channel, n: int) -> bool:
        return n >= channel.head - len(channel.tail)

    def _number_at(self, channel: Channel, since: int) -> int:
        at = self.clock() - (time.time() - since / 1000)
        later = [stored.last for stored in channel.responses.values() if stored.last_at >= at]
        later += [item.n for item in channel.singles if item.at >= at]
        if self.granularity == "token":
            later = [item.n for item in channel.tail if item.at >= at] or later
        return min(later, default=channel.head + 1) - 1

    def _number_back(self, channel: Channel, count: int) -> int:
        if count <= 0:
            return channel.head
        if self.granularity == "token":
            return max(0, channel.head - count)
        items = [stored.last for stored in channel.responses.values()]
        items += [item.n for item in channel.singles]
        items.sort()
        return items[-count] - 1 if count <= len(items) else 0

    def order(self, cursor: str) -> tuple[str, int]:
        """See `Backend.order`."""
        return parse_cursor(cursor)

    def number(self, cursor: str, head: int | None) -> int | None:
        """The number in `cursor`; None where it is another epoch's."""
        epoch, n = parse_cursor(cursor)
        if epoch != self.epoch or head is None:
            return None
        if n > head:
            raise InvalidCursor(f"cursor {cursor!r} is ahead of its channel")
        return n

    def history(self, name: str, limit: int, before: str | None) -> HistoryPage:
        """See `Backend.history`."""
        with self._lock:
            channel = self._channels.get(name)
            if channel is None:
                if before is not None:
                    self.number(before, head=None)
                return HistoryPage(items=())
            self._reap(channel)
            self._trim_ended(channel)
            end = None if before is None else self.number(before, head=channel.head)
            if before is not None and end is None:
                return HistoryPage(items=())
            older = sorted(
                (
                    stored
                    for stored in channel.responses.values()
                    if end is None or stored.first < end
                ),
                key=lambda stored: stored.first,
                reverse=True,
            )
            page = older[:limit]
            more = channel.cursor(page[-1].first) if len(older) > limit and page else None
            return HistoryPage(items=tuple(stored.assembler.response for stored in page), next=more)
