"""Older spellings of the public API that go on working, and those that are refused."""

from __future__ import annotations

import threading

import pytest

from tokenwire import MemoryBackend, ResponseCancelled, Sink, open_sink
from tokenwire.events import DataEvent, InputEvent

_PATIENCE = 30.0


@pytest.fixture
def sink():
    with Sink(MemoryBackend()) as sink:
        yield sink


@pytest.mark.parametrize("options", [{"on_cancel": "raise"}, {"raise_on_cancel": True}])
def test_a_cancel_raises_where_that_was_asked_for(sink: Sink, options: dict[str, object]) -> None:
    with sink.respond("c", response_id="r", **options) as response:  # type: ignore[arg-type]
        assert sink.cancel("c", "r").state == "cancelled"
        with pytest.raises(ResponseCancelled):
            response.write("late")


@pytest.mark.parametrize("options", [{}, {"on_cancel": "end"}, {"raise_on_cancel": False}])
def test_a_cancel_makes_writes_return_false(sink: Sink, options: dict[str, object]) -> None:
    with sink.respond("c", response_id="r", **options) as response:  # type: ignore[arg-type]
        assert sink.cancel("c", "r").state == "cancelled"
        assert response.write("late") is False


def test_what_a_cancel_does_is_checked(sink: Sink) -> None:
    with pytest.raises(ValueError, match="'end' or 'raise', not 'explode'"):
        sink.respond("c", on_cancel="explode")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="older spelling"):
        sink.respond("c", on_cancel="raise", raise_on_cancel=True)
    assert sink.stats().open == 0


@pytest.mark.parametrize("name", ["add_cancel_callback", "on_cancel"])
def test_a_cancel_is_called_back(sink: Sink, name: str) -> None:
    called, removed = threading.Event(), threading.Event()
    with sink.respond("c", response_id="r") as response:
        getattr(response, name)(called.set)
        getattr(response, name)(removed.set)()
        assert sink.cancel("c", "r").acknowledged
        assert called.wait(_PATIENCE)
        assert not removed.is_set()


def test_a_watch_is_for_a_response_by_either_keyword(sink: Sink) -> None:
    for response_id in ("a", "b"):
        with sink.respond("c", response_id=response_id) as response:
            response.write(response_id)
    new = list(sink.watch("c", response_id="a"))
    old = list(sink.watch("c", response="a"))
    assert [event.response_id for event in new] == [event.response_id for event in old] == ["a"]
    with pytest.raises(ValueError, match="older name"):
        sink.watch("c", response_id="a", response="a")


@pytest.mark.parametrize("name", ["send_event", "data"])
def test_an_event_of_its_own_is_sent(sink: Sink, name: str) -> None:
    getattr(sink, name)("c", "progress", {"percent": 40}, response_id="r", run="run")
    with sink.watch("c", rewind="all") as watch:
        event = next(watch)
    assert isinstance(event, DataEvent)
    assert (event.name, event.data) == ("progress", {"percent": 40})
    assert (event.response_id, event.run) == ("r", "run")


@pytest.mark.parametrize("name", ["data_part", "data"])
def test_a_data_part_is_written(sink: Sink, name: str) -> None:
    with sink.respond("c") as response:
        assert getattr(response, name)("chart", [1, 2]) is True
    assert getattr(response, name)("chart", []) is False
    (part,) = sink.history("c").items[0].parts
    assert (part.kind, part.name, part.data) == ("data", "chart", [1, 2])


@pytest.mark.parametrize("rollup", [1, 100, 500])
def test_a_rollup_in_milliseconds_is_refused(rollup: int) -> None:
    match = rf"rollup is in seconds, from 0 to 0\.5.*in milliseconds: now {rollup / 1000:g}"
    with pytest.raises(ValueError, match=match):
        open_sink("memory://spellings", rollup=rollup)


def test_a_backend_learns_the_rollup_in_seconds() -> None:
    windows: list[float] = []

    class Merging(MemoryBackend):
        def use_rollup(self, window: float) -> None:
            windows.append(window)

    with Sink(Merging(), rollup=0.25) as sink:
        assert sink.rollup == 0.25
    assert windows == [0.25]


def test_inputs_are_read_on_a_thread(sink: Sink) -> None:
    with sink.inputs("c") as inputs:
        sink.input("c", "message", "hello")
        sink.send_event("c", "other")
        sink.input("c", "message", "again", sender="u1")
        first, second = next(inputs), next(inputs)
        assert isinstance(first, InputEvent)
        assert [(one.data, one.sender) for one in (first, second)] == [
            ("hello", None),
            ("again", "u1"),
        ]
    assert list(inputs) == []  # it was closed


async def test_inputs_are_read_on_a_loop(sink: Sink) -> None:
    async with sink.inputs("c") as inputs:
        await sink.ainput("c", "message", "hello")
        async for one in inputs:
            assert (one.name, one.data) == ("message", "hello")
            break
    assert [one async for one in inputs] == []


async def test_a_receipt_is_awaited(sink: Sink) -> None:
    response = sink.respond("c")
    assert (await response.await_(0.001)).status == "pending"
    response.finish()
    assert (await response.await_(_PATIENCE)).status == "delivered"
    assert response.wait(_PATIENCE) == response.receipt
