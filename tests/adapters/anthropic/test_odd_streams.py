"""Streams of servers that copy Anthropic's API in their own way, and how they end."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import pytest

from tests.support.offline import anthropic_client
from tests.support.sse import body, parts
from tokenwire import Response, Sink
from tokenwire_adapters.anthropic import wrap

Json = Any

CUT_OFF = "the stream ended before the reply was complete"
BOOM = "CUDA out of memory"
USAGE = {"input_tokens": 1, "output_tokens": 2}

START = {
    "type": "message_start",
    "message": {"id": "m", "type": "message", "role": "assistant", "content": [], "usage": USAGE},
}
STOP = {"type": "message_stop"}


def _start(index: Json, **block: Json) -> Json:
    return {"type": "content_block_start", "index": index, "content_block": block}


def _delta(index: Json, kind: Json, **fields: Json) -> Json:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **fields}}


def _stop(index: Json) -> Json:
    return {"type": "content_block_stop", "index": index}


def _message_delta(reason: Json) -> Json:
    return {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": USAGE}


def _read(sink: Sink, *events: Json) -> Response:
    with anthropic_client(body(*events, named=True)) as client:
        wrap(client, sink, channel="c")
        list(client.messages.create(model="m", max_tokens=9, messages=[], stream=True))
    return sink.history("c").items[0]


TEXT = [_start(0, type="text", text=""), _delta(0, "text_delta", text="The dose is 10")]


@pytest.mark.parametrize(
    ("events", "state", "finish"),
    [
        ([START, *TEXT], "failed", None),
        ([], "failed", None),
        ([START, *TEXT, _stop(0)], "failed", None),
        ([START, *TEXT, _stop(0), STOP], "complete", None),
        ([START, *TEXT, _stop(0), _message_delta(None), STOP], "complete", None),
        ([START, *TEXT, _stop(0), _message_delta("end_turn")], "complete", "end_turn"),
        ([START, *TEXT, _message_delta(None)], "failed", None),
        ([START, *TEXT, _message_delta({"a": 1}), STOP], "complete", None),
    ],
)
def test_the_end_of_a_stream(events: list[Json], state: str, finish: str, sink: Sink) -> None:
    got = _read(sink, *events)
    assert got.text == ("The dose is 10" if events else "")
    assert (got.state, got.finish_reason) == (state, finish)
    assert got.error == (CUT_OFF if state == "failed" else None)


def test_a_whole_reply_needs_no_stop_reason(sink: Sink) -> None:
    reply = {**START["message"], "content": [{"type": "text", "text": "Hi"}, None, 5]}
    with anthropic_client(json.dumps(reply).encode(), "application/json") as client:
        wrap(client, sink, channel="c").messages.create(model="m", max_tokens=9, messages=[])
    got = sink.history("c").items[0]
    assert (got.text, got.state) == ("Hi", "complete")


def test_blocks_that_share_an_index(sink: Sink) -> None:
    got = _read(
        sink,
        START,
        _start(0, type="thinking", thinking=""),
        _delta(0, "thinking_delta", thinking="Hm."),
        _start(0, type="text", text=""),
        _delta(0, "text_delta", text="Let me "),
        _delta(0, "text_delta", text="look."),
        _start(0, type="tool_use", id="a", name="f", input={}),
        _delta(0, "input_json_delta", partial_json='{"d":1}'),
        _start(0, type="tool_use", id="b", name="g", input={}),
        _delta(0, "input_json_delta", partial_json='{"d":2}'),
        _start(0, type="text", text=""),
        _delta(0, "text_delta", text="Done."),
        STOP,
    )
    assert parts(got) == [
        ("reasoning", "Hm."),
        ("text", "Let me look."),
        ("tool_call", '{"d":1}', "f", "a"),
        ("tool_call", '{"d":2}', "g", "b"),
        ("text", "Done."),
    ]


@pytest.mark.parametrize("index", [None, "0", -1])
def test_blocks_without_an_index(index: Json, sink: Sink) -> None:
    got = _read(
        sink,
        _start(index, type="text", text="The "),
        _delta(index, "text_delta", text="dose"),
        _stop(index),
        STOP,
    )
    assert parts(got) == [("text", "The dose")]


@pytest.mark.parametrize("where", ["start", "delta", "whole"])
def test_arguments_as_an_object(where: str, sink: Sink) -> None:
    arguments = {"d": 1}
    got = _read(
        sink,
        _start(0, type="tool_use", id="a", name="f", input=arguments if where == "start" else {}),
        *([_delta(0, "input_json_delta", partial_json=arguments)] if where == "delta" else []),
        *([_delta(0, "input_json_delta", partial_json='{"d": 1}')] if where == "whole" else []),
        _stop(0),
        STOP,
    )
    assert parts(got) == [("tool_call", '{"d": 1}', "f", "a")]


@pytest.mark.parametrize(
    "error",
    [
        {"type": "error", "error": {"type": "overloaded_error", "message": BOOM}},
        {"type": "error", "error": BOOM},
        {"type": "error", "message": BOOM},
        {"type": "error", "error": {"error": {"message": BOOM}}},
        {"type": "error", "error": [BOOM]},
    ],
    ids=json.dumps,
)
def test_error_messages(error: Json, sink: Sink) -> None:
    with pytest.raises(anthropic.APIStatusError):
        _read(sink, START, *TEXT, error)
    got = sink.history("c").items[0]
    assert (got.text, got.state, got.error) == ("The dose is 10", "failed", BOOM)


def test_an_error_that_is_no_json(sink: Sink) -> None:
    served = body(START, *TEXT, named=True) + f"event: error\ndata: {BOOM}\n\n".encode()
    with anthropic_client(served) as client, pytest.raises(anthropic.APIStatusError):
        wrap(client, sink, channel="c")
        list(client.messages.create(model="m", max_tokens=9, messages=[], stream=True))
    assert sink.history("c").items[0].error == BOOM
