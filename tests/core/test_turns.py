"""While a loop is busy with its watchers, events gather for those that let them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tokenwire import MemoryBackend, Sink
from tokenwire._reading import waiting as module
from tokenwire._reading.waiting import Turns

_PATIENCE = 30.0


class Clock:
    """A clock that the test moves on."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


async def _turn(turns: Turns, clock: Clock, took: float) -> asyncio.Future[None]:
    """Wake a watcher that needs `took` seconds of its loop; the future that it waited for."""

    def served(_: object) -> None:
        clock.now += took

    future = asyncio.get_running_loop().create_future()
    future.add_done_callback(served)
    turns.wake([future])
    for _ in range(3):
        await asyncio.sleep(0)
    return future


async def test_an_idle_loop_wakes_its_watchers_at_once(clock: Clock) -> None:
    turns = Turns(0.04)
    for _ in range(10):
        future = await _turn(turns, clock, 0.001)
        assert future.done()
        clock.now += 0.0166  # a model's pace


async def test_a_busy_loop_lets_events_gather_for_no_longer_than_the_bound(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    timers: list[tuple[float, Callable[..., object], tuple[Any, ...]]] = []

    def call_later(delay: float, callback: Callable[..., object], *args: Any) -> object:
        timers.append((delay, callback, args))  # the loop's clock goes on by itself
        return object()

    turns = Turns(0.04)
    with monkeypatch.context() as patch:
        patch.setattr(asyncio.get_running_loop(), "call_later", call_later)
        for _ in range(2):
            await _turn(turns, clock, 0.02)
        late = await _turn(turns, clock, 0.02)
        also = await _turn(turns, clock, 0.02)
    assert not late.done() and not also.done()
    ((delay, callback, args),) = timers
    assert 0 < delay <= 0.04
    clock.now += delay
    callback(*args)
    assert late.done() and also.done()


@pytest.mark.parametrize(("times", "done"), [(6.1, True), (4.9, False), (0.0, False)])
async def test_how_long_events_gather_follows_the_load(
    clock: Clock, times: float, done: bool
) -> None:
    turns, took = Turns(600.0), 10.0  # timers of the loop are long, too
    for _ in range(2):
        await _turn(turns, clock, took)
    clock.now += (times - 1) * took if times else 0.0
    assert (await _turn(turns, clock, took)).done() is done


async def test_one_pause_of_the_process_is_no_load(clock: Clock) -> None:
    turns = Turns(0.04)
    await _turn(turns, clock, 0.0001)
    await _turn(turns, clock, 0.05)
    clock.now += 0.001
    assert (await _turn(turns, clock, 0.0001)).done()


async def test_a_watcher_that_lets_nothing_gather_is_woken_with_each_event() -> None:
    """Beside one that waits for the next turn, which then gets all in one batch."""
    with Sink(MemoryBackend()) as sink:
        prompt, patient = sink.reader("c"), sink.reader("c")
        patient.gather = 3600.0
        for reader in (prompt, patient):
            while await reader.ahydrate():
                pass
        response = sink.respond("c")
        seen = 0
        for number in range(5):
            if number:
                response.write("x")
            async with asyncio.timeout(_PATIENCE):
                seen += len(await prompt.abatch())
            assert seen == number + 1
        async with asyncio.timeout(_PATIENCE):
            assert await patient.abatch()
        response.finish()
        prompt.close()
        patient.close()
