"""Gemini's replies from bytes: streams as events and as an array, and whole ones."""

import json
from typing import Any

import pytest
from hypothesis import given

from tests.adapters.wires.reading import JSON, cuts, read, result_of
from tests.support.sse import body, parts
from tokenwire import Response
from tokenwire_adapters._agents.stainless.recorder import CUT_OFF

STREAM = (
    "https://generativelanguage.googleapis.com/v1beta/models/gemini-3-pro:streamGenerateContent"
)
WHOLE = STREAM.replace("streamGenerateContent", "generateContent")
REQUEST: dict[str, Any] = {"contents": [{"parts": [{"text": "Hi"}]}]}
WEB = {"uri": "https://a.example", "title": "A"}
USAGE = {"promptTokenCount": 5, "candidatesTokenCount": 7, "totalTokenCount": 12}


def chunk(*content: dict[str, Any], reason: str | None = None, **more: Any) -> dict[str, Any]:
    """A chunk with one candidate."""
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": list(content)}, "index": 0}
    if reason is not None:
        candidate["finishReason"] = reason
    candidate |= more
    return {"candidates": [candidate], "usageMetadata": USAGE, "modelVersion": "gemini-3-pro"}


CHUNKS = [
    chunk({"text": "Let me ", "thought": True}),
    chunk({"text": "think.", "thought": True}),
    chunk({"text": "Hé"}, groundingMetadata={}),
    chunk({"text": "llo ☃"}, {"text": ' \\"}]', "thoughtSignature": "c2ln"}),
    chunk({"functionCall": {"name": "weather", "args": {"city": "Zürich"}, "id": "call-1"}}),
    chunk({"functionCall": {"name": "now"}, "thoughtSignature": "c2ln"}),
    chunk(
        {"text": ""},
        reason="STOP",
        groundingMetadata={
            "groundingChunks": [{"web": {"uri": "https://a.example", "title": "A"}}]
        },
    ),
]


def _check(response: Response) -> None:
    assert parts(response) == [
        ("reasoning", "Let me think."),
        ("text", 'Héllo ☃ \\"}]'),
        ("tool_call", '{"city":"Zürich"}', "weather", "call-1"),
        ("tool_call", "{}", "now"),
        ("source", ""),
    ]
    assert response.parts[-1].data == {
        "type": "web",
        "url": "https://a.example",
        **WEB,
    }
    assert (response.state, response.finish_reason) == ("complete", "STOP")
    assert response.usage == USAGE
    assert response.metadata["model"] == "gemini-3-pro"
    assert response.metadata["provider"] == "google"


@given(sizes=cuts())
def test_a_stream_of_events(sizes: list[int]) -> None:
    data = body(*CHUNKS).replace(b"\n", b"\r\n")
    (response,) = read(STREAM + "?alt=sse", REQUEST, data, sizes=sizes)
    _check(response)


@given(sizes=cuts())
def test_a_stream_as_an_array(sizes: list[int]) -> None:
    data = ("[" + ",\r\n".join(json.dumps(item, indent=1) for item in CHUNKS) + "\n]").encode()
    (response,) = read(STREAM, REQUEST, data, headers=JSON, sizes=sizes)
    _check(response)


def test_a_whole_reply() -> None:
    content = [part for item in CHUNKS for part in item["candidates"][0]["content"]["parts"]]
    grounding = CHUNKS[-1]["candidates"][0]["groundingMetadata"]
    whole = chunk(*content, reason="STOP", groundingMetadata=grounding)
    data = json.dumps(whole, indent=2).encode()
    (response,) = read(WHOLE, REQUEST, data, headers=JSON, sizes=(7,))
    _check(response)


@pytest.mark.parametrize("path", ["projects/p/locations/l/publishers/google/models/M", "models/M"])
def test_the_model_is_in_the_path(path: str) -> None:
    data = body(chunk({"text": "x"}, reason="STOP"))
    (response,) = read(f"/v1/{path}:streamGenerateContent?alt=sse", REQUEST, data)
    assert response.metadata["model"] == "M"


