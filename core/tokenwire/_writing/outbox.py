"""When what was written goes to the backend, and which thread takes it there.

What is sent, and in which order, is the queue's business.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from math import inf

from tokenwire._io import IoThread
from tokenwire._writing.pending import OutboxStats, PendingEvent, PendingResponse
from tokenwire._writing.queue import Batch, Queue
from tokenwire.backend import Backend
from tokenwire.errors import PublishRejected

__all__ = ["Outbox", "Pace"]

logger = logging.getLogger("tokenwire")

_PACE = 0.005  # seconds between publishes of text that keeps coming
_FEW = 4  # items that a writing thread publishes itself; the I/O thread publishes more at once
_PATIENCE = 0.05  # seconds more that it leaves to a thread that may write on
_WATCH = 0.25  # seconds more that it leaves to an event loop, which was asked to publish in time
_EARLY = 0.001  # seconds that a loop's timer may come early: some count whole milliseconds
_LINGER = 1.0  # seconds that it looks by itself after a burst: another costs no wake-up then
_NEVER, _NO_NEED = inf, -inf  # when the I/O thread looks again: not by itself; before it sleeps


class Pace:
    """When a thread that writes is to publish what has gathered (monotonic); `inline` only."""

    __slots__ = ("due",)

    def __init__(self) -> None:
        self.due = 0.0


class Outbox:
    """Publishes what is marked. Thread-safe where it says so; otherwise the I/O thread's.

    Where the backend publishes inline, the threads that write publish: with a write that comes a
    pace after the last publish, or, on an event loop, from a timer of that loop. The I/O thread
    looks only after what they leave. While they run, it could have Python's lock only by taking
    it from them, again and again, which would cost them more than the publishing itself.
    """

    def __init__(
        self,
        backend: Backend,
        io: IoThread,
        *,
        rollup: float,
        on_problem: Callable[[str], None],
        on_error: Callable[[Exception], None],
    ) -> None:
        self._backend = backend
        self._io = io
        self._rollup = max(rollup, _PACE)
        self._on_error = on_error
        self._inline = backend.capabilities.inline
        self._queue = Queue(backend, on_problem)
        self.pace = Pace()
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.RLock()
        self._inflight: set[asyncio.Task[None]] = set()
        self._urgent = False
        self._steady = False  # text comes faster than it is published
        self._flushing = False  # a thread that holds the lock publishes inline
        self._looks_at = _NEVER  # when the I/O thread looks again (monotonic)
        self._asked = -_WATCH  # when an event loop was asked to look last (monotonic)
        self._unasked = False  # some of what is dirty, no event loop was asked to look at
        self._burst = -_LINGER  # when text came faster than it is published (monotonic)
        self._alarm: asyncio.Future[None] | None = None
        self._pump: asyncio.Task[None] | None = None
        self._idle: list[asyncio.Future[None]] = []
        self._last_flush = 0.0

    @property
    def stats(self) -> OutboxStats:
        """Counters of the writing side."""
        return self._queue.stats

    @property
    def waiting(self) -> int:
        """How many responses and single entries are not yet with the backend."""
        return self._queue.waiting

    def after_fork(self) -> None:
        """Forget what the parent has under way."""
        self._queue.reset()
        self._reset()

    # -- from any thread

    def mark(self, item: PendingResponse | PendingEvent, *, urgent: bool) -> None:
        """Have `item` looked at; at once where it is urgent. Thread-safe, never blocks."""
        item.dirty = True
        self._queue.dirty.append(item)
        if urgent:
            self._urgent = True
        due, now = self.pace.due, time.monotonic()
        early = not urgent and now < due
        if self._inline and not early and self._publish_here():
            return
        if urgent:
            self._wake()
        elif not early or len(self._queue.dirty) > _FEW:
            self._look_by(due)
        else:
            self._burst = now
            asked = self._asked > now or self._ask_loop(due, now)
            if not asked:
                self._unasked = True
            self._look_by(due + (_WATCH if asked else _PATIENCE))

    def keep_pace(self) -> None:
        """Publish what has gathered since `Pace.due` was set (capability `inline`). Thread-safe."""
        if not self._publish_here():
            self._look_by(self.pace.due)

    def _wake(self) -> None:
        self._looks_at = _NO_NEED
        self._io.call(self._awake)

    def _look_by(self, when: float) -> None:
        """Have the I/O thread look at `when` at the latest."""
        if self._looks_at > when:
            self._wake()

    def _ask_loop(self, due: float, now: float) -> bool:
        """Have the event loop that runs here publish at `due`; say whether one will."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return False
        self._asked = due
        loop.call_later(due - now, self._look_here)
        return True

    def _look_here(self) -> None:
        """Do what an event loop was asked for: publish, unless a write has done so since."""
        self._asked = now = time.monotonic()
        if self._queue.dirty and now >= self.pace.due - _EARLY:
            try:
                self.keep_pace()
            except Exception as error:  # the loop is not ours to trouble with it
                self._on_error(error)

    def _publish_here(self) -> bool:
        """Publish what little waits, on the writing thread: that costs less than to wake another.

        Whatever is not plain and quick is left to the I/O thread.

        :return: whether that thread can sleep on.
        """
        queue = self._queue
        many = len(queue.dirty) > _FEW
        if many or queue.troubled or not self._lock.acquire(blocking=False):
            return False
        try:
            if self._flushing:
                return False
            self._flush_batch()
            return not (queue.dirty or queue.troubled or self._idle)
        finally:
            self._lock.release()

    def flush_inline(self) -> None:
        """Publish all that waits, here and now (capability `inline`). Thread-safe."""
        queue = self._queue
        with self._lock:
            # A finalizer or a signal's handler may come by within a flush, which then goes on.
            while queue.dirty and not self._flushing:
                if not self._flush_batch():
                    break
            if queue.dirty or queue.next_try is not None or self._idle:
                self._wake()

    def _flush_batch(self) -> bool:
        """Publish a batch inline, under the lock; say whether there was one."""
        self._urgent = self._unasked = False
        self._flushing = True
        try:
            batch = self._queue.collect()
            if batch:
                self._last_flush = now = time.monotonic()
                self.pace.due = now + self._rollup
                self._publish_inline(batch, now)
            return bool(batch)
        finally:
            self._flushing = False

    def fence(self, slot: PendingResponse, error: PublishRejected) -> None:
        """Stop a slot whose lease was lost."""
        with self._lock:
            self._queue.fence(slot, error)

    def unknown(self, slot: PendingResponse, message: str) -> None:
        """Make a response again that the backend does not know any more (I/O thread)."""
        with self._lock:
            self._queue.forgotten(slot, message)
        if slot.damaged:
            self.mark(slot, urgent=True)

    # -- the pump

    def _awake(self) -> None:
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
                        batch = self._queue.collect()
                    if batch:
                        self._last_flush = time.monotonic()
                        await self._send(batch)
                self._tell_idle()
            except Exception:
                logger.exception("tokenwire: unexpected error in the outbox; going on")
                await asyncio.sleep(0.1)

    async def _wait_for_work(self) -> None:
        queue = self._queue
        slept = False
        while True:
            now = time.monotonic()
            if now < queue.down_until:
                await self._sleep_until(queue.down_until)
                with self._lock:
                    queue.absorb_all()
                continue
            due = self._last_flush + max(self._rollup, queue.interval)
            leave = self._leave(now)
            retry = queue.next_try
            if queue.dirty or (retry is not None and retry <= now):
                if (self._urgent and not queue.interval) or now >= due:
                    self._steady = not slept
                    return
                await self._sleep_leaving(due, leave)
                slept = False
            elif leave and now < self._burst + _LINGER:
                self._tell_idle()
                await self._sleep_leaving(now, leave)
            elif self._steady and now < due:
                # Text keeps coming: one look in each pace costs less than to be woken for it, too.
                self._steady = False
                await self._sleep_leaving(due, leave)
            else:
                self._tell_idle()
                self._looks_at = _NEVER
                if not queue.dirty:  # else it was written between the look and the flag
                    await self._sleep_until(retry)
                    slept = True
                self._looks_at = _NO_NEED

    def _leave(self, now: float) -> float:
        """How long to leave text to the threads that write, once it is due (seconds)."""
        if not self._inline or self._queue.troubled or len(self._queue.dirty) > _FEW:
            return 0.0
        asked = self._asked > now - _WATCH and not self._unasked
        return _WATCH if asked else _PATIENCE

    async def _sleep_leaving(self, since: float, leave: float) -> None:
        """Sleep from `since` on for as long as others may see to it."""
        if leave:
            self._looks_at = since + leave
            if self._leave(time.monotonic()) < leave:
                self._looks_at = _NO_NEED
                return  # what came meanwhile cannot wait that long
        await self._sleep_until(since + leave)
        self._looks_at = _NO_NEED

    async def _sleep_until(self, when: float | None) -> None:
        """Sleep until `when` (monotonic), or until woken."""
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

    # -- sending

    def _publish_inline(self, batch: Batch, begun: float) -> None:
        entries = [entry for _, entry in batch]
        try:
            outcomes = self._backend.publish_nowait(entries)
        except Exception as error:
            self._queue.failed(batch, error)
            return
        self._queue.sent(batch, outcomes, begun)

    async def _send(self, batch: Batch) -> None:
        """Publish a batch; wait until another may be sent, merging meanwhile."""
        task = self._io.spawn(self._publish(batch))
        self._inflight.add(task)
        while len(self._inflight) >= self._backend.capabilities.window:
            done, _ = await asyncio.wait(
                self._inflight, timeout=0.25, return_when=asyncio.FIRST_COMPLETED
            )
            self._inflight -= done
            if not done:
                with self._lock:
                    self._queue.absorb_all()
        self._inflight = {task for task in self._inflight if not task.done()}

    async def _publish(self, batch: Batch) -> None:
        begun = time.monotonic()
        try:
            outcomes = await self._backend.publish([entry for _, entry in batch])
        except asyncio.CancelledError:
            raise
        except Exception as error:
            self._queue.failed(batch, error)
        else:
            self._queue.sent(batch, outcomes, begun)
        finally:
            self._awake()

    # -- finishing

    def _tell_idle(self) -> None:
        self._inflight = {task for task in self._inflight if not task.done()}
        if self._idle and self._queue.settled and not self._inflight:
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


def _ring(alarm: asyncio.Future[None]) -> None:
    if not alarm.done():
        alarm.set_result(None)
