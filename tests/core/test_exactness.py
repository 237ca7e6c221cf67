"""What reaches watchers where writes overlap, break off in half a character, or keep a lease."""

from __future__ import annotations

import asyncio

from tokenwire import MemoryBackend, Sink
from tokenwire.backend import Backend, Entry, Outcome
from tokenwire.events import DataEvent, DeltaEvent, Event, StartEvent, ToolResultEvent
from tokenwire.memory import MemoryStore
from tokenwire.response import Transcript
from tokenwire.testing import Deliver, FaultyBackend, read_until

PATIENCE = 30.0


def _entry(seq: int, *events: Event, lease: float = 60.0) -> Entry:
    return Entry(channel="c", events=events, response_id="r", fence="f", seq=seq, lease=lease)


def _delta(offset: int, text: str) -> DeltaEvent:
    return DeltaEvent(response_id="r", part=0, kind="text", offset=offset, text=text)


def test_of_writes_that_overlap_watchers_see_what_is_new() -> None:
    """Another process publishes past the sink, and repeats some of what it wrote."""
    store = MemoryStore()
    producer = MemoryBackend(store)
    with Sink(MemoryBackend(store)) as sink, sink.watch("c").open() as watch:
        start = StartEvent(response_id="r")
        entries = [
            _entry(0, start, _delta(0, "abc")),
            _entry(1, _delta(1, "bcde")),
            _entry(2, _delta(0, "abcd")),
            _entry(3, _delta(4, "ef")),
        ]
        outcomes = asyncio.run(_publish(producer, entries))
        assert [outcome.error for outcome in outcomes] == [None] * 4
        transcript = Transcript()

        def whole(event: Event) -> bool:
            response = transcript.apply(event)
            return response is not None and response.text == "abcdef"

        events = read_until(watch, whole, timeout=PATIENCE)
        deltas = [event for event in events if isinstance(event, DeltaEvent)]
        assert [(delta.offset, delta.text) for delta in deltas] == [(0, "abc"), (3, "de"), (5, "f")]


def test_a_delivery_that_comes_twice_is_seen_once() -> None:
    """Also of single events, whose cursor alone tells that they were there."""
    backend = FaultyBackend(MemoryBackend(), deliver=[Deliver.TWICE] * 20)
    with Sink(backend) as sink, sink.watch("c").open() as watch:
        names = [f"event {number}" for number in range(5)]
        for name in names:
            sink.send_event("c", name)
            sink.tool_result("c", name, "result")
            with sink.respond("c") as response:
                response.write(name)
        sink.send_event("c", "last")
        events = read_until(
            watch, lambda event: isinstance(event, DataEvent) and event.name == "last"
        )
        data = [event.name for event in events if isinstance(event, DataEvent)]
        assert data == [*names, "last"]
        assert [event.call_id for event in events if isinstance(event, ToolResultEvent)] == names
        assert sum(event.type == "end" for event in events) == 5
        cursors = [event.cursor for event in events]
        assert len(set(cursors)) == len(cursors)


async def _publish(backend: Backend, entries: list[Entry]) -> list[Outcome]:
    return [outcome for entry in entries for outcome in await backend.publish([entry])]


def test_a_write_is_a_sign_of_life() -> None:
    """A producer that writes, and never renews, is not taken for dead."""
    now = 0.0
    store = MemoryStore(clock=lambda: now)
    store.publish([_entry(0, StartEvent(response_id="r"), lease=10.0)])
    for second in (8.0, 16.0, 24.0):
        now = second
        assert store.publish([_entry(int(second), _delta(0, "x"), lease=10.0)])[0].error is None
    now = 33.0
    assert store.reap("c") == 0
    now = 34.5
    assert store.reap("c") == 1


def test_half_a_character_at_the_end_is_replaced() -> None:
    with Sink(MemoryBackend()) as sink:
        with sink.respond("c") as response:
            response.write("a\ud83d")
        with sink.respond("c") as response:
            response.write("b\ud83d")
            response.write("\ude42")
        assert response.wait(PATIENCE).status == "delivered"
        assert [one.text for one in sink.history("c").items] == ["b\U0001f642", "a\ufffd"]
