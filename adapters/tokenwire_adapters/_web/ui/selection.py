"""Chooses the run that a client without a cursor is shown: the first one seen streaming."""

from __future__ import annotations

from collections import OrderedDict

from tokenwire.events import DataEvent, Event, SnapshotEvent, StartEvent, ToolResultEvent
from tokenwire_adapters._web.ui.state import run_shown_by

__all__ = ["RunSelector"]

_MAX_CANDIDATES = 16


class RunSelector:
    """Keeps the events of runs that may be chosen, until one of them streams."""

    def __init__(self) -> None:
        self._candidates: OrderedDict[str, list[Event]] = OrderedDict()

    def offer(self, event: Event) -> str | None:
        """Take an event; return the run to show, once it is clear which."""
        run = self._run_of(event)
        if run is None:
            return None
        events = self._candidates.setdefault(run, [])
        events.append(event)
        self._candidates.move_to_end(run)
        if len(self._candidates) > _MAX_CANDIDATES:
            self._candidates.popitem(last=False)
        streams = isinstance(event, StartEvent) or (
            isinstance(event, SnapshotEvent) and not event.response.ended
        )
        return run if streams else None

    @property
    def latest(self) -> str | None:
        """The run of which something came last."""
        return next(reversed(self._candidates), None)

    def take(self, run: str) -> list[Event]:
        """The events of the chosen run so far; those of all others are dropped."""
        events = self._candidates.pop(run, [])
        self._candidates.clear()
        return events

    def _run_of(self, event: Event) -> str | None:
        if not isinstance(event, ToolResultEvent | DataEvent):
            return run_shown_by(event)
        if event.run in self._candidates:
            return event.run
        for run, events in self._candidates.items():
            if any(known.response_id == event.response_id for known in events):
                return run
        return None
