"""What the Redis backend does beyond the contract: keys, retention, connections, forks."""

from __future__ import annotations

import asyncio
import os
import threading
import warnings

import msgspec
import pytest
import redis.asyncio

from tests.redis_support import RedisServer, eventually, eventually_async
from tokenwire import open_sink
from tokenwire.backend import Entry, Lease, ReplayFrom
from tokenwire.errors import (
    BackendUnavailable,
    Fenced,
    InvalidCursor,
    PublishRejected,
    ResponseUnknown,
)
from tokenwire.events import (
    CancelEvent,
    DataEvent,
    DeltaEvent,
    EndEvent,
    InputEvent,
    Part,
    PartEvent,
    Response,
    SnapshotEvent,
    StartEvent,
    ToolResultEvent,
)
from tokenwire.response import Transcript
from tokenwire_adapters.redis import RedisBackend, Retention

pytestmark = pytest.mark.redis
PATIENCE = 30.0


class Ear:
    """A receiver that keeps what it is given."""

    def __init__(self):
        self.events = []
        self.befores = []
        self.resyncs = 0

    def deliver(self, events, after):
        self.events += events
        self.befores.append(after)

    def resync(self):
        self.resyncs += 1

    async def until(self, count):
        async with asyncio.timeout(PATIENCE):
            while len(self.events) < count:
                await asyncio.sleep(0.001)
        return self.events


@pytest.fixture
async def backend(shared_redis):
    made = RedisBackend(shared_redis.url)
    yield made
    await made.close()


async def _other(server, **settings):
    return RedisBackend(server.url, **settings)


def _delta(offset, text, part=0, kind="text", response_id="r"):
    return DeltaEvent(response_id=response_id, part=part, kind=kind, offset=offset, text=text)


def _entry(seq, *events, fence="f", response_id="r", channel="c", lease=60.0):
    return Entry(
        channel=channel,
        events=events,
        response_id=response_id,
        fence=fence,
        seq=seq,
        lease=lease,
    )


def _start(response_id="r"):
    return StartEvent(response_id=response_id, run="run", metadata={"a": 1})


async def _publish(backend, *entries):
    outcomes = await backend.publish(entries)
    assert [outcome.error for outcome in outcomes] == [None] * len(entries)
    return outcomes


async def _kept(backend, channel="c"):
    page = await backend.history(channel, limit=100)
    return {response.id: response for response in page.items}


# -- the text of a response


async def test_parts_that_grow_side_by_side(backend, shared_redis):
    text = {0: "", 1: "", 2: ""}
    await _publish(backend, _entry(0, _start()))
    seq = 1
    for number in range(30):
        part = (number * 7) % 3 if number > 3 else min(number, 2)
        piece = f"<{number}é🙂>"
        await _publish(backend, _entry(seq, _delta(len(text[part]), piece, part, f"kind{part}")))
        text[part] += piece
        seq += 1
    kept = (await _kept(backend))["r"]
    assert {number: part.text for number, part in enumerate(kept.parts)} == text
    await _publish(backend, _entry(seq, EndEvent(response_id="r", state="complete")))
    kept = (await _kept(backend))["r"]
    assert {number: part.text for number, part in enumerate(kept.parts)} == text
    assert (kept.state, kept.metadata, kept.run) == ("complete", {"a": 1}, "run")


async def test_text_is_kept_once_however_many_deltas(backend, shared_redis):
    await _publish(backend, _entry(0, _start()))
    for number in range(200):
        await _publish(backend, _entry(number + 1, _delta(number * 5, "word ")))
    size = shared_redis.cli("STRLEN", "tokenwire:{c}:t:r")
    assert size < 200 * 5 + 250
    assert (await _kept(backend))["r"].text == "word " * 200


