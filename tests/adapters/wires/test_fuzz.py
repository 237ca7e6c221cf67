"""Any field of any message of a wire may be of any type: it costs that message, and no more."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.needs import needs

needs("botocore")

from tests.adapters.wires import (
    test_bedrock,
    test_cohere,
    test_gemini,
    test_interactions,
    test_sessions,
)
from tests.adapters.wires import test_ollama as ollama
from tests.adapters.wires.frames import FRAMES, event
from tests.adapters.wires.reading import SSE, read
from tests.support.fuzz import EXAMPLES, VALUES, Json, Place, changed, places, values
from tests.support.profile import EVERYTHING
from tokenwire_adapters._agents.values import dict_of


def _frames(messages: list[Json]) -> bytes:
    """Messages as Bedrock sends them; one that has no type is sent as one of an unknown type."""
    objects = map(dict_of, messages)
    return b"".join(event(name, value) for fields in objects for name, value in fields.items())


def _events(messages: list[Json]) -> bytes:
    return "".join(f"data: {json.dumps(message)}\n\n" for message in messages).encode()


def _lines(messages: list[Json]) -> bytes:
    return "".join(json.dumps(message) + "\n" for message in messages).encode()


def _array(messages: list[Json]) -> bytes:
    return json.dumps(messages).encode()


@dataclass(frozen=True)
class Stream:
    """One wire: a stream that uses its messages."""

    name: str
    url: str
    messages: list[Json]
    write: Callable[[list[Json]], bytes] = _events
    content_type: str = SSE["content-type"]
    method: str = "POST"

    def __repr__(self) -> str:
        return self.name

    def check(self, number: int, place: Place, value: Json) -> None:
        """Read the stream with another value at a place."""
        messages = copy.deepcopy(self.messages)
        messages[number] = changed(messages[number], place, value)
        headers = {"content-type": self.content_type}
        data = self.write(messages)
        responses = read(self.url, None, data, headers=headers, method=self.method)
        assert all(response.ended for response in responses)
        assert not any("lost track" in (response.error or "") for response in responses)
        tokens = re.findall("<[0-9]>", json.dumps([*messages[:number], *messages[number + 1 :]]))
        if not any(response.error for response in responses):  # else that may have ended it
            written = "".join(response.text for response in responses)
            assert set(tokens) <= set(re.findall("<[0-9]>", written))


def _converse() -> list[Json]:
    def delta(index: int, **fields: Json) -> Json:
        return {"contentBlockDelta": {"contentBlockIndex": index, "delta": fields}}

    def start(index: int, **fields: Json) -> Json:
        return {"contentBlockStart": {"contentBlockIndex": index, "start": fields}}

    return [
        {"messageStart": {"role": "assistant"}},
        delta(0, reasoningContent={"text": "H"}),
        delta(1, text="<1>"),
        delta(1, citation=test_bedrock.CITATION),
        delta(1, text="<2>"),
        start(2, toolUse={"toolUseId": "t"}),
        delta(2, toolUse={"input": "{}"}),
        {"contentBlockStop": {"contentBlockIndex": 2}},
        start(3, toolResult={"toolUseId": "t"}),
        delta(3, toolResult=[{"text": "x"}]),
        {"messageStop": {"stopReason": "end_turn"}},
        {"metadata": {"usage": test_bedrock.USAGE}},
    ]


def _gemini() -> list[Json]:
    chunk = test_gemini.chunk
    return [
        *test_gemini.CHUNKS[:2],
        chunk({"text": "<1>"}),
        *test_gemini.CHUNKS[4:6],
        chunk({"executableCode": {"code": "1"}}, {"codeExecutionResult": {"outcome": "X"}}),
        chunk({"toolCall": {"id": "t"}}, {"toolResponse": {"id": "t"}}),
        chunk({"inlineData": {"mimeType": "image/png"}}, {"fileData": {"fileUri": "u"}}),
        chunk({"functionCall": {"name": "f", "willContinue": True}}),
        chunk({"functionCall": {"partialArgs": [{"jsonPath": "$.a[0].b", "stringValue": "x"}]}}),
        chunk({"text": "<2>"}, urlContextMetadata={"urlMetadata": [{"retrievedUrl": "u"}]}),
        test_gemini.CHUNKS[-1],
    ]


def _interactions() -> list[Json]:
    stream = test_interactions.STREAM
    delta = test_interactions.delta
    said = [delta(3, "text", text=f"<{n}>") for n in (1, 2)]
    return [*stream[:13], said[0], *stream[14:-2], said[1], *stream[-2:]]


def _cohere() -> list[Json]:
    stream = test_cohere.STREAM
    said = [test_cohere.event("content-delta", 1, content={"text": f"<{n}>"}) for n in (1, 2)]
    return [*stream[:6], said[0], *stream[8:-1], said[1], stream[-1]]


def _chat() -> list[Json]:
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}], "closed": True}
    deltas: list[Json] = [
        {"role": "assistant", "content": ""},
        {"content": [thinking, {"type": "reference", "reference_ids": [1]}]},
        {"content": [{"type": "text", "text": "<1>"}]},
        {"content": "", "reasoning": "Hm.", "channel": "analysis"},
        {"tool_calls": [{"id": "k", "function": {"name": "f", "arguments": {"a": 1}}}]},
        {"content": "<2>"},
    ]
    chunks: list[Json] = [
        {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta}]}
        for delta in deltas
    ]
    last: Json = {"index": 0, "delta": {}, "finish_reason": "stop"}
    return [*chunks, {"choices": [last], "usage": {"x": 1}}]


def _ollama() -> list[Json]:
    said = ollama.said
    return [
        said(content="<1>", thinking="H"),
        *ollama.STREAM[4:5],
        said(content="<2>"),
        ollama.STREAM[-1],
    ]


def _agent_session() -> list[Json]:
    stream, said = test_sessions.TURN, test_sessions.said
    return [*stream[:5], said("<1>"), *stream[7:9], said("<2>"), *stream[9:]]


def _managed_session() -> list[Json]:
    message, event = test_sessions.message, test_sessions.event
    return [
        test_sessions.piece("<1>"),
        message("<1>"),
        event("agent.tool_use", name="f", input={}) | {"id": "t1"},
        event("agent.tool_result", tool_use_id="t1", **test_sessions.RESULT),
        test_sessions.REQUEST_END,
        event("session.error", error={"message": "x", "retry_status": {"type": "retrying"}}),
        message("<2>", message_id="m2"),
        test_sessions.idle(),
    ]


STREAMS = [
    Stream("chat", "/v1/chat/completions", _chat()),
    Stream("gemini", "/M:streamGenerateContent", _gemini()),
    Stream("gemini-array", "/M:streamGenerateContent", _gemini(), _array, "application/json"),
    Stream("interactions", "/interactions", _interactions()),
    Stream("cohere", "/v2/chat", _cohere()),
    Stream("ollama", "/api/chat", _ollama(), _lines, "application/x-ndjson"),
    Stream("agent-session", test_sessions.AGENTS, _agent_session(), method="GET"),
    Stream("managed-session", test_sessions.SESSIONS, _managed_session(), method="GET"),
    Stream("converse", "/model/M/converse-stream", _converse(), _frames, FRAMES["content-type"]),
]


@st.composite
def changes(draw: st.DrawFn) -> tuple[Stream, int, Place, Any]:
    """A stream, a message of it, a place in that, and what to put there."""
    stream = draw(st.sampled_from(STREAMS))
    number = draw(st.integers(0, len(stream.messages) - 1))
    place = draw(st.sampled_from(list(places(stream.messages[number]))))
    return stream, number, place, draw(values)


@pytest.mark.timeout(3600)  # 20,000 streams, under `tox -e everything`
@settings(max_examples=EXAMPLES)
@given(changes())
def test_any_field_may_be_of_any_type(change: tuple[Stream, int, Place, Any]) -> None:
    stream, number, place, value = change
    stream.check(number, place, value)


@pytest.mark.parametrize("stream", STREAMS, ids=repr)
def test_every_field_once(stream: Stream) -> None:
    messages = enumerate(stream.messages)
    every = [(number, place) for number, message in messages for place in places(message)]
    for count, (number, place) in enumerate(every):
        for value in VALUES if EVERYTHING else [VALUES[count % len(VALUES)]]:
            stream.check(number, place, value)
