"""What runs behind a sink: its I/O thread, with the writing and the reading side on it."""

from __future__ import annotations

import asyncio
import logging

from tokenwire._io import IoThread, require_asyncio
from tokenwire._lifetime import open_sinks
from tokenwire._problems import Problems
from tokenwire._producer import Producer
from tokenwire._reading.registry import HubRegistry
from tokenwire._requests import Requests
from tokenwire._results import SinkStats
from tokenwire.backend import Backend
from tokenwire.errors import BackendUnavailable

__all__ = ["Runtime"]

logger = logging.getLogger("tokenwire")

_STRICT_PATIENCE = 0.5  # seconds without the backend after which strict mode waits no longer
_MARGIN = 5  # seconds more than its own limit that a close may take
_BACKEND_TIMEOUT = 10.0  # seconds that a backend may take to close


class Runtime:
    """Makes the parts of a sink, and flushes, closes and forks them together."""

    def __init__(
        self,
        backend: Backend,
        *,
        rollup: float,
        lease: float,
        strict: bool,
        close_timeout: float,
        default_channel: str | None,
        ring_events: int,
        ring_bytes: int,
    ) -> None:
        self.backend = backend
        self.close_timeout = close_timeout
        self.io = IoThread(at_end=self._close_backend)
        self._backend_closed = False
        self.problems = Problems(strict, on_io_thread=lambda: self.io.here)
        self.producer = Producer(
            backend,
            self.io,
            self.problems,
            rollup=rollup,
            lease=lease,
            default_channel=default_channel,
        )
        self.hubs = HubRegistry(
            backend,
            self.io,
            ring_events=ring_events,
            ring_bytes=ring_bytes,
            reap_every=min(2.0, lease / 8),
        )
        self.requests = Requests(self.io, self.hubs, self.producer, self.problems)
        open_sinks.add(self)

    @property
    def waiting(self) -> int:
        """How many responses and single entries are not yet with the backend."""
        return self.producer.outbox.waiting

    def stats(self) -> SinkStats:
        """Counters since the sink was opened."""
        return SinkStats(
            writing=self.producer.outbox.stats,
            reading=self.hubs.stats,
            open=self.producer.open,
            waiting=self.waiting,
            watchers=self.hubs.watchers,
            channels=self.hubs.channels,
            replaced=self.problems.replaced,
            unreadable=self.backend.unreadable,
            ends=self.producer.observers.ends,
        )

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until all that was written is with the backend (see `Sink.flush`)."""
        if not self.io.running:
            return True
        flushed = self.io.run(self._flush(self._limit(timeout)))
        self._check_flushed(flushed)
        return flushed

    async def aflush(self, timeout: float | None = None) -> bool:
        """Do what `flush` does, without blocking the loop."""
        if not self.io.running:
            return True
        flushed = await self.io.arun(self._flush(self._limit(timeout)))
        self._check_flushed(flushed)
        return flushed

    async def _flush(self, timeout: float) -> bool:
        """Wait until all is with the backend; False after the timeout.

        In strict mode the wait is over, too, once the backend is known to take nothing: what is
        lost is to fail the test that lost it, soon.
        """
        outbox = self.producer.outbox
        waits = [asyncio.ensure_future(outbox.idle())]
        if self.problems.strict:
            waits.append(asyncio.ensure_future(outbox.down(_STRICT_PATIENCE)))
        try:
            await asyncio.wait(waits, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            return waits[0].done()
        finally:
            for wait in waits:
                wait.cancel()

    def _check_flushed(self, flushed: bool) -> None:
        """Raise what was kept in strict mode, or that something was not delivered."""
        self.problems.raise_kept()
        if self.problems.strict and not flushed:
            reason = self.producer.outbox.problem or "the backend did not take them in time"
            raise BackendUnavailable(
                f"{self.waiting} responses or entries are not delivered: {reason}"
            )

    def close(self, timeout: float | None = None, *, at_exit: bool = False) -> bool:
        """End what is open, flush, and release everything (see `Sink.close`).

        :param at_exit: whether little time is left for what comes after the flush.
        """
        if not self.producer.begin_close():
            return True
        flushed = True
        if self.io.running:
            limit = self._limit(timeout)
            margin = max(0.1, 0.05 * self.close_timeout) if at_exit else _MARGIN
            try:
                flushed = self.io.run(self._shut_down(limit), limit + margin)
            except TimeoutError:
                flushed = False
            self.io.stop(margin if at_exit else 2.0)
        self._closed(flushed)
        return flushed

    async def aclose(self, timeout: float | None = None) -> bool:
        """Do what `close` does, without blocking the loop."""
        require_asyncio()
        if not self.producer.begin_close():
            return True
        flushed = True
        if self.io.running:
            limit = self._limit(timeout)
            try:
                async with asyncio.timeout(limit + _MARGIN):
                    flushed = await self.io.arun(self._shut_down(limit))
            except TimeoutError:
                flushed = False
            self.io.stop(0)
        self._closed(flushed)
        return flushed

    def _limit(self, timeout: float | None) -> float:
        return self.close_timeout if timeout is None else timeout

    async def _shut_down(self, timeout: float) -> bool:
        flushed = await self._flush(timeout)
        await self.producer.close()
        await self.hubs.close()
        await self._close_backend()
        return flushed

    async def _close_backend(self) -> None:
        """Close the backend; where the time was up before, the end of the thread does it."""
        if self._backend_closed:
            return
        try:
            async with asyncio.timeout(_BACKEND_TIMEOUT):
                await self.backend.close()
        except Exception:
            logger.warning("tokenwire: closing the backend failed", exc_info=True)
        self._backend_closed = True

    def _closed(self, flushed: bool) -> None:
        open_sinks.discard(self)
        if not flushed and not self.problems.strict:
            logger.warning(
                "tokenwire: closed with %d responses or entries not delivered", self.waiting
            )
        self._check_flushed(flushed)

    def after_fork(self) -> None:
        """Make the sink usable in a forked child; its parent goes on with what it has open."""
        self.io.after_fork()
        self.hubs.after_fork()
        self.backend.after_fork()
        self.producer.after_fork()
