"""How one response gets to the backend: its next entry, and what the outcome of one means for it.

Entries go out in order. What cannot be delivered in order is healed by a snapshot of the whole
text; nothing is ever sent past a hole that is known.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from tokenwire._clock import Backoff, now_ms
from tokenwire._results import OutboxStats
from tokenwire._writing.pending import PendingResponse
from tokenwire.backend import Backend, Entry, Outcome
from tokenwire.errors import Fenced, PublishRejected, ResponseUnknown
from tokenwire.events import EndEvent, Event, SnapshotEvent, StartEvent

__all__ = ["DELETING", "RETRY", "Delivery"]

logger = logging.getLogger("tokenwire")

DELETING = "it is being deleted"
"""Why a response is cancelled that is to be deleted."""

RETRY = Backoff(0.05, 5.0)  # between tries of what failed
_RECOVERY = Backoff(0.05, 2.0, jitter=0.0)  # between snapshots of one response


class Delivery:
    """Makes the entries of responses, and applies their outcomes.

    :param put_off: called with a response, and when (monotonic) it is to be looked at again.
    """

    def __init__(
        self,
        backend: Backend,
        stats: OutboxStats,
        put_off: Callable[[PendingResponse, float], None],
    ) -> None:
        self._backend = backend
        self._stats = stats
        self._put_off = put_off

    def pending(self, response: PendingResponse) -> bool:
        """Whether anything of a response is still to be sent, or on its way."""
        return not response.done and (
            response.retry is not None
            or response.damaged
            or response.draft.waiting
            or response.inflight > 0
        )

    def next_entry(self, response: PendingResponse, now: float) -> Entry | None:
        """What to send of a response now, if anything."""
        if response.done:
            return None
        if response.retry is not None:
            if now < response.not_before or response.inflight:
                return None  # it was put off
            if response.held and isinstance(response.retry.events[-1], EndEvent):
                return None  # it comes back with what holds it
            entry, response.retry = response.retry, None
            return entry
        draft = response.draft
        if response.damaged:
            return self._recovery(response, now)
        if response.inflight and self._backend.capabilities.window == 1:
            return None
        # The end waits until all before it is known to be there.
        with_end = response.inflight == 0 and not response.held
        if not draft.waiting or (draft.only_end and not with_end):
            return None
        events = draft.take(
            with_end=with_end, max_text=self._backend.capabilities.max_text, ts=now_ms()
        )
        return _entry(response, events)

    def _recovery(self, response: PendingResponse, now: float) -> Entry | None:
        """The entry that heals a response: the whole text, and the end if it was reached."""
        if response.inflight or response.held:
            return None
        if now < response.not_before and response.draft.end is None:
            self._put_off(response, response.not_before)
            return None
        draft = response.draft
        events: list[Event] = [] if response.started else [draft.start]
        events.append(SnapshotEvent(response=draft.snapshot(), ts=now_ms()))
        if draft.end is not None:
            events.append(draft.end)
        response.recoveries += 1
        response.not_before = now + _RECOVERY.after(response.recoveries)
        self._stats.recoveries += 1
        return _entry(response, events)

    def apply(self, response: PendingResponse, entry: Entry, outcome: Outcome) -> None:
        """Act on the outcome of an entry.

        :raises BackendError: in strict mode, on the thread that wrote, where writing must stop.
        """
        error = outcome.error
        if response.done:
            pass
        elif error is None:
            self._accepted(response, entry, outcome)
        elif isinstance(error, ResponseUnknown):
            self.restart(response, entry, error)
        elif isinstance(error, Fenced):
            self.stop(response, error)
        elif isinstance(error, PublishRejected):
            self._rejected(response, entry, error)
        else:
            self._try_again(response, entry)

    def _accepted(self, response: PendingResponse, entry: Entry, outcome: Outcome) -> None:
        response.attempts = 0
        response.contact = time.monotonic()
        response.cursor = outcome.cursor or response.cursor
        if isinstance(entry.events[0], StartEvent):
            response.started = True
        if response.damaged and any(isinstance(event, SnapshotEvent) for event in entry.events):
            response.damaged = False
        if isinstance(entry.events[-1], EndEvent):
            response.done = True
            response.on_outcome(None)
        elif outcome.cancel is not None:
            response.on_cancel(outcome.cancel)

    def restart(
        self, response: PendingResponse, entry: Entry | None, error: ResponseUnknown
    ) -> None:
        """Begin a response again that the backend does not know any more."""
        end = entry.events[-1] if entry is not None else None
        if (
            isinstance(end, EndEvent)
            and end.state == "cancelled"
            and (response.attempts or end.error == DELETING)
        ):
            # It arrived, though its reply did not (a backend, too, may have tried again): whoever
            # cancelled it has deleted it since.
            response.done = True
            response.draft.silence()
            response.on_outcome(None)
            return
        if time.monotonic() - response.contact > response.template.lease:
            self.stop(response, error)  # we may have been declared dead, and forgotten since
            return
        response.started = False
        response.damaged = True

    def stop(self, response: PendingResponse, error: PublishRejected) -> None:
        """Send no more of a response."""
        response.done = True
        response.draft.silence()
        self._stats.fenced += 1
        response.on_outcome(error)

    def _rejected(self, response: PendingResponse, entry: Entry, error: PublishRejected) -> None:
        if not any(isinstance(event, SnapshotEvent) for event in entry.events):
            if response.lost:
                self.stop(response, error)
            else:
                response.damaged = True
            return
        response.lost = True
        response.damaged = False
        self._stats.lost += 1
        response.draft.silence()
        response_id = response.template.response_id
        logger.warning("tokenwire: response %r cannot be delivered: %s", response_id, error)
        if not response.started:
            self.stop(response, error)

    def _try_again(self, response: PendingResponse, entry: Entry) -> None:
        self._stats.retries += 1
        response.retries += 1
        response.attempts += 1
        if response.inflight or response.retry is not None or response.damaged:
            # Later entries may be there already: order can only be had back by a snapshot.
            response.damaged = True
            response.retry = None
            return
        response.retry = entry
        response.not_before = time.monotonic() + RETRY.after(response.attempts)
        self._put_off(response, response.not_before)


def _entry(response: PendingResponse, events: Sequence[Event]) -> Entry:
    """The next entry of a response, numbered."""
    entry = replace(response.template, events=tuple(events), seq=response.seq)
    response.seq += 1
    return entry
