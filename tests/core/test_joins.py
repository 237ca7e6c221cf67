"""The first events of watchers: shared among those that join alike, resumable throughout."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

import tokenwire
from tokenwire.errors import InvalidCursor
from tokenwire.response import Transcript
from tokenwire.watch import ChannelReader, Item, ResumePoint


@pytest.fixture
def sink(monkeypatch: pytest.MonkeyPatch) -> Iterator[tokenwire.Sink]:
    monkeypatch.setattr("tokenwire._reading.joining._REPLAY_FRESH", 600.0)
    with tokenwire.open_sink(tokenwire.MemoryBackend(), strict=True) as sink:
        for number in range(3):
            with sink.respond("c", response_id=f"r{number}") as response:
                response.write(f"text {number}")
        yield sink


async def joined(reader: ChannelReader) -> list[Item]:
    items = await reader.abatch()
    reader.close()
    return items


async def test_watchers_that_join_alike_are_given_the_same_items(sink: tokenwire.Sink) -> None:
    first, second = [await joined(sink.reader("c", rewind="all")) for _ in range(2)]
    other = await joined(sink.reader("c", rewind=1))
    assert len(first) == 3
    assert [id(item) for item in first] == [id(item) for item in second]
    assert not {id(item) for item in first} & {id(item) for item in other}
    assert sink.stats().reading.replays == 2


def test_a_live_watch_is_not_given_what_is_past(sink: tokenwire.Sink) -> None:
    for number in range(3):
        with sink.watch("c") as watch:
            sink.input("c", "question", str(number))
            with sink.respond("c", response_id=f"live{number}") as response:
                response.write("text")
            events = [next(watch) for _ in range(4)]
        assert [event.type for event in events] == ["input", "start", "delta", "end"]
        assert {event.response_id for event in events} == {None, f"live{number}"}


def test_live_watches_of_a_streaming_response_share_a_replay(sink: tokenwire.Sink) -> None:
    response = sink.respond("c", response_id="live")
    response.write("text")
    assert sink.flush(10)
    with sink.watch("c") as watch:
        assert next(watch).type == "snapshot"
        replays = sink.stats().reading.replays
        response.write(" and more")
        assert next(watch).type == "delta"
        with sink.watch("c") as other:
            assert [next(other).type, next(other).type] == ["snapshot", "delta"]
        assert sink.stats().reading.replays == replays
    response.finish()


async def test_each_event_of_a_join_has_a_cursor_to_resume_after(sink: tokenwire.Sink) -> None:
    items = await joined(sink.reader("c", rewind="all"))
    cursors = [str(item.event.cursor) for item in items]
    assert [ResumePoint.parse(cursor).midway for cursor in cursors] == [True, True, False]
    async with sink.watch("c", rewind="all") as watch:
        one_by_one = [await anext(watch) for _ in items]
    assert [event.cursor for event in one_by_one] == cursors
    for n, cursor in enumerate(cursors[:-1]):
        rest = await joined(sink.reader("c", after=cursor))
        transcript = Transcript([item.event for item in (*items[: n + 1], *rest)])
        assert {response.text for response in transcript} == {"text 0", "text 1", "text 2"}


async def test_a_single_event_is_not_given_again_where_a_reader_resumes_after_it(
    sink: tokenwire.Sink,
) -> None:
    sink.send_event("c", "note")
    with sink.respond("c", response_id="r3") as response:
        response.write("text 3")
    items = await joined(sink.reader("c", rewind="all"))
    assert [item.event.type for item in items] == [*["snapshot"] * 3, "data", "snapshot"]
    rest = await joined(sink.reader("c", after=str(items[3].event.cursor)))
    assert [item.event.response_id for item in rest] == ["r3"]


async def test_reset_says_that_a_cursor_is_no_longer_retained(sink: tokenwire.Sink) -> None:
    cursor = [str(item.event.cursor) for item in await joined(sink.reader("c", rewind="all"))][-1]
    async with sink.watch("c", after=cursor) as watch:
        assert not watch.reset
    async with sink.watch("c", rewind="all") as watch:
        assert not watch.reset
    with tokenwire.open_sink(tokenwire.MemoryBackend(), strict=True) as other:
        with other.respond("c", response_id="new") as response:
            response.write("new")
        async with other.watch("c", after=cursor) as watch:
            assert watch.reset
        items = await joined(other.reader("c", after=cursor))
        assert [item.event.response_id for item in items] == ["new"]


async def test_a_reader_hydrates_up_to_its_position_and_then_reads_batches(
    sink: tokenwire.Sink,
) -> None:
    reader = sink.reader("c", rewind="all")
    hydrated = await reader.ahydrate()
    assert [item.event.response_id for item in hydrated] == ["r0", "r1", "r2"]
    assert not reader.hydrating
    assert await reader.ahydrate() == []
    assert reader.position == reader.cursor == hydrated[-1].event.cursor
    with sink.respond("c", response_id="live") as response:
        response.write("text")
    live: list[Item] = []
    while not any(item.event.type == "end" for item in live):
        live += await reader.abatch()
        assert reader.position == reader.cursor == live[-1].event.cursor
    assert {item.event.response_id for item in live} == {"live"}
    reader.close()
    assert await reader.abatch() == []


async def test_a_reader_of_one_response_reads_on_a_thread_until_its_end(
    sink: tokenwire.Sink,
) -> None:
    reader = sink.reader("c", response_id="r1")
    events = [item.event for item in await asyncio.to_thread(reader.batch)]
    assert Transcript(events)["r1"].text == "text 1"
    assert await asyncio.to_thread(reader.batch) == []
    reader.close()


def test_a_resume_point_reads_what_it_writes() -> None:
    for point in (ResumePoint("5-0"), ResumePoint("5-0", midway=True)):
        assert ResumePoint.parse(str(point)) == point
    assert str(ResumePoint("5-0")) == "5-0"
    for wrong in ("", "x" * 513, 5, None):
        with pytest.raises(InvalidCursor):
            ResumePoint.parse(wrong)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
