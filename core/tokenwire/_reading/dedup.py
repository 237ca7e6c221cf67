"""Removes repeats from a log, and withholds what comes after a hole in a response."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from msgspec.structs import replace

from tokenwire.events import (
    DeltaEvent,
    EndEvent,
    Event,
    PartEvent,
    SnapshotEvent,
    StartEvent,
)
from tokenwire.response import extent, overlap

__all__ = ["Deduplicator"]

_MAX_UNSEEN = 10_000  # parts that a reader may not have seen, and yet go on behind them
_MAX_ENDED = 1024  # ended responses whose late writes are still known as such


@dataclass(slots=True)
class _Extent:
    """How much of a response was let through."""

    parts: list[int]  # the length of each in code points, -1 where it is not known
    damaged: bool = False  # there is a hole: nothing is let through but a snapshot or the end

    @property
    def reached(self) -> tuple[int, int]:
        """Parts, then code points, to compare with `tokenwire.response.extent`."""
        return len(self.parts), sum(max(0, length) for length in self.parts)


class Deduplicator:
    """Lets each event of a log through exactly once, and nothing beyond a hole.

    :param lenient: take a response whose beginning was not seen as whole up to its first event
        (for a reader that continues after a cursor).
    :ivar streaming: the responses that have not ended, by id.
    :ivar missed_start: there was an event of a response whose start did not come.
    """

    def __init__(self, *, lenient: bool = False) -> None:
        self._lenient = lenient
        self.streaming: dict[str, _Extent] = {}
        self._ended: OrderedDict[str, tuple[int, int]] = OrderedDict()
        self.missed_start = False

    def admit(self, event: Event) -> Event | None:
        """Return the event, or what is new in it; None where nothing is."""
        if isinstance(event, DeltaEvent):
            return self._delta(event)
        if isinstance(event, StartEvent):
            if event.response_id in self.streaming or event.response_id in self._ended:
                return None
            self.streaming[event.response_id] = _Extent([])
            return event
        if isinstance(event, PartEvent):
            return self._part(event)
        if isinstance(event, SnapshotEvent):
            return self._snapshot(event)
        if isinstance(event, EndEvent):
            return self._end(event)
        return event

    def _joined_late(self, response_id: str, part: int, offset: int) -> _Extent | None:
        """Take a response that is not known here as all there up to `offset`, if `lenient`."""
        known: _Extent | None = None
        if response_id not in self._ended:
            if self._lenient and part <= _MAX_UNSEEN:
                known = self.streaming[response_id] = _Extent([-1] * part + [offset])
            else:
                self.missed_start = True
        return known

    def _delta(self, event: DeltaEvent) -> Event | None:
        known = self.streaming.get(event.response_id)
        if known is None:
            known = self._joined_late(event.response_id, event.part, event.offset)
        if known is None or known.damaged:
            return None
        parts, part = known.parts, event.part
        if part >= len(parts):
            if self._lenient and 0 < part - len(parts) <= _MAX_UNSEEN:
                parts.extend([-1] * (part - len(parts)))
            if part > len(parts) or event.offset > 0:
                known.damaged = True
                return None
            parts.append(0)
        have = parts[part]
        if have < 0:
            have = event.offset
        text = overlap(have, event.offset, event.text)
        if not text:
            known.damaged = text is None
            return None
        parts[part] = have + len(text)
        return event if event.offset == have else replace(event, offset=have, text=text)

    def _part(self, event: PartEvent) -> Event | None:
        known = self.streaming.get(event.response_id)
        if known is None:
            known = self._joined_late(event.response_id, event.part, 0)
        if known is None or known.damaged:
            return None
        if event.part < len(known.parts):
            return None if known.parts[event.part] >= 0 and not self._lenient else event
        unseen = event.part - len(known.parts)
        if unseen > (_MAX_UNSEEN if self._lenient else 0):
            known.damaged = True
            return None
        known.parts.extend([-1] * unseen)
        known.parts.append(0)
        return event

    def _snapshot(self, event: SnapshotEvent) -> Event | None:
        response = event.response
        reached = extent(response)
        if response.id in self._ended:
            return event if reached > self._ended[response.id] else None
        known = self.streaming.get(response.id)
        if response.ended:
            self.streaming.pop(response.id, None)
            self._remember(response.id, reached)
            return event
        if known is not None and not known.damaged and reached <= known.reached:
            return None
        self.streaming[response.id] = _Extent([len(part.text) for part in response.parts])
        return event

    def _end(self, event: EndEvent) -> Event | None:
        if event.response_id in self._ended:
            return None
        known = self.streaming.pop(event.response_id, None)
        if known is None and not self._lenient:
            self.missed_start = True
        self._remember(event.response_id, known.reached if known else (0, 0))
        return event

    def _remember(self, response_id: str, reached: tuple[int, int]) -> None:
        self._ended[response_id] = reached
        if len(self._ended) > _MAX_ENDED:
            self._ended.popitem(last=False)
