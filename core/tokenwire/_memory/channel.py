"""One channel of the in-memory backend, and what it is made of."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Sequence

from tokenwire.backend import Outcome, Receiver
from tokenwire.errors import InvalidCursor
from tokenwire.events import (
    CancelEvent,
    DeltaEvent,
    Event,
)
from tokenwire.response import Assembler

__all__ = ["Channel", "LogEntry", "Mailbox", "StoredResponse", "parse_cursor"]


class LogEntry:
    """An event at its place in the log."""

    __slots__ = ("at", "event", "n", "size")

    def __init__(self, n: int, at: float, event: Event) -> None:
        self.n = n
        self.at = at
        self.event = event
        self.size = len(event.text) if type(event) is DeltaEvent else 64


class StoredResponse:
    """A response, its producer and its place in the log."""

    __slots__ = ("assembler", "fence", "first", "last", "last_at", "lease_until", "seq", "ttl")

    def __init__(self, response_id: str, fence: str | None, ttl: float) -> None:
        self.assembler = Assembler(response_id)
        self.fence = fence
        self.seq = -1
        self.ttl = ttl
        self.lease_until = 0.0
        self.first = 0
        self.last = 0
        self.last_at = 0.0


class Mailbox:
    """Hands events to a receiver, on its loop, in order, from whichever thread they come."""

    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver
        self.loop = asyncio.get_running_loop()
        self.waiting: deque[tuple[Sequence[Event], str | None]] = deque()
        self.scheduled = False
        self.closed = False

    def put(self, events: Sequence[Event], after: str | None) -> None:
        """Called under the store's lock."""
        self.waiting.append((events, after))
        if not self.scheduled:
            self.scheduled = True
            try:
                self.loop.call_soon_threadsafe(self._drain)
            except RuntimeError:  # the loop is gone, and so is who listened there
                self.closed = True

    def _drain(self) -> None:
        self.scheduled = False
        while self.waiting and not self.closed:
            self.receiver.deliver(*self.waiting.popleft())


class Channel:
    """The log of one channel."""

    def __init__(self, name: str, epoch: str, base: int) -> None:
        self.name = name
        self.epoch = epoch
        self.base = base  # the first event has the number after it
        self.head = base  # the number of the last event
        self.tail: deque[LogEntry] = deque()
        self.tail_size = 0
        self.singles: deque[LogEntry] = deque()  # events without a producer, kept longer
        self.responses: dict[str, StoredResponse] = {}
        self.ended: OrderedDict[str, int] = OrderedDict()  # id to size, oldest first
        self.ended_size = 0
        self.streaming: dict[str, StoredResponse] = {}
        self.cancels: OrderedDict[str, CancelEvent] = OrderedDict()
        self.keys: OrderedDict[str, Outcome] = OrderedDict()
        self.listeners: list[Mailbox] = []
        self.controls: list[Mailbox] = []
        self.touched = 0.0

    def cursor(self, n: int) -> str:
        return f"{self.epoch}-{n}"


def parse_cursor(cursor: str) -> tuple[str, int]:
    """Split a cursor into epoch and number.

    :raises InvalidCursor: when it is not one of ours.
    """
    epoch, dash, number = cursor.partition("-")
    if (
        not dash
        or len(epoch) != 8
        or not epoch.isalnum()
        or not (number.isascii() and number.isdigit() and len(number) <= 18)
    ):
        raise InvalidCursor(f"not a cursor: {cursor[:64]!a}")
    return epoch, int(number)
