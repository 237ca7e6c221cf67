"""Ollama's replies from bytes: lines of JSON, and whole ones."""

import json
from typing import Any

import pytest
from hypothesis import given

from tests.adapters.wires.reading import JSON, cuts, read
from tests.support.sse import parts
from tokenwire_adapters._agents.stainless.recorder import CUT_OFF

CHAT = "http://127.0.0.1:11434/api/chat"
GENERATE = "http://127.0.0.1:11434/api/generate"
NDJSON = {"content-type": "application/x-ndjson"}
REQUEST: dict[str, Any] = {"model": "llama", "messages": []}
END = {"done": True, "done_reason": "stop", "prompt_eval_count": 3, "eval_count": 4}


def lines(*values: dict[str, Any]) -> bytes:
    return "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values).encode()


def said(**message: Any) -> dict[str, Any]:
    return {"model": "llama", "message": {"role": "assistant", **message}, "done": False}


CALL = {"function": {"name": "weather", "arguments": {"city": "X"}}}
STREAM = [
    said(content="", thinking="Hm"),
    said(content="", thinking="m."),
    said(content="Hé\u2028"),
    said(content="llo {}\n"),
    said(content="", tool_calls=[CALL, {"id": "k", **CALL}]),
    {**said(content=""), **END},
]


@pytest.mark.parametrize("headers", [NDJSON, JSON, {}])
@given(sizes=cuts())
def test_a_chat(headers: dict[str, str], sizes: list[int]) -> None:
    (response,) = read(CHAT, REQUEST, lines(*STREAM), headers=headers, sizes=sizes)
    assert parts(response) == [
        ("reasoning", "Hmm."),
        ("text", "Hé\u2028llo {}\n"),
        ("tool_call", '{"city":"X"}', "weather"),
        ("tool_call", '{"city":"X"}', "weather", "k"),
    ]
    assert (response.state, response.finish_reason) == ("complete", "stop")
    assert response.usage == {"prompt_eval_count": 3, "eval_count": 4}
    assert response.metadata["provider"] == "ollama"


@given(sizes=cuts())
def test_generating(sizes: list[int]) -> None:
    stream = [
        {"response": "", "thinking": "Hm."},
        {"response": "Hello "},
        {"response": "you"},
        {"response": "", "context": [1, 2], **END},
    ]
    (response,) = read(GENERATE, {"model": "m"}, lines(*stream), headers=NDJSON, sizes=sizes)
    assert parts(response) == [("reasoning", "Hm."), ("text", "Hello you")]
    assert response.finish_reason == "stop"


@pytest.mark.parametrize("indent", [None, 2])
def test_a_whole_reply(indent: int | None) -> None:
    whole = {**said(content="Hello", thinking="Hm."), **END}
    data = json.dumps(whole, indent=indent).encode()
    headers = JSON
    (response,) = read(CHAT, {**REQUEST, "stream": False}, data, headers=headers, sizes=(9,))
    assert parts(response) == [("reasoning", "Hm."), ("text", "Hello")]
    assert (response.state, response.finish_reason) == ("complete", "stop")


def test_an_error_in_the_stream() -> None:
    data = lines(STREAM[2], {"error": "model runner has stopped"})
    (response,) = read(CHAT, REQUEST, data, headers=NDJSON)
    assert (response.state, response.error) == ("failed", "model runner has stopped")


def test_an_error_instead_of_a_stream() -> None:
    data = b'{"error":"model \'m\' not found"}'
    (response,) = read(CHAT, REQUEST, data, headers=NDJSON, status=404)
    assert (response.state, response.error) == ("failed", "model 'm' not found")


def test_a_cut_stream() -> None:
    data = lines(*STREAM[:4])[:-5]
    (response,) = read(CHAT, REQUEST, data, headers=NDJSON)
    assert response.state == "failed"
    assert response.text == "Hé\u2028"


def test_a_stream_without_its_end() -> None:
    (response,) = read(CHAT, REQUEST, lines(*STREAM[:4]), headers=NDJSON)
    assert (response.state, response.error) == ("failed", CUT_OFF)
