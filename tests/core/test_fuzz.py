"""Whatever an agent passes, and whatever bytes come in: nothing raises but what is documented."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.profile import fuzzed
from tests.support.wrong_types import calls, check_channel, perform
from tokenwire import (
    DataEvent,
    DecodeError,
    DeltaEvent,
    EndEvent,
    Event,
    MemoryBackend,
    Part,
    Response,
    SnapshotEvent,
    StartEvent,
    Transcript,
    open_sink,
)
from tokenwire._reading.dedup import Deduplicator
from tokenwire.errors import GapError
from tokenwire.events import (
    decode_json,
    decode_msgpack,
    decode_msgpack_batch,
    decode_msgpack_each,
    encode_json,
    encode_msgpack,
    encode_msgpack_batch,
)

pytestmark = pytest.mark.timeout(3600)  # 20,000 examples take their time

EVENTS: list[Event] = [
    StartEvent(response_id="r", run="run", metadata={"a": [1, None, 0.5]}),
    DeltaEvent(response_id="r", part=0, kind="text", offset=0, text="text \U0001f642"),
    SnapshotEvent(response=Response(id="r", parts=(Part(kind="text", text="t"),))),
    EndEvent(response_id="r", state="complete", usage={"n": 2**40}),
    DataEvent(name="n", data={"deep": [[{}]]}, id="i"),
]


def mutated(data: bytes) -> st.SearchStrategy[bytes]:
    """Bytes that differ from `data` in a few places."""
    change = st.tuples(st.integers(0, len(data)), st.binary(max_size=3), st.integers(0, 3))

    def apply(changes: list[tuple[int, bytes, int]]) -> bytes:
        result = data
        for at, new, removed in changes:
            result = result[:at] + new + result[at + removed :]
        return result

    return st.lists(change, max_size=3).map(apply)


@settings(max_examples=fuzzed())
@given(sequence=calls, granularity=st.sampled_from(["response", "token"]))
def test_no_call_raises_leaves_a_response_open_or_spoils_a_channel(
    sequence: Any, granularity: Any
) -> None:
    with open_sink(MemoryBackend(granularity=granularity)) as sink:
        writer = perform(sink, "c", sequence)
        check_channel(sink, "c", writer)
        assert sink.stats().open == 0
        assert sink.stats().writing.lost == 0


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.type)
@settings(max_examples=fuzzed())
@given(data=st.data())
def test_every_decoder_refuses_or_decodes_what_readers_can_take(
    event: Event, data: st.DataObject
) -> None:
    cases: list[tuple[Callable[[bytes], Any], bytes]] = [
        (decode_json, encode_json(event)),
        (decode_msgpack, encode_msgpack(event)),
        (decode_msgpack_batch, encode_msgpack_batch([event, *EVENTS])),
        (decode_msgpack_each, encode_msgpack_batch([event, *EVENTS])),
    ]
    decode, encoded = data.draw(st.sampled_from(cases))
    try:
        decoded = decode(data.draw(mutated(encoded)))
    except DecodeError:
        return
    transcript = Transcript()
    for lenient in (True, False):
        deduplicator = Deduplicator(lenient=lenient)
        for one in decoded if isinstance(decoded, list) else [decoded]:
            if isinstance(one, DecodeError):
                continue
            deduplicator.admit(one)
            try:
                transcript.apply(one)
            except GapError:
                continue
