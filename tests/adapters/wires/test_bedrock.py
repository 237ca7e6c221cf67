"""Bedrock's replies from bytes: event streams of Converse and InvokeModel, and whole ones."""

import json
from typing import Any

import pytest
from hypothesis import given

from tests.support.needs import needs

needs("botocore")

from botocore.eventstream import EventStreamBuffer

from tests.adapters.wires.frames import FRAMES, chunk, event, frame
from tests.adapters.wires.reading import JSON, cuts, read, result_of
from tests.support.recordings import named
from tests.support.sdk import check
from tests.support.sse import parts
from tokenwire_adapters._agents.stainless.recorder import CUT_OFF

MODEL = "https://bedrock-runtime.us-east-1.amazonaws.com/model/anthropic.claude-3%3A0/"
CONVERSE: dict[str, Any] = {"messages": [{"role": "user", "content": [{"text": "Hi"}]}]}
INVOKE: dict[str, Any] = {
    "anthropic_version": "bedrock-2023-05-31",
    "messages": [],
    "max_tokens": 9,
}
USAGE = {"inputTokens": 1, "outputTokens": 2, "totalTokens": 3}


def delta(index: int, **fields: Any) -> bytes:
    return event("contentBlockDelta", {"contentBlockIndex": index, "delta": fields, "p": "abc"})


def start(index: int, **fields: Any) -> bytes:
    return event("contentBlockStart", {"contentBlockIndex": index, "start": fields})


def stop(index: int) -> bytes:
    return event("contentBlockStop", {"contentBlockIndex": index})


CITATION = {"title": "A", "location": {"web": {"url": "https://a.example"}}}
STREAM = [
    event("messageStart", {"role": "assistant"}),
    delta(0, reasoningContent={"text": "Hm"}),
    delta(0, reasoningContent={"text": "m."}),
    delta(0, reasoningContent={"signature": "c2ln"}),
    stop(0),
    delta(1, text=""),
    delta(1, text="Hé"),
    delta(1, text="llo ☃"),
    delta(1, citation=CITATION),
    stop(1),
    start(2, toolUse={"toolUseId": "t1", "name": "weather"}),
    delta(2, toolUse={"input": '{"city"'}),
    delta(2, toolUse={"input": ': "X"}'}),
    stop(2),
    start(3, toolUse={"toolUseId": "t2", "name": "now", "type": "server_tool_use"}),
    stop(3),
    start(4, toolResult={"toolUseId": "t2", "type": "x"}),
    delta(4, toolResult=[{"json": {"hour": 9}}]),
    stop(4),
    event("messageStop", {"stopReason": "tool_use"}),
    event("metadata", {"usage": USAGE, "metrics": {"latencyMs": 1}}),
]


@given(sizes=cuts())
def test_a_converse_stream(sizes: list[int]) -> None:
    data = b"".join(STREAM)
    (response,) = read(MODEL + "converse-stream", CONVERSE, data, headers=FRAMES, sizes=sizes)
    assert parts(response) == [
        ("reasoning", "Hmm."),
        ("text", "Héllo ☃"),
        ("source", ""),
        ("tool_call", '{"city": "X"}', "weather", "t1"),
        ("tool_call", "{}", "now", "t2"),
    ]
    assert response.parts[2].data == {"url": "https://a.example", **CITATION}
    assert result_of(response, "t2").output == [{"json": {"hour": 9}}]
    assert (response.state, response.finish_reason) == ("complete", "tool_use")
    assert response.usage == USAGE
    assert response.metadata["model"] == "anthropic.claude-3:0"
    assert response.metadata["provider"] == "bedrock"


def test_frames_are_as_botocore_reads_them() -> None:
    buffer: Any = EventStreamBuffer()
    buffer.add_data(b"".join(STREAM))
    kinds = [message.headers[":event-type"] for message in buffer]
    assert kinds[0] == "messageStart"
    assert len(kinds) == len(STREAM)


