"""What waits for the backend: made into batches, and what became of them.

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
from collections.abc import Callable, Sequence

from tokenwire._clock import Backoff, now_ms
from tokenwire._writing.pending import OutboxStats, PendingEvent, PendingResponse
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
_BEHIND = 0.02  # seconds between looks at the response that an entry waits for
_RECOVERY = Backoff(0.05, 2.0, jitter=0.0)  # between snapshots of one response


class Queue:
    """What is to be published, is being published, or must be tried again.

    :ivar dirty: what is to be looked at; any thread may append.
    :ivar down_until: nothing is to be sent before (monotonic).
    :ivar interval: seconds between publishes that a rate limit asked for.
    :ivar failures: how many calls of the backend failed in a row.
    """

    def __init__(self, backend: Backend, on_problem: Callable[[str], None]) -> None:
        self._backend = backend
        self._on_problem = on_problem
        self.stats = OutboxStats()
        self.reset()

    def reset(self) -> None:
        """Forget all that is under way."""
        self.dirty: deque[PendingResponse | PendingEvent] = deque()
        self._later: list[tuple[float, int, PendingResponse | PendingEvent]] = []
        self._numbers = itertools.count()
        self._unsettled: set[PendingResponse | PendingEvent] = set()
        self.failures = 0
        self.down_until = 0.0
        self.interval = 0.0
        self._down = False

    @property
    def troubled(self) -> bool:
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

    def fence(self, slot: PendingResponse, error: PublishRejected) -> None:
        """Stop a slot whose lease was lost."""
        if not slot.done:
            self._stop(slot, error)
            if not slot.inflight:
                self._unsettled.discard(slot)

    def forgotten(self, slot: PendingResponse, message: str) -> None:
        """Make a response again that the backend does not know any more."""
        if not slot.done:
            self._unknown(slot, ResponseUnknown(message))

    def absorb_all(self) -> None:
        """Merge what is written while nothing can be sent, so that it takes little room."""
        for item in self.dirty.copy():
            if isinstance(item, PendingResponse):
                item.owner.absorb(item.draft)

    # -- making batches

    def collect(self) -> Batch:
        """Take what can be published now."""
        batch: Batch = []
        now = time.monotonic()
        while self._later and self._later[0][0] <= now and len(batch) < _MAX_BATCH:
            item = heapq.heappop(self._later)[2]
            self._collect_one(item, now, batch)
        for _ in range(len(self.dirty)):
            if len(batch) >= _MAX_BATCH:
                break
            item = self.dirty.popleft()
            item.dirty = False
            self._unsettled.add(item)
            self._collect_one(item, now, batch)
        return batch

    def _collect_one(self, item: PendingResponse | PendingEvent, now: float, batch: Batch) -> None:
        if isinstance(item, PendingEvent):
            if item.behind is not None and item.behind in self._unsettled:
                self._put_off(item, now + _BEHIND)
            else:
                batch.append((item, item.entry))
            return
        item.owner.absorb(item.draft)
        entry = self._next_entry(item, now)
        if entry is not None:
            item.inflight += 1
            batch.append((item, entry))
        elif not item.inflight and not self._pending(item):
            self._unsettled.discard(item)

    def _pending(self, slot: PendingResponse) -> bool:
        return not slot.done and (
            slot.retry is not None or slot.damaged or slot.draft.waiting or slot.inflight > 0
        )

    def _next_entry(self, slot: PendingResponse, now: float) -> Entry | None:
        if slot.done:
            return None
        if slot.retry is not None:
            if now < slot.not_before or slot.inflight:
                return None  # it is in `_later`
            entry, slot.retry = slot.retry, None
            return entry
        draft = slot.draft
        if slot.damaged:
            return self._recovery(slot, now)
        if slot.inflight and self._backend.capabilities.window == 1:
            return None
        with_end = slot.inflight == 0  # the end waits until all before it is known to be there
        if not draft.waiting or (draft.only_end and not with_end):
            return None
        events = draft.take(
            with_end=with_end, max_text=self._backend.capabilities.max_text, ts=now_ms()
        )
        return slot.entry(events)

    def _recovery(self, slot: PendingResponse, now: float) -> Entry | None:
        """The entry that heals a response: the whole text, and the end if it was reached."""
        if slot.inflight:
            return None
        if now < slot.not_before and slot.draft.end is None:
            self._put_off(slot, slot.not_before)
            return None
        draft = slot.draft
        events: list[Event] = [] if slot.started else [draft.start]
        events.append(SnapshotEvent(response=draft.snapshot(), ts=now_ms()))
        if draft.end is not None:
            events.append(draft.end)
        slot.recoveries += 1
        slot.not_before = now + _RECOVERY.after(slot.recoveries)
        self.stats.recoveries += 1
        return slot.entry(events)

    def _put_off(self, item: PendingResponse | PendingEvent, when: float) -> None:
        heapq.heappush(self._later, (when, next(self._numbers), item))

    # -- what became of them

    def sent(self, batch: Batch, outcomes: Sequence[Outcome], begun: float) -> None:
        """The backend has told what became of each entry; it was called at `begun` (monotonic).

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
                stats.entries += 1
                stats.events += len(entry.events)
            elif isinstance(outcome.error, RateLimited):
                limited = True
                self._slow_down(outcome.error)
            try:
                self._complete(item, entry, outcome)
            except BackendError as error:  # strict mode; the others are to be told, too
                problem = problem or error
        if self._down and not limited and any(outcome.error is None for outcome in outcomes):
            self._down = False
            logger.warning("tokenwire: the backend takes tokens again")
        if problem is not None:
            raise problem

    def failed(self, batch: Batch, error: Exception) -> None:
        """The whole call failed: nothing is known of its entries."""
        if not isinstance(error, BackendError):
            logger.error("tokenwire: the backend raised %r", type(error).__name__, exc_info=error)
            error = BackendUnavailable(f"{type(error).__name__} in the backend")
        if isinstance(error, RateLimited):
            self._slow_down(error)
        elif isinstance(error, BackendUnavailable):
            now = time.monotonic()
            if now >= self.down_until:  # else it is one of several that failed together
                self.failures += 1
                self.down_until = now + _RETRY.after(self.failures)
            if not self._down:
                self._down = True
                self._on_problem(f"the backend does not take tokens, retrying: {error}")
        for item, entry in batch:
            self._complete(item, entry, Outcome(error=error))

    def _slow_down(self, error: RateLimited) -> None:
        self.interval = min(1.0, max(0.02, self.interval * 2))
        if error.retry_after:
            self.down_until = time.monotonic() + min(error.retry_after, 30.0)

    def _complete(
        self, item: PendingResponse | PendingEvent, entry: Entry, outcome: Outcome
    ) -> None:
        if isinstance(item, PendingEvent):
            self._complete_single(item, outcome)
            return
        slot = item
        slot.inflight -= 1
        try:
            self._tell(slot, entry, outcome)
        finally:
            if self._pending(slot):
                self._unsettled.add(slot)
                if not slot.dirty and not slot.inflight and slot.retry is None:
                    slot.dirty = True
                    self.dirty.append(slot)
            elif not slot.dirty:
                self._unsettled.discard(slot)

    def _tell(self, slot: PendingResponse, entry: Entry, outcome: Outcome) -> None:
        """Act on what became of an entry.

        :raises BackendError: in strict mode, on the thread that wrote, where writing must stop.
        """
        error = outcome.error
        if slot.done:
            pass
        elif error is None:
            self._accepted(slot, entry, outcome)
        elif isinstance(error, ResponseUnknown):
            self._unknown(slot, error)
        elif isinstance(error, Fenced):
            self._stop(slot, error)
        elif isinstance(error, PublishRejected):
            self._rejected(slot, entry, error)
        else:
            self._try_again(slot, entry)

    def _accepted(self, slot: PendingResponse, entry: Entry, outcome: Outcome) -> None:
        slot.attempts = 0
        slot.contact = time.monotonic()
        slot.cursor = outcome.cursor or slot.cursor
        if isinstance(entry.events[0], StartEvent):
            slot.started = True
        if any(isinstance(event, SnapshotEvent) for event in entry.events):
            slot.damaged = False
        if isinstance(entry.events[-1], EndEvent):
            slot.done = True
        slot.owner.on_outcome(slot, None)
        if outcome.cancel is not None and not slot.done:
            slot.owner.on_cancel_event(outcome.cancel)

    def _unknown(self, slot: PendingResponse, error: ResponseUnknown) -> None:
        if time.monotonic() - slot.contact > slot.template.lease:
            self._stop(slot, error)  # we may have been declared dead, and forgotten since
            return
        slot.started = False
        slot.damaged = True

    def _stop(self, slot: PendingResponse, error: PublishRejected) -> None:
        slot.done = True
        slot.fenced = True
        slot.draft.silence()
        self.stats.fenced += 1
        slot.owner.on_outcome(slot, error)

    def _rejected(self, slot: PendingResponse, entry: Entry, error: PublishRejected) -> None:
        if not any(isinstance(event, SnapshotEvent) for event in entry.events):
            if slot.lost:
                self._stop(slot, error)
            else:
                slot.damaged = True
            return
        slot.lost = True
        slot.damaged = False
        self.stats.lost += 1
        slot.draft.silence()
        self._on_problem(f"response {slot.template.response_id!r} cannot be delivered: {error}")
        slot.owner.on_outcome(slot, None)
        if not slot.started:
            self._stop(slot, error)

    def _try_again(self, slot: PendingResponse, entry: Entry) -> None:
        self.stats.retries += 1
        slot.retries += 1
        slot.attempts += 1
        if slot.inflight or slot.retry is not None or slot.damaged:
            # Later entries may be there already: order can only be had back by a snapshot.
            slot.damaged = True
            slot.retry = None
            return
        slot.retry = entry
        slot.not_before = time.monotonic() + _RETRY.after(slot.attempts)
        self._put_off(slot, slot.not_before)

    def _complete_single(self, item: PendingEvent, outcome: Outcome) -> None:
        error = outcome.error
        if error is None or isinstance(error, PublishRejected):
            self._unsettled.discard(item)
            if not item.future.done():
                if error is None:
                    item.future.set_result(outcome)
                else:
                    item.future.set_exception(error)
            return
        item.attempts += 1
        self.stats.retries += 1
        if item.future.cancelled():
            self._unsettled.discard(item)
            return
        self._put_off(item, time.monotonic() + _RETRY.after(item.attempts))