async def test_overlaps_count_once_and_holes_are_refused(backend):
    await _publish(backend, _entry(0, _start(), _delta(0, "héllo")))
    await _publish(backend, _entry(1, _delta(3, "lo wörld")), _entry(2, _delta(0, "hé")))
    await _publish(backend, _entry(3, _delta(11, "!")))
    for event in (_delta(20, "x"), _delta(0, "x", part=2), PartEvent(
        response_id="r", part=3, kind="data"
    )):  # fmt: skip
        (outcome,) = await backend.publish([_entry(4, _delta(12, "never"), event)])
        assert isinstance(outcome.error, PublishRejected)
    assert (await _kept(backend))["r"].text == "héllo wörld!"


async def test_a_snapshot_takes_the_place_of_what_is_there(backend, shared_redis):
    await _publish(backend, _entry(0, _start(), _delta(0, "abc")))
    result = ToolResultEvent(call_id="c1", response_id="r", output=1)
    await _publish(backend, Entry(channel="c", events=(result,), key="k"))
    whole = Response(id="r", channel="c", parts=(Part(kind="text", text="abcdef"),))
    await _publish(backend, _entry(1, SnapshotEvent(response=whole)))
    await _publish(backend, _entry(2, _delta(6, "ghi")))
    behind = Response(id="r", channel="c", parts=(Part(kind="text", text="ab"),))
    await _publish(backend, _entry(3, SnapshotEvent(response=behind)))
    kept = (await _kept(backend))["r"]
    assert kept.text == "abcdefghi"
    assert [r.call_id for r in kept.tool_results] == ["c1"]


async def test_large_entries_are_announced_and_read_from_the_log(backend, shared_redis):
    reader = await _other(shared_redis)
    ear = Ear()
    stand = await reader.subscribe("c", ear)
    text = "x" * 3_000_000
    await _publish(backend, _entry(0, _start(), _delta(0, text)))
    async with asyncio.timeout(PATIENCE):
        while not ear.resyncs:
            await asyncio.sleep(0.001)
    assert not ear.events
    assert (await _kept(reader))["r"].text == text
    await stand.close()
    await reader.close()


# -- exactly once, and by whom


async def test_retries_are_taken_once(backend, shared_redis):
    entry = _entry(0, _start(), _delta(0, "one"))
    first = await _publish(backend, entry)
    again = await _publish(backend, entry, entry)
    assert {outcome.cursor for outcome in (*first, *again)} == {first[0].cursor}
    single = Entry(channel="c", events=(DataEvent(name="n", id="i"),), key="k")
    assert len({o.cursor for o in await _publish(backend, single, single)}) == 1
    assert shared_redis.cli("XLEN", "tokenwire:{c}:log") == 2


async def test_who_may_write(backend):
    (outcome,) = await backend.publish([_entry(0, _delta(0, "x"))])
    assert isinstance(outcome.error, ResponseUnknown)
    await _publish(backend, _entry(0, _start()))
    (outcome,) = await backend.publish([_entry(5, _delta(0, "x"), fence="other")])
    assert type(outcome.error) is Fenced
    await _publish(backend, _entry(1, EndEvent(response_id="r", state="complete")))
    (outcome,) = await backend.publish([_entry(2, _delta(0, "x"))])
    assert type(outcome.error) is Fenced


async def test_a_batch_has_an_outcome_for_each_entry(backend):
    entries = [_entry(0, _start(f"r{n}"), response_id=f"r{n}", channel=f"c{n}") for n in range(200)]
    entries[7] = _entry(0, _delta(0, "x"), response_id="nobody", channel="c7")
    outcomes = await backend.publish(entries)
    assert [n for n, outcome in enumerate(outcomes) if outcome.error] == [7]
    assert all(outcome.cursor for n, outcome in enumerate(outcomes) if n != 7)


async def test_leases_are_kept_by_the_servers_clock(backend, shared_redis):
    other = await _other(shared_redis)
    await _publish(backend, _entry(0, _start(), lease=0.3))
    lease = Lease("c", "r", "f", 60.0)
    assert not (await backend.renew([lease]))[0].lost
    assert (await backend.renew([Lease("c", "r", "not mine", 60.0)]))[0].lost
    assert (await backend.renew([Lease("c", "nobody", "f", 60.0)]))[0].unknown
    await asyncio.sleep(0.4)  # what is tested here is time itself
    assert await other.reap("c") == 0
    assert not (await backend.renew([Lease("c", "r", "f", 0.05)]))[0].lost
    await asyncio.sleep(0.1)
    counts = await asyncio.gather(*(one.reap("c") for one in (backend, other, backend, other)))
    assert sorted(counts) == [0, 0, 0, 1]
    assert (await backend.renew([lease]))[0].lost
    kept = (await _kept(other))["r"]
    assert kept.state == "abandoned"
    assert "0.05 s" in (kept.error or "")
    await other.close()


