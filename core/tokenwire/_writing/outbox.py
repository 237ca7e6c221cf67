"""The background publisher: when what was written goes to the backend, on the I/O thread.

What is sent, and in which order, is the queue's business. For backends that publish inline, see
`tokenwire._writing.inline`, which has the same interface.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from math import inf
from typing import Any

from tokenwire._io import IoThread
from tokenwire._problems import Problems
from tokenwire._writing.pending import PendingEvent, PendingResponse
from tokenwire._writing.queue import Batch, Queue
from tokenwire.backend import Backend
from tokenwire.errors import PublishRejected, SinkClosed

__all__ = ["MIN_INTERVAL", "Outbox"]

logger = logging.getLogger("tokenwire")

MIN_INTERVAL = 0.005  # seconds between publishes of text that keeps coming
ASLEEP, AWAKE = inf, -inf  # when the I/O thread looks at the queue: if woken; before it sleeps


class Outbox:
    """Publishes what is marked. Thread-safe where it says so; otherwise the I/O thread's.

    :param rollup: seconds in which text gathers before it is published.
    :ivar stats: counters of the writing side.
    """

    def __init__(
        self, backend: Backend, io: IoThread, problems: Problems, *, rollup: float
    ) -> None:
        self._backend = backend
        self._io = io
        self._problems = problems
        self._interval = max(rollup, MIN_INTERVAL)
        self._queue = Queue(backend)
        self.stats = self._queue.stats
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.RLock()
        self._inflight: set[asyncio.Task[None]] = set()
        self._urgent = False
        self._steady = False  # text comes faster than it is published
        self._looks_at = ASLEEP  # when the I/O thread looks at the queue (monotonic)
        self._alarm: asyncio.Future[None] | None = None
        self._pump: asyncio.Task[None] | None = None
        self._idle: list[asyncio.Future[None]] = []
        self._last_publish = 0.0

    @property
    def waiting(self) -> int:
        """How many responses and single entries are not yet with the backend."""
        return self._queue.waiting

    def after_fork(self) -> None:
        """Drop what the parent has under way."""
        self._queue.reset()
        self._reset()

    # -- from any thread

    def mark(self, item: PendingResponse | PendingEvent, urgent: bool) -> None:
        """Have `item` published; at once where it is urgent. Thread-safe, never blocks."""
        item.dirty = True
        item.mark_at = None
        self._queue.dirty.append(item)
        if urgent:
            self._urgent = True
            self._wake()
        else:
            self._wake_by(0.0)

    def mark_event(self, event: PendingEvent) -> None:
        """Have a single event published at once, and before what ends later in its channel."""
        self._queue.events.add(event)
        self.mark(event, True)

    def events_of(self, channel: str) -> tuple[PendingEvent, ...]:
        """The single events of a channel that are not yet with the backend. Thread-safe."""
        if not self._queue.events:
            return ()
        # The copy is whole for other threads, which may add to the set meanwhile.
        return tuple(one for one in self._queue.events.copy() if one.entry.channel == channel)

    def flush(self) -> None:
        """Publish all that waits before returning, where that needs no other thread."""

    def call_soon(self, function: Callable[..., object], *args: Any) -> None:
        """Call `function` on the I/O thread, soon; not at all once the sink is closed."""
        self._io.call_soon(function, *args)

    def _wake(self) -> None:
        self._looks_at = AWAKE
        try:
            self._io.call(self._on_wake)
        except SinkClosed as error:
            self._problems.report(error)

    def _wake_by(self, when: float) -> None:
        """Have the I/O thread look at the queue at `when` at the latest."""
        if self._looks_at > when:
            self._wake()

    def fence(self, response: PendingResponse, error: PublishRejected) -> None:
        """Stop a response whose lease was lost."""
        with self._lock:
            self._queue.fence(response, error)

    def unknown(self, response: PendingResponse, message: str) -> None:
        """Begin a response again that the backend does not know any more (I/O thread)."""
        with self._lock:
            self._queue.unknown(response, message)
        if response.damaged:
            self.mark(response, urgent=True)

    # -- the pump

    def _on_wake(self) -> None:
        if self._pump is None:
            self._pump = self._io.spawn(self._run())
        elif self._alarm is not None:
            _set(self._alarm)

    async def _run(self) -> None:
        while True:
            try:
                await self._wait_for_work()
                await self._publish_some()
                self._notify_idle()
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
            due = self._last_publish + max(self._interval, queue.interval)
            retry = queue.next_try
            if queue.dirty or (retry is not None and retry <= now):
                if (self._urgent and not queue.interval) or now >= due:
                    self._steady = not slept
                    return
                await self._sleep_until_due(due)
                slept = False
            elif self._steady and now < due:
                # Text keeps coming: one look in each interval costs less than a wake-up for it.
                self._steady = False
                await self._sleep_until_due(due)
            else:
                self._notify_idle()
                slept = await self._sleep_until_marked(retry) or slept

    async def _sleep_until_marked(self, retry: float | None) -> bool:
        """Sleep until there is something to publish; say whether that took any time."""
        self._looks_at = ASLEEP
        sleep = not self._queue.dirty  # else it was written between the look and the flag
        if sleep:
            await self._sleep_until(retry)
        self._looks_at = AWAKE
        return sleep

    async def _sleep_until_due(self, due: float) -> None:
        """Sleep until the next publish of text is due (monotonic), or until woken."""
        await self._sleep_until(due)

    async def _sleep_until(self, when: float | None) -> None:
        """Sleep until `when` (monotonic), or until woken."""
        loop = asyncio.get_running_loop()
        self._alarm = alarm = loop.create_future()
        if when is None:
            await alarm
            return
        timer = loop.call_later(max(0.0, when - time.monotonic()), _set, alarm)
        try:
            await alarm
        finally:
            timer.cancel()

    # -- publishing

    async def _publish_some(self) -> None:
        """Publish a batch; wait until another may be sent, merging meanwhile."""
        self._urgent = False
        with self._lock:
            batch = self._queue.collect()
        if not batch:
            return
        self._last_publish = time.monotonic()
        self._merge_later()
        try:
            if self._backend.capabilities.window == 1:  # a task would begin a turn later
                await self._publish(batch)
                return
            self._inflight.add(self._io.spawn(self._publish(batch)))
            while len(self._inflight) >= self._backend.capabilities.window:
                _, self._inflight = await asyncio.wait(
                    self._inflight, return_when=asyncio.FIRST_COMPLETED
                )
        finally:
            self._merging.cancel()

    def _merge_later(self) -> None:
        self._merging = asyncio.get_running_loop().call_later(0.25, self._merge)

    def _merge(self) -> None:
        """Merge what is written while a publish takes long."""
        with self._lock:
            self._queue.absorb_all()
        self._merge_later()

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
            self._on_wake()

    # -- finishing

    def _notify_idle(self) -> None:
        self._inflight = {task for task in self._inflight if not task.done()}
        if self._idle and self._queue.settled and not self._inflight:
            waiting, self._idle = self._idle, []
            for future in waiting:
                _set(future)

    @property
    def problem(self) -> str | None:
        """Why the backend takes nothing now, if that is so."""
        return self._queue.problem

    async def down(self, seconds: float) -> None:
        """Wait until the backend has taken nothing for so long, with all tries failing."""
        while True:
            begun = time.monotonic()
            while self._queue.problem is not None:
                if time.monotonic() - begun >= seconds:
                    return
                await asyncio.sleep(seconds / 10)
            await asyncio.sleep(seconds / 10)

    async def idle(self) -> None:
        """Wait until everything written so far is with the backend, or given up."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._idle.append(future)
        self._on_wake()
        await future


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
