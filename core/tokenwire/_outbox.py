"""From what producers wrote to what the backend has: merging, retrying, recovering.

For each response, entries go out in order. What cannot be delivered in order is healed by a
snapshot of the whole text; nothing is ever sent past a hole that is known.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from tokenwire._io import IoThread
from tokenwire._slot import OutboxStats, Single, Slot
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

__all__ = ["Outbox", "OutboxStats", "Pace", "Single", "Slot"]

logger = logging.getLogger("tokenwire")
_jitter = random.Random()  # of our own: an agent may have seeded the shared one

_MAX_BATCH = 512  # entries in one publish
_PACE = 0.005  # seconds between publishes of text that keeps coming
_FEW = 4  # items that a writing thread publishes itself; the I/O thread publishes more at once
_GRACE = 0.015  # seconds more that the I/O thread leaves it to a thread that writes on
_BACKOFF = (0.05, 5.0)  # seconds: first and longest delay between tries
_BEHIND = 0.02  # seconds between looks at the response that an entry waits for
_RECOVERY = (0.05, 2.0)  # seconds: the same between snapshots of one response


def now_ms() -> int:
    """The time, in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


class Pace:
    """When a thread that writes is to publish what has gathered (monotonic); `inline` only."""

    __slots__ = ("due",)

    def __init__(self) -> None:
        self.due = 0.0


