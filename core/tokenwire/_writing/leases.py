"""The producer's ear: cancels for the responses being written, and the leases they hold."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tokenwire._clock import Backoff
from tokenwire._io import IoThread
from tokenwire.backend import Backend, Lease, Subscription
from tokenwire.errors import BackendUnavailable, Fenced, SinkClosed
from tokenwire.events import CancelEvent, Event

if TYPE_CHECKING:
    from tokenwire._writing.outbox import Outbox
    from tokenwire.writer import ResponseWriter

__all__ = ["LeaseKeeper"]

logger = logging.getLogger("tokenwire")

_LINGER = 30.0  # seconds that a channel without open responses stays subscribed
_CHUNK = 1000  # leases in one renewal


class _Ear:
    """The control subscription of one channel."""

    def __init__(self, controls: LeaseKeeper, channel: str) -> None:
        self.controls = controls
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
                self.controls.cancel(self.channel, event)

    def resync(self) -> None:
        self.controls.look_again()


class LeaseKeeper:
    """Subscribes to the channels that a sink writes to, and renews its leases."""

    def __init__(
        self,
        backend: Backend,
        io: IoThread,
        writers: dict[tuple[str, str], ResponseWriter],
        outbox: Outbox,
        lease: float,
    ) -> None:
        self._backend = backend
        self._io = io
        self._writers = writers
        self._outbox = outbox
        self._every = lease / 3
        self.after_fork()

    def after_fork(self) -> None:
        """Forget the parent's subscriptions."""
        self._wanted: set[str] = set()
        self._ears: dict[str, _Ear] = {}
        self._task: asyncio.Task[Any] | None = None
        self._again: asyncio.Event | None = None
        self._renewing: asyncio.Task[Any] | None = None

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
        """Tell the writer of a cancelled response."""
        writer = self._writers.get((channel, event.response_id))
        if writer is not None:
            writer.on_cancel_event(event)

    def look_again(self) -> None:
        """Ask for cancels that may have been missed: a renewal tells."""
        if self._again is not None:
            self._again.set()

    def _listen(self, channel: str) -> None:
        if self._task is None:
            self._again = asyncio.Event()
            self._task = self._io.spawn(self._keep())
        if channel not in self._ears:
            self._ears[channel] = _Ear(self, channel)
            self._io.spawn(self._subscribe(self._ears[channel]))

    async def _subscribe(self, ear: _Ear) -> None:
        backoff = Backoff(0.1, 5.0)
        while self._ears.get(ear.channel) is ear:
            try:
                ear.subscription = await self._backend.control(ear.channel, ear)
            except BackendUnavailable:
                await asyncio.sleep(backoff.next())
            except Exception:
                logger.warning("tokenwire: cannot hear cancels of %r", ear.channel, exc_info=True)
                return
            else:
                self.look_again()  # a cancel may have come before we listened
                return

    async def _keep(self) -> None:
        """Renew leases in time, and let go of channels that are idle."""
        assert self._again is not None
        while True:
            try:
                async with asyncio.timeout(self._every):
                    await self._again.wait()
            except TimeoutError:
                pass
            self._again.clear()
            if self._renewing is None or self._renewing.done():
                self._renewing = self._io.spawn(self._renew())
            await self._let_go()

    async def _renew(self) -> None:
        held = [
            (
                writer,
                Lease(writer.channel, writer.id, slot.template.fence or "", slot.template.lease),
            )
            for writer in list(self._writers.values())
            if (slot := writer.slot).started and not slot.done
        ]
        for begin in range(0, len(held), _CHUNK):
            chunk = held[begin : begin + _CHUNK]
            try:
                states = await self._backend.renew([lease for _, lease in chunk])
            except BackendUnavailable:
                return
            except Exception:
                logger.warning("tokenwire: renewing leases failed", exc_info=True)
                return
            for (writer, lease), state in zip(chunk, states, strict=True):
                slot = writer.slot
                if state.lost and not slot.done and not slot.inflight:
                    # What waits goes out first: the backend says exactly what has become of it.
                    if not slot.draft.waiting:
                        error = Fenced(f"response {lease.response_id!r} was declared abandoned")
                        self._outbox.fence(slot, error)
                elif state.unknown and not slot.done and not slot.inflight:
                    self._outbox.unknown(slot, f"no response {lease.response_id!r} any more")
                elif state.cancel is not None:
                    writer.on_cancel_event(state.cancel)

    async def _let_go(self) -> None:
        now = asyncio.get_running_loop().time()
        busy = {channel for channel, _ in list(self._writers)}
        for channel, ear in list(self._ears.items()):
            if channel in busy:
                ear.idle_since = None
            elif ear.idle_since is None:
                ear.idle_since = now
            elif now - ear.idle_since > _LINGER and ear.subscription is not None:
                self._wanted.discard(channel)
                if any(name == channel for name, _ in list(self._writers)):
                    self._wanted.add(channel)  # begun just now
                    continue
                del self._ears[channel]
                await ear.subscription.close()

    async def close(self) -> None:
        """Stop listening and renewing."""
        if self._task is not None:
            self._task.cancel()
        ears, self._ears = self._ears, {}
        for ear in ears.values():
            if ear.subscription is not None:
                await ear.subscription.close()
