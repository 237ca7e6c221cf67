"""The queue of what waits for the backend: makes batches, and applies their outcomes.

For each response, entries go out in order. What cannot be delivered in order is healed by a
snapshot of the whole text; nothing is ever sent past a hole that is known. When a batch is made,
and on which thread, is the outbox's business.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import time
from collections import deque
from collections.abc import Sequence

from tokenwire._clock import Backoff, now_ms
from tokenwire._results import OutboxStats
from tokenwire._writing.pending import PendingEvent, PendingResponse
from tokenwire.backend import Backend, Entry, Outcome
from tokenwire.errors import (
    BackendError,
    BackendUnavailable,
    Fenced,
    PublishRejected,
    RateLimited,
    ResponseUnknown,
)
from tokenwire.events import EndEvent, Event, SnapshotEvent, StartEvent

__all__ = ["Batch", "Queue"]

logger = logging.getLogger("tokenwire")

Batch = list[tuple[PendingResponse | PendingEvent, Entry]]

_MAX_BATCH = 512  # entries in one publish
_RETRY = Backoff(0.05, 5.0)
_MAX_RAISES = 2  # retries of an entry for which the backend raises
_BEHIND = 0.02  # seconds between looks at the response that an entry waits for
_RECOVERY = Backoff(0.05, 2.0, jitter=0.0)  # between snapshots of one response


class Queue:
    """What is to be published, is being published, or must be tried again.

    :ivar dirty: what is to be looked at; any thread may append.
    :ivar events: single events that are not yet with the backend; any thread may add one.
    :ivar down_until: nothing is to be sent before (monotonic).
    :ivar interval: seconds between publishes that a rate limit asked for.
    :ivar problem: why the backend takes nothing now; None where it does.
    :ivar failures: how many calls of the backend failed in a row.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.stats = OutboxStats()
        self.reset()

    def reset(self) -> None:
        """Drop all that is under way."""
        self.dirty: deque[PendingResponse | PendingEvent] = deque()
        self._later: list[tuple[float, int, PendingResponse | PendingEvent]] = []
        self._numbers = itertools.count()
        self._unsettled: set[PendingResponse | PendingEvent] = set()
        self.events: set[PendingEvent] = set()
        self._held: set[PendingResponse] = set()  # whose end waits for single events
        self.failures = 0
        self.down_until = 0.0
        self.interval = 0.0
        self.problem: str | None = None

    @property
    def degraded(self) -> bool:
        """Whether more than plain publishing is to be done."""
        return bool(self.failures or self.interval or self._later)

    @property
    def next_try(self) -> float | None:
        """When what was put off is to be looked at (monotonic)."""
        return self._later[0][0] if self._later else None

    @property
    def settled(self) -> bool:
        """Whether all is with the backend, or given up."""
        return not self.dirty and not self._unsettled

    @property
    def waiting(self) -> int:
        """How many responses and single entries are not yet with the backend."""
        return len(self._unsettled) + len(self.dirty)

    def fence(self, response: PendingResponse, error: PublishRejected) -> None:
        """Stop a response whose lease was lost."""
        if not response.done:
            self._stop(response, error)
            if not response.inflight:
                self._unsettled.discard(response)

    def unknown(self, response: PendingResponse, message: str) -> None:
        """Begin a response again that the backend does not know any more."""
        if not response.done:
            self._restart(response, response.retry, ResponseUnknown(message))

    def absorb_all(self) -> None:
        """Merge what is written while nothing can be sent, so that it takes little room."""
        for item in self.dirty.copy():
            if isinstance(item, PendingResponse):
                self.stats.tokens += item.draft.absorb(item.writes)

    # -- batches

    def collect(self) -> Batch:
        """Take what can be published now."""
        batch: Batch = []
        now = time.monotonic()
        while self._later and self._later[0][0] <= now and len(batch) < _MAX_BATCH:
            if self._later[0][2].alone and batch:
                return batch
            item = heapq.heappop(self._later)[2]
            self._collect_one(item, now, batch)
            if item.alone and batch:
                return batch
        for _ in range(len(self.dirty)):
            if len(batch) >= _MAX_BATCH:
                break
            if self.dirty[0].alone and batch:
                break
            item = self.dirty.popleft()
            if isinstance(item, PendingEvent) and not item.dirty:
                continue  # it went along with the end that follows it
            item.dirty = False
            item.mark_at = 0.0
            self._unsettled.add(item)
            self._collect_one(item, now, batch)
            if item.alone and batch:
                break
        return batch

    def _collect_one(self, item: PendingResponse | PendingEvent, now: float, batch: Batch) -> None:
        if isinstance(item, PendingEvent):
            if item.behind is not None and item.behind in self._unsettled:
                self._put_off(item, now + _BEHIND)
            else:
                batch.append((item, item.entry))
            return
        self.stats.tokens += item.draft.absorb(item.writes)
        if item.after and item.draft.end is not None:
            self._collect_before_end(item, now, batch)
        entry = self._next_entry(item, now)
        if entry is not None:
            item.inflight += 1
            batch.append((item, entry))
        elif not item.inflight and not self._pending(item):
            self._unsettled.discard(item)

    def _collect_before_end(self, response: PendingResponse, now: float, batch: Batch) -> None:
        """Take the single events that the end of a response is to follow, or hold the end back.

        The end closes many a stream, which would miss what comes after it.
        """
        for event in response.after:
            if event.dirty and not (event.alone or response.alone):
                event.dirty = False
                self._unsettled.add(event)
                self._collect_one(event, now, batch)
        batched = {item for item, _ in batch}
        response.after = tuple(event for event in response.after if event in self.events)
        # What had to be tried again may have to be again, though what is beside it is taken.
        response.held = any(event not in batched or event.attempts for event in response.after)
        if response.held:
            self._held.add(response)

    def _pending(self, response: PendingResponse) -> bool:
        return not response.done and (
            response.retry is not None
            or response.damaged
            or response.draft.waiting
            or response.inflight > 0
        )

    def _next_entry(self, response: PendingResponse, now: float) -> Entry | None:
        if response.done:
            return None
        if response.retry is not None:
            if now < response.not_before or response.inflight:
                return None  # it is in `_later`
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
        self.stats.recoveries += 1
        return _entry(response, events)

    def _put_off(self, item: PendingResponse | PendingEvent, when: float) -> None:
        heapq.heappush(self._later, (when, next(self._numbers), item))

    # -- outcomes

    def sent(self, batch: Batch, outcomes: Sequence[Outcome], begun: float) -> None:
        """Apply the outcomes of a batch, whose publish began at `begun` (monotonic).

        :raises BackendError: in strict mode, on the thread that wrote, where writing must stop.
        """
        stats = self.stats
        stats.publishes += 1
        stats.publish_seconds += time.monotonic() - begun
        self.failures = 0
        self.interval *= 0.9
        if self.interval < 0.005:
            self.interval = 0.0
        limited = False
        problem: BackendError | None = None
        for (item, entry), outcome in zip(batch, outcomes, strict=True):
            if outcome.error is None:
                item.alone = False
                stats.entries += 1
                stats.events += len(entry.events)
            elif isinstance(outcome.error, RateLimited):
                limited = True
                self._slow_down(outcome.error)
            try:
                self._complete(item, entry, outcome)
            except BackendError as error:  # strict mode; first the outcomes of the others
                problem = problem or error
        if (
            self.problem is not None
            and not limited
            and any(outcome.error is None for outcome in outcomes)
        ):
            self.problem = None
            logger.warning("tokenwire: the backend takes tokens again")
        if problem is not None:
            raise problem

    def begin(self, response: PendingResponse) -> None:
        """An entry is about to be published that no batch was made for."""
        self._unsettled.add(response)
        response.inflight += 1
        self.stats.tokens += 1

    def text_sent(
        self, response: PendingResponse, entry: Entry, outcomes: Sequence[Outcome], begun: float
    ) -> bool:
        """Do what `sent` does for one delta of a response; say whether there is no more to do.

        :raises BackendError: in strict mode, where writing must stop.
        """
        outcome = outcomes[0]
        if outcome.error is not None or outcome.cancel is not None or response.done:
            self.sent([(response, entry)], outcomes, begun)
            return False
        stats = self.stats
        stats.publishes += 1
        stats.entries += 1
        stats.events += 1
        response.contact = now = time.monotonic()
        stats.publish_seconds += now - begun
        response.attempts = 0
        response.cursor = outcome.cursor or response.cursor
        response.inflight -= 1
        self._unsettled.discard(response)
        return True

    def failed(self, batch: Batch, error: Exception) -> None:
        """Put off a batch whose publish failed as a whole: nothing is known of its entries."""
        if not isinstance(error, BackendError):
            self._isolate(batch, error)
            return
        if isinstance(error, RateLimited):
            self._slow_down(error)
        elif isinstance(error, BackendUnavailable):
            now = time.monotonic()
            if now >= self.down_until:  # else it is one of several that failed together
                self.failures += 1
                self.down_until = now + _RETRY.after(self.failures)
            if self.problem is None:
                self.problem = str(error)
                logger.warning("tokenwire: the backend does not take tokens, retrying: %s", error)
        for item, entry in batch:
            self._complete(item, entry, Outcome(error=error))

    def _isolate(self, batch: Batch, error: Exception) -> None:
        """Put off a batch that the backend raised for: one of its entries cannot be kept.

        Each is tried alone, so that it delays no other; what raises alone again and again is
        given up.
        """
        logger.error("tokenwire: the backend raised %r", type(error).__name__, exc_info=error)
        text = f"{type(error).__name__} in the backend"
        for item, entry in batch:
            hopeless = item.alone and item.attempts >= _MAX_RAISES
            item.alone = True
            rejected = PublishRejected(text) if hopeless else BackendUnavailable(text)
            self._complete(item, entry, Outcome(error=rejected))

    def _slow_down(self, error: RateLimited) -> None:
        self.interval = min(1.0, max(0.02, self.interval * 2))
        if error.retry_after:
            self.down_until = time.monotonic() + min(error.retry_after, 30.0)

    def _complete(
        self, item: PendingResponse | PendingEvent, entry: Entry, outcome: Outcome
    ) -> None:
        if isinstance(item, PendingEvent):
            self._complete_event(item, outcome)
            return
        item.inflight -= 1
        try:
            self._apply_outcome(item, entry, outcome)
        finally:
            if self._pending(item):
                self._unsettled.add(item)
                if not item.dirty and not item.inflight and item.retry is None:
                    item.dirty = True
                    self.dirty.append(item)
            elif not item.dirty:
                self._unsettled.discard(item)

    def _apply_outcome(self, response: PendingResponse, entry: Entry, outcome: Outcome) -> None:
        """Act on the outcome of an entry.

        :raises BackendError: in strict mode, on the thread that wrote, where writing must stop.
        """
        error = outcome.error
        if response.done:
            pass
        elif error is None:
            self._accepted(response, entry, outcome)
        elif isinstance(error, ResponseUnknown):
            self._restart(response, entry, error)
        elif isinstance(error, Fenced):
            self._stop(response, error)
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
        if outcome.cancel is not None and not response.done:
            response.on_cancel(outcome.cancel)

    def _restart(
        self, response: PendingResponse, entry: Entry | None, error: ResponseUnknown
    ) -> None:
        end = entry.events[-1] if entry is not None and response.attempts else None
        if isinstance(end, EndEvent) and end.state == "cancelled":
            # It arrived, though its reply did not: whoever cancelled it has deleted it since.
            response.done = True
            response.draft.silence()
            response.on_outcome(None)
            return
        if time.monotonic() - response.contact > response.template.lease:
            self._stop(response, error)  # we may have been declared dead, and forgotten since
            return
        response.started = False
        response.damaged = True

    def _stop(self, response: PendingResponse, error: PublishRejected) -> None:
        response.done = True
        response.draft.silence()
        self.stats.fenced += 1
        response.on_outcome(error)

    def _rejected(self, response: PendingResponse, entry: Entry, error: PublishRejected) -> None:
        if not any(isinstance(event, SnapshotEvent) for event in entry.events):
            if response.lost:
                self._stop(response, error)
            else:
                response.damaged = True
            return
        response.lost = True
        response.damaged = False
        self.stats.lost += 1
        response.draft.silence()
        response_id = response.template.response_id
        logger.warning("tokenwire: response %r cannot be delivered: %s", response_id, error)
        response.on_outcome(None)
        if not response.started:
            self._stop(response, error)

    def _try_again(self, response: PendingResponse, entry: Entry) -> None:
        self.stats.retries += 1
        response.retries += 1
        response.attempts += 1
        if response.inflight or response.retry is not None or response.damaged:
            # Later entries may be there already: order can only be had back by a snapshot.
            response.damaged = True
            response.retry = None
            return
        response.retry = entry
        response.not_before = time.monotonic() + _RETRY.after(response.attempts)
        self._put_off(response, response.not_before)

    def _complete_event(self, item: PendingEvent, outcome: Outcome) -> None:
        error = outcome.error
        if error is None or isinstance(error, PublishRejected):
            self._forget(item)
            if not item.future.done():
                if error is None:
                    item.future.set_result(outcome)
                else:
                    item.future.set_exception(error)
            return
        item.attempts += 1
        self.stats.retries += 1
        if item.future.cancelled():
            self._forget(item)
            return
        self._put_off(item, time.monotonic() + _RETRY.after(item.attempts))

    def _forget(self, item: PendingEvent) -> None:
        """Drop an event that is with the backend, or given up, and go on with what it held."""
        self._unsettled.discard(item)
        self.events.discard(item)
        held, self._held = self._held, set()
        for response in held:
            response.held = False  # or is again, at the next look
            if response.retry is not None:
                self._put_off(response, response.not_before)
            elif not (response.dirty or response.inflight):
                response.dirty = True
                self.dirty.append(response)


def _entry(response: PendingResponse, events: Sequence[Event]) -> Entry:
    """The next entry of a response, numbered."""
    template = response.template
    entry = Entry(
        channel=template.channel,
        events=tuple(events),
        response_id=template.response_id,
        fence=template.fence,
        seq=response.seq,
        lease=template.lease,
    )
    response.seq += 1
    return entry
