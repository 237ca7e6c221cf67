"""What a sink answers with: pages, outcomes, receipts and counters."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import msgspec

from tokenwire.events import Response, State

__all__ = [
    "CancelOutcome",
    "Distribution",
    "EndStats",
    "HubStats",
    "OutboxStats",
    "Page",
    "Receipt",
    "ResponseSummary",
    "SinkStats",
]


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """How far the delivery of a response has come.

    :ivar status: ``pending``: not all of it is with the backend yet; ``delivered``: all of it is;
        ``recovered``: likewise, and at least once only after a snapshot of the whole text took the
        place of deltas that were lost; ``lost``: the backend would not take (all of) it;
        ``refused``: it belongs to another producer or was declared abandoned.
    :ivar cursor: of the last event known to be in the log.
    :ivar retries: how many times an entry was sent again.
    :ivar recoveries: how many snapshots were sent in place of lost deltas.
    :ivar error: why it was lost or refused.
    """

    status: Literal["pending", "delivered", "recovered", "lost", "refused"]
    cursor: str | None = None
    retries: int = 0
    recoveries: int = 0
    error: str | None = None


class OutboxStats(msgspec.Struct):
    """Counters of the writing side of a sink."""

    responses: int = 0
    tokens: int = 0
    publishes: int = 0
    entries: int = 0
    events: int = 0
    retries: int = 0
    recoveries: int = 0
    lost: int = 0
    fenced: int = 0
    publish_seconds: float = 0.0


class Distribution(msgspec.Struct):
    """How often values were how large.

    :ivar bounds: upper bounds, rising; `counts` has how many values are at most each of them, and
        above the one before, with those above all of them last.
    :ivar total: the sum of all values.
    """

    bounds: tuple[float, ...]
    counts: list[int] = []
    total: float = 0.0

    def __post_init__(self) -> None:
        self.counts = self.counts or [0] * (len(self.bounds) + 1)

    @property
    def count(self) -> int:
        """How many values there were."""
        return sum(self.counts)

    def add(self, value: float) -> None:
        """Count a value in."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class ResponseSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A response that this process has written to its end, and that is with the backend.

    :ivar tokens: pieces of text that were written: with streams of models, tokens.
    :ivar started_at: milliseconds since 1970; `first_token_at`, when its first text was taken for
        publishing (None without text), and `ended_at` likewise.
    :ivar status: of its delivery, as in `Receipt`.
    """

    id: str
    channel: str
    run: str | None
    metadata: dict[str, Any]
    state: State
    status: str
    tokens: int
    started_at: int
    first_token_at: int | None
    ended_at: int
    finish_reason: str | None = None
    usage: dict[str, Any] | None = None
    error: str | None = None

    @property
    def first_token_seconds(self) -> float | None:
        """From its start to its first text."""
        if self.first_token_at is None:
            return None
        return max(0, self.first_token_at - self.started_at) / 1000

    @property
    def tokens_per_second(self) -> float | None:
        """How fast text came after the first; None for less than two tokens."""
        if self.first_token_at is None or self.tokens < 2 or self.ended_at <= self.first_token_at:
            return None
        return (self.tokens - 1) * 1000 / (self.ended_at - self.first_token_at)


class EndStats(msgspec.Struct):
    """How the responses of a sink's producers ended.

    :ivar states: how many, by state.
    :ivar first_token_seconds: from the start of a response to its first text.
    :ivar tokens_per_second: how fast text came after the first.
    """

    states: dict[str, int] = msgspec.field(
        default_factory=lambda: dict.fromkeys(("complete", "cancelled", "failed", "abandoned"), 0)
    )
    first_token_seconds: Distribution = msgspec.field(
        default_factory=lambda: Distribution((0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 32))
    )
    tokens_per_second: Distribution = msgspec.field(
        default_factory=lambda: Distribution((5, 10, 20, 40, 80, 160, 320, 640, 1280))
    )

    def add(self, summary: ResponseSummary) -> None:
        """Count a response in."""
        self.states[summary.state] = self.states.get(summary.state, 0) + 1
        if (seconds := summary.first_token_seconds) is not None:
            self.first_token_seconds.add(seconds)
        if (rate := summary.tokens_per_second) is not None:
            self.tokens_per_second.add(rate)


class HubStats(msgspec.Struct):
    """Counters of the reading side of a sink since it was opened.

    :ivar delivered_events: events put into the logs of the hubs.
    :ivar repeats_dropped: events of the backend that were there already.
    :ivar resyncs: how often a hub read again what it may have missed.
    :ivar conflations: how often a watcher fell behind and was given snapshots instead.
    :ivar joins: how often a watcher joined, went on with a long replay or caught up.
    :ivar replays: how many of these had to read from the backend.
    :ivar reaped: responses of dead producers that were ended from here.
    :ivar misplaced: messages passed over since the channel's log has nothing before them.
    """

    delivered_events: int = 0
    repeats_dropped: int = 0
    resyncs: int = 0
    conflations: int = 0
    joins: int = 0
    replays: int = 0
    reaped: int = 0
    misplaced: int = 0


class SinkStats(msgspec.Struct, frozen=True):
    """Counters of a sink since it was opened.

    :ivar open: responses being written now.
    :ivar waiting: responses and single entries not yet with the backend.
    :ivar watchers: open watches; `channels`: how many channels they watch.
    :ivar unreadable: how often something stored or published was skipped since it is no event, or
        damaged.
    :ivar ends: how responses ended, and how fast their text came.
    :ivar replaced: values given to the sink that JSON cannot hold, and that were replaced.
    """

    writing: OutboxStats
    reading: HubStats
    open: int
    waiting: int
    watchers: int
    channels: int
    replaced: int = 0
    unreadable: int = 0
    ends: EndStats = msgspec.field(default_factory=EndStats)


class CancelOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a cancel.

    :ivar state: of the response: ``cancelled``; ``complete``, ``failed`` or ``abandoned``
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
    :ivar before: the token of the page with older responses; None when there are none.
    """

    def __init__(
        self,
        items: tuple[Response, ...],
        before: str | None,
        *,
        fetch: Callable[[str], Page],
        afetch: Callable[[str], Awaitable[Page]],
    ) -> None:
        self.items = items
        self.before = before
        self._fetch = fetch
        self._afetch = afetch

    @property
    def has_next(self) -> bool:
        """Whether there are older responses."""
        return self.before is not None

    def next(self) -> Page | None:
        """Read the page of older responses; None when this is the oldest. Blocks.

        :raises BackendUnavailable: when the backend cannot be read.
        """
        return None if self.before is None else self._fetch(self.before)

    async def anext(self) -> Page | None:
        """Do what `next` does, without blocking the loop."""
        return None if self.before is None else await self._afetch(self.before)
