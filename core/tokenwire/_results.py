"""What a sink answers with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from tokenwire._writing.pending import OutboxStats
from tokenwire.backend import HistoryPage
from tokenwire.events import Response, State

if TYPE_CHECKING:
    from tokenwire.sink import Sink

__all__ = ["CancelOutcome", "HubStats", "Page", "SinkStats"]


class HubStats(msgspec.Struct):
    """Counters of the reading side of a sink since it was opened.

    :ivar delivered_events: events put into the logs of the hubs.
    :ivar repeats_dropped: events of the backend that were there already.
    :ivar resyncs: how often a hub read again what it may have missed.
    :ivar conflations: how often a watcher fell behind and was given snapshots instead.
    :ivar joins: how often a watcher joined, went on with a long replay or caught up.
    :ivar replays: how many of these had to read from the backend.
    :ivar reaped: responses of dead producers that were ended from here.
    """

    delivered_events: int = 0
    repeats_dropped: int = 0
    resyncs: int = 0
    conflations: int = 0
    joins: int = 0
    replays: int = 0
    reaped: int = 0


class SinkStats(msgspec.Struct, frozen=True):
    """Counters of a sink since it was opened.

    :ivar open: responses being written now.
    :ivar waiting: responses and single entries not yet with the backend.
    :ivar watchers: open watches; `channels`: how many channels they watch.
    """

    writing: OutboxStats
    reading: HubStats
    open: int
    waiting: int
    watchers: int
    channels: int


class CancelOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a cancel.

    :ivar state: how the response stands: ``cancelled``; ``complete``, ``failed`` or ``abandoned``
        when it ended otherwise; ``pending``: it has not started, and will be cancelled when it
        does; ``streaming``: its producer did not answer in time.
    """

    response_id: str
    state: State | Literal["pending"]

    @property
    def acknowledged(self) -> bool:
        """Whether the response has ended."""
        return self.state not in ("pending", "streaming")


class Page:
    """Responses of a channel, newest first.

    :ivar items: the responses.
    """

    def __init__(self, sink: Sink, channel: str, limit: int, page: HistoryPage) -> None:
        self.items: tuple[Response, ...] = page.items
        self._sink = sink
        self._channel = channel
        self._limit = limit
        self.before = page.next

    @property
    def has_next(self) -> bool:
        """Whether there are older responses."""
        return self.before is not None

    def next(self) -> Page | None:
        """Read the page before this one; None when this is the oldest. Blocks."""
        if self.before is None:
            return None
        return self._sink.history(self._channel, limit=self._limit, before=self.before)

    async def anext(self) -> Page | None:
        """Do what `next` does, without blocking the loop."""
        if self.before is None:
            return None
        return await self._sink.ahistory(self._channel, limit=self._limit, before=self.before)
