"""The fuzzers of the core, on Redis: wrong types at the producer, mutated bytes in the keys."""

from __future__ import annotations

import contextlib
import itertools
import struct
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.core.test_fuzz import EVENTS, mutated
from tests.support.profile import fuzzed, scaled
from tests.support.wrong_types import calls, check_channel, perform
from tokenwire import MemoryBackend, open_sink
from tokenwire.errors import GapError
from tokenwire.events import encode_msgpack_batch
from tokenwire_adapters._backends.redis.codec import StoredResponse, decode_message

pytestmark = pytest.mark.timeout(3600)  # 20,000 examples take their time

_numbers = itertools.count()
_relaxed = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@settings(max_examples=fuzzed(), suppress_health_check=_relaxed)
@given(sequence=calls, granularity=st.sampled_from(["response", "token"]))
def test_redis_keeps_what_memory_keeps(shared_redis: Any, sequence: Any, granularity: Any) -> None:
    channel = f"fuzz-{next(_numbers)}"
    with open_sink(MemoryBackend(granularity=granularity)) as sink:
        expected = check_channel(sink, channel, perform(sink, channel, sequence))
    with open_sink(shared_redis.url, granularity=granularity) as sink:
        kept = check_channel(sink, channel, perform(sink, channel, sequence))
        assert sink.stats().writing.lost == 0
    # Ids of objects differ from call to call; all else is the same.
    if "0x" not in repr(expected):
        assert kept == expected


@settings(max_examples=fuzzed())
@given(data=st.data())
def test_messages_and_stored_responses_of_any_bytes(data: st.DataObject) -> None:
    batch = encode_msgpack_batch(EVENTS)
    message = b"1700000000000-0-0-1700000000000-0 0-0-0 r " + batch
    skipped: list[object] = []
    with contextlib.suppress(ValueError):
        decode_message(data.draw(mutated(message)), skipped.append)
    text = data.draw(mutated(batch[1:]))
    fields = [b"state", b"complete", b"size", b"%d" % len(text), b"records", b"5", b"run", b"-1"]
    fields += [b"number", b"1", b"last", b"1-0-0", b"first", b"1-0-0", b"run_at", b"0"]
    at = data.draw(st.integers(0, len(fields) - 1))
    fields[at] = data.draw(mutated(fields[at]))
    try:
        stored = StoredResponse([b"r", fields, text])
    except ValueError:
        return
    with contextlib.suppress(ValueError, LookupError, GapError, struct.error):
        if stored.is_intact:
            stored.response("c", skipped.append)


@pytest.mark.parametrize("place", ["log", "singles", "text", "live"])
@settings(max_examples=scaled(20), suppress_health_check=_relaxed)
@given(data=st.data())
def test_no_bytes_in_a_channel_make_it_unreadable(
    shared_redis: Any, place: str, data: st.DataObject
) -> None:
    channel = f"bytes-{next(_numbers)}"
    base = f"tokenwire:{{{channel}}}"
    client = redis.Redis.from_url(shared_redis.url)
    payload = data.draw(mutated(encode_msgpack_batch(EVENTS)))
    with open_sink(shared_redis.url) as sink, sink.watch(channel, rewind="all") as live:
        for name in ("before", "after"):
            with sink.respond(channel, response_id=name) as writer:
                writer.write(name)
            assert writer.wait(30).status == "delivered"
            if name == "after":
                break
            if place == "text":
                client.set(f"{base}:t:before", payload)
            elif place == "live":
                head = client.hget(base, "head")
                assert isinstance(head, bytes)
                client.publish(f"{base}:live", b"9999999999999-0-0 " + head + b" r " + payload)
            else:
                client.xadd(f"{base}:{place}", {"e": payload})
        ids = [item.id for item in sink.history(channel).items]
        assert "after" in ids
        with sink.watch(channel, rewind="all") as late:
            for watch in (live, late):
                for event in watch:
                    if event.response_id == "after" and event.type in ("end", "snapshot"):
                        break
    client.close()