class Outbox:
    """Publishes what slots hold. Thread-safe where it says so; otherwise the I/O thread's."""

    def __init__(
        self, backend: Backend, io: IoThread, *, rollup: float, on_problem: Callable[[str], None]
    ) -> None:
        self._backend = backend
        self._io = io
        self._rollup = max(rollup, _PACE)
        self._on_problem = on_problem
        self._inline = backend.capabilities.inline
        self.pace = Pace()
        self.stats = OutboxStats()
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.RLock()
        self._dirty: deque[Slot | Single] = deque()
        self._later: list[tuple[float, int, Slot | Single]] = []
        self._numbers = itertools.count()
        self._unsettled: set[Slot | Single] = set()
        self._inflight: set[asyncio.Task[None]] = set()
        self._asleep = True  # until the first call, there is no pump
        self._urgent = False
        self._steady = False  # text comes faster than it is published
        self._called = False  # the I/O thread was told that it is time
        self._flushing = False  # a thread that holds the lock publishes inline
        self._alarm: asyncio.Future[None] | None = None
        self._pump: asyncio.Task[None] | None = None
        self._idle: list[asyncio.Future[None]] = []
        self._last_flush = 0.0
        self._failures = 0
        self._down_until = 0.0
        self._interval = 0.0  # seconds between publishes that a rate limit asked for
        self._down = False

    def after_fork(self) -> None:
        """Forget what the parent has under way."""
        self._reset()

    # -- from any thread

    def mark(self, item: Slot | Single, *, urgent: bool) -> None:
        """Have `item` looked at; at once where it is urgent. Thread-safe, never blocks."""
        item.dirty = True
        self._dirty.append(item)
        if urgent:
            self._urgent = True
        if (self._asleep or urgent) and not (self._inline and self._publish_here(urgent)):
            self._asleep = False
            self._io.call(self._awake)

    def keep_pace(self) -> None:
        """Publish what has gathered since `Pace.due` was set (capability `inline`). Thread-safe."""
        if not self._publish_here(urgent=False) and not self._called:
            self._called = True
            self._io.call(self._awake)

    def _publish_here(self, urgent: bool) -> bool:
        """Publish what little waits, on the writing thread: that costs less than to wake another.

        Whatever is not plain and quick is left to the I/O thread.

        :return: whether that thread can sleep on.
        """
        early = not urgent and time.monotonic() < self.pace.due
        trouble = self._failures or self._interval or self._later
        if early or trouble or len(self._dirty) > _FEW or not self._lock.acquire(blocking=False):
            return False
        try:
            if self._flushing:
                return False
            self._flush_batch()
            return not (self._dirty or self._later or self._idle)
        finally:
            self._lock.release()

    def flush_inline(self) -> None:
        """Publish all that waits, here and now (capability `inline`). Thread-safe."""
        with self._lock:
            # A finalizer or a signal's handler may come by within a flush, which then goes on.
            while self._dirty and not self._flushing:
                if not self._flush_batch():
                    break
            if self._dirty or self._later or self._idle:
                self._io.call(self._awake)

    def _flush_batch(self) -> bool:
        """Publish a batch inline, under the lock; say whether there was one."""
        self._urgent = False
        self._flushing = True
        try:
            batch = self._collect()
            if batch:
                self._last_flush = time.monotonic()
                self.pace.due = self._last_flush + self._rollup
                self._publish_inline(batch)
            return bool(batch)
        finally:
            self._flushing = False

    def fence(self, slot: Slot, error: PublishRejected) -> None:
        """Stop a slot whose lease was lost."""
        with self._lock:
            if not slot.done:
                self._stop(slot, error)
                if not slot.inflight:
                    self._unsettled.discard(slot)

    def unknown(self, slot: Slot, message: str) -> None:
        """Make a response again that the backend does not know any more (I/O thread)."""
        with self._lock:
            if not slot.done:
                self._unknown(slot, ResponseUnknown(message))
        if slot.damaged:
            self.mark(slot, urgent=True)

    # -- the pump

    def _awake(self) -> None:
        self._called = False
        if self._pump is None:
            self._pump = self._io.spawn(self._run())
        elif self._alarm is not None:
            _ring(self._alarm)

    async def _run(self) -> None:
        while True:
            try:
                await self._wait_for_work()
                if self._inline:
                    with self._lock:
                        self._flush_batch()
                else:
                    self._urgent = False
                    with self._lock:
                        batch = self._collect()
                    if batch:
                        self._last_flush = time.monotonic()
                        await self._send(batch)
                self._tell_idle()
            except Exception:
                logger.exception("tokenwire: unexpected error in the outbox; going on")
                await asyncio.sleep(0.1)

    async def _wait_for_work(self) -> None:
        woken = False
        grace = _GRACE if self._inline else 0.0
        while True:
            now = time.monotonic()
            if now < self._down_until:
                await self._sleep_until(self._down_until)
                self._absorb_all()
                continue
            paced = self._last_flush + max(self._rollup, self._interval)
            if self._dirty or self._due(now):
                if (self._urgent and not self._interval) or now >= paced:
                    self._steady = not woken
                    return
                await self._sleep_until(paced + grace)
                woken = False
            elif self._steady and now < paced + grace:
                # Text keeps coming: one look in each pace costs less than to be woken for it, too.
                self._steady = False
                await self._sleep_until(paced + grace)
            else:
                self._tell_idle()
                self._asleep = True
                if not self._dirty:  # else it was written between the look and the flag
                    await self._sleep_until(self._later[0][0] if self._later else None)
                    woken = True
                self._asleep = False

    async def _sleep_until(self, when: float | None) -> None:
        """Sleep until `when` (monotonic) or until woken."""
        loop = asyncio.get_running_loop()
        self._alarm = alarm = loop.create_future()
        if when is None:
            await alarm
            return
        timer = loop.call_later(max(0.0, when - time.monotonic()), _ring, alarm)
        try:
            await alarm
        finally:
            timer.cancel()

    def _due(self, now: float) -> bool:
        return bool(self._later) and self._later[0][0] <= now

    def _absorb_all(self) -> None:
        """Merge what is written while nothing can be sent, so that it takes little room."""
        with self._lock:
            for item in self._dirty.copy():
                if isinstance(item, Slot):
                    item.owner.absorb(item.draft)

    # -- making batches

    def _collect(self) -> list[tuple[Slot | Single, Entry]]:
        batch: list[tuple[Slot | Single, Entry]] = []
        now = time.monotonic()
        while self._later and self._later[0][0] <= now and len(batch) < _MAX_BATCH:
            item = heapq.heappop(self._later)[2]
            self._collect_one(item, now, batch)
        for _ in range(len(self._dirty)):
            if len(batch) >= _MAX_BATCH:
                break
            item = self._dirty.popleft()
            item.dirty = False
            self._unsettled.add(item)
            self._collect_one(item, now, batch)
        return batch

    def _collect_one(
        self, item: Slot | Single, now: float, batch: list[tuple[Slot | Single, Entry]]
    ) -> None:
        if isinstance(item, Single):
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

    def _pending(self, slot: Slot) -> bool:
        return not slot.done and (
            slot.retry is not None or slot.damaged or slot.draft.waiting or slot.inflight > 0
        )

    def _next_entry(self, slot: Slot, now: float) -> Entry | None:
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

    def _recovery(self, slot: Slot, now: float) -> Entry | None:
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
        first, longest = _RECOVERY
        slot.not_before = now + min(longest, first * 2 ** min(slot.recoveries, 16))
        slot.recoveries += 1
        self.stats.recoveries += 1
        return slot.entry(events)

    def _put_off(self, item: Slot | Single, when: float) -> None:
        heapq.heappush(self._later, (when, next(self._numbers), item))

    # -- sending

    def _publish_inline(self, batch: list[tuple[Slot | Single, Entry]]) -> None:
        entries = [entry for _, entry in batch]
        begun = time.monotonic()
        try:
            outcomes = self._backend.publish_nowait(entries)
        except Exception as error:
            self._failed(batch, error)
            return
        self._sent(batch, outcomes, begun)

    async def _send(self, batch: list[tuple[Slot | Single, Entry]]) -> None:
        """Publish a batch; wait until another may be sent, merging meanwhile."""
        task = self._io.spawn(self._publish(batch))
        self._inflight.add(task)
        while len(self._inflight) >= self._backend.capabilities.window:
            done, _ = await asyncio.wait(
                self._inflight, timeout=0.25, return_when=asyncio.FIRST_COMPLETED
            )
            self._inflight -= done
            if not done:
                self._absorb_all()
        self._inflight = {task for task in self._inflight if not task.done()}

    async def _publish(self, batch: list[tuple[Slot | Single, Entry]]) -> None:
        begun = time.monotonic()
        try:
            outcomes = await self._backend.publish([entry for _, entry in batch])
        except asyncio.CancelledError:
            raise
        except Exception as error:
            self._failed(batch, error)
        else:
            self._sent(batch, outcomes, begun)
        finally:
            self._awake()

    def _sent(
        self,
        batch: list[tuple[Slot | Single, Entry]],
        outcomes: Sequence[Outcome],
        begun: float,
    ) -> None:
        stats = self.stats
        stats.publishes += 1
        stats.publish_seconds += time.monotonic() - begun
        self._failures = 0
        self._interval *= 0.9
        if self._interval < 0.005:
            self._interval = 0.0
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

    def _failed(self, batch: list[tuple[Slot | Single, Entry]], error: Exception) -> None:
        """The whole call failed: nothing is known of its entries."""
        if not isinstance(error, BackendError):
            logger.error("tokenwire: the backend raised %r", type(error).__name__, exc_info=error)
            error = BackendUnavailable(f"{type(error).__name__} in the backend")
        if isinstance(error, RateLimited):
            self._slow_down(error)
        elif isinstance(error, BackendUnavailable):
            now = time.monotonic()
            if now >= self._down_until:  # else it is one of several that failed together
                self._failures += 1
                self._down_until = now + _backoff(self._failures)
            if not self._down:
                self._down = True
                self._on_problem(f"the backend does not take tokens, retrying: {error}")
        for item, entry in batch:
            self._complete(item, entry, Outcome(error=error))

    def _slow_down(self, error: RateLimited) -> None:
        self._interval = min(1.0, max(0.02, self._interval * 2))
        if error.retry_after:
            self._down_until = time.monotonic() + min(error.retry_after, 30.0)

    # -- what became of entries

    def _complete(self, item: Slot | Single, entry: Entry, outcome: Outcome) -> None:
        if isinstance(item, Single):
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
                    self._dirty.append(slot)
            elif not slot.dirty:
                self._unsettled.discard(slot)

    def _tell(self, slot: Slot, entry: Entry, outcome: Outcome) -> None:
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

    def _accepted(self, slot: Slot, entry: Entry, outcome: Outcome) -> None:
        slot.attempts = 0
        slot.contact = time.monotonic()
        slot.cursor = outcome.cursor or slot.cursor
        if isinstance(entry.events[0], StartEvent):
            slot.started = True
        if any(isinstance(event, SnapshotEvent) for event in entry.events):
            slot.damaged = False
        if isinstance(entry.events[-1], EndEvent):
            slot.done = True
        slot.owner.heard_outcome(slot, None)
        if outcome.cancel is not None and not slot.done:
            slot.owner.heard_cancel(outcome.cancel)

    def _unknown(self, slot: Slot, error: ResponseUnknown) -> None:
        if time.monotonic() - slot.contact > slot.template.lease:
            self._stop(slot, error)  # we may have been declared dead, and forgotten since
            return
        slot.started = False
        slot.damaged = True

    def _stop(self, slot: Slot, error: PublishRejected) -> None:
        slot.done = True
        slot.fenced = True
        slot.draft.silence()
        self.stats.fenced += 1
        slot.owner.heard_outcome(slot, error)

    def _rejected(self, slot: Slot, entry: Entry, error: PublishRejected) -> None:
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
        slot.owner.heard_outcome(slot, None)
        if not slot.started:
            self._stop(slot, error)

    def _try_again(self, slot: Slot, entry: Entry) -> None:
        self.stats.retries += 1
        slot.retries += 1
        slot.attempts += 1
        if slot.inflight or slot.retry is not None or slot.damaged:
            # Later entries may be there already: order can only be had back by a snapshot.
            slot.damaged = True
            slot.retry = None
            return
        slot.retry = entry
        slot.not_before = time.monotonic() + _backoff(slot.attempts)
        self._put_off(slot, slot.not_before)

    def _complete_single(self, item: Single, outcome: Outcome) -> None:
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
        self._put_off(item, time.monotonic() + _backoff(item.attempts))

    # -- finishing

    def _tell_idle(self) -> None:
        self._inflight = {task for task in self._inflight if not task.done()}
        if self._idle and not self._dirty and not self._unsettled and not self._inflight:
            waiting, self._idle = self._idle, []
            for future in waiting:
                if not future.done():
                    future.set_result(None)

    async def idle(self) -> None:
        """Wait until everything written so far is with the backend, or given up."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._idle.append(future)
        self._awake()
        await future

    @property
    def waiting(self) -> int:
        """How many responses and single entries are not yet with the backend."""
        return len(self._unsettled) + len(self._dirty)


def _ring(alarm: asyncio.Future[None]) -> None:
    if not alarm.done():
        alarm.set_result(None)


def _backoff(attempts: int) -> float:
    first, longest = _BACKOFF
    delay: float = min(longest, first * 2.0 ** min(attempts - 1, 16))
    return delay * _jitter.uniform(0.5, 1.5)
