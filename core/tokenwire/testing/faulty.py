"""`FaultyBackend`: any backend, with faults on demand."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from enum import Enum
from typing import Any, TypeVar

import msgspec

from tokenwire.backend import (
    Backend,
    ChannelPage,
    Deleted,
    Deletion,
    Entry,
    HistoryPage,
    Lease,
    LeaseState,
    Outcome,
    Receiver,
    Replay,
    ReplayFrom,
    Retention,
    Subscription,
)
from tokenwire.errors import BackendUnavailable, PublishRejected, RateLimited
from tokenwire.events import Event

__all__ = ["Deliver", "FaultyBackend", "Publish"]


class Publish(Enum):
    """What becomes of one call of `publish`."""

    OK = "ok"
    FAIL = "fail"  # nothing is published, and the caller is asked to try again
    LOSE_REPLY = "lose reply"  # it is published, but the caller is asked to try again
    REJECT = "reject"  # every entry is refused for good
    REJECT_FIRST = "reject first"  # the first entry is refused for good, the others are taken
    LIMIT = "limit"  # rate limited
    TWICE = "twice"  # the network delivers it twice
    YIELD = "yield"  # others run before it takes effect


class Deliver(Enum):
    """What becomes of one delivery to a subscriber."""

    OK = "ok"
    DROP = "drop"
    TWICE = "twice"
    SWAP = "swap"  # it comes after the next one
    RESYNC = "resync"  # the connection was lost and is back


F = TypeVar("F", bound=Enum)


class _FaultScript(deque[F]):
    """Faults to come; anything else is refused where it is put in.

    :raises TypeError: for what is no fault of this kind.
    """

    def __init__(self, kind: type[F], faults: Iterable[F]) -> None:
        self._kind = kind
        super().__init__(self._checked(faults))

    def append(self, fault: F) -> None:
        super().append(*self._checked([fault]))

    def appendleft(self, fault: F) -> None:
        super().appendleft(*self._checked([fault]))

    def extend(self, faults: Iterable[F]) -> None:
        super().extend(self._checked(faults))

    def _checked(self, faults: Iterable[F]) -> list[F]:
        name = self._kind.__name__
        wanted = (
            f"tokenwire.testing.{name} ({', '.join(f'{name}.{one.name}' for one in self._kind)})"
        )
        if isinstance(faults, str | Enum) or not isinstance(faults, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"a script of faults is a list of {wanted}, not {faults!r}")
        script = list(faults)
        for fault in script:
            if not isinstance(fault, self._kind):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise TypeError(f"a fault here is one of {wanted}, not {fault!r}")
        return script


class _FaultyReceiver:
    """Passes deliveries on to `receiver`, with faults."""

    def __init__(self, backend: FaultyBackend, receiver: Receiver) -> None:
        self._backend = backend
        self.receiver = receiver
        self._held: tuple[Sequence[Event], str | None] | None = None

    def deliver(self, events: Sequence[Event], after: str | None) -> None:
        if self._backend.killed:
            return
        fault = self._backend.next_deliver()
        if fault is Deliver.SWAP and self._held is None:
            self._held = (events, after)
            return
        if fault is not Deliver.DROP:
            self.receiver.deliver(events, after)
        if fault is Deliver.TWICE:
            self.receiver.deliver(events, after)
        if self._held is not None:
            held, self._held = self._held, None
            self.receiver.deliver(*held)
        if fault is Deliver.RESYNC:
            self.receiver.resync()

    def resync(self) -> None:
        self.receiver.resync()

    def release(self) -> None:
        if self._held is not None:
            held, self._held = self._held, None
            self.receiver.deliver(*held)
        self.receiver.resync()


class FaultyBackend(Backend):
    """Wraps a backend; follows scripts of faults, then behaves.

    :param publish: what becomes of the first calls of `publish`, one by one.
    :param deliver: what becomes of the first deliveries to subscribers, one by one.
    :param inline: publish inline while there are no faults to inject, if the backend can: what a
        response wrote is then visible when it has closed.
    :ivar published: how many calls of `publish` came through here.
    """

    def __init__(
        self,
        inner: Backend,
        *,
        publish: Iterable[Publish] = (),
        deliver: Iterable[Deliver] = (),
        inline: bool = False,
    ) -> None:
        self.inner = inner
        self.granularity = inner.granularity
        self.capabilities = msgspec.structs.replace(
            inner.capabilities, inline=inline and inner.capabilities.inline
        )
        self.publish_faults: deque[Publish] = _FaultScript(Publish, publish)
        self.deliver_faults: deque[Deliver] = _FaultScript(Deliver, deliver)
        self.published = 0
        self.killed = False
        self._stalled = False
        self._hanging: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
        self._receivers: list[_FaultyReceiver] = []

    def use_rollup(self, window: float) -> None:
        self.inner.use_rollup(window)

    # -- the faults

    def kill(self) -> None:
        """From now on nothing gets through, in either direction: the process is gone."""
        self.killed = True

    def revive(self) -> None:
        """Undo `kill`: the process was only suspended."""
        self.killed = False

    def stall(self) -> None:
        """Have calls hang until `unstall`. Thread-safe."""
        self._stalled = True

    def unstall(self) -> None:
        """Let hanging calls go on. Thread-safe."""
        self._stalled = False
        hanging, self._hanging = self._hanging, []
        for loop, go_on in hanging:
            with suppress(RuntimeError):  # its loop is closed
                loop.call_soon_threadsafe(go_on.set)

    async def heal(self) -> None:
        """Inject no more faults, and have subscribers read again what they may have missed."""
        self.publish_faults.clear()
        self.deliver_faults.clear()
        for receiver in self._receivers:
            receiver.release()

    def next_deliver(self) -> Deliver:
        """The next fault of a delivery."""
        return self.deliver_faults.popleft() if self.deliver_faults else Deliver.OK

    async def _gate(self) -> None:
        if self._stalled:
            go_on = asyncio.Event()
            self._hanging.append((asyncio.get_running_loop(), go_on))
            if self._stalled:  # still, so that `unstall` finds this call
                await go_on.wait()
        if self.killed:
            raise BackendUnavailable("injected: killed")

    # -- the backend

    def _next_publish(self) -> Publish:
        self.published += 1
        return self.publish_faults.popleft() if self.publish_faults else Publish.OK

    async def publish(self, entries: Sequence[Entry]) -> Sequence[Outcome]:
        await self._gate()
        fault = self._next_publish()
        refused = _refusals(fault, entries)
        rest = entries[len(refused) :]
        for _ in range(3 if fault is Publish.YIELD else 0):
            await asyncio.sleep(0)
        taken: Sequence[Outcome] = ()
        for _ in range(2 if fault is Publish.TWICE else 1):
            taken = await self.inner.publish(rest) if rest else ()
        return _reply(fault, [*refused, *taken])

    def publish_nowait(self, entries: Sequence[Entry]) -> Sequence[Outcome]:
        if self.killed or self._stalled:
            raise BackendUnavailable("injected: killed or stalled")
        fault = self._next_publish()
        refused = _refusals(fault, entries)
        rest = entries[len(refused) :]
        taken: Sequence[Outcome] = ()
        for _ in range(2 if fault is Publish.TWICE else 1):
            taken = self.inner.publish_nowait(rest) if rest else ()
        return _reply(fault, [*refused, *taken])

    async def subscribe(self, channel: str, receiver: Receiver) -> Subscription:
        await self._gate()
        faulty = _FaultyReceiver(self, receiver)
        self._receivers.append(faulty)
        return await self.inner.subscribe(channel, faulty)

    async def control(self, channel: str, receiver: Receiver) -> Subscription:
        await self._gate()
        return await self.inner.control(channel, receiver)

    async def replay(self, channel: str, start: ReplayFrom) -> Replay:
        await self._gate()
        return await self.inner.replay(channel, start)

    async def history(self, channel: str, *, limit: int, before: str | None = None) -> HistoryPage:
        await self._gate()
        return await self.inner.history(channel, limit=limit, before=before)

    async def renew(self, leases: Sequence[Lease]) -> Sequence[LeaseState]:
        await self._gate()
        return await self.inner.renew(leases)

    async def reap(self, channel: str) -> int:
        await self._gate()
        return await self.inner.reap(channel)

    async def delete(self, channel: str, deletion: Deletion) -> Deleted:
        await self._gate()
        return await self.inner.delete(channel, deletion)

    async def list_channels(
        self, *, prefix: str = "", limit: int = 100, after: str | None = None
    ) -> ChannelPage:
        await self._gate()
        return await self.inner.list_channels(prefix=prefix, limit=limit, after=after)

    async def retention(self, channel: str) -> Retention:
        await self._gate()
        return await self.inner.retention(channel)

    async def set_retention(self, channel: str, retention: Retention | None) -> None:
        await self._gate()
        await self.inner.set_retention(channel, retention)

    def order(self, cursor: str) -> Any:
        return self.inner.order(cursor)

    @property
    def unreadable(self) -> int:
        return self.inner.unreadable

    def log_of(self, cursor: str) -> str | None:
        return self.inner.log_of(cursor)

    async def close(self) -> None:
        await self.inner.close()

    def after_fork(self) -> None:
        self.inner.after_fork()


def _refusals(fault: Publish, entries: Sequence[Entry]) -> list[Outcome]:
    """What is refused of `entries`, from the first on."""
    if fault is Publish.FAIL:
        raise BackendUnavailable("injected: not published")
    if fault is Publish.LIMIT:
        raise RateLimited("injected: slow down", retry_after=0.001)
    many = len(entries) if fault is Publish.REJECT else int(fault is Publish.REJECT_FIRST)
    return [Outcome(error=PublishRejected("injected: refused"))] * many


def _reply(fault: Publish, outcomes: list[Outcome]) -> list[Outcome]:
    if fault is Publish.LOSE_REPLY:
        raise BackendUnavailable("injected: the reply was lost")
    return outcomes
