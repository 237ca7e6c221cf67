"""What a sink answers with."""

from __future__ import annotations

from typing import Literal

import msgspec

from tokenwire._slot import OutboxStats
from tokenwire.events import State
from tokenwire.hub import HubStats

__all__ = ["CancelOutcome", "SinkStats"]


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
