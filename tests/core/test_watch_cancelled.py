"""Watches that are cancelled, fail or are closed while they open or wait leave nothing behind."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeAlias

import pytest

import tokenwire
from tokenwire import MemoryBackend, Sink, Watch
from tokenwire.backend import Receiver, Replay, ReplayFrom, Subscription
from tokenwire.errors import BackendUnavailable
from tokenwire.testing import FaultyBackend

PATIENCE = 60.0


class Gated(FaultyBackend):
    """A backend whose subscriptions and replays wait at a gate, and may fail there.

    :ivar subscribed: how many subscriptions are open.
    """

    def __init__(self) -> None:
        super().__init__(MemoryBackend())
        self.subscribed = 0
        self.waiting = 0
        self.error: Exception | None = None
        self.held: set[str] = set()
        self.passed = False

    async def _pass(self, where: str) -> None:
        if where in self.held:
            self.waiting += 1
            while not self.passed:  # set by another thread
                await asyncio.sleep(0.001)
            if self.error is not None:
                raise self.error

    def open_gate(self) -> None:
        self.held.clear()
        self.passed = True

    async def subscribe(self, channel: str, receiver: Receiver) -> Subscription:
        await self._pass("subscribe")
        subscription = await super().subscribe(channel, receiver)
        self.subscribed += 1
        return Counted(self, subscription)

    async def replay(self, channel: str, start: ReplayFrom) -> Replay:
        await self._pass("replay")
        return await super().replay(channel, start)


class Counted(Subscription):
    """A subscription that is counted until it is closed."""

    def __init__(self, backend: Gated, subscription: Subscription) -> None:
        self._backend = backend
        self._subscription = subscription

    async def close(self) -> None:
        self._backend.subscribed -= 1
        await self._subscription.close()


@pytest.fixture
def backend() -> Gated:
    return Gated()


@pytest.fixture
async def sink(backend: Gated) -> AsyncIterator[Sink]:
    async with tokenwire.open_sink(backend) as sink:
        sink._runtime.hubs._linger = 0.0
        yield sink


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.001)


async def nothing_is_left(sink: Sink, backend: Gated) -> None:
    def nothing() -> bool:
        gc.collect()
        stats = sink.stats()
        return (stats.channels, stats.watchers, backend.subscribed) == (0, 0, 0)

    await until(nothing)
    hubs = sink._runtime.hubs
    await until(lambda: not hubs._openings)  # they end on another thread
    await until(lambda: not reading_tasks(sink))


def reading_tasks(sink: Sink) -> list[str]:
    """What still runs for watches: subscribing, unsubscribing and replays."""
    names = [str(task.get_coro()) for task in list(sink._runtime.io._tasks)]
    return [name for name in names if any(of in name for of in ("ChannelHub", "_open", "replay"))]


async def cancelled(backend: Gated, task: asyncio.Task[object], waiting: int) -> None:
    await until(lambda: backend.waiting >= waiting)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


Opened: TypeAlias = Callable[[Watch], Awaitable[object]]


async def _entered(watch: Watch) -> None:
    async with watch:
        raise AssertionError("not reached")


OPENED: dict[str, Opened] = {
    "aopen": Watch.aopen,
    "anext": lambda watch: anext(watch),
    "entered": _entered,
    "thread": lambda watch: asyncio.to_thread(watch.open),
}


@pytest.mark.parametrize("where", ["subscribe", "replay"])
@pytest.mark.parametrize("how", [how for how in OPENED if how != "thread"])
async def test_a_watch_cancelled_while_it_opens_is_let_go(
    sink: Sink, backend: Gated, how: str, where: str
) -> None:
    backend.held = {where}
    for number in range(20):
        watch = sink.watch(f"c{number}")
        task = asyncio.ensure_future(OPENED[how](watch))
        await cancelled(backend, task, number + 1)
        if number % 2:
            await watch.aclose()
    backend.open_gate()
    await nothing_is_left(sink, backend)
    async with sink.watch("c0") as watch:
        assert backend.subscribed == 1


async def test_a_watch_cancelled_at_any_step_is_let_go(sink: Sink, backend: Gated) -> None:
    for steps in range(60):
        task = asyncio.ensure_future(sink.watch(f"c{steps}").aopen())
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        del task
    await nothing_is_left(sink, backend)


@pytest.mark.parametrize("where", ["subscribe", "replay"])
async def test_one_of_two_that_open_together_may_leave(
    sink: Sink, backend: Gated, where: str
) -> None:
    backend.held = {where}
    leaver, stayer = sink.watch("c"), sink.watch("c")
    task = asyncio.create_task(leaver.aopen())
    other = asyncio.create_task(stayer.aopen())
    await until(lambda: sink.stats().watchers == 2)
    await cancelled(backend, task, 1)
    backend.open_gate()
    await other
    assert backend.subscribed == 1
    with sink.respond("c", response_id="r") as response:
        response.write("text")
    assert (await anext(stayer)).response_id == "r"
    await stayer.aclose()
    await nothing_is_left(sink, backend)


@pytest.mark.parametrize("how", OPENED)
@pytest.mark.parametrize("where", ["subscribe", "replay"])
async def test_a_watch_that_cannot_open_is_let_go(
    sink: Sink, backend: Gated, where: str, how: str
) -> None:
    backend.held, backend.error = {where}, BackendUnavailable("away")
    watch = sink.watch("c")
    task = asyncio.ensure_future(OPENED[how](watch))
    await until(lambda: backend.waiting == 1)
    backend.passed = True
    with pytest.raises(BackendUnavailable):
        await task
    await nothing_is_left(sink, backend)
    backend.open_gate()
    await watch.aopen()  # and may be tried again
    await watch.aclose()
    await nothing_is_left(sink, backend)


async def test_a_watch_closed_while_it_opens_is_let_go(sink: Sink, backend: Gated) -> None:
    backend.held = {"replay"}
    watches = [sink.watch(f"c{number}") for number in range(2)]
    tasks = [
        asyncio.ensure_future(OPENED[how](watch))
        for how, watch in zip(("aopen", "thread"), watches, strict=True)
    ]
    await until(lambda: backend.waiting == 2)
    for watch in watches:
        watch.close()
    backend.open_gate()
    await asyncio.gather(*tasks)
    await nothing_is_left(sink, backend)


async def test_a_watch_never_opened_is_nothing(sink: Sink, backend: Gated) -> None:
    sink.watch("c").close()
    watch = sink.watch("c")
    await watch.aclose()
    await watch.aopen()
    assert [event async for event in watch] == []
    sink.watch("c")
    await nothing_is_left(sink, backend)


async def test_waits_that_are_given_up_are_forgotten(sink: Sink, backend: Gated) -> None:
    async with sink.watch("c") as watch:
        (hub,) = sink._runtime.hubs._hubs.values()
        for _ in range(50):
            wait = asyncio.ensure_future(anext(watch))
            await asyncio.sleep(0)
            wait.cancel()
            await asyncio.gather(wait, return_exceptions=True)
        assert not hub._waiters._futures
        with sink.respond("c", response_id="r"):
            assert (await anext(watch)).response_id == "r"
    await nothing_is_left(sink, backend)