def test_candidates_are_responses() -> None:
    one = {"index": 1, "content": {"parts": [{"text": "one"}]}, "finishReason": "MAX_TOKENS"}
    zero = {"content": {"parts": [{"text": "zero"}]}, "finishReason": "STOP"}
    responses = read(STREAM, REQUEST, body({"candidates": [one]}, {"candidates": [zero]}))
    assert sorted((response.text, response.finish_reason) for response in responses) == [
        ("one", "MAX_TOKENS"),
        ("zero", "STOP"),
    ]


def test_a_blocked_prompt() -> None:
    feedback = {"blockReason": "PROHIBITED_CONTENT", "blockReasonMessage": "No."}
    (response,) = read(STREAM, REQUEST, body({"promptFeedback": feedback}))
    assert (response.state, response.finish_reason) == ("complete", "PROHIBITED_CONTENT")
    assert response.refusal == "No."


def test_arguments_that_come_by_path() -> None:
    def piece(*partial: dict[str, Any], goes_on: bool = True, **more: Any) -> dict[str, Any]:
        call = {"partialArgs": list(partial), **({"willContinue": True} if goes_on else {}), **more}
        return chunk({"functionCall": call})

    data = body(
        chunk({"functionCall": {"name": "book", "id": "k", "willContinue": True}}),
        piece({"jsonPath": "$.to.city", "stringValue": "New ", "willContinue": True}),
        piece({"jsonPath": "$.to.city", "stringValue": "York"}),
        piece({"jsonPath": "$.days[1]", "numberValue": 2}, {"jsonPath": "$['a b']"}),
        piece({"jsonPath": "$['a b']", "boolValue": False}, {"jsonPath": "$.x", "nullValue": None}),
        piece(
            {"jsonPath": "$.days[99999999]", "numberValue": 2}, {"jsonPath": "no", "boolValue": 1}
        ),
        chunk({"functionCall": {}}),
        chunk({"text": "done"}, reason="STOP"),
    )
    (response,) = read(STREAM, REQUEST, data)
    (call,) = response.tool_calls
    assert json.loads(call.arguments) == {
        "to": {"city": "New York"},
        "days": [None, 2],
        "a b": False,
        "x": None,
    }
    assert (call.name, call.call_id, response.text) == ("book", "k", "done")


def test_what_the_provider_runs() -> None:
    data = body(
        chunk({"executableCode": {"language": "PYTHON", "code": "1+1"}}),
        chunk({"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "2"}}),
        chunk({"toolCall": {"id": "t", "toolType": "GOOGLE_SEARCH", "args": {"q": "x"}}}),
        chunk({"toolResponse": {"id": "t", "toolType": "GOOGLE_SEARCH", "response": {"n": 1}}}),
        chunk({"inlineData": {"mimeType": "image/png", "data": "AAAA"}}),
        chunk({"text": "2"}, reason="STOP"),
    )
    (response,) = read(STREAM, REQUEST, data)
    assert parts(response) == [
        ("tool_call", "1+1", "code_execution", "code_execution-1"),
        ("tool_call", '{"q":"x"}', "GOOGLE_SEARCH", "t"),
        ("file", "", "inline_data"),
        ("text", "2"),
    ]
    assert response.parts[2].data == {"media_type": "image/png", "base64": "AAAA"}
    assert result_of(response, "code_execution-1").output == "2"
    assert result_of(response, "t").output == {"n": 1}


@pytest.mark.parametrize("status", [200, 503])
def test_an_error(status: int) -> None:
    error = {"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}
    data = body(CHUNKS[2], error) if status == 200 else json.dumps([error]).encode()
    (response,) = read(STREAM, REQUEST, data, status=status)
    assert (response.state, response.error) == ("failed", "The model is overloaded.")


@pytest.mark.parametrize("end", ["end", "close", "fail"])
def test_a_cut_stream(end: str) -> None:
    (response,) = read(STREAM, REQUEST, body(*CHUNKS[:4]), end=end)
    assert response.text.startswith("Héllo")
    assert (response.state, response.error) == {
        "end": ("failed", CUT_OFF),
        "close": ("cancelled", "its consumer stopped reading"),
        "fail": ("failed", "ConnectionError: the connection broke"),
    }[end]
