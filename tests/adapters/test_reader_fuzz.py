"""Any field of any event of a provider may be of any type: it costs that event, and no more."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.fuzz import EXAMPLES, VALUES, Json, Place, changed, places, values
from tests.support.needs import needs
from tests.support.profile import EVERYTHING
from tests.support.sdk import fresh_sink
from tokenwire import Sink

needs("openai", "anthropic")

from tests.support.offline import anthropic_client, openai_client
from tokenwire_adapters import anthropic as anthropic_adapter
from tokenwire_adapters import openai as openai_adapter

TOKENS = ["<1>", "<2>", "<3>", "<4>"]


# -- streams that use every event of their API


def _chunk(delta: Json, finish: str | None = None, **more: Json) -> Json:
    return {
        "id": "c",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}],
        **more,
    }


def _call(**function: str) -> Json:
    return {"index": 0, "id": "call_1", "type": "function", "function": function}


CHAT: list[Json] = [
    _chunk({"role": "assistant", "content": ""}),
    _chunk({"reasoning_content": "Hm.", "content": None}),
    _chunk({"content": TOKENS[0]}),
    _chunk({"content": TOKENS[1], "annotations": [{"type": "url_citation", "url": "u"}]}),
    _chunk({"tool_calls": [_call(name="f", arguments="")]}),
    _chunk({"tool_calls": [_call(arguments='{"a":1}')]}),
    _chunk({"content": [{"type": "text", "text": TOKENS[2]}], "refusal": None}),
    _chunk({"content": TOKENS[3], "audio": {"id": "a", "data": "UklGRg=="}}),
    _chunk({"function_call": {"name": "g", "arguments": "{}"}}),
    _chunk({}, "stop", citations=["u"]),
    {**_chunk({}), "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}},
]

TEXT: list[Json] = [
    {
        "id": "c",
        "object": "text_completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "text": text, "finish_reason": finish}],
        "usage": None,
    }
    for text, finish in [*((token, None) for token in TOKENS), ("", "stop")]
]


def _event(kind: str, **fields: Json) -> Json:
    return {"type": f"response.{kind}", "sequence_number": 1, **fields}


def _message(*texts: str) -> Json:
    content = [{"type": "output_text", "text": text, "annotations": []} for text in texts]
    return {
        "id": "m",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": content,
    }


def _response(*output: Json) -> Json:
    return {
        "id": "r",
        "object": "response",
        "created_at": 1,
        "model": "m",
        "status": "completed",
        "output": list(output),
        "usage": {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3},
    }


_REASONING = {"id": "rs", "type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]}
_CALL = {"id": "fc", "type": "function_call", "call_id": "k", "name": "f", "arguments": '{"a":1}'}
_THOUGHT = {"item_id": "rs", "output_index": 0, "summary_index": 0}
_AT = {"item_id": "m", "output_index": 1, "content_index": 0}
_CITED = {"type": "url_citation", "url": "u", "title": "t", "start_index": 0, "end_index": 1}

RESPONSES: list[Json] = [
    _event("created", response=_response()),
    _event("output_item.added", output_index=0, item={**_REASONING, "summary": []}),
    _event(
        "reasoning_summary_text.delta", item_id="rs", output_index=0, summary_index=0, delta="H"
    ),
    _event("reasoning_summary_text.done", item_id="rs", output_index=0, summary_index=0, text="H"),
    _event("output_item.done", output_index=0, item=_REASONING),
    _event("output_item.added", output_index=1, item=_message()),
    _event("content_part.added", part=_message("")["content"][0], **_AT),
    *(_event("output_text.delta", delta=token, logprobs=[], **_AT) for token in TOKENS[:2]),
    _event("output_item.added", output_index=2, item={**_CALL, "arguments": ""}),
    _event("function_call_arguments.delta", item_id="fc", output_index=2, delta='{"a":1}'),
    *(_event("output_text.delta", delta=token, logprobs=[], **_AT) for token in TOKENS[2:]),
    _event("output_text.annotation.added", annotation=_CITED, annotation_index=0, **_AT),
    _event("output_text.done", text="".join(TOKENS), logprobs=[], **_AT),
    _event("content_part.done", part=_message("".join(TOKENS))["content"][0], **_AT),
    _event("output_item.done", output_index=1, item=_message("".join(TOKENS))),
    _event("function_call_arguments.done", item_id="fc", output_index=2, arguments='{"a":1}'),
    _event("output_item.done", output_index=2, item=_CALL),
    _event("completed", response=_response(_REASONING, _message("".join(TOKENS)), _CALL)),
]

_USAGE = {"input_tokens": 1, "output_tokens": 2}


def _delta(index: int, kind: str, **fields: Json) -> Json:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **fields}}


def _start(index: int, **block: Json) -> Json:
    return {"type": "content_block_start", "index": index, "content_block": block}


def _stop(index: int) -> Json:
    return {"type": "content_block_stop", "index": index}


MESSAGES: list[Json] = [
    {
        "type": "message_start",
        "message": {
            "id": "m",
            "type": "message",
            "role": "assistant",
            "content": [],
            "model": "m",
            "stop_reason": None,
            "stop_sequence": None,
            "usage": _USAGE,
        },
    },
    _start(0, type="thinking", thinking="", signature=""),
    _delta(0, "thinking_delta", thinking="Hm."),
    _stop(0),
    _start(1, type="text", text=""),
    _delta(1, "text_delta", text=TOKENS[0]),
    _delta(1, "citations_delta", citation={"type": "char_location", "cited_text": "a"}),
    _delta(1, "text_delta", text=TOKENS[1]),
    _stop(1),
    _start(2, type="tool_use", id="k", name="f", input={}),
    _delta(2, "input_json_delta", partial_json='{"a":1}'),
    _stop(2),
    _start(3, type="web_search_tool_result", tool_use_id="s", content=[{"type": "x", "url": "u"}]),
    _stop(3),
    _start(4, type="text", text=""),
    _delta(4, "text_delta", text=TOKENS[2]),
    _delta(4, "text_delta", text=TOKENS[3]),
    _stop(4),
    {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", "stop_sequence": None},
        "usage": _USAGE,
    },
    {"type": "message_stop"},
]


# -- what reads them


def _read_chat(body: bytes, sink: Sink | None) -> None:
    with openai_client(body) as client:
        if sink is not None:
            openai_adapter.wrap(client, sink, channel="c")
        list(client.chat.completions.create(model="m", messages=[], stream=True))


def _read_text(body: bytes, sink: Sink | None) -> None:
    with openai_client(body) as client:
        if sink is not None:
            openai_adapter.wrap(client, sink, channel="c")
        list(client.completions.create(model="m", prompt="x", stream=True))


def _read_responses(body: bytes, sink: Sink | None) -> None:
    with openai_client(body) as client:
        if sink is not None:
            openai_adapter.wrap(client, sink, channel="c")
        list(client.responses.create(model="m", input="x", stream=True))


def _read_messages(body: bytes, sink: Sink | None) -> None:
    with anthropic_client(body) as client:
        if sink is not None:
            anthropic_adapter.wrap(client, sink, channel="c")
        list(client.messages.create(model="m", max_tokens=9, messages=[], stream=True))


@dataclass(frozen=True)
class Api:
    """One API: a stream that uses its events, and what reads it."""

    name: str
    events: list[Json]
    read: Callable[[bytes, Sink | None], None]
    named: bool = False
    end: bytes = b""

    def body(self, events: list[tuple[str, Json]]) -> bytes:
        """Write events, each with the name that it had before it was changed."""
        lines = [
            (f"event: {name}\n" if self.named else "") + f"data: {json.dumps(event)}\n\n"
            for name, event in events
        ]
        return "".join(lines).encode() + self.end

    def __repr__(self) -> str:
        return self.name


APIS = [
    Api("chat", CHAT, _read_chat, end=b"data: [DONE]\n\n"),
    Api("text", TEXT, _read_text, end=b"data: [DONE]\n\n"),
    Api("responses", RESPONSES, _read_responses, named=True),
    Api("messages", MESSAGES, _read_messages, named=True),
]


# -- what is changed


@st.composite
def changes(draw: st.DrawFn) -> tuple[Api, int, Place, Json]:
    """An API, an event of its stream, a place in that, and what to put there."""
    api = draw(st.sampled_from(APIS))
    number = draw(st.integers(0, len(api.events) - 1))
    place = draw(st.sampled_from(list(places(api.events[number]))))
    return api, number, place, draw(values)


# -- what must hold


def _check(api: Api, number: int, place: Place, value: Json) -> None:
    events = [(event.get("type", ""), event) for event in api.events]
    original = json.dumps(api.events[number])
    events[number] = (events[number][0], changed(api.events[number], place, value))
    body = api.body(events)
    with fresh_sink() as sink:  # strict: what fails on our side raises
        try:
            api.read(body, sink)
        except Exception as error:  # the SDK itself cannot read it
            with pytest.raises(type(error)):
                api.read(body, None)
            return
        response = sink.history("c").items[-1]
    assert response.ended
    assert "lost track" not in (response.error or "")
    own = [token for token in TOKENS if token in original]
    read = re.findall(r"<\d>", response.text)
    if len(own) != 1:
        assert read == TOKENS
    elif own[0] in read:  # with another place, it is another text, after the one that goes on
        assert read in (TOKENS, [token for token in TOKENS if token not in own] + own)
    else:
        assert read == [token for token in TOKENS if token not in own]
    if '"' not in json.dumps(value):  # else it may be text itself
        assert response.text == "".join(read)


@settings(max_examples=EXAMPLES)
@given(changes())
def test_any_field_may_be_of_any_type(change: tuple[Api, int, Place, Json]) -> None:
    _check(*change)


@pytest.mark.parametrize("api", APIS, ids=repr)
def test_every_field_once(api: Api) -> None:
    events = enumerate(api.events)
    every = [(number, place) for number, event in events for place in places(event)]
    for count, (number, place) in enumerate(every):
        for value in VALUES if EVERYTHING else [VALUES[count % len(VALUES)]]:
            _check(api, number, place, value)
