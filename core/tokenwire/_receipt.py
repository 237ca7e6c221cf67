"""How the delivery of a response stands."""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = ["Receipt"]


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """How the delivery of a response stands.

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
