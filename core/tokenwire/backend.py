"""The port that every backend implements.

A backend keeps, for each channel, an ordered log of events and, for each response, who may write
it and until when. The sink, the hub and the gateway use these few methods only, and
`tokenwire.testing` has the suite that checks them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Literal, Protocol, TypeAlias

import msgspec

from tokenwire._stored import ChannelInfo, ChannelPage, Deleted, Deletion, Retention
from tokenwire.errors import BackendError, NotSupported
from tokenwire.events import CancelEvent, Event, Response, State

__all__ = [
    "Backend",
    "Capabilities",
    "ChannelInfo",
    "ChannelPage",
    "Deleted",
    "Deletion",
    "Entry",
    "Granularity",
    "HistoryPage",
    "Lease",
    "LeaseState",
    "Outcome",
    "Receiver",
    "Replay",
    "ReplayFrom",
    "Retention",
    "Subscription",
    "same_log",
]

Granularity: TypeAlias = Literal["response", "token"]
"""What history keeps an item for: a whole response, or each token."""


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a backend can do, where backends differ.

    :ivar inline: `publish_nowait` works, from any thread, and what it took is visible at once.
    :ivar window: how many `publish` calls may be under way at a time; they are begun, and take
        effect, in order.
    :ivar fencing: ``"backend"``: late writes of a dead producer are refused by the backend;
        ``"reader"``: they may enter the log, but come after the response's end, so that every
        reader ignores them.
    :ivar max_text: the most code points one delta may have; None for no limit.
    :ivar delete: `Backend.delete` works.
    :ivar list_channels: `Backend.list_channels` works.
    :ivar channel_retention: `Backend.retention` and `Backend.set_retention` work.
    """

    inline: bool = False
    window: int = 1
    fencing: Literal["backend", "reader"] = "backend"
    max_text: int | None = None
    delete: bool = False
    list_channels: bool = False
    channel_retention: bool = False


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """What is published at once: events of one channel, and of one response where they have one.

    :ivar response_id: the response whose producer writes these events; None for events that
        anybody may write (cancel, input, data, tool_result), which then have ids.
    :ivar fence: names the producer of the response; unique for each writer.
    :ivar seq: rises with each entry of a writer. An entry whose `seq` was taken before is a retry.
    :ivar key: the same for events without a response: a repeated key is a retry.
    :ivar lease: how long the response may go without a sign of life, in seconds.
    """

    channel: str
    events: tuple[Event, ...]
    response_id: str | None = None
    fence: str | None = None
    seq: int = 0
    key: str | None = None
    lease: float = 15.0


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one entry.

    :ivar cursor: position of its last event, where known.
    :ivar error: why it was refused; None when it is in the log. `PublishRejected`, `Fenced`,
        `ResponseUnknown`, or a transient error, after which the same entry is tried again.
    :ivar cancel: a cancel of this entry's response that waits for its producer.
    :ivar state: for a cancel entry: the state its response was in; None when it has not started.
    """

    cursor: str | None = None
    error: BackendError | None = None
    cancel: CancelEvent | None = None
    state: State | None = None


class Lease(msgspec.Struct, frozen=True):
    """A sign of life of the producer of one response; `ttl` in seconds."""

    channel: str
    response_id: str
    fence: str
    ttl: float


class LeaseState(msgspec.Struct, frozen=True):
    """What the backend answered to the renewal of a `Lease`.

    :ivar lost: the response has ended, or belongs to somebody else.
    :ivar unknown: the backend does not know it (its data was flushed, say): it may be begun again.
    :ivar cancel: a cancel that waits for its producer.
    """

    lost: bool = False
    unknown: bool = False
    cancel: CancelEvent | None = None


class ReplayFrom(msgspec.Struct, frozen=True, kw_only=True):
    """Where a reader wants to start. At most one of these; none of them means live.

    :ivar after: right after this cursor.
    :ivar since: at this time, in milliseconds since 1970.
    :ivar count: that many items before now: responses and single events, or, in granularity
        ``"token"``, events.
    :ivar all: at the beginning.
    :ivar page: where a replay went on that was too long for one piece; only from `Replay.next`.
    :ivar response_id: only this response.
    """

    after: str | None = None
    since: int | None = None
    count: int | None = None
    all: bool = False
    page: str | None = None
    response_id: str | None = None


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """What a reader needs before it goes live.

    :ivar events: in order, each with its cursor. Folding them gives a reader without prior state
        (or, with `after`, one with the state at that cursor) every response that it may hear of
        later: responses that are streaming are always among them, as snapshots where the reader
        does not have their beginning.
    :ivar cursor: the channel's head when the replay was read; live events after it complete the
        picture.
    :ivar reset: the cursor asked for is no longer retained: these are snapshots of everything that
        changed after it and is still there, not a continuation.
    :ivar next: the rest of a replay that was too long for one piece; None when this is all of it.
        Only all the pieces, replayed one after the other, bring a reader to the `cursor` of the
        last one; one of them may be empty. Only snapshots of what changed come in pieces; a replay
        of what is live, of one response, or of events after a retained cursor comes whole.
    """

    events: tuple[Event, ...]
    cursor: str
    reset: bool = False
    next: ReplayFrom | None = None


class HistoryPage(msgspec.Struct, frozen=True, kw_only=True):
    """Responses, newest first, and the token for the page before; None on the oldest page."""

    items: tuple[Response, ...]
    next: str | None = None


def same_log(backend: Backend, one: str, other: str) -> bool:
    """Whether two cursors may be of the same log, so that they have an order (see `log_of`)."""
    logs = backend.log_of(one), backend.log_of(other)
    return None in logs or logs[0] == logs[1]


class Receiver(Protocol):
    """Who listens to a channel. Called on the loop that subscribed; must not block or raise."""

    def deliver(self, events: Sequence[Event], after: str | None) -> None:
        """Take events, in log order, each with its cursor.

        :param after: the cursor of the event right before them in the channel's log, so that the
            receiver can see a hole or a repeat; None where the backend vouches for continuity.
        """
        ...

    def resync(self) -> None:
        """Learn that events may have been missed: read them again from the last one seen."""
        ...


class Subscription(Protocol):
    """A live subscription."""

    async def close(self) -> None:
        """Stop. Nothing is delivered afterwards."""
        ...


class Backend(ABC):
    """Where channels live. All methods run on one event loop, that of the sink's I/O thread.

    Errors of the client underneath are translated: `BackendUnavailable` (try again),
    `RateLimited`, `BackendMisconfigured`, `PublishRejected`. Beside these, only `InvalidCursor` is
    raised, where a method says so.

    :ivar granularity: ``"response"``: history keeps one item a response; ``"token"``: every event
        is an item of its own.
    """

    capabilities: Capabilities = Capabilities()
    granularity: Granularity = "response"

    @property
    def unreadable(self) -> int:
        """How often something stored or published was skipped: it is no event, or damaged."""
        return 0

    def use_rollup(self, window: float) -> None:
        """Take over the sink's rollup window, in seconds, before any other call.

        The sink merges by itself. This is for a service that merges once more, and by default does
        nothing. A window that was chosen for the backend itself stays.
        """

    @abstractmethod
    async def publish(self, entries: Sequence[Entry]) -> Sequence[Outcome]:
        """Append entries to their channels, in order, each as a whole or not at all.

        Calls are begun in order and take effect in that order. The `cursor` of the events is set
        by the backend. A first `start` event makes the response and gives its producer the lease;
        every later entry of the same fence renews it.

        :return: one outcome for each entry, in order.
        :raises BackendUnavailable: when nothing is known of any of them; the same entries will
            be published again.
        """

    def publish_nowait(self, entries: Sequence[Entry]) -> Sequence[Outcome]:
        """Do what `publish` does, at once and from any thread (capability `inline` only)."""
        raise NotImplementedError(f"{type(self).__name__} does not publish inline")

    @abstractmethod
    async def subscribe(self, channel: str, receiver: Receiver) -> Subscription:
        """Deliver every event of `channel` from now on.

        When this returns, the subscription is in effect: whatever is published afterwards is
        delivered, or `receiver.resync` is called. It lasts through lost connections.

        :raises BackendUnavailable: when it cannot be set up now.
        """

    @abstractmethod
    async def control(self, channel: str, receiver: Receiver) -> Subscription:
        """Deliver the cancel and input events of `channel` from now on, for a producer."""

    @abstractmethod
    async def replay(self, channel: str, start: ReplayFrom) -> Replay:
        """Read what a reader that starts at `start` needs before it goes live.

        Abandoned responses are ended first.

        :raises InvalidCursor: when `start.after` was never handed out for this channel.
        :raises BackendUnavailable: when it cannot be read now.
        """

    @abstractmethod
    async def history(self, channel: str, *, limit: int, before: str | None = None) -> HistoryPage:
        """Read a page of responses, newest first. Abandoned responses are ended first.

        :raises InvalidCursor: when `before` is not a page token of this channel.
        :raises BackendUnavailable: when it cannot be read now.
        """

    @abstractmethod
    async def renew(self, leases: Sequence[Lease]) -> Sequence[LeaseState]:
        """Renew leases; return for each whether it was lost and whether a cancel waits.

        :raises BackendUnavailable: when it cannot be done now.
        """

    @abstractmethod
    async def reap(self, channel: str) -> int:
        """End, as abandoned, every response of `channel` whose lease ran out; exactly once each.

        :return: how many this call ended.
        :raises BackendUnavailable: when it cannot be done now.
        """

    # -- administration: where a backend can do it, its capabilities say so

    async def delete(self, channel: str, deletion: Deletion) -> Deleted:
        """Delete from a channel, for good. Abandoned responses are ended first.

        Nothing of it is in any replay or history that is read afterwards. Cursors stay in order:
        one from before, where the events after it are gone, is answered with snapshots (`reset`),
        and live subscriptions go on. What is streaming is not deleted, but reported. Where a reply
        was lost and the deletion made again, less is counted than was deleted.

        :raises NotSupported: without the capability `delete`.
        :raises BackendUnavailable: when it cannot be done now.
        """
        raise NotSupported(f"{type(self).__name__} cannot delete")

    async def list_channels(
        self, *, prefix: str = "", limit: int = 100, after: str | None = None
    ) -> ChannelPage:
        """Read a page of the channels whose names begin with `prefix` and that have something.

        :param limit: about how many.
        :param after: the token of the page before; None for the first page.
        :raises NotSupported: without the capability `list_channels`.
        :raises InvalidCursor: when `after` is not a page token.
        :raises BackendUnavailable: when it cannot be read now.
        """
        raise NotSupported(f"{type(self).__name__} cannot list its channels")

    async def retention(self, channel: str) -> Retention:
        """Read how much is kept of `channel`.

        :raises NotSupported: without the capability `channel_retention`.
        :raises BackendUnavailable: when it cannot be read now.
        """
        raise NotSupported(f"{type(self).__name__} has no retention for each channel")

    async def set_retention(self, channel: str, retention: Retention | None) -> None:
        """Give a channel a retention of its own; None: that of the backend again.

        It holds from the next publish on, and until the channel is deleted as a whole.

        :raises NotSupported: without the capability `channel_retention`.
        :raises BackendUnavailable: when it cannot be done now.
        """
        raise NotSupported(f"{type(self).__name__} has no retention for each channel")

    @abstractmethod
    def order(self, cursor: str) -> Any:
        """Turn a cursor of an event into a value that sorts as the log does.

        :raises InvalidCursor: when it is malformed.
        """

    def log_of(self, cursor: str) -> str | None:
        """Name the log that a cursor belongs to; cursors of different logs have no order.

        A channel whose data was lost begins another log. By default None: the backend cannot tell.

        :raises InvalidCursor: when it is malformed.
        """
        self.order(cursor)
        return None

    @abstractmethod
    async def close(self) -> None:
        """Let go of connections and whatever else this backend opened itself."""

    async def check(self) -> dict[str, Any]:
        """Try the backend out, for `tokenwire doctor`; return what it should print.

        :raises BackendError: saying what is wrong and what to do.
        """
        await self.history("tokenwire-check", limit=1)
        return {"backend": type(self).__name__}

    def after_fork(self) -> None:
        """Forget, in a forked child, connections that belong to the parent. Must not block."""
