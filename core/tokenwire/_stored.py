"""What administration of a backend takes and answers: retention, deletion, lists of channels."""

from __future__ import annotations

import msgspec

__all__ = ["ChannelInfo", "ChannelPage", "Deleted", "Deletion", "Retention"]


class Retention(msgspec.Struct, frozen=True, kw_only=True):
    """How much is kept of each channel; responses that are streaming are always kept.

    :ivar responses: how many ended responses.
    :ivar age: seconds after which ended responses and single events go; None for no limit.
    :ivar bytes: text of ended responses, in code points.
    :ivar events: how many recent events can be continued one by one after a cursor; older cursors
        are answered with snapshots.
    :ivar event_bytes: the text of these events, in code points.
    """

    responses: int = 1000
    age: float | None = 24 * 3600.0
    bytes: int = 64 * 2**20
    events: int = 4096
    event_bytes: int = 2**20


class ChannelInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One channel, as far as the backend knows without reading it; None where it does not.

    :ivar name: the name of the channel.
    :ivar responses: how many responses are kept, with those that are streaming.
    :ivar streaming: how many responses are streaming.
    :ivar active_at: when something was last published, in milliseconds since 1970.
    """

    name: str
    responses: int | None = None
    streaming: int | None = None
    active_at: int | None = None


class ChannelPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some channels, in no order, and the token for the next page; None on the last page.

    A page may be empty although others follow. A channel may be on more than one page.
    """

    items: tuple[ChannelInfo, ...]
    next: str | None = None


class Deletion(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be deleted from a channel. At least one of these.

    :ivar everything: the whole channel: its log, its responses, and a retention of its own.
    :ivar response_ids: these responses, with all events that name them.
    :ivar senders: the inputs of these senders.
    """

    everything: bool = False
    response_ids: frozenset[str] = frozenset()
    senders: frozenset[str] = frozenset()


class Deleted(msgspec.Struct, frozen=True, kw_only=True):
    """What was deleted from one channel or more.

    :ivar responses: how many responses.
    :ivar events: how many events besides: inputs, data events, cancels, tool results.
    :ivar streaming: responses that were not deleted since they are streaming. With one of them, no
        channel is deleted as a whole.
    """

    responses: int = 0
    events: int = 0
    streaming: tuple[str, ...] = ()

    def __add__(self, other: Deleted) -> Deleted:
        return Deleted(
            responses=self.responses + other.responses,
            events=self.events + other.events,
            streaming=self.streaming + other.streaming,
        )
