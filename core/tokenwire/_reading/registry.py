"""The hubs of a sink: opened when first watched, closed some time after they were last watched."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from tokenwire._clock import jitter
from tokenwire._io import IoThread
from tokenwire._reading.hub import ChannelHub
from tokenwire._reading.ring import RingLimits
from tokenwire._reading.waiting import LoopWaker
from tokenwire._results import HubStats
from tokenwire.backend import Backend
from tokenwire.errors import BackendUnavailable

__all__ = ["HubRegistry"]

logger = logging.getLogger("tokenwire")


class HubRegistry:
    """The hubs of one sink. Used on the I/O thread only.

    :param linger: seconds that a hub stays open without watchers.
    :param reap_every: seconds between looks for responses whose producer died.
    """

    def __init__(
        self,
        backend: Backend,
        io: IoThread,
        *,
        ring_events: int = 2048,
        ring_bytes: int = 2**20,
        linger: float = 5.0,
        reap_every: float = 5.0,
    ) -> None:
        self.backend = backend
        self.io = io
        self.stats = HubStats()
        self._limits = RingLimits(ring_events, ring_bytes)
        self._linger = linger
        self._reap_every = reap_every
        self._closed = False
        self.after_fork()

    def after_fork(self) -> None:
        """Let go of the parent's hubs."""
        self._hubs: dict[str, asyncio.Task[ChannelHub]] = {}
        self._reaper: asyncio.Task[Any] | None = None
        self._waker = LoopWaker()
        self.watchers = 0

    @property
    def channels(self) -> int:
        """How many channels are subscribed to."""
        return len(self._hubs)

    async def acquire(self, channel: str) -> ChannelHub:
        """Get the hub of `channel`, open; pair each call with one of `release`.

        :raises BackendUnavailable: when the backend cannot be read now.
        """
        while True:
            task = self._hubs.get(channel)
            if task is None or (task.done() and (task.cancelled() or task.exception())):
                task = self.io.spawn(self._open(channel))
                self._hubs[channel] = task
            hub = await asyncio.shield(task)
            if not hub.closed or self._closed:  # else its last user left while we waited
                break
        hub.users += 1
        self.watchers += 1
        if self._reaper is None:
            self._reaper = self.io.spawn(self._reap())
        return hub

    async def _open(self, channel: str) -> ChannelHub:
        hub = ChannelHub(
            channel,
            backend=self.backend,
            io=self.io,
            stats=self.stats,
            limits=self._limits,
            wake=self._waker.wake,
        )
        try:
            await hub.open()
        except BaseException:
            await hub.close()
            raise
        return hub

    def release(self, hub: ChannelHub) -> None:
        """Say that one user of `hub` is done; the last one's hub is closed a little later."""
        hub.users -= 1
        self.watchers -= 1
        if hub.users == 0 and not hub.closed:
            asyncio.get_running_loop().call_later(self._linger, self._drop, hub)

    def _drop(self, hub: ChannelHub) -> None:
        if hub.users == 0 and not hub.closed:
            self._hubs.pop(hub.channel, None)
            self.io.spawn(hub.close())

    async def _reap(self) -> None:
        """End responses whose producer died, in the channels that somebody here watches."""
        loop = asyncio.get_running_loop()
        paused = False
        while True:
            due = loop.time() + jitter(self._reap_every, 0.2)
            await asyncio.sleep(due - loop.time())
            # After a pause of the process (a stopped container, a laptop's sleep) its own leases have
            # run out, too: they are renewed before anything is reaped. Once, since a loop that is
            # always late has to reap as well.
            paused = not paused and loop.time() > due + self._reap_every
            if paused:
                continue
            for hub in self._open_hubs():
                quiet = loop.time() - hub.active_at >= min(1.0, self._reap_every)
                if hub.streaming and quiet:
                    try:
                        self.stats.reaped += await self.backend.reap(hub.channel)
                    except BackendUnavailable:
                        break  # and try again next time
                    except Exception:
                        logger.warning("tokenwire: reaping %r failed", hub.channel, exc_info=True)

    def _open_hubs(self) -> list[ChannelHub]:
        return [
            task.result()
            for task in self._hubs.values()
            if task.done() and not task.cancelled() and not task.exception()
        ]

    async def close(self) -> None:
        """Close all hubs."""
        self._closed = True
        if self._reaper is not None:
            self._reaper.cancel()
        hubs = self._open_hubs()
        for task in self._hubs.values():
            task.cancel()  # those that are not open yet
        for hub in hubs:
            await hub.close()
        self._hubs.clear()
