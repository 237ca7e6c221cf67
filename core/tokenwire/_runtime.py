"""What runs behind a sink: its I/O thread, with the writing and the reading side on it."""

from __future__ import annotations

import asyncio
import logging

from tokenwire._io import IoThread
from tokenwire._lifetime import open_sinks
from tokenwire._problems import Problems
from tokenwire._producer import Producer
from tokenwire._reading.registry import HubRegistry
from tokenwire._requests import Requests
from tokenwire._results import SinkStats
from tokenwire.backend import Backend

__all__ = ["Runtime"]

logger = logging.getLogger("tokenwire")

_MARGIN = 5  # seconds more than its own limit that a close may take


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
        self.io = IoThread("tokenwire-io", keep=self)
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
        )

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until all that was written is with the backend (see `Sink.flush`)."""
        if not self.io.running:
            return True
        try:
            self.io.run(self.producer.outbox.idle(), self._limit(timeout))
        except TimeoutError:
            return False
        self.problems.raise_kept()
        return True

    async def aflush(self, timeout: float | None = None) -> bool:
        """Do what `flush` does, without blocking the loop."""
        if not self.io.running:
            return True
        try:
            async with asyncio.timeout(self._limit(timeout)):
                await self.io.arun(self.producer.outbox.idle())
        except TimeoutError:
            return False
        self.problems.raise_kept()
        return True

    def close(self, timeout: float | None = None) -> bool:
        """End what is open, flush, and release everything (see `Sink.close`)."""
        if not self.producer.begin_close():
            return True
        flushed = True
        if self.io.running:
            limit = self._limit(timeout)
            try:
                flushed = self.io.run(self._shut_down(limit), limit + _MARGIN)
            except TimeoutError:
                flushed = False
            self.io.stop(2.0)
        self._closed(flushed)
        return flushed

    async def aclose(self, timeout: float | None = None) -> bool:
        """Do what `close` does, without blocking the loop."""
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
        flushed = True
        try:
            async with asyncio.timeout(timeout):
                await self.producer.outbox.idle()
        except TimeoutError:
            flushed = False
        await self.producer.close()
        await self.hubs.close()
        try:
            await self.backend.close()
        except Exception:
            logger.warning("tokenwire: closing the backend failed", exc_info=True)
        return flushed

    def _closed(self, flushed: bool) -> None:
        open_sinks.discard(self)
        if not flushed:
            logger.warning(
                "tokenwire: closed with %d responses or entries not delivered", self.waiting
            )
        self.problems.raise_kept()

    def after_fork(self) -> None:
        """Make the sink usable in a forked child; its parent goes on with what it has open."""
        self.io.after_fork()
        self.hubs.after_fork()
        self.backend.after_fork()
        self.producer.after_fork()