def test_a_whole_reply() -> None:
    content = [
        {"reasoningContent": {"reasoningText": {"text": "Hmm.", "signature": "c2ln"}}},
        {"text": "Hello"},
        {"citationsContent": {"content": [{"text": "cited"}], "citations": [CITATION]}},
        {"toolUse": {"toolUseId": "t1", "name": "weather", "input": {"city": "X"}}},
        {"toolResult": {"toolUseId": "t2", "content": [{"text": "no"}], "status": "error"}},
    ]
    whole = {
        "output": {"message": {"role": "assistant", "content": content}},
        "stopReason": "end_turn",
        "usage": USAGE,
    }
    data = json.dumps(whole).encode()
    (response,) = read(MODEL + "converse", CONVERSE, data, headers=JSON, sizes=(11,))
    assert parts(response) == [
        ("reasoning", "Hmm."),
        ("text", "Hello"),
        ("text", "cited"),
        ("source", ""),
        ("tool_call", '{"city":"X"}', "weather", "t1"),
    ]
    assert result_of(response, "t2").error == "the tool failed"
    assert (response.finish_reason, response.usage) == ("end_turn", USAGE)


@pytest.mark.parametrize(
    "failing",
    [
        event("throttlingException", {"message": "Too many tokens."}, "exception"),
        event("modelStreamErrorException", {"originalMessage": "Too many tokens."}, "exception"),
        frame(
            {":message-type": "error", ":error-code": "E", ":error-message": "Too many tokens."},
            b"",
        ),
    ],
)
def test_an_exception_in_the_stream(failing: bytes) -> None:
    data = b"".join([*STREAM[:7], failing])
    (response,) = read(MODEL + "converse-stream", CONVERSE, data, headers=FRAMES)
    assert (response.state, response.error) == ("failed", "Too many tokens.")
    assert response.text == "Hé"


def test_an_error_instead_of_a_stream() -> None:
    data = b'{"message":"The security token is invalid."}'
    (response,) = read(MODEL + "converse-stream", CONVERSE, data, headers=JSON, status=403)
    assert (response.state, response.error) == ("failed", "The security token is invalid.")


@pytest.mark.parametrize("byte", [0, 5, 9, 14, 40, -1])
def test_a_damaged_frame(byte: int) -> None:
    damaged = bytearray(delta(1, text="lost"))
    damaged[byte] ^= 0x55
    data = b"".join([*STREAM[:7], bytes(damaged)])
    (response,) = read(MODEL + "converse-stream", CONVERSE, data, headers=FRAMES)
    assert (response.state, response.error) == ("failed", "a frame of the stream is damaged")
    assert response.text == "Hé"


def test_a_cut_stream() -> None:
    data = b"".join(STREAM[:8])[:-3]
    (response,) = read(MODEL + "converse-stream", CONVERSE, data, headers=FRAMES)
    assert (response.state, response.error, response.text) == ("failed", CUT_OFF, "Hé")


def test_what_is_unknown_is_passed_by() -> None:
    data = b"".join(
        [
            frame({":message-type": "event", ":event-type": "initial-response"}, b"{}"),
            event("somethingNew", {"a": 1}),
            delta(0, audio={"x": 1}),
            *STREAM[5:8],
            event("messageStop", {"stopReason": "end_turn"}),
        ]
    )
    (response,) = read(MODEL + "converse-stream", CONVERSE, data, headers=FRAMES)
    assert (response.state, response.text) == ("complete", "Héllo ☃")


@pytest.mark.parametrize(
    "name", ["anthropic-tool-use", "anthropic-thinking", "anthropic-citations"]
)
@given(sizes=cuts())
def test_messages_in_an_invoke_stream(name: str, sizes: list[int]) -> None:
    recording = named(name)
    lines = [line[6:] for line in recording.body.decode().splitlines() if line[:5] == "data:"]
    data = b"".join(chunk(json.loads(line)) for line in lines)
    url = MODEL + "invoke-with-response-stream"
    (response,) = read(url, INVOKE, data, headers=FRAMES, sizes=sizes)
    check(response, recording.expected)


def test_a_whole_invoke() -> None:
    whole = {
        "type": "message",
        "content": [{"type": "text", "text": "Hello"}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 1, "output_tokens": 2},
    }
    (response,) = read(MODEL + "invoke", INVOKE, json.dumps(whole).encode(), headers=JSON)
    assert (response.text, response.finish_reason) == ("Hello", "end_turn")
    assert response.metadata["model"] == "anthropic.claude-3:0"