# -- cancels and inputs


async def test_producers_hear_cancels_and_inputs_only(backend, shared_redis):
    other = await _other(shared_redis)
    ear = Ear()
    await backend.control("c", ear)
    await _publish(backend, _entry(0, _start(), _delta(0, "tokens nobody needs to hear")))
    cancel = CancelEvent(response_id="r", reason="enough")
    (outcome,) = await _publish(other, Entry(channel="c", events=(cancel,), key="k1"))
    assert outcome.state == "streaming"
    await _publish(other, Entry(channel="c", events=(InputEvent(name="m"),), key="k2"))
    events = await ear.until(2)
    assert [event.type for event in events] == ["cancel", "input"]
    (outcome,) = await _publish(backend, _entry(1, _delta(27, "!")))
    assert outcome.cancel is not None
    assert outcome.cancel.reason == "enough"
    (state,) = await backend.renew([Lease("c", "r", "f", 60.0)])
    assert state.cancel == outcome.cancel
    ended = EndEvent(response_id="r", state="cancelled")
    (outcome,) = await _publish(backend, _entry(2, ended))
    (outcome,) = await _publish(other, Entry(channel="c", events=(cancel,), key="k3"))
    assert outcome.state == "cancelled"
    (again,) = await _publish(other, Entry(channel="c", events=(cancel,), key="k3"))
    assert again == outcome
    await other.close()


async def test_a_cancel_waits_for_its_response(backend, shared_redis):
    cancel = CancelEvent(response_id="r", reason="early")
    (outcome,) = await _publish(backend, Entry(channel="c", events=(cancel,), key="k"))
    assert outcome.state is None
    (outcome,) = await _publish(backend, _entry(0, _start()))
    assert outcome.cancel is not None
    (outcome,) = await _publish(backend, _entry(1, _delta(0, "x")))
    assert outcome.cancel is not None
    assert shared_redis.cli("EXISTS", "tokenwire:{c}:cancels") == 0


async def test_cancels_of_nothing_are_bounded(backend, shared_redis):
    for begin in range(0, 6000, 500):
        await _publish(
            backend,
            *(
                Entry(channel="c", events=(CancelEvent(response_id=f"r{n}"),), key=f"k{n}")
                for n in range(begin, begin + 500)
            ),
        )
    for kind in ("cancels", "keys"):
        sizes = [shared_redis.cli("HLEN", f"tokenwire:{{c}}:{kind}{old}") for old in ("", ":old")]
        assert sum(sizes) <= 4096
    (outcome,) = await _publish(backend, _entry(0, _start("r5999"), response_id="r5999"))
    assert outcome.cancel is not None


# -- reading


async def test_every_message_names_the_one_before(backend, shared_redis):
    other = await _other(shared_redis)
    ear = Ear()
    await other.subscribe("c", ear)
    await _publish(backend, _entry(0, _start(), _delta(0, "a"), _delta(1, "b")))
    await _publish(backend, _entry(1, _delta(2, "c")))
    await _publish(backend, Entry(channel="c", events=(DataEvent(name="n"),)))
    events = await ear.until(5)
    assert ear.befores == ["0-0-0", events[2].cursor, events[3].cursor]
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
    (first,) = await _publish(backend, _entry(0, _start(), _delta(0, "0 ")))
    await _publish(backend, Entry(channel="c", events=(DataEvent(name="kept"),)))
    text = "0 "
    for number in range(1, 40):
        await _publish(backend, _entry(number, _delta(len(text), f"{number} ")))
        text += f"{number} "
    assert shared_redis.cli("XLEN", "tokenwire:{c}:log") == 10
    replay = await backend.replay("c", ReplayFrom(after=first.cursor))
    assert replay.reset
    assert [event.type for event in replay.events] == ["data", "snapshot"]
    assert replay.events[1].response.text == text
    transcript = Transcript(replay.events)
    await _publish(backend, _entry(40, _delta(len(text), "end")))
    later = await backend.replay("c", ReplayFrom(after=replay.cursor))
    assert not later.reset
    for event in later.events:
        transcript.apply(event)
    assert transcript["r"].text == text + "end"
    await backend.close()


