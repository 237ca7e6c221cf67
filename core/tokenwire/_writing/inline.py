"""The inline publisher: the threads that write publish, where the backend can do so at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from msgspec.structs import replace

from tokenwire._writing.outbox import AWAKE, Outbox
from tokenwire._writing.pending import PendingEvent, PendingResponse
from tokenwire.backend import Entry, Outcome

__all__ = ["InlineOutbox"]

MAX_INLINE_ITEMS = 4  # items that a writing thread publishes itself; the I/O thread takes more
GRACE = 0.05  # seconds that the I/O thread leaves to writing threads, once text is due
BURST_WINDOW = 1.0  # seconds after a burst in which the I/O thread looks without being woken
TIMER_SLACK = 0.001  # seconds that a loop's timer may come early: some count whole milliseconds


class InlineOutbox(Outbox):
    """Publishes with a write, or from a timer of the event loop that the writer runs on.

    The I/O thread only takes what these leave (many items, retries, text that nobody follows up).
    While they run, it would have to take Python's lock from them again and again, which costs
    more than the publishing itself.
    """

    def _reset(self) -> None:
        super()._reset()
        self._flushing = False  # the thread that holds the lock is publishing
        self._due = 0.0  # when text is to be published next (monotonic)
        self._burst = -BURST_WINDOW  # when text came faster than it is published (monotonic)
        self._loop_due = 0.0  # what an event loop was last asked to publish at

    def mark(self, item: PendingResponse | PendingEvent, urgent: bool) -> None:
        """Publish `item` now, where it is urgent or text is due; else see that it soon is."""
        due = self._due
        waiting = self._queue.dirty
        now = time.monotonic()
        if not (urgent or waiting or now < due) and self._publish_text(item, now):
            return
        if not item.dirty:
            item.dirty = True
            item.mark_at = due if len(waiting) < MAX_INLINE_ITEMS else None
            waiting.append(item)
        if urgent:
            self._urgent = True
            if not self._publish_here():
                self._wake()
        elif now >= due or len(waiting) > MAX_INLINE_ITEMS:
            if now < due or not self._publish_here():
                self._wake_by(due)
        else:
            self._burst = now
            self._schedule_on_loop(due - now, due)
            self._wake_by(due + GRACE)

    def flush(self) -> None:
        with self._lock:
            # A finalizer or a signal's handler may interrupt a flush, which then takes it along.
            while self._queue.dirty and not self._flushing and self._publish_batch():
                pass
            if self._queue.dirty or self._queue.later or self._idle:
                self._wake()

    def _schedule_on_loop(self, delay: float, due: float) -> None:
        """Have the event loop that runs here, if any, publish when text is due."""
        if self._loop_due < due:
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:
                return
            self._loop_due = due
            loop.call_later(delay, self._flush_from_loop)

    def _flush_from_loop(self) -> None:
        if self._queue.dirty and time.monotonic() >= self._due - TIMER_SLACK:
            try:
                if not self._publish_here():
                    self._wake_by(self._due)
            except Exception as error:  # the loop is not ours: it should not log our errors
                self._problems.keep(error)

    @property
    def _degraded(self) -> bool:
        """Whether more than plain publishing is to be done."""
        queue = self._queue
        return bool(queue.failures or queue.interval or queue.later)

    @property
    def _many(self) -> bool:
        return len(self._queue.dirty) > MAX_INLINE_ITEMS or self._degraded

    def _publish_here(self) -> bool:
        """Publish what little waits, if no other thread does; say whether nothing is left."""
        if self._many or not self._lock.acquire(blocking=False):
            return False
        try:
            if self._flushing:
                return False
            self._publish_batch()
            return not (self._queue.dirty or self._degraded or self._idle)
        finally:
            self._lock.release()

    def _publish_batch(self) -> bool:
        """Publish a batch, under the lock; say whether there was one."""
        self._urgent = False
        self._flushing = True
        try:
            batch = self._queue.collect()
            if batch:
                self._last_publish = now = time.monotonic()
                self._due = now + self._interval
                try:
                    outcomes = self._backend.publish_nowait([entry for _, entry in batch])
                except Exception as error:
                    self._queue.failed(batch, error)
                else:
                    self._queue.sent(batch, outcomes, now)
            return bool(batch)
        finally:
            self._flushing = False

    # -- the short way of one text

    def _publish_text(self, item: PendingResponse | PendingEvent, now: float) -> bool:
        """Publish the only thing that waits where it is the next text of a response that is well.

        Does what `_publish_batch`, the queue and the delivery do, in a third of the steps: at a
        model's pace, each token is published so. Says whether it was, and leaves everything as it
        is where not.
        """
        if isinstance(item, PendingEvent) or not self._lock.acquire(blocking=False):
            return False
        try:
            queue = self._queue
            if self._flushing or self._idle or self._degraded or queue.problem:
                return False
            self._flushing = True
            try:
                entry = self._next_text(item)
                if entry is None:
                    return False
                self._last_publish = now
                self._due = now + self._interval
                well = False
                try:
                    outcomes = self._backend.publish_nowait((entry,))
                except Exception as error:
                    queue.failed([(item, entry)], error)
                else:
                    well = self._text_sent(item, entry, outcomes, now)
            finally:
                self._flushing = False
            if not well or queue.dirty or self._idle:
                self._wake_by(now)
            return True
        finally:
            self._lock.release()

    def _next_text(self, response: PendingResponse) -> Entry | None:
        """Take the next text of a part, where nothing else of the response is to be sent.

        None where that is not so, or not seen at a glance; nothing has changed then.
        """
        if (
            not response.started
            or response.done
            or response.damaged
            or response.lost
            or response.alone
            or response.inflight
            or response.retry is not None
            or response.dirty
        ):
            return None
        event = response.draft.take_text(response.writes, self._backend.capabilities.max_text)
        if event is None:
            return None
        self._queue.unsettled.add(response)
        self._queue.stats.tokens += 1
        entry = replace(response.template, events=(event,), seq=response.seq)
        response.seq += 1
        response.inflight += 1
        return entry

    def _text_sent(
        self, response: PendingResponse, entry: Entry, outcomes: Sequence[Outcome], begun: float
    ) -> bool:
        """Apply the outcome; say whether there is no more to do.

        :raises BackendError: in strict mode, where writing must stop.
        """
        outcome = outcomes[0]
        if outcome.error is not None or outcome.cancel is not None or response.done:
            self._queue.sent([(response, entry)], outcomes, begun)
            return False
        stats = self._queue.stats
        stats.publishes += 1
        stats.entries += 1
        stats.events += 1
        response.contact = now = time.monotonic()
        stats.publish_seconds += now - begun
        response.attempts = 0
        response.cursor = outcome.cursor or response.cursor
        response.inflight -= 1
        self._queue.unsettled.discard(response)
        return True

    # -- on the I/O thread

    async def _publish_some(self) -> None:
        with self._lock:
            self._publish_batch()

    async def _sleep_until_marked(self, retry: float | None) -> bool:
        now = time.monotonic()
        if retry is not None or now >= self._burst + BURST_WINDOW:
            return await super()._sleep_until_marked(retry)
        await self._sleep_until_due(now)  # to be woken for each burst would cost writers more
        return True

    async def _sleep_until_due(self, due: float) -> None:
        self._looks_at = due + GRACE
        if self._many:
            self._looks_at = AWAKE
            await self._sleep_until(due)
        else:
            await self._sleep_until(due + GRACE)
            self._looks_at = AWAKE
