"""Counters of the reading side of a sink."""

from __future__ import annotations

import msgspec

__all__ = ["HubStats"]


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
