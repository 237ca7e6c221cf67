"""Chat Completions of other servers: recognised by what they send, not by who they are."""

from typing import Any

import pytest

from tests.adapters.wires.reading import read
from tests.support.sse import body, parts

URL = "https://api.mistral.ai/v1/chat/completions"
REQUEST: dict[str, Any] = {"model": "m", "messages": [], "stream": True}


def chunk(finish: str | None = None, /, *, top: Any = None, **delta: Any) -> dict[str, Any]:
    choice: dict[str, Any] = {"index": 0, "delta": delta}
    if finish is not None:
        choice["finish_reason"] = finish
    return {"id": "1", "object": "chat.completion.chunk", "choices": [choice], **(top or {})}


def thinking(text: str) -> dict[str, Any]:
    return {"type": "thinking", "thinking": [{"type": "text", "text": text}], "closed": True}


CALL = {"id": "k", "function": {"name": "f", "arguments": {"a": 1}}, "index": 0}


def test_mistral() -> None:
    data = body(
        chunk(role="assistant", content=""),
        chunk(content=[thinking("Hm")]),
        chunk(content=[thinking("m."), {"type": "reference", "reference_ids": [1]}]),
        chunk(content=[{"type": "text", "text": "Hel"}]),
        chunk(content="lo"),
        chunk("tool_calls", tool_calls=[CALL], content="", top={"usage": {"total_tokens": 3}}),
        done=True,
    )
    (response,) = read(URL, REQUEST, data)
    assert parts(response) == [
        ("reasoning", "Hmm."),
        ("text", "Hello"),
        ("tool_call", '{"a":1}', "f", "k"),
    ]
    assert (response.state, response.finish_reason) == ("complete", "tool_calls")
    assert response.usage == {"total_tokens": 3}
    assert response.metadata["provider"] == "mistral"


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
def test_reasoning(field: str) -> None:
    data = body(
        chunk(role="assistant", **{field: "Hm"}),
        chunk(**{field: "m."}, content=None),
        chunk(content="Hello"),
        chunk("stop"),
        done=True,
    )
    (response,) = read(URL, REQUEST, data)
    assert parts(response) == [("reasoning", "Hmm."), ("text", "Hello")]


def test_an_error_event_after_text() -> None:
    error = {"error": {"message": "Failed to call a function.", "code": "tool_use_failed"}}
    failed = b"event: error\n" + body(error)
    (response,) = read(URL, REQUEST, body(chunk(content="Hello")) + failed)
    assert (response.state, response.error) == ("failed", "Failed to call a function.")
    assert response.text == "Hello"


def test_usage_in_a_chunk_of_its_own() -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 2}
    data = body(
        chunk(content="Hello", top={"usage": None}),
        chunk("stop", top={"usage": None}),
        {"choices": [], "usage": usage},
    )
    (response,) = read(URL, REQUEST, data)
    assert (response.state, response.usage) == ("complete", usage)
