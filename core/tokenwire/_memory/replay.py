"""What readers ask of a channel of the in-memory backend: replays and history."""

from __future__ import annotations

import time

from tokenwire._clock import now_ms
from tokenwire._memory.channel import Channel, parse_cursor
from tokenwire.backend import Granularity, HistoryPage, Replay, ReplayFrom
from tokenwire.errors import InvalidCursor
from tokenwire.events import CancelEvent, DataEvent, Event, SnapshotEvent
from tokenwire.response import merge_deltas

__all__ = ["history", "replay"]


def replay(channel: Channel, start: ReplayFrom, granularity: Granularity) -> Replay:
    """See `Backend.replay`."""
    reset = False
    exact = False  # whether the reader has state, so that events may follow one by one
    if start.after is not None:
        n = _number(channel, start.after)
        exact = n is not None and _retained(channel, n)
        reset = not exact
        n = n or 0
    elif start.all:
        n = 0
    elif start.since is not None:
        n = _number_at(channel, start.since, granularity)
    elif start.count is not None:
        n = _number_back(channel, start.count, granularity)
    else:
        n = channel.head
    only = start.response_id
    if exact:
        tail = [item.event for item in channel.tail if item.n > n]
        events = [e for e in tail if only is None or e.response_id == only]
        if granularity == "response":
            events = merge_deltas(events)
    else:
        one_by_one = granularity == "token" and _retained(channel, n)
        events = _hydrate(channel, n, only, one_by_one)
    return Replay(events=tuple(events), cursor=channel.cursor(channel.head), reset=reset)


def _hydrate(channel: Channel, n: int, only: str | None, one_by_one: bool) -> list[Event]:
    """What a reader without state needs to know of everything after `n`, and what streams."""
    positioned: list[tuple[int, Event]] = []
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


def history(channel: Channel, limit: int, before: str | None) -> HistoryPage:
    """See `Backend.history`."""
    end = None if before is None else _number(channel, before)
    if before is not None and end is None:
        return HistoryPage(items=())
    older = sorted(
        (stored for stored in channel.responses.values() if end is None or stored.first < end),
        key=lambda stored: stored.first,
        reverse=True,
    )
    page = older[:limit]
    more = channel.cursor(page[-1].first) if len(older) > limit and page else None
    return HistoryPage(items=tuple(stored.assembler.response for stored in page), next=more)


def _number(channel: Channel, cursor: str) -> int | None:
    """The number in `cursor`; None where it is another epoch's."""
    epoch, n = parse_cursor(cursor)
    if epoch != channel.epoch:
        return None
    if n > channel.head:
        raise InvalidCursor(f"cursor {cursor!r} is ahead of its channel")
    return n


def _retained(channel: Channel, n: int) -> bool:
    """Whether all events after number `n` are at hand, one by one."""
    return n >= channel.head - len(channel.tail)


def _number_at(channel: Channel, since: int, granularity: Granularity) -> int:
    at = channel.clock() - (time.time() - since / 1000)
    later = [stored.last for stored in channel.responses.values() if stored.last_at >= at]
    later += [item.n for item in channel.singles if item.at >= at]
    if granularity == "token":
        later = [item.n for item in channel.tail if item.at >= at] or later
    return min(later, default=channel.head + 1) - 1


def _number_back(channel: Channel, count: int, granularity: Granularity) -> int:
    if count <= 0:
        return channel.head
    if granularity == "token":
        return max(0, channel.head - count)
    items = [stored.last for stored in channel.responses.values()]
    items += [item.n for item in channel.singles]
    items.sort()
    return items[-count] - 1 if count <= len(items) else 0
