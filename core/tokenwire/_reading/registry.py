"""The hubs of a sink: opened when first watched, closed some time after they were last watched."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from tokenwire._clock import jitter
from tokenwire._io import IoThread, result_of
from tokenwire._reading.hub import ChannelHub
from tokenwire._reading.ring import RingLimits
from tokenwire._reading.waiting import LoopWaker
from tokenwire._results import HubStats
from tokenwire.backend import Backend
from tokenwire.errors import BackendUnavailable

__all__ = ["HubRegistry"]

logger = logging.getLogger("tokenwire")

_LINGER = 5.0  # seconds that a hub stays open without watchers


class HubRegistry:
    """The hubs of one sink. Used on the I/O thread only.

    :param reap_every: seconds between looks for responses whose producer died.
    """

    def __init__(
        self,
        backend: Backend,
        io: IoThread,
        *,
        ring_events: int,
        ring_bytes: int,
        reap_every: float,
    ) -> None:
        self.backend = backend
        self.io = io
        self.stats = HubStats()
        self._limits = RingLimits(ring_events, ring_bytes)
        self._linger = _LINGER
        self._reap_every = reap_every
        self.after_fork()

    def after_fork(self) -> None:
        """Let go of the parent's hubs."""
        self._hubs: dict[str, ChannelHub] = {}
        self._openings: dict[ChannelHub, asyncio.Task[None]] = {}
        self._reaper: asyncio.Task[Any] | None = None
        self._waker = LoopWaker()
        self.watchers = 0

    @property
    def channels(self) -> int:
        """How many channels are subscribed to, or about to be."""
        return len(self._hubs)

    async def acquire(self, channel: str) -> ChannelHub:
        """Get the hub of `channel`, open; pair each call that returns with one of `release`.

        :raises BackendUnavailable: when the backend cannot be read now.
        """
        hub = self._hubs.get(channel)
        if hub is None:
            hub = self._hubs[channel] = self._new_hub(channel)
            self._openings[hub] = self.io.spawn(self._open(hub))
        # Counted from here on: a hub whose users all leave while it opens is closed as any other.
        hub.users += 1
        self.watchers += 1
        if self._reaper is None:
            self._reaper = self.io.spawn(self._reap())
        try:
            opening = self._openings.get(hub)
            if opening is not None:
                await result_of(opening)
        except BaseException:
            self.release(hub)
            raise
        return hub

    def _new_hub(self, channel: str) -> ChannelHub:
        return ChannelHub(
            channel,
            backend=self.backend,
            io=self.io,
            stats=self.stats,
            limits=self._limits,
            wake=self._waker.wake,
        )

    async def _open(self, hub: ChannelHub) -> None:
        try:
            await hub.open()
        except BaseException:
            self._forget(hub)
            await hub.close()
            raise
        finally:
            self._openings.pop(hub, None)

    def _forget(self, hub: ChannelHub) -> None:
        """Have the next watcher of the channel open another hub."""
        if self._hubs.get(hub.channel) is hub:
            del self._hubs[hub.channel]

    def release(self, hub: ChannelHub) -> None:
        """Say that one user of `hub` is done; the last one's hub is closed a little later."""
        hub.users -= 1
        self.watchers -= 1
        if hub.users == 0 and not hub.closed:
            asyncio.get_running_loop().call_later(self._linger, self._drop, hub)

    def _drop(self, hub: ChannelHub) -> None:
        if hub.users or hub.closed:
            return
        self._forget(hub)
        opening = self._openings.get(hub)
        if opening is not None:
            opening.cancel()  # which closes the hub
        else:
            self.io.spawn(hub.close())

    async def _reap(self) -> None:
        """End responses whose producer died, in the channels that somebody here watches."""
        loop = asyncio.get_running_loop()
        paused = False
        while True:
            due = loop.time() + jitter(self._reap_every, 0.2)
            await asyncio.sleep(due - loop.time())
            # After a pause of the process (a stopped container, a laptop's sleep) its own leases
            # have run out, too: they are renewed before anything is reaped. Once, since a loop that
            # is always late has to reap as well.
            paused = not paused and loop.time() > due + self._reap_every
            if paused:
                continue
            for hub in list(self._hubs.values()):
                quiet = loop.time() - hub.active_at >= min(1.0, self._reap_every)
                if hub.streaming and quiet:
                    try:
                        self.stats.reaped += await self.backend.reap(hub.channel)
                    except BackendUnavailable:
                        break  # and try again next time
                    except Exception:
                        logger.warning("tokenwire: reaping %r failed", hub.channel, exc_info=True)

    async def close(self) -> None:
        """Close all hubs."""
        if self._reaper is not None:
            self._reaper.cancel()
        for opening in self._openings.values():
            opening.cancel()
        for hub in list(self._hubs.values()):
            await hub.close()
        self._hubs.clear()
        self._openings.clear()
