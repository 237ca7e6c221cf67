"""The queue of what waits for the backend: which items go into a batch, and when again.

What is sent of a response, and what its outcome means, is in `tokenwire._writing.delivery`. When a
batch is made, and on which thread, is the outbox's business.

The end of a response closes many a stream, which would miss what comes after it. So it is taken
after, or together with, the single events that were published before it in its channel. It does
come before one that the backend refuses at its first try, and takes the end beside it: to send the
end in a batch of its own would let what is published after it overtake it.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import time
from collections import deque
from collections.abc import Sequence

from tokenwire._results import OutboxStats
from tokenwire._writing.delivery import RETRY, Delivery
from tokenwire._writing.pending import PendingEvent, PendingResponse
from tokenwire.backend import Backend, Entry, Outcome
from tokenwire.errors import (
    BackendError,
    BackendUnavailable,
    PublishRejected,
    RateLimited,
    ResponseUnknown,
)

__all__ = ["Batch", "Queue"]

logger = logging.getLogger("tokenwire")

Batch = list[tuple[PendingResponse | PendingEvent, Entry]]

_MAX_BATCH = 512  # entries in one publish
_MAX_RAISES = 2  # retries of an entry for which the backend raises
_BEHIND = 0.02  # seconds between looks at the response that an entry waits for


class Queue:
    """What is to be published, is being published, or must be tried again.

    :ivar dirty: what is to be looked at; any thread may append.
    :ivar unsettled: what was looked at, and is not yet with the backend, or given up.
    :ivar later: what was put off: when it is to be looked at (monotonic), a number, the item.
    :ivar events: single events that are not yet with the backend; any thread may add one.
    :ivar down_until: nothing is to be sent before (monotonic).
    :ivar interval: seconds between publishes that a rate limit asked for.
    :ivar problem: why the backend takes nothing now; None where it does.
    :ivar failures: how many calls of the backend failed in a row.
    """

    def __init__(self, backend: Backend) -> None:
        self.stats = OutboxStats()
        self._delivery = Delivery(backend, self.stats, self._put_off)
        self.reset()

    def reset(self) -> None:
        """Drop all that is under way."""
        self.dirty: deque[PendingResponse | PendingEvent] = deque()
        self.later: list[tuple[float, int, PendingResponse | PendingEvent]] = []
        self._numbers = itertools.count()
        self.unsettled: set[PendingResponse | PendingEvent] = set()
        self.events: set[PendingEvent] = set()
        self._held: set[PendingResponse] = set()  # whose end waits for some of them
        self.failures = 0
        self.down_until = 0.0
        self.interval = 0.0
        self.problem: str | None = None

    @property
    def next_try(self) -> float | None:
        """When what was put off is to be looked at (monotonic)."""
        return self.later[0][0] if self.later else None

    @property
    def settled(self) -> bool:
        """Whether all is with the backend, or given up."""
        return not self.dirty and not self.unsettled

    @property
    def waiting(self) -> int:
        """How many responses and single entries are not yet with the backend."""
        return len(self.unsettled) + len(self.dirty)

    def fence(self, response: PendingResponse, error: PublishRejected) -> None:
        """Stop a response whose lease was lost."""
        if not response.done:
            self._delivery.stop(response, error)
            if not response.inflight:
                self.unsettled.discard(response)

    def unknown(self, response: PendingResponse, message: str) -> None:
        """Begin a response again that the backend does not know any more."""
        if not response.done:
            self._delivery.restart(response, response.retry, ResponseUnknown(message))

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
        while self.later and self.later[0][0] <= now and len(batch) < _MAX_BATCH:
            if self.later[0][2].alone and batch:
                return batch
            item = heapq.heappop(self.later)[2]
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
            self.unsettled.add(item)
            self._collect_one(item, now, batch)
            if item.alone and batch:
                break
        return batch

    def _collect_one(self, item: PendingResponse | PendingEvent, now: float, batch: Batch) -> None:
        if isinstance(item, PendingEvent):
            if item.behind is not None and item.behind in self.unsettled:
                self._put_off(item, now + _BEHIND)
            else:
                batch.append((item, item.entry))
            return
        self.stats.tokens += item.draft.absorb(item.writes)
        if item.after and item.draft.end is not None:
            self._collect_before_end(item, now, batch)
        entry = self._delivery.next_entry(item, now)
        if entry is not None:
            item.inflight += 1
            batch.append((item, entry))
        elif not item.inflight and not self._delivery.pending(item):
            self.unsettled.discard(item)

    def _collect_before_end(self, response: PendingResponse, now: float, batch: Batch) -> None:
        """Take the single events that the end of a response is to follow, or hold the end back."""
        for event in response.after:
            if event.dirty and not (event.alone or response.alone):
                event.dirty = False
                self.unsettled.add(event)
                self._collect_one(event, now, batch)
        batched = {item for item, _ in batch}
        response.after = tuple(event for event in response.after if event in self.events)
        # What had to be tried again may have to be again, though what is beside it is taken.
        response.held = any(event not in batched or event.attempts for event in response.after)
        if response.held:
            self._held.add(response)

    def _put_off(self, item: PendingResponse | PendingEvent, when: float) -> None:
        heapq.heappush(self.later, (when, next(self._numbers), item))

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
                self.down_until = now + RETRY.after(self.failures)
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
            self._delivery.apply(item, entry, outcome)
        finally:
            if self._delivery.pending(item):
                self.unsettled.add(item)
                if not item.dirty and not item.inflight and item.retry is None:
                    item.dirty = True
                    self.dirty.append(item)
            elif not item.dirty:
                self.unsettled.discard(item)

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
        self._put_off(item, time.monotonic() + RETRY.after(item.attempts))

    def _forget(self, item: PendingEvent) -> None:
        """Drop an event that is with the backend, or given up, and go on with what it held."""
        self.unsettled.discard(item)
        self.events.discard(item)
        held, self._held = self._held, set()
        for response in held:
            response.held = False  # or is again, at the next look
            if response.retry is not None:
                self._put_off(response, response.not_before)
            elif not (response.dirty or response.inflight):
                response.dirty = True
                self.dirty.append(response)
