"""Cohere's replies from bytes: streams of events, and whole ones."""

import json
from typing import Any

import pytest
from hypothesis import given

from tests.adapters.wires.reading import JSON, cuts, read
from tests.support.sse import body, parts
from tokenwire_adapters._agents.stainless.recorder import CUT_OFF

URL = "https://api.cohere.com/v2/chat"
REQUEST: dict[str, Any] = {"model": "command-a", "messages": [], "stream": True}
USAGE = {"billed_units": {"input_tokens": 3.0}, "tokens": {"output_tokens": 4.0}}
CITATION = {"start": 0, "end": 5, "text": "Hello", "sources": [{"type": "document", "id": "d"}]}


def event(kind: str, index: int | None = None, **message: Any) -> dict[str, Any]:
    placed = {} if index is None else {"index": index}
    return {"type": kind, **placed, "delta": {"message": message}}


def call(**fields: Any) -> dict[str, Any]:
    return {"tool_calls": fields}


def end(**delta: Any) -> dict[str, Any]:
    return {"type": "message-end", "id": "1", "delta": delta}


STREAM = [
    {"id": "1", **event("message-start", role="assistant", content=[], tool_calls=[])},
    event("content-start", 0, content={"type": "thinking", "thinking": ""}),
    event("content-delta", 0, content={"thinking": "Hm"}),
    event("content-delta", 0, content={"thinking": "m."}),
    event("content-end", 0),
    event("content-start", 1, content={"type": "text", "text": ""}),
    event("content-delta", 1, content={"text": "Hél"}),
    event("content-delta", 1, content={"text": "lo"}),
    event("citation-start", 0, citations=CITATION),
    event("citation-end", 0),
    event("content-end", 1),
    event("tool-plan-delta", tool_plan="I will "),
    event("tool-plan-delta", tool_plan="look."),
    event("tool-call-start", 0, **call(id="a", function={"name": "f", "arguments": ""})),
    event("tool-call-delta", 0, **call(function={"arguments": '{"x"'})),
    event("tool-call-start", 1, **call(id="b", function={"name": "g", "arguments": ""})),
    event("tool-call-delta", 1, **call(function={"arguments": "{}"})),
    event("tool-call-delta", 0, **call(function={"arguments": ":1}"})),
    event("tool-call-end", 0),
    end(finish_reason="TOOL_CALL", usage=USAGE),
]


@pytest.mark.parametrize("is_named", [True, False])
@pytest.mark.parametrize("is_done", [True, False])
@given(sizes=cuts())
def test_a_stream(is_named: bool, is_done: bool, sizes: list[int]) -> None:
    data = body(*STREAM, named=is_named, done=is_done)
    (response,) = read(URL, REQUEST, data, sizes=sizes)
    assert parts(response) == [
        ("reasoning", "Hmm."),
        ("text", "Héllo"),
        ("source", ""),
        ("reasoning", "I will look."),
        ("tool_call", '{"x":1}', "f", "a"),
        ("tool_call", "{}", "g", "b"),
    ]
    assert response.parts[2].data == CITATION
    assert (response.state, response.finish_reason) == ("complete", "TOOL_CALL")
    assert response.usage == USAGE
    assert response.metadata["provider"] == "cohere"


def test_a_whole_reply() -> None:
    message = {
        "role": "assistant",
        "content": [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "Hello"}],
        "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        ],
        "citations": [CITATION],
    }
    whole = {"id": "1", "finish_reason": "COMPLETE", "message": message, "usage": USAGE}
    request = {**REQUEST, "stream": False}
    (response,) = read(URL, request, json.dumps(whole).encode(), headers=JSON)
    assert parts(response) == [
        ("reasoning", "Hm."),
        ("text", "Hello"),
        ("tool_call", "{}", "f", "a"),
        ("source", ""),
    ]
    assert (response.state, response.finish_reason) == ("complete", "COMPLETE")


@pytest.mark.parametrize(
    ("delta", "message"),
    [
        ({"finish_reason": "ERROR", "error": "internal"}, "internal"),
        ({"finish_reason": "TIMEOUT"}, "the provider reported an error"),
    ],
)
def test_an_error_in_the_stream(delta: dict[str, Any], message: str) -> None:
    (response,) = read(URL, REQUEST, body(*STREAM[:7], end(**delta)))
    assert (response.state, response.error) == ("failed", message)
    assert response.text == "Hél"


def test_an_error_instead_of_a_stream() -> None:
    data = b'{"id":"1","message":"invalid api token"}'
    (response,) = read(URL, REQUEST, data, headers=JSON, status=401)
    assert (response.state, response.error) == ("failed", "invalid api token")


def test_a_cut_stream() -> None:
    (response,) = read(URL, REQUEST, body(*STREAM[:8]))
    assert (response.state, response.error) == ("failed", CUT_OFF)
