"""How long things are kept, and what becomes of keys that are evicted."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.adapters.redis.support import (
    PATIENCE,
    kept_in,
    make_delta,
    make_entry,
    make_start,
    publish,
)
from tokenwire import open_sink
from tokenwire.backend import Entry, ReplayFrom
from tokenwire.events import (
    CancelEvent,
    DataEvent,
    EndEvent,
)
from tokenwire.response import Transcript
from tokenwire_adapters.redis import RedisBackend, Retention

pytestmark = pytest.mark.redis


# -- retention


async def _some(backend, count, size=10):
    for number in range(count):
        name = f"r{number}"
        await publish(
            backend,
            make_entry(
                0,
                make_start(name),
                make_delta(0, "x" * size, response_id=name),
                EndEvent(response_id=name, state="complete"),
                response_id=name,
            ),
        )


async def test_so_many_ended_responses_are_kept(shared_redis):
    backend = RedisBackend(shared_redis.url, retention=Retention(responses=3))
    await publish(backend, make_entry(0, make_start("open"), response_id="open"))
    await _some(backend, 8)
    assert set(await kept_in(backend)) == {"open", "r5", "r6", "r7"}
    names = shared_redis.cli("KEYS", "*:t:*")
    assert sorted(names) == [f"tokenwire:{{c}}:t:{name}" for name in ("open", "r5", "r6", "r7")]
    await backend.close()


async def test_of_a_long_log_no_more_is_kept_than_was_said(shared_redis):
    """However much there is to remove: the log is read in batches."""
    long = RedisBackend(shared_redis.url)
    notes = [Entry(channel="c", events=(DataEvent(name="n", data=n),)) for n in range(200)]
    await publish(long, *notes)
    await long.close()
    short = RedisBackend(shared_redis.url, events=10)
    await publish(short, Entry(channel="c", events=(DataEvent(name="n", data=200),)))
    assert int(shared_redis.cli("XLEN", "tokenwire:{c}:log")) == 10
    assert int(shared_redis.cli("HGET", "tokenwire:{c}", "events")) == 10
    await short.close()


async def test_so_much_text_is_kept(shared_redis):
    backend = RedisBackend(shared_redis.url, bytes=5000)
    await _some(backend, 10, size=1000)
    assert set(await kept_in(backend)) == {"r6", "r7", "r8", "r9"}
    assert int(shared_redis.cli("HGET", "tokenwire:{c}", "bytes")) <= 5000
    await backend.close()


async def test_nothing_is_kept_longer_than_its_age(shared_redis):
    for age in (0.3, 3.0, 30.0):  # longer, where the machine is so slow
        backend = RedisBackend(shared_redis.url, age=age)
        begun = time.monotonic()
        await publish(backend, make_entry(0, make_start("open"), response_id="open"))
        await _some(backend, 2)
        await publish(backend, Entry(channel="c", events=(DataEvent(name="n"),)))
        kept = (await backend.replay("c", ReplayFrom(all=True))).events
        if time.monotonic() < begun + age:
            break
        await backend.close()
        shared_redis.cli("FLUSHALL")
    assert len(kept) == 4
    await asyncio.sleep(age + 0.1)  # what is tested here is time itself
    assert set(await kept_in(backend)) == {"open"}
    (left,) = (await backend.replay("c", ReplayFrom(all=True))).events
    assert left.response_id == "open"
    await publish(
        backend, make_entry(1, make_delta(0, "x", response_id="open"), response_id="open")
    )
    assert shared_redis.cli("XLEN", "tokenwire:{c}:log") == 1
    assert shared_redis.cli("ZCARD", "tokenwire:{c}:starts") == 1
    await backend.close()


async def test_every_key_goes_of_itself(shared_redis):
    backend = RedisBackend(shared_redis.url, age=60.0)
    await _some(backend, 2)
    await publish(backend, make_entry(0, make_start("open"), response_id="open"))
    for begin in range(0, 3000, 500):  # so that the older generations exist, too
        cancels = {n: CancelEvent(response_id=f"x{n}") for n in range(begin, begin + 500)}
        await publish(
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
