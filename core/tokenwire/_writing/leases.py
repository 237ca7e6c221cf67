"""Listens for cancels of open responses, and renews their leases."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from tokenwire._clock import Backoff
from tokenwire._io import IoThread
from tokenwire._writing.outbox import Outbox
from tokenwire._writing.pending import PendingResponse
from tokenwire.backend import Backend, Lease, Subscription
from tokenwire.errors import BackendUnavailable, Fenced, SinkClosed
from tokenwire.events import CancelEvent, Event

__all__ = ["LeaseKeeper"]

logger = logging.getLogger("tokenwire")

_IDLE_LIMIT = 30.0  # seconds after which a channel without open responses is unsubscribed
_CHUNK = 1000  # leases in one renewal
_RETRY = 5.0  # seconds, at most, until a renewal that failed is tried again


class CancelListener:
    """The control subscription of one channel."""

    def __init__(self, leases: LeaseKeeper, channel: str) -> None:
        self.leases = leases
        self.channel = channel
        self.subscription: Subscription | None = None
        self.idle_since: float | None = None

    def deliver(
        self,
        events: Sequence[Event],
        after: str | None,  # noqa: ARG002 - a producer needs no continuity
    ) -> None:
        for event in events:
            if isinstance(event, CancelEvent):
                self.leases.cancel(self.channel, event)

    def resync(self) -> None:
        self.leases.renew_now()


class LeaseKeeper:
    """Listens for cancels in the channels that a sink writes to, and renews its leases."""

    def __init__(
        self,
        backend: Backend,
        io: IoThread,
        open: Mapping[tuple[str, str], PendingResponse],
        outbox: Outbox,
        lease: float,
    ) -> None:
        self._backend = backend
        self._io = io
        self._open = open
        self._outbox = outbox
        self._every = lease / 3
        self.after_fork()

    def after_fork(self) -> None:
        """Drop the parent's subscriptions."""
        self._wanted: set[str] = set()
        self._listeners: dict[str, CancelListener] = {}
        self._task: asyncio.Task[Any] | None = None
        self._again: asyncio.Event | None = None
        self._renewing: asyncio.Task[Any] | None = None
        self._failed = False

    # -- from any thread

    def want(self, channel: str) -> None:
        """Listen to `channel`, which a response was begun in."""
        if channel not in self._wanted:
            self._wanted.add(channel)
            try:
                self._io.call(self._listen, channel)
            except SinkClosed:
                self._wanted.discard(channel)

    # -- on the I/O thread

    def cancel(self, channel: str, event: CancelEvent) -> None:
        """Cancel an open response."""
        response = self._open.get((channel, event.response_id))
        if response is not None:
            response.on_cancel(event)

    def renew_now(self) -> None:
        """Renew leases now: that also returns cancels that may have been missed."""
        if self._again is not None:
            self._again.set()

    def _listen(self, channel: str) -> None:
        if self._task is None:
            self._again = asyncio.Event()
            self._task = self._io.spawn(self._keep())
        if channel not in self._listeners:
            self._listeners[channel] = CancelListener(self, channel)
            self._io.spawn(self._subscribe(self._listeners[channel]))

    async def _subscribe(self, listener: CancelListener) -> None:
        backoff = Backoff(0.1, 5.0)
        while self._listeners.get(listener.channel) is listener:
            try:
                listener.subscription = await self._backend.control(listener.channel, listener)
            except BackendUnavailable:
                await asyncio.sleep(backoff.next())
            except Exception:
                logger.warning(
                    "tokenwire: cannot listen for cancels of %r", listener.channel, exc_info=True
                )
                return
            else:
                self.renew_now()  # a cancel may have come before we subscribed
                return

    async def _keep(self) -> None:
        """Renew leases in time, and unsubscribe from channels that are idle."""
        assert self._again is not None
        while True:
            try:
                async with asyncio.timeout(
                    min(self._every, _RETRY) if self._failed else self._every
                ):
                    await self._again.wait()
            except TimeoutError:
                pass
            self._again.clear()
            if self._renewing is None or self._renewing.done():
                self._renewing = self._io.spawn(self._renew())
            await self._unsubscribe_idle()

    async def _renew(self) -> None:
        held = [
            (response, _lease(response))
            for response in list(self._open.values())
            if response.started and not response.done
        ]
        for begin in range(0, len(held), _CHUNK):
            chunk = held[begin : begin + _CHUNK]
            try:
                states = await self._backend.renew([lease for _, lease in chunk])
                self._failed = False
            except BackendUnavailable:
                self._failed = True
                return
            except Exception:
                logger.warning("tokenwire: renewing leases failed", exc_info=True)
                return
            for (response, lease), state in zip(chunk, states, strict=True):
                quiet = not response.done and not response.inflight
                if state.lost and quiet:
                    # What waits goes out first: the backend answers it with what happened.
                    if not response.draft.waiting:
                        error = Fenced(f"response {lease.response_id!r} was declared abandoned")
                        self._outbox.fence(response, error)
                elif state.unknown and quiet:
                    message = f"no response {lease.response_id!r} any more"
                    self._outbox.unknown(response, message)
                elif state.cancel is not None:
                    response.on_cancel(state.cancel)

    async def _unsubscribe_idle(self) -> None:
        now = asyncio.get_running_loop().time()
        busy = {channel for channel, _ in list(self._open)}
        for channel, listener in list(self._listeners.items()):
            if channel in busy:
                listener.idle_since = None
            elif listener.idle_since is None:
                listener.idle_since = now
            elif now - listener.idle_since > _IDLE_LIMIT and listener.subscription is not None:
                self._wanted.discard(channel)
                if any(name == channel for name, _ in list(self._open)):
                    self._wanted.add(channel)  # begun just now
                    continue
                del self._listeners[channel]
                await listener.subscription.close()

    async def close(self) -> None:
        """Stop listening and renewing."""
        if self._task is not None:
            self._task.cancel()
        listeners, self._listeners = self._listeners, {}
        for listener in listeners.values():
            if listener.subscription is not None:
                await listener.subscription.close()


def _lease(response: PendingResponse) -> Lease:
    entry = response.template
    return Lease(entry.channel, entry.response_id or "", entry.fence or "", entry.lease)
