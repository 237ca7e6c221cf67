"""Streams of servers that copy OpenAI's APIs in their own way: odd, but parseable."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.offline import openai_client
from tests.support.sse import body, parts
from tokenwire import Response, Sink
from tokenwire_adapters.openai import wrap

Json = Any


def _chunk(delta: Json, finish: Json = None, **more: Json) -> Json:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    known = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return {**known, "choices": [choice], **more}


def _chat(sink: Sink, *chunks: Json, done: bool = True) -> Response:
    with openai_client(body(*chunks, done=done)) as client:
        wrap(client, sink, channel="c")
        list(client.chat.completions.create(model="m", messages=[], stream=True))
    return sink.history("c").items[0]


def _whole_chat(sink: Sink, message: Json) -> Response:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", **message}}
    reply = {"id": "c", "object": "chat.completion", "created": 1, "model": "m"}
    with openai_client(
        json.dumps({**reply, "choices": [choice]}).encode(), "application/json"
    ) as on:
        wrap(on, sink, channel="c").chat.completions.create(model="m", messages=[])
    return sink.history("c").items[0]


def _call(index: Json = 0, call_id: Json = "a", **function: Json) -> Json:
    return {"index": index, "id": call_id, "type": "function", "function": function}


TEXT = [_chunk({"content": "Let me "}), _chunk({"content": "look."}), _chunk({}, "stop")]


@pytest.mark.parametrize(
    "odd",
    [
        _chunk(None),
        _chunk("text"),
        _chunk([]),
        _chunk({"content": 5}),
        _chunk({"content": {"a": 1}}),
        _chunk({"tool_calls": [None]}),
        _chunk({"tool_calls": "f"}),
        _chunk({"tool_calls": [{"index": 0, "function": None}]}),
        _chunk({"refusal": {}, "function_call": [], "audio": 1}),
        _chunk({"reasoning": {"a": 1}, "annotations": 1}),
        _chunk({}, {"reason": "stop"}),
        {**_chunk({}), "choices": None},
        {**_chunk({}), "choices": {"0": {}}},
        {**_chunk({}), "choices": [None, 1, "x"]},
        {**_chunk({}), "usage": [1]},
        {},
        [],
        5,
        None,
    ],
    ids=lambda odd: json.dumps(odd)[-40:],
)
def test_a_chunk_that_cannot_be_read_costs_itself_alone(odd: Json, sink: Sink) -> None:
    got = _chat(sink, TEXT[0], odd, *TEXT[1:])
    assert parts(got)[0] == ("text", "Let me look.")
    assert (got.state, got.finish_reason) == ("complete", "stop")


def test_arguments_as_an_object(sink: Sink) -> None:
    got = _chat(
        sink,
        TEXT[0],
        _chunk({"tool_calls": [_call(name="f", arguments={"d": 1})]}),
        TEXT[1],
        _chunk({}, "tool_calls"),
    )
    assert parts(got) == [
        ("text", "Let me "),
        ("tool_call", '{"d":1}', "f", "a"),
        ("text", "look."),
    ]
    assert got.state == "complete"


def test_an_object_that_stands_in_for_arguments_to_come(sink: Sink) -> None:
    got = _chat(
        sink,
        _chunk({"tool_calls": [_call(name="f", arguments={})]}),
        _chunk({"tool_calls": [_call(call_id=None, arguments='{"d"')]}),
        _chunk({"tool_calls": [_call(call_id=None, arguments=":1}")]}),
        _chunk({}, "tool_calls"),
    )
    assert parts(got) == [("tool_call", '{"d":1}', "f", "a")]


def test_arguments_as_an_object_in_a_whole_reply(sink: Sink) -> None:
    calls = [_call(name="f", arguments={"d": 1}), None, _call(1, "b", name="g", arguments=["é"])]
    got = _whole_chat(sink, {"content": "Let me look.", "tool_calls": calls})
    assert parts(got) == [
        ("text", "Let me look."),
        ("tool_call", '{"d":1}', "f", "a"),
        ("tool_call", '["é"]', "g", "b"),
    ]


def test_arguments_as_an_object_of_a_stream_that_is_left(sink: Sink) -> None:
    chunks = [_chunk({"tool_calls": [_call(name="f", arguments={"d": 1})]}), *TEXT]
    with openai_client(body(*chunks)) as client:
        wrap(client, sink, channel="c")
        stream = client.chat.completions.create(model="m", messages=[], stream=True)
        next(stream)
        stream.close()
    got = sink.history("c").items[0]
    assert parts(got) == [("tool_call", '{"d":1}', "f", "a")]
    assert got.state == "cancelled"


@pytest.mark.parametrize(
    "names",
    [
        ["get_", "wea", "ther"],  # as the SDK's own helper would join them
        ["get_weather", "get_weather"],  # with each chunk
        ["get_", "get_wea", "get_weather"],  # all of it so far
        ["", "get_weather"],
        [None, "get_weather", None],
    ],
    ids=str,
)
@pytest.mark.parametrize("call_id", ["a", None])
def test_a_name_in_pieces(names: list[Any], call_id: str | None, sink: Sink) -> None:
    got = _chat(
        sink,
        *(_chunk({"tool_calls": [_call(0, call_id, name=name, arguments="")]}) for name in names),
        _chunk({"tool_calls": [_call(0, None, arguments="{}")]}),
        _chunk({}, "tool_calls"),
    )
    assert [(call.name, call.arguments) for call in got.tool_calls] == [("get_weather", "{}")]


def test_calls_without_arguments(sink: Sink) -> None:
    calls = [_call(0, "a", name="f", arguments=""), _call(1, "b", name="g", arguments="")]
    got = _chat(sink, *(_chunk({"tool_calls": [call]}) for call in calls), *TEXT)
    assert parts(got)[:2] == [("tool_call", "", "f", "a"), ("tool_call", "", "g", "b")]


@pytest.mark.parametrize(
    "block",
    [
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]},
        {"type": "reasoning", "reasoning": "Hm."},
        {"type": "reasoning", "text": "Hm."},
        {"type": "thinking", "thinking": "Hm."},
        {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]},
    ],
    ids=lambda block: json.dumps(block)[9:40],
)
def test_blocks_of_thoughts(block: Json, sink: Sink) -> None:
    content = [block, {"type": "text", "text": "Hi"}, None, 5, {"type": "text"}]
    got = _chat(sink, _chunk({"content": content}), _chunk({}, "stop"))
    assert parts(got) == [("reasoning", "Hm."), ("text", "Hi")]
    assert parts(_whole_chat(sink, {"content": content})) == [("reasoning", "Hm."), ("text", "Hi")]


# -- the Responses API


def _event(kind: str, **fields: Json) -> Json:
    return {"type": f"response.{kind}", "sequence_number": 1, **fields}


def _message(text: Json, item_id: str = "m") -> Json:
    content = [{"type": "output_text", "text": text, "annotations": []}]
    return {"id": item_id, "type": "message", "role": "assistant", "content": content}


def _response(*output: Json, **more: Json) -> Json:
    known = {"id": "r", "object": "response", "created_at": 1, "model": "m", "tools": []}
    return {**known, "status": "completed", "output": list(output), **more}


def _responses(sink: Sink, *events: Json) -> Response:
    with openai_client(body(*events, named=True)) as client:
        wrap(client, sink, channel="c")
        list(client.responses.create(model="m", input="x", stream=True))
    return sink.history("c").items[0]


AT = {"item_id": "m", "output_index": 0, "content_index": 0}


def _said(*texts: str) -> list[Json]:
    return [_event("output_text.delta", delta=text, logprobs=[], **AT) for text in texts]


FUNCTION = {"id": "fc", "type": "function_call", "call_id": "k", "name": "f"}


@pytest.mark.parametrize(
    "odd",
    [
        _event("output_item.added", output_index=1, item=None),
        _event("output_item.done", output_index=1, item=None),
        _event("output_item.done", output_index=1, item={"type": None}),
        _event("output_item.done", output_index=1, item=["x"]),
        _event("output_item.done", output_index=1, item={**_message("", "n"), "content": 1}),
        _event("output_text.delta", delta=None, **AT),
        _event("output_text.delta", delta={"a": 1}, **AT),
        _event("output_text.done", text=None, **AT),
        _event("reasoning_text.delta", item_id="r", output_index=[], content_index={}, delta=1),
        _event("function_call_arguments.delta", item_id=5, output_index="x", delta=None),
        _event("output_text.annotation.added", annotation=None, **AT),
        _event("of_tomorrow", x=1),
    ],
    ids=lambda odd: json.dumps(odd)[9:70],
)
def test_an_event_that_cannot_be_read_costs_itself_alone(odd: Json, sink: Sink) -> None:
    got = _responses(
        sink,
        *_said("Let me "),
        odd,
        *_said("look."),
        _event("completed", response=_response(_message("Let me look."))),
    )
    assert parts(got) == [("text", "Let me look.")]
    assert (got.state, got.finish_reason) == ("complete", "completed")


@pytest.mark.parametrize("response", [None, {}, "x", {"output": None, "usage": 1, "status": {}}])
def test_a_last_event_without_a_response(response: Json, sink: Sink) -> None:
    got = _responses(sink, *_said("Hi"), _event("completed", response=response))
    assert (got.text, got.state, got.finish_reason) == ("Hi", "complete", "completed")


@pytest.mark.parametrize("streamed", ["delta", "done", "item", "response"])
def test_responses_arguments_as_an_object(streamed: str, sink: Sink) -> None:
    whole = {**FUNCTION, "arguments": {"d": 1}}
    begun = {**FUNCTION, "arguments": ""}
    place = {"item_id": "fc", "output_index": 0}
    events = {
        "delta": _event("function_call_arguments.delta", delta={"d": 1}, **place),
        "done": _event("function_call_arguments.done", arguments={"d": 1}, **place),
        "item": _event("output_item.done", output_index=0, item=whole),
    }
    got = _responses(
        sink,
        _event("output_item.added", output_index=0, item=begun),
        *([events[streamed]] if streamed in events else []),
        _event("completed", response=_response(whole)),
    )
    assert parts(got) == [("tool_call", '{"d":1}', "f", "k")]


def test_a_whole_response_with_arguments_as_an_object(sink: Sink) -> None:
    reply = json.dumps(_response(_message("Hi"), None, {**FUNCTION, "arguments": {"d": 1}}))
    with openai_client(reply.encode(), "application/json") as client:
        wrap(client, sink, channel="c").responses.create(model="m", input="x")
    got = sink.history("c").items[0]
    assert parts(got) == [("text", "Hi"), ("tool_call", '{"d":1}', "f", "k")]


def test_texts_that_come_with_their_end_alone(sink: Sink) -> None:
    got = _responses(
        sink,
        _event("output_text.done", text="Hi", logprobs=[], **AT),
        _event("output_text.done", text="you", logprobs=[], **{**AT, "content_index": 1}),
        _event("completed", response=_response()),
    )
    assert parts(got) == [("text", "Hi"), ("text", "you")]


def test_a_character_that_is_cut_in_half_where_a_text_begins(sink: Sink) -> None:
    done = _event("output_text.done", text="\U0001f600", logprobs=[], **AT)
    events = [*_said("\ud83d", "\ude00"), done, _event("completed", response=_response())]
    served = "".join(f"data: {json.dumps(event)}\n\n" for event in events).encode()
    with openai_client(served) as client:
        wrap(client, sink, channel="c")
        list(client.responses.create(model="m", input="x", stream=True))
    assert parts(sink.history("c").items[0]) == [("text", "\U0001f600")]


def test_an_end_that_says_more_than_the_deltas(sink: Sink) -> None:
    got = _responses(
        sink,
        *_said("Let me "),
        _event("output_text.done", text="Let me look.", logprobs=[], **AT),
        _event("output_item.done", output_index=0, item=_message("Let me look. Done.")),
        _event("completed", response=_response(_message("Let me look. Done."))),
    )
    assert parts(got) == [("text", "Let me look. Done.")]


def _corrections(response: Response) -> list[Json]:
    return [part.data for part in response.parts if part.name == "correction"]


@pytest.mark.parametrize(
    ("whole", "correction"),
    [
        ("Let me", {"kind": "text", "text": "Let me"}),
        ("I cannot say.", {"kind": "text", "text": "I cannot say."}),
        ("Let me look. ", None),  # more of the same
        ("Let me look", {"kind": "text", "text": "Let me look"}),
        ("", None),  # some servers leave it out
        (None, None),
        (" Let me look.\n", None),
    ],
)
def test_an_end_that_corrects_the_deltas(whole: Json, correction: Json, sink: Sink) -> None:
    got = _responses(
        sink,
        _event("output_item.added", output_index=0, item={**_message(""), "content": []}),
        *_said("Let me ", "look."),
        _event("output_text.done", text=whole, logprobs=[], **AT),
        _event("output_item.done", output_index=0, item=_message(whole)),
        _event("completed", response=_response(_message(whole))),
    )
    assert got.text.strip() == "Let me look."
    assert [part.data for part in got.parts if part.kind == "data"] == [correction][
        : bool(correction)
    ]


@pytest.mark.parametrize(
    ("whole", "correction"),
    [
        ('{"d":2}', {"kind": "tool_call", "call_id": "k", "text": '{"d":2}'}),
        ({"d": 2}, {"kind": "tool_call", "call_id": "k", "text": '{"d":2}'}),
        ('{"d": 1}', None),
        ({"d": 1}, None),
        ("", None),
    ],
)
def test_an_end_that_corrects_the_arguments(whole: Json, correction: Json, sink: Sink) -> None:
    place = {"item_id": "fc", "output_index": 0}
    got = _responses(
        sink,
        _event("output_item.added", output_index=0, item={**FUNCTION, "arguments": ""}),
        _event("function_call_arguments.delta", delta='{"d":', **place),
        _event("function_call_arguments.delta", delta="1}", **place),
        _event("function_call_arguments.done", arguments=whole, **place),
        _event("output_item.done", output_index=0, item={**FUNCTION, "arguments": whole}),
        _event("completed", response=_response({**FUNCTION, "arguments": whole})),
    )
    assert [call.arguments for call in got.tool_calls] == ['{"d":1}']
    assert [part.data for part in got.parts if part.kind == "data"] == [correction][
        : bool(correction)
    ]
