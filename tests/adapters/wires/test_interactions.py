"""Interactions from bytes: streams of steps, and whole ones."""

import json
from typing import Any

import pytest
from hypothesis import given

from tests.adapters.wires.reading import JSON, cuts, read, result_of
from tests.support.sse import body, parts
from tokenwire_adapters._agents.stainless.recorder import CUT_OFF

URL = "https://generativelanguage.googleapis.com/v1beta/interactions"
REQUEST: dict[str, Any] = {"model": "gemini-3-pro", "input": "Hi", "stream": True}
USAGE = {"total_input_tokens": 3, "total_output_tokens": 4, "total_tokens": 7}
CITATION = {"type": "url_citation", "url": "https://a.example", "title": "A"}


def event(kind: str, **fields: Any) -> dict[str, Any]:
    return {"event_type": kind, "event_id": "e", **fields}


def start(index: int, kind: str, **fields: Any) -> dict[str, Any]:
    return event("step.start", index=index, step={"type": kind, **fields})


def delta(index: int, kind: str, **fields: Any) -> dict[str, Any]:
    return event("step.delta", index=index, delta={"type": kind, **fields})


def stop(index: int) -> dict[str, Any]:
    return event("step.stop", index=index)


def completed(status: str = "completed", **fields: Any) -> dict[str, Any]:
    interaction = {"id": "i", "status": status, "usage": USAGE, **fields}
    return event("interaction.completed", interaction=interaction)


def summary(text: str) -> dict[str, Any]:
    return {"content": {"type": "text", "text": text}}


STREAM = [
    event("interaction.created", interaction={"id": "i", "status": "in_progress"}),
    start(0, "thought"),
    delta(0, "thought_summary", **summary("Hm")),
    delta(0, "thought_summary", **summary("m.")),
    delta(0, "thought_signature", signature="c2ln"),
    stop(0),
    start(1, "google_search_call", id="s1"),
    delta(1, "google_search_call", arguments={"queries": ["x"]}),
    stop(1),
    start(2, "google_search_result", call_id="s1"),
    delta(2, "google_search_result", result=[{"title": "A"}]),
    stop(2),
    start(3, "model_output", content=[{"type": "text", "text": "Hé"}]),
    delta(3, "text", text="llo"),
    delta(3, "text_annotation_delta", annotations=[CITATION]),
    stop(3),
    start(4, "function_call", id="f1", name="weather", arguments={}),
    delta(4, "arguments_delta", arguments='{"city"'),
    delta(4, "arguments_delta", arguments=':"X"}'),
    stop(4),
    start(5, "function_call", id="f2", name="now", arguments={"zone": "UTC"}),
    stop(5),
    event("interaction.status_update", interaction_id="i", status="requires_action"),
    completed("requires_action"),
]


@pytest.mark.parametrize("is_named", [True, False])
@given(sizes=cuts())
def test_a_stream(is_named: bool, sizes: list[int]) -> None:
    data = body(*STREAM, done=True)
    if is_named:
        data = data.replace(b"data: {", b": comment\nevent: x\nid: 1\ndata: {")
    (response,) = read(URL, REQUEST, data, sizes=sizes)
    assert parts(response) == [
        ("reasoning", "Hmm."),
        ("tool_call", '{"queries":["x"]}', "google_search", "s1"),
        ("text", "Héllo"),
        ("source", ""),
        ("tool_call", '{"city":"X"}', "weather", "f1"),
        ("tool_call", '{"zone":"UTC"}', "now", "f2"),
    ]
    assert result_of(response, "s1").output == [{"title": "A"}]
    assert (response.state, response.finish_reason) == ("complete", "requires_action")
    assert response.usage == USAGE


def test_a_whole_interaction() -> None:
    steps = [
        {"type": "thought", "summary": [{"type": "text", "text": "Hm."}], "signature": "x"},
        {"type": "function_call", "id": "f1", "name": "weather", "arguments": {"city": "X"}},
        {"type": "code_execution_call", "id": "c", "arguments": {"code": "1"}},
        {"type": "code_execution_result", "call_id": "c", "result": "no", "is_error": True},
        {
            "type": "model_output",
            "content": [
                {"type": "text", "text": "Hello", "annotations": [CITATION]},
                {"type": "image", "mime_type": "image/png", "data": "AAAA"},
            ],
        },
    ]
    whole = {"id": "i", "status": "completed", "steps": steps, "usage": USAGE}
    request = {**REQUEST, "stream": False}
    (response,) = read(URL, request, json.dumps(whole).encode(), headers=JSON)
    assert parts(response) == [
        ("reasoning", "Hm."),
        ("tool_call", '{"city":"X"}', "weather", "f1"),
        ("tool_call", '{"code":"1"}', "code_execution", "c"),
        ("text", "Hello"),
        ("source", ""),
        ("file", "", "image"),
    ]
    assert result_of(response, "c").error == "the tool failed"
    assert (response.state, response.finish_reason) == ("complete", "completed")


@pytest.mark.parametrize(
    "event",
    [
        event("error", error={"code": 500, "message": "internal"}),
        {"error": {"message": "internal"}},
        completed("failed", errors=[{"message": "internal"}]),
    ],
)
def test_an_error_in_the_stream(event: dict[str, Any]) -> None:
    (response,) = read(URL, REQUEST, body(*STREAM[:14], event))
    assert (response.state, response.error, response.text) == ("failed", "internal", "Héllo")


def test_a_cut_stream() -> None:
    (response,) = read(URL, REQUEST, body(*STREAM[:14]))
    assert (response.state, response.error) == ("failed", CUT_OFF)


def test_a_call_that_is_cut_keeps_its_arguments() -> None:
    (response,) = read(URL, REQUEST, body(*STREAM[:21]), end="close")
    assert response.state == "cancelled"
    assert response.tool_calls[-1].arguments == '{"zone":"UTC"}'
