"""The bounded log of a hub, which any number of watchers read from any thread."""

from __future__ import annotations

from typing import Any

from tokenwire.events import DeltaEvent, Event, SnapshotEvent
from tokenwire.response import extent

__all__ = ["Item", "Ring"]


class Item:
    """An event in the ring, with what encoders made of it, so that each encodes it once."""

    __slots__ = ("event", "frames")

    def __init__(self, event: Event) -> None:
        self.event = event
        self.frames: dict[str, Any] | None = None


class Ring:
    """The recent events of a channel: one writer, any number of readers on any thread.

    A reader takes `state` in one go; the writer only appends to the list in it, or puts a new
    pair in its place. Positions are absolute and never reused.
    """

    def __init__(self, max_events: int, max_bytes: int) -> None:
        self.state: tuple[int, list[Item]] = (0, [])
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._bytes = 0

    @property
    def end(self) -> int:
        """The position after the last event."""
        base, items = self.state
        return base + len(items)

    def append(self, event: Event) -> None:
        base, items = self.state
        items.append(Item(event))
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

    def skip(self) -> None:
        """Drop everything: whoever reads, wherever it is, has fallen behind."""
        self._bytes = 0
        self.state = (self.end + 1, [])

    def read(self, position: int, limit: int = 1024) -> list[Item] | None:
        """Read from `position` on; None when that was dropped already."""
        base, items = self.state
        start = position - base
        if start < 0:
            return None
        return items[start : start + limit]


def size_of(event: Event) -> int:
    """About how much memory an event holds, in bytes."""
    if isinstance(event, DeltaEvent):
        return 160 + len(event.text)
    if isinstance(event, SnapshotEvent):
        return 512 + extent(event.response)[1]
    return 256
