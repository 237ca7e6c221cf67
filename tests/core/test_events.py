"""The vocabulary on the wire."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenwire import (
    CancelEvent,
    DataEvent,
    DecodeError,
    DeltaEvent,
    EndEvent,
    Event,
    InputEvent,
    Part,
    PartEvent,
    Response,
    SnapshotEvent,
    StartEvent,
    ToolResult,
    ToolResultEvent,
    UnknownEvent,
)
from tokenwire.events import (
    decode_json,
    decode_msgpack,
    decode_msgpack_batch,
    encode_json,
    encode_msgpack,
    encode_msgpack_batch,
    plain,
)

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_NAME = st.none() | _TEXT
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=6,
)
_META = st.dictionaries(_TEXT, _JSON, max_size=3)
_PARTS = st.lists(
    st.builds(
        Part,
        kind=_TEXT,
        text=_TEXT,
        name=_NAME,
        call_id=_NAME,
        data=_JSON,
        provider_executed=st.booleans(),
    ),
    max_size=3,
).map(tuple)
_RESULTS = st.lists(st.builds(ToolResult, call_id=_TEXT, output=_JSON), max_size=2).map(tuple)
_RESPONSE = st.builds(
    Response, id=_TEXT, channel=_TEXT, parts=_PARTS, tool_results=_RESULTS, metadata=_META
)
_SMALL = st.integers(0, 2**40)
EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.builds(StartEvent, response_id=_TEXT, run=_NAME, metadata=_META, ts=st.none() | _SMALL),
    st.builds(
        PartEvent,
        response_id=_TEXT,
        part=_SMALL,
        kind=_TEXT,
        name=_NAME,
        call_id=_NAME,
        data=_JSON,
        provider_executed=st.booleans(),
    ),
    st.builds(DeltaEvent, response_id=_TEXT, part=_SMALL, kind=_TEXT, offset=_SMALL, text=_TEXT),
    st.builds(SnapshotEvent, response=_RESPONSE, cursor=_NAME),
    st.builds(
        EndEvent,
        response_id=_TEXT,
        state=st.sampled_from(["complete", "cancelled", "failed", "abandoned"]),
        usage=st.none() | _META,
    ),
    st.builds(ToolResultEvent, call_id=_TEXT, response_id=_NAME, output=_JSON),
    st.builds(DataEvent, name=_TEXT, data=_JSON),
    st.builds(CancelEvent, response_id=_TEXT, reason=_NAME),
    st.builds(InputEvent, name=_TEXT, data=_JSON, sender=_NAME),
)


@given(EVENTS)
def test_both_codecs_give_back_what_they_took(event: Event) -> None:
    assert decode_json(encode_json(event)) == event
    assert decode_msgpack(encode_msgpack(event)) == event
    assert b"\n" not in encode_json(event)
    assert json.loads(encode_json(event))["type"] == event.type


@given(st.lists(EVENTS, max_size=4))
def test_batches_give_back_what_they_took(events: list[Event]) -> None:
    assert decode_msgpack_batch(encode_msgpack_batch(events)) == events


@given(EVENTS)
def test_fields_of_a_later_version_are_passed_over(event: Event) -> None:
    raw = json.loads(encode_json(event))
    assert decode_json(json.dumps({**raw, "from_the_future": [1], "v": 2})).type == event.type


def test_types_of_a_later_version_are_kept_as_they_are() -> None:
    raw: dict[str, Any] = {"type": "vote", "response_id": "r", "up": 3, "cursor": "c-1"}
    event = decode_json(json.dumps(raw))
    assert isinstance(event, UnknownEvent)
    assert (event.type, event.response_id, event.cursor, event.raw) == ("vote", "r", "c-1", raw)
    assert json.loads(encode_json(event)) == raw
    known = CancelEvent(response_id="r")
    assert decode_msgpack_batch(encode_msgpack_batch([known, event])) == [known, event]


@given(st.binary(max_size=40))
def test_anything_else_is_refused(data: bytes) -> None:
    for decode in (decode_json, decode_msgpack, decode_msgpack_batch):
        try:
            decode(data)
        except DecodeError:
            continue


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"1",
        b'{"type": 7}',
        b'{"type": "delta"}',
        b'{"type": "delta", "response_id": "r", "part": "0", "kind": "text", "offset": 0}',
        b'{"no": "type"}',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
def test_what_is_not_an_event_is_refused(data: bytes) -> None:
    with pytest.raises(DecodeError, match="not an event"):
        decode_json(data)


def test_plain_makes_anything_fit_for_json() -> None:
    class Thing:
        def __str__(self) -> str:
            return "a thing"

    class Broken:
        def __str__(self) -> str:
            raise RuntimeError

    loop: list[Any] = []
    loop.append(loop)
    created = plain({1: Thing(), "b": Broken(), "s": {3}, "big": 2**70, "bad": "\ud800", "l": loop})
    assert created["1"] == "a thing"
    assert created["b"] == "<Broken>"
    assert created["s"] == [3]
    assert created["big"] == str(2**70)
    assert created["bad"] == "\ufffd"
    encode_json(DataEvent(name="x", data=created))
