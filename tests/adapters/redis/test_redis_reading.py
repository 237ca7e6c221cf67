"""What readers are given: the log, snapshots, pages."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from tests.adapters.redis.support import (
    PATIENCE,
    RecordingReceiver,
    another,
    kept_in,
    make_delta,
    make_entry,
    make_start,
    publish,
)
from tokenwire import open_sink
from tokenwire.backend import Entry, ReplayFrom
from tokenwire.errors import (
    InvalidCursor,
)
from tokenwire.events import (
    DataEvent,
    EndEvent,
    StartEvent,
    ToolResultEvent,
)
from tokenwire.response import Transcript
from tokenwire_adapters.redis import RedisBackend

pytestmark = pytest.mark.redis


# -- reading


async def test_every_message_names_the_one_before(backend, shared_redis):
    other = await another(shared_redis)
    receiver = RecordingReceiver()
    await other.subscribe("c", receiver)
    await publish(backend, make_entry(0, make_start(), make_delta(0, "a"), make_delta(1, "b")))
    await publish(backend, make_entry(1, make_delta(2, "c")))
    await publish(backend, Entry(channel="c", events=(DataEvent(name="n"),)))
    events = await receiver.until(5)
    assert receiver.befores == ["0-0-0", events[2].cursor, events[3].cursor]
    orders = [other.order(event.cursor) for event in events]
    assert orders == sorted(set(orders))
    replay = await other.replay("c", ReplayFrom(after=events[0].cursor))
    assert not replay.reset
    assert [event.type for event in replay.events] == ["delta", "data"]
    assert replay.events[0].text == "abc"
    assert replay.cursor == events[-1].cursor
    await other.close()


async def test_a_trimmed_cursor_gives_snapshots(shared_redis):
    backend = RedisBackend(shared_redis.url, events=10)
    (first,) = await publish(backend, make_entry(0, make_start(), make_delta(0, "0 ")))
    await publish(backend, Entry(channel="c", events=(DataEvent(name="kept"),)))
    text = "0 "
    for number in range(1, 40):
        await publish(backend, make_entry(number, make_delta(len(text), f"{number} ")))
        text += f"{number} "
    assert shared_redis.cli("XLEN", "tokenwire:{c}:log") == 10
    replay = await backend.replay("c", ReplayFrom(after=first.cursor))
    assert replay.reset
    assert [event.type for event in replay.events] == ["data", "snapshot"]
    assert replay.events[1].response.text == text
    transcript = Transcript(replay.events)
    await publish(backend, make_entry(40, make_delta(len(text), "end")))
    later = await backend.replay("c", ReplayFrom(after=replay.cursor))
    assert not later.reset
    for event in later.events:
        transcript.apply(event)
    assert transcript["r"].text == text + "end"
    await backend.close()


async def test_the_log_is_bounded_in_bytes(shared_redis):
    backend = RedisBackend(shared_redis.url, event_bytes=20_000)
    await publish(backend, make_entry(0, make_start()))
    for number in range(50):
        await publish(backend, make_entry(number + 1, make_delta(number * 1000, "x" * 1000)))
    events = shared_redis.cli("XLEN", "tokenwire:{c}:log")
    assert 10 < events < 20
    assert int(shared_redis.cli("HGET", "tokenwire:{c}", "events")) == events
    assert len((await kept_in(backend))["r"].text) == 50_000
    await backend.close()


@pytest.mark.parametrize("cursor", ["", "-1", "garbage", "1-2", "1-2-3-4", "01-2-3", "٣-1-1"])
async def test_garbage_is_no_cursor(backend, cursor):
    await publish(backend, make_entry(0, make_start()))
    with pytest.raises(InvalidCursor):
        await backend.replay("c", ReplayFrom(after=cursor))
    with pytest.raises(InvalidCursor):
        await backend.history("c", limit=1, before=cursor)
    with pytest.raises(InvalidCursor):
        await backend.replay("c", ReplayFrom(after="9999999999999-0-0"))


async def test_a_cursor_from_before_a_flush(backend, shared_redis):
    (before,) = await publish(backend, make_entry(0, make_start(), make_delta(0, "old")))
    page = await backend.history("c", limit=1)
    shared_redis.cli("FLUSHALL")
    replay = await backend.replay("c", ReplayFrom(after=before.cursor))
    assert (replay.events, replay.reset) == ((), True)
    await asyncio.sleep(0.002)
    await publish(backend, make_entry(0, make_start("new"), response_id="new"))
    replay = await backend.replay("c", ReplayFrom(after=before.cursor))
    assert replay.reset
    assert [event.response_id for event in replay.events] == ["new"]
    assert page.next is None
    assert (await backend.history("c", limit=1, before="5-0-1")).items == ()


async def test_an_empty_channel_is_continued_exactly(backend):
    nothing = await backend.replay("c", ReplayFrom())
    await publish(backend, make_entry(0, make_start(), make_delta(0, "a")))
    replay = await backend.replay("c", ReplayFrom(after=nothing.cursor))
    assert not replay.reset
    assert [event.type for event in replay.events] == ["start", "delta"]


async def test_history_is_bounded_in_bytes(shared_redis):
    backend = RedisBackend(shared_redis.url, page_bytes=10_000)
    for number in range(12):
        await publish(
            backend,
            make_entry(
                0,
                make_start(f"r{number}"),
                make_delta(0, "x" * 3000, response_id=f"r{number}"),
                response_id=f"r{number}",
            ),
        )
    found, before = [], None
    while True:
        page = await backend.history("c", limit=100, before=before)
        assert len(page.items) <= 4
        found += [response.id for response in page.items]
        before = page.next
        if before is None:
            break
    assert found == [f"r{number}" for number in reversed(range(12))]
    await backend.close()


async def test_a_long_replay_comes_in_pages(shared_redis):
    backend = RedisBackend(shared_redis.url, page_bytes=50_000)
    await publish(backend, make_entry(0, make_start("old"), response_id="old"))
    for number in range(60):
        name = f"r{number}"
        delta = make_delta(0, chr(97 + number % 26) * 5000, response_id=name)
        await publish(
            backend,
            make_entry(
                0,
                make_start(name),
                delta,
                EndEvent(response_id=name, state="complete"),
                response_id=name,
            ),
            Entry(channel="c", events=(DataEvent(name="n", data="x" * 3000),)),
        )
    late = ToolResultEvent(call_id="call", response_id="r0", output="late")
    await publish(backend, Entry(channel="c", events=(late,)))
    pages = [await backend.replay("c", ReplayFrom(all=True))]
    while pages[-1].next is not None:
        size = len(msgspec.json.encode(pages[-1].events))
        assert 30_000 < size < 60_000
        pages.append(await backend.replay("c", pages[-1].next))
    assert len(pages) > 9
    events = [event for page in pages for event in page.events]
    orders = [backend.order(event.cursor) for event in events]
    assert orders == sorted(orders)
    assert sum(event.type == "data" for event in events) == 60
    names = [event.response_id for event in events if event.type == "snapshot"]
    assert names == ["old", *(f"r{number}" for number in range(1, 60)), "r0"]
    assert [result.output for result in events[-1].response.tool_results] == ["late"]
    assert len(events) == 121  # the result is in its snapshot
    await backend.close()


def test_a_watcher_of_a_long_past_holds_a_page_of_it(shared_redis):
    with open_sink(shared_redis.url, page_bytes=200_000) as sink:
        for number in range(50):
            with sink.respond("c", response_id=f"r{number}") as response:
                response.write(chr(97 + number % 26) * 100_000)
            assert sink.flush(PATIENCE)

        async def read():
            reader = sink.reader("c", rewind="all")
            found, most = [], 0
            while items := await reader.ahydrate():
                most = max(most, sum(len(item.event.response.text) for item in items))
                found += [(item.event.response_id, len(item.event.response.text)) for item in items]
            reader.close()
            return found, most

        found, most = asyncio.run(read())
        assert found == [(f"r{number}", 100_000) for number in range(50)]
        assert most <= 200_000


def test_a_reader_that_stops_between_pages_is_given_the_others(shared_redis):
    with open_sink(shared_redis.url, page_bytes=20_000) as sink:
        going = sink.respond("c", response_id="going")
        going.write("on ")
        assert sink.flush(PATIENCE)
        for number in range(6):
            with sink.respond("c", response_id=f"r{number}") as response:
                response.write(f"{number}" * 10_000)
            assert sink.flush(PATIENCE)
        going.write("and on")
        assert sink.flush(PATIENCE)

        async def read():
            first = sink.reader("c", rewind="all")
            events = [item.event for item in await first.ahydrate()]
            assert first.hydrating
            first.close()
            rest = sink.reader("c", after=first.cursor)
            while items := await rest.ahydrate():
                events += [item.event for item in items]
            rest.close()
            return events

        transcript = Transcript(asyncio.run(read()))
        assert {response.id: response.text for response in transcript} == {
            "going": "on and on",
            **{f"r{number}": f"{number}" * 10_000 for number in range(6)},
        }


def test_what_was_missed_may_be_more_than_a_page(redis_server, faulty_proxy):
    """Watchers that were away long read what they missed page by page, each for itself."""
    url, quick = faulty_proxy.url, {"page_bytes": 20_000, "events": 4}
    with (
        open_sink(redis_server.url, **quick) as sink,
        open_sink(url, health=1.0, timeout=1.0, **quick) as reader,
    ):
        watches = [reader.watch("c").open() for _ in range(3)]
        going = sink.respond("c", response_id="going")
        going.write("on ")
        assert sink.flush(PATIENCE)
        for watch in watches[:2]:  # one has not read anything yet
            assert next(watch).type == "start"
        faulty_proxy.refuse()
        for number in range(40):
            with sink.respond("c", response_id=f"r{number}") as response:
                response.write(f"{number} " * 2000)
            going.write("and ")
            assert sink.flush(PATIENCE)
        faulty_proxy.accept()
        going.write("on")
        going.finish()
        for seen, watch in enumerate(watches):
            transcript = Transcript([StartEvent(response_id="going")] if seen < 2 else ())
            for event in watch:
                transcript.apply(event)
                if len(transcript) == 41 and all(one.ended for one in transcript):
                    break
            assert transcript["going"].text == "on " + "and " * 40 + "on"
            for number in range(40):
                assert transcript[f"r{number}"].text == f"{number} " * 2000
            assert watch.conflated == 1


async def test_the_window_of_tokens(shared_redis):
    backend = RedisBackend(shared_redis.url, granularity="token", events=20)
    deltas = [make_delta(n, chr(97 + n % 26)) for n in range(50)]
    receiver = RecordingReceiver()
    await backend.subscribe("c", receiver)
    await publish(backend, make_entry(0, make_start(), *deltas[:25]), make_entry(1, *deltas[25:]))
    assert shared_redis.cli("XLEN", "tokenwire:{c}:log") == 20
    live = list(await receiver.until(51))
    replay = await backend.replay("c", ReplayFrom(count=5))
    assert [event.response.text for event in replay.events] == ["".join(d.text for d in deltas)]
    await publish(
        backend,
        make_entry(0, make_start("new"), *(make_delta(n, "x", response_id="new") for n in range(4)),
               response_id="new"),
    )  # fmt: skip
    replay = await backend.replay("c", ReplayFrom(count=5))
    kinds = [(event.type, event.response_id) for event in replay.events]
    assert kinds == [("snapshot", "r"), ("start", "new"), *[("delta", "new")] * 4]
    replay = await backend.replay("c", ReplayFrom(count=3))
    kinds = [(event.type, event.response_id) for event in replay.events]
    assert kinds == [("snapshot", "r"), ("snapshot", "new")]
    replay = await backend.replay("c", ReplayFrom(after=live[-6].cursor))
    assert [e.cursor for e in replay.events[:5]] == [e.cursor for e in live[-5:]]
    assert len(replay.events) == 10
    replay = await backend.replay("c", ReplayFrom(after=live[5].cursor))
    assert replay.reset
    await backend.close()