async def test_the_log_is_bounded_in_bytes(shared_redis):
    backend = RedisBackend(shared_redis.url, event_bytes=20_000)
    await _publish(backend, _entry(0, _start()))
    for number in range(50):
        await _publish(backend, _entry(number + 1, _delta(number * 1000, "x" * 1000)))
    events = shared_redis.cli("XLEN", "tokenwire:{c}:log")
    assert 10 < events < 20
    assert int(shared_redis.cli("HGET", "tokenwire:{c}", "events")) == events
    assert len((await _kept(backend))["r"].text) == 50_000
    await backend.close()


@pytest.mark.parametrize("cursor", ["", "-1", "garbage", "1-2", "1-2-3-4", "01-2-3", "٣-1-1"])
async def test_garbage_is_no_cursor(backend, cursor):
    await _publish(backend, _entry(0, _start()))
    with pytest.raises(InvalidCursor):
        await backend.replay("c", ReplayFrom(after=cursor))
    with pytest.raises(InvalidCursor):
        await backend.history("c", limit=1, before=cursor)
    with pytest.raises(InvalidCursor):
        await backend.replay("c", ReplayFrom(after="9999999999999-0-0"))


async def test_a_cursor_from_before_a_flush(backend, shared_redis):
    (before,) = await _publish(backend, _entry(0, _start(), _delta(0, "old")))
    page = await backend.history("c", limit=1)
    shared_redis.cli("FLUSHALL")
    replay = await backend.replay("c", ReplayFrom(after=before.cursor))
    assert (replay.events, replay.reset) == ((), True)
    await asyncio.sleep(0.002)
    await _publish(backend, _entry(0, _start("new"), response_id="new"))
    replay = await backend.replay("c", ReplayFrom(after=before.cursor))
    assert replay.reset
    assert [event.response_id for event in replay.events] == ["new"]
    assert page.next is None
    assert (await backend.history("c", limit=1, before="5-0-1")).items == ()


async def test_an_empty_channel_is_continued_exactly(backend):
    nothing = await backend.replay("c", ReplayFrom())
    await _publish(backend, _entry(0, _start(), _delta(0, "a")))
    replay = await backend.replay("c", ReplayFrom(after=nothing.cursor))
    assert not replay.reset
    assert [event.type for event in replay.events] == ["start", "delta"]


