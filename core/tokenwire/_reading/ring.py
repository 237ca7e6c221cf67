"""The bounded log of a hub, which any number of watchers read from any thread."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from typing import Any

import msgspec

from tokenwire.events import DeltaEvent, Event, SnapshotEvent, ends_response
from tokenwire.response import extent

__all__ = ["Item", "Ring", "RingLimits"]


class RingLimits(msgspec.Struct, frozen=True):
    """How much a ring keeps at least; at most it keeps twice as much.

    :ivar events: how many events.
    :ivar bytes: their size in memory, about.
    """

    events: int = 2048
    bytes: int = 2**20


class Item:
    """An event in the ring, and its frames in formats that were asked for, each encoded once."""

    __slots__ = ("event", "frames")

    def __init__(self, event: Event) -> None:
        self.event = event
        self.frames: dict[str, Any] | None = None


class Ring:
    """The recent events of a channel: one writer, any number of readers on any thread.

    A reader takes `state` in one go; the writer only appends to the list in it, or puts a new
    pair in its place. Positions are absolute and never reused.

    :param order: sorts cursors (see `Backend.order`).
    :ivar state: the position of the first item that is kept, and the items.
    :ivar head: the cursor up to which everything of the channel has been put in.
    :ivar settled: the cursor of the last event that no live watcher is given who joins after it: an
        end, or an event of no response; empty while there is none.
    """

    def __init__(self, limits: RingLimits, order: Callable[[str], Any]) -> None:
        self.state: tuple[int, list[Item]] = (0, [])
        self.head = ""
        self.settled = ""
        self._max_events = limits.events
        self._max_bytes = limits.bytes
        self._bytes = 0
        self._order = order
        self._floor = ""  # the cursor before the first event that the ring has from ...
        self._floor_at = 0  # ... this position on

    @property
    def end(self) -> int:
        """The position after the last event."""
        base, items = self.state
        return base + len(items)

    def begin(self, cursor: str) -> None:
        """Drop everything, and go on after `cursor`: whoever reads has fallen behind."""
        self._bytes = 0
        self.state = (self.end + 1, [])
        self.head = self._floor = cursor
        self.settled = ""
        self._floor_at = self.end

    def append(self, event: Event) -> None:
        base, items = self.state
        items.append(Item(event))
        if event.response_id is None or ends_response(event):
            self.settled = event.cursor or ""
        self._bytes += size_of(event)
        if len(items) >= 2 * self._max_events or self._bytes > 2 * self._max_bytes:
            self._trim(base, items)

    def _trim(self, base: int, items: list[Item]) -> None:
        """Drop about the older half; done in one go, so that an append costs O(1) on average."""
        keep, size = 0, 0
        for item in reversed(items):
            size += size_of(item.event)
            if keep >= self._max_events or (keep and size > self._max_bytes):
                size -= size_of(item.event)
                break
            keep += 1
        self._bytes = size
        self.state = (base + len(items) - keep, items[-keep:])

    def read(self, position: int, limit: int = 1024) -> list[Item] | None:
        """Read from `position` on; None when that was dropped already."""
        base, items = self.state
        start = position - base
        if start < 0:
            return None
        return items[start : start + limit]

    def has(self, order: Any) -> bool:
        """Whether the ring has the event with a cursor, given by its order."""
        key = self._order
        items = self.state[1]
        at = bisect_left(items, order, key=lambda item: key(item.event.cursor or ""))
        return at < len(items) and key(items[at].event.cursor or "") == order

    def position_after(self, order: Any, *, ahead: bool = False) -> int | None:
        """The position right after a cursor, given by its order; None where the ring lacks it.

        :param ahead: whether the cursor may be beyond `head`.
        """
        base, items = self.state
        key = self._order
        floor = key(self._floor) if base == self._floor_at else key(items[0].event.cursor or "")
        if order < floor or (not ahead and order > key(self.head)):
            return None
        return base + bisect_right(items, order, key=lambda item: key(item.event.cursor or ""))


def size_of(event: Event) -> int:
    """About how much memory an event holds, in bytes."""
    if isinstance(event, DeltaEvent):
        return 160 + len(event.text)
    if isinstance(event, SnapshotEvent):
        return 512 + extent(event.response)[1]
    return 256