async def test_history_is_bounded_in_bytes(shared_redis):
    backend = RedisBackend(shared_redis.url, page_bytes=10_000)
    for number in range(12):
        await _publish(
            backend,
            _entry(
                0,
                _start(f"r{number}"),
                _delta(0, "x" * 3000, response_id=f"r{number}"),
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
    await _publish(backend, _entry(0, _start("old"), response_id="old"))
    for number in range(60):
        name = f"r{number}"
        delta = _delta(0, chr(97 + number % 26) * 5000, response_id=name)
        await _publish(
            backend,
            _entry(
                0,
                _start(name),
                delta,
                EndEvent(response_id=name, state="complete"),
                response_id=name,
            ),
            Entry(channel="c", events=(DataEvent(name="n", data="x" * 3000),)),
        )
    late = ToolResultEvent(call_id="call", response_id="r0", output="late")
    await _publish(backend, Entry(channel="c", events=(late,)))
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
            watch = sink.watch("c", rewind="all")
            found, most = [], 0
            while items := await watch.ahydrate():
                most = max(most, sum(len(item.event.response.text) for item in items))
                found += [(item.event.response_id, len(item.event.response.text)) for item in items]
            await watch.aclose()
            return found, most

        found, most = asyncio.run(read())
        assert found == [(f"r{number}", 100_000) for number in range(50)]
        assert most <= 200_000


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
    deltas = [_delta(n, chr(97 + n % 26)) for n in range(50)]
    ear = Ear()
    await backend.subscribe("c", ear)
    await _publish(backend, _entry(0, _start(), *deltas[:25]), _entry(1, *deltas[25:]))
    assert shared_redis.cli("XLEN", "tokenwire:{c}:log") == 20
    live = list(await ear.until(51))
    replay = await backend.replay("c", ReplayFrom(count=5))
    assert [event.response.text for event in replay.events] == ["".join(d.text for d in deltas)]
    await _publish(
        backend,
        _entry(0, _start("new"), *(_delta(n, "x", response_id="new") for n in range(4)),
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


# -- retention


async def _some(backend, count, size=10):
    for number in range(count):
        name = f"r{number}"
        await _publish(
            backend,
            _entry(
                0,
                _start(name),
                _delta(0, "x" * size, response_id=name),
                EndEvent(response_id=name, state="complete"),
                response_id=name,
            ),
        )


async def test_so_many_ended_responses_are_kept(shared_redis):
    backend = RedisBackend(shared_redis.url, retention=Retention(responses=3))
    await _publish(backend, _entry(0, _start("open"), response_id="open"))
    await _some(backend, 8)
    assert set(await _kept(backend)) == {"open", "r5", "r6", "r7"}
    names = shared_redis.cli("KEYS", "*:t:*")
    assert sorted(names) == [f"tokenwire:{{c}}:t:{name}" for name in ("open", "r5", "r6", "r7")]
    await backend.close()


async def test_so_much_text_is_kept(shared_redis):
    backend = RedisBackend(shared_redis.url, bytes=5000)
    await _some(backend, 10, size=1000)
    assert set(await _kept(backend)) == {"r6", "r7", "r8", "r9"}
    assert int(shared_redis.cli("HGET", "tokenwire:{c}", "bytes")) <= 5000
    await backend.close()


async def test_nothing_is_kept_longer_than_its_age(shared_redis):
    backend = RedisBackend(shared_redis.url, age=0.3)
    await _publish(backend, _entry(0, _start("open"), response_id="open"))
    await _some(backend, 2)
    await _publish(backend, Entry(channel="c", events=(DataEvent(name="n"),)))
    assert len((await backend.replay("c", ReplayFrom(all=True))).events) == 4
    await asyncio.sleep(0.4)  # what is tested here is time itself
    assert set(await _kept(backend)) == {"open"}
    (left,) = (await backend.replay("c", ReplayFrom(all=True))).events
    assert left.response_id == "open"
    await _publish(backend, _entry(1, _delta(0, "x", response_id="open"), response_id="open"))
    assert shared_redis.cli("XLEN", "tokenwire:{c}:log") == 1
    assert shared_redis.cli("ZCARD", "tokenwire:{c}:starts") == 1
    await backend.close()


async def test_every_key_goes_of_itself(shared_redis):
    backend = RedisBackend(shared_redis.url, age=60.0)
    await _some(backend, 2)
    await _publish(backend, _entry(0, _start("open"), response_id="open"))
    for begin in range(0, 3000, 500):  # so that the older generations exist, too
        cancels = {n: CancelEvent(response_id=f"x{n}") for n in range(begin, begin + 500)}
        await _publish(
            backend,
            *(Entry(channel="c", events=(one,), key=f"k{n}") for n, one in cancels.items()),
        )
    names = shared_redis.cli("KEYS", "*")
    assert len(names) == 17
    for name in names:
        assert 0 < shared_redis.cli("PTTL", name) < 4_000_000, name
    await backend.close()


async def test_no_age_means_no_expiry(shared_redis):
    backend = RedisBackend(shared_redis.url, age=None)
    await _some(backend, 2)
    for name in shared_redis.cli("KEYS", "*"):
        assert shared_redis.cli("PTTL", name) == -1, name
    await backend.close()


# -- evicted keys


@pytest.mark.parametrize("key", ["tokenwire:{c}:t:r", "tokenwire:{c}:r:r"])
async def test_an_evicted_response_is_made_again(shared_redis, key):
    with open_sink(shared_redis.url) as sink:
        with sink.respond("c", response_id="r") as response:
            response.write("before ")
            assert sink.flush(PATIENCE)
            shared_redis.cli("DEL", key)
            assert sink.history("c").items == ()
            response.write("after")
        assert response.wait(PATIENCE).status == "recovered"
        assert [r.text for r in sink.history("c").items] == ["before after"]


async def test_an_evicted_channel_begins_anew(shared_redis):
    with open_sink(shared_redis.url) as sink:
        with sink.respond("c", response_id="r") as response:
            response.write("before ")
            assert sink.flush(PATIENCE)
            shared_redis.cli("DEL", "tokenwire:{c}")
            response.write("after")
        response.wait(PATIENCE)
        watch = sink.watch("c", rewind="all")
        transcript = Transcript()
        for event in watch:
            transcript.apply(event)
            if event.type == "end" or (event.type == "snapshot" and event.response.ended):
                break
        assert transcript["r"].text == "before after"


def test_a_flushed_database_while_streaming(shared_redis):
    with open_sink(shared_redis.url) as sink, open_sink(shared_redis.url) as reader:
        watch = reader.watch("c").open()
        with sink.respond("c", response_id="r") as response:
            for number in range(20):
                response.write(f"{number} ")
                assert sink.flush(PATIENCE)
                if number % 5 == 0:
                    shared_redis.cli("FLUSHALL")
        assert response.wait(PATIENCE).status == "recovered"
        text = "".join(f"{number} " for number in range(20))
        transcript = Transcript()
        for event in watch:
            transcript.apply(event)
            if event.type == "end":
                break
        assert transcript["r"].text == text
        assert sink.history("c").items[0].text == text


# -- names, connections, clients, forks


@pytest.mark.parametrize("name", ["}", "{", "{}", "a}b", "%7D", "a b", "東京 🙂", "x" * 256])
async def test_any_channel_name(backend, name):
    await _publish(backend, _entry(0, _start(), channel=name))
    assert set(await _kept(backend, name)) == {"r"}
    assert await _kept(backend, "%7B") == {}


async def test_connections_do_not_grow(shared_redis):
    backend = RedisBackend(shared_redis.url)
    ears = [Ear() for _ in range(300)]
    stands = [await backend.subscribe(f"c{n}", ear) for n, ear in enumerate(ears)]
    await asyncio.gather(*(backend.replay(f"c{n}", ReplayFrom()) for n in range(300)))
    await _publish(backend, *(_entry(0, _start(), channel=f"c{n}") for n in range(300)))
    for ear in ears:
        await ear.until(1)
    mine = [c for c in shared_redis.cli("CLIENT LIST") if c["user"] == "default"]
    assert len(mine) == 3
    for stand in stands:
        await stand.close()
    names = "tokenwire:*"
    eventually(lambda: not shared_redis.cli("PUBSUB", "CHANNELS", names), "all to be unsubscribed")
    (node,) = backend._servers.nodes
    await eventually_async(lambda: not node.live._leaving, "their names to be forgotten")
    await backend.close()


async def test_a_closed_subscription_hears_nothing(backend, shared_redis):
    first, second = Ear(), Ear()
    stand = await backend.subscribe("c", first)
    await backend.subscribe("c", second)
    await stand.close()
    await _publish(backend, _entry(0, _start()))
    await second.until(1)
    assert not first.events
    again = Ear()
    await backend.subscribe("c", again)
    await _publish(backend, _entry(1, _delta(0, "x")))
    await again.until(1)
    assert again.events[0].type == "delta"


async def test_a_ready_client(shared_redis):
    client = redis.asyncio.Redis.from_url(shared_redis.url, decode_responses=True)
    await client.ping()  # it belongs to this loop now
    sink = open_sink(RedisBackend(client=client, prefix="mine"))
    with sink.respond("c", response_id="r") as response:
        response.write("hello")
    await asyncio.to_thread(response.wait, PATIENCE)
    page = await sink.ahistory("c")
    assert page.items[0].text == "hello"
    await sink.aclose()
    assert await client.exists("mine:{c}") == 1  # not closed by us
    await client.aclose()


@pytest.mark.parametrize("url", [None, "redis://localhost"])
def test_a_url_or_a_client(url):
    with pytest.raises(ValueError, match="one of them"):
        RedisBackend(url, client=redis.asyncio.Redis() if url else None)
    with pytest.raises(ValueError, match=r"redis\.asyncio"):
        RedisBackend(client=object())


def test_after_a_fork(shared_redis):
    with open_sink(shared_redis.url) as sink:
        watch = sink.watch("c").open()
        response = sink.respond("c", response_id="parent")
        response.write("before ")
        assert sink.flush(PATIENCE)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # there are threads, as there will be
            pid = os.fork()
        if pid == 0:
            status = 1
            try:
                with sink.respond("c", response_id="child") as mine:
                    mine.write("from the child")
                status = 0 if mine.wait(PATIENCE).status == "delivered" else 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        response.write("and after")
        response.finish()
        assert response.wait(PATIENCE).status == "delivered"
        kept = {kept.id: kept.text for kept in sink.history("c").items}
        assert kept == {"parent": "before and after", "child": "from the child"}
        seen = Transcript()
        for event in watch:
            seen.apply(event)
            if event.type == "end" and event.response_id == "parent":
                break
        assert seen["child"].text == "from the child"


def test_many_threads_write_through_one_connection(shared_redis):
    with open_sink(shared_redis.url) as sink:

        def work(number):
            with sink.respond(f"c{number % 5}", response_id=f"r{number}") as response:
                for token in range(50):
                    response.write(f"{token} ")

        threads = [threading.Thread(target=work, args=(number,)) for number in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sink.flush(PATIENCE)
        text = "".join(f"{token} " for token in range(50))
        for channel in range(5):
            assert {kept.text for kept in sink.history(f"c{channel}").items} == {text}


async def test_check_tells_what_is_there(backend, shared_redis):
    told = await backend.check()
    assert told["server"] in ("redis", "valkey")
    assert told["version"]
    assert shared_redis.cli("DBSIZE") == 0


async def test_nothing_listens_there():
    backend = RedisBackend("redis://:secret-word@127.0.0.1:1/0", timeout=0.3)
    for call in (
        backend.publish([_entry(0, _start())]),
        backend.replay("c", ReplayFrom()),
        backend.history("c", limit=1),
        backend.reap("c"),
        backend.renew([Lease("c", "r", "f", 1.0)]),
        backend.check(),
    ):
        with pytest.raises(BackendUnavailable) as caught:
            await call
        assert "127.0.0.1:1" in str(caught.value)
        assert "secret-word" not in str(caught.value)
    assert "secret-word" not in repr(backend)
    await backend.close()


async def test_every_server_that_is_here(each_redis_binary):
    with RedisServer(binary=each_redis_binary) as server:
        backend = RedisBackend(server.url)
        ear = Ear()
        await backend.subscribe("c", ear)
        await _publish(backend, _entry(0, _start(), _delta(0, "hé")), _entry(1, _delta(2, "llo")))
        cancel = CancelEvent(response_id="r")
        await _publish(backend, Entry(channel="c", events=(cancel,), key="k"))
        await _publish(backend, _entry(2, EndEvent(response_id="r", state="complete")))
        await ear.until(5)
        assert (await _kept(backend))["r"].text == "héllo"
        for start in (ReplayFrom(all=True), ReplayFrom(count=1), ReplayFrom(since=0)):
            assert (await backend.replay("c", start)).events
        await _publish(backend, _entry(0, _start("dead"), response_id="dead", lease=0.01))
        await asyncio.sleep(0.02)
        assert await backend.reap("c") == 1
        assert (await _kept(backend))["dead"].state == "abandoned"
        await backend.close()
