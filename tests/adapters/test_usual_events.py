"""The short ways of a usual event write what the long way writes.

Of an SDK's event, past Pydantic's attributes; of one that was decoded from the wire.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.adapters.wires.reading import SSE, wire_of
from tests.support.needs import needs
from tests.support.sdk import fresh_sink, responses
from tests.support.sse import body
from tokenwire import Sink
from tokenwire.instrument import Options, Recorder

needs("openai", "anthropic")

from anthropic._models import construct_type as anthropic_type
from anthropic.types import RawMessageStreamEvent
from openai._models import construct_type as openai_type
from openai.types.chat import ChatCompletionChunk

from tokenwire_adapters._agents.anthropic.messages import MessagesRecorder
from tokenwire_adapters._agents.openai.chat import ChatRecorder
from tokenwire_adapters._agents.stainless.recorder import StainlessRecorder
from tokenwire_adapters._agents.wires.reply import ReplyReader

CALL = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def _chunk(delta: Any, index: Any = 0, finish: Any = None, **more: Any) -> Any:
    choice = {"index": index, "delta": delta, "finish_reason": finish}
    return {"id": "c", "object": "chat.completion.chunk", "choices": [choice], **more}


def _text(text: Any, index: Any = 0, kind: str = "text_delta", event: Any = None) -> Any:
    delta = {"type": kind, "text": text}
    return {"type": event or "content_block_delta", "index": index, "delta": delta}


CHUNKS = {
    "text": _chunk({"content": "more"}),
    "no text": _chunk({"content": ""}),
    "text of another type": _chunk({"content": 7}),
    "blocks": _chunk({"content": [{"type": "text", "text": "more"}]}),
    "reasoning beside it": _chunk({"content": "more", "reasoning_content": "why"}),
    "a tool call beside it": _chunk({"content": "more", "tool_calls": [CALL]}),
    "the name of a call": _chunk({"tool_calls": [{**CALL, "function": {"name": "f"}}]}),
    "the end beside it": _chunk({"content": "more"}, finish="stop"),
    "usage beside it": _chunk({"content": "more"}, usage={"completion_tokens": 7}),
    "sources beside it": _chunk({"content": "more"}, citations=["https://a.test"]),
    "another choice": _chunk({"content": "more"}, index=1),
    "two choices": _chunk({}, choices=2 * _chunk({"content": "more"})["choices"]),
    "no choice": _chunk({}, choices=[]),
    "True for 1": _chunk({"content": "more"}, index=True),
    "no index": _chunk({"content": "more"}, index=None),
}
EVENTS = {
    "text": _text("more"),
    "no text": _text(""),
    "text of another type": _text(7),
    "another block": _text("more", index=1),
    "no block": _text("more", index=None),
    "another delta": _text("more", kind="other_delta"),
    "another event": _text("more", event="other"),
    "thoughts": {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "thinking_delta", "thinking": "why"},
    },
    "a new block": {
        "type": "content_block_start",
        "index": 1,
        "content_block": {"type": "text", "text": "more"},
    },
}
BLOCK = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}


def _written(sink: Sink, recorder: Recorder, end: Callable[[], None]) -> list[Any]:
    """What was written once the stream ends, and what it said of usage and its reason before."""
    usage, reason = recorder.usage(), recorder.finish_reason(0)
    end()
    written = responses(sink, "c")
    return [[[(p.kind, p.text, p.name, p.data) for p in r.parts] for r in written], usage, reason]


def _read(kind: type[StainlessRecorder], events: list[Any], *, short: bool) -> list[Any]:
    """What was written of a stream: kinds and texts by response, and whether each has ended."""
    with fresh_sink() as sink:
        recorder = kind(Options(sink, "c"), {"n": 1})
        recorder.begin()
        for event in events:
            recorder.feed(event) if short else StainlessRecorder.feed(recorder, event)
        return _written(sink, recorder, recorder.end)


@pytest.mark.parametrize("name", CHUNKS)
def test_chunks_of_chat_completions(name: str) -> None:
    wire = [
        _chunk({"content": "a"}),
        _chunk({"content": "b"}, index=1),
        CHUNKS[name],
        _chunk({"content": "z"}),
    ]
    events = [
        openai_type(value=json.loads(json.dumps(event)), type_=ChatCompletionChunk)
        for event in wire
    ]
    assert _read(ChatRecorder, events, short=True) == _read(ChatRecorder, events, short=False)


@pytest.mark.parametrize("name", EVENTS)
def test_events_of_messages(name: str) -> None:
    wire = [BLOCK, _text("a"), EVENTS[name], _text("z")]
    events = [
        anthropic_type(value=json.loads(json.dumps(event)), type_=RawMessageStreamEvent)
        for event in wire
    ]
    assert _read(MessagesRecorder, events, short=True) == _read(
        MessagesRecorder, events, short=False
    )


def _read_bytes(path: str, wire: list[Any], *, short: bool, named: bool) -> list[Any]:
    """The same of the bytes of a reply; `short` is false for what no decoder took as usual."""
    request = {"model": "m", "messages": [], "stream": True, "n": 1, "max_tokens": 9}
    api, read_request = wire_of(path, request)
    with fresh_sink() as sink:
        recorder = api.recorder(Options(sink, "c"), read_request)
        reader = ReplyReader(api, recorder, 200, SSE)
        if not short:
            reader._usual = None
        for event in wire:
            reader.feed(body(event, named=named))
        return _written(sink, recorder, reader.end)


@pytest.mark.parametrize("name", CHUNKS)
def test_bytes_of_chat_completions(name: str) -> None:
    wire = [
        _chunk({"content": "a"}),
        _chunk({"content": "b"}, index=1),
        CHUNKS[name],
        _chunk({"content": "z"}),
    ]
    short, long = (
        _read_bytes("/v1/chat/completions", wire, short=short, named=False)
        for short in (True, False)
    )
    assert short == long
    assert "a" in short[0][0][0][1]


@pytest.mark.parametrize("name", EVENTS)
def test_bytes_of_messages(name: str) -> None:
    wire = [{"type": "message_start", "message": {}}, BLOCK, _text("a"), EVENTS[name], _text("z")]
    short, long = (
        _read_bytes("/v1/messages", wire, short=short, named=True) for short in (True, False)
    )
    assert short == long
    assert "a" in short[0][0][0][1]


NAME = b"event: content_block_delta"
TEXT = json.dumps(_text("more")).encode()
WHOLE = st.sampled_from(
    [
        [NAME, b"data: " + TEXT, b""],
        [NAME, b"data:" + TEXT, b""],
        [b"event: error", b"data: " + TEXT, b""],
        [NAME, b"data: " + TEXT, b": ping"],
        [NAME, b"data", b""],
    ]
)
ANY_LINES = st.lists(
    st.sampled_from(
        [
            NAME,
            b"event: error",
            b"data: " + TEXT,
            b"data:" + TEXT,
            b"data: {",
            b"data",
            b": ping",
            b"",
        ]
    ),
    max_size=4,
)
BLOCKS = st.lists(st.tuples(st.one_of(WHOLE, WHOLE, ANY_LINES), st.booleans()), max_size=4)


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/chat/completions"])
@given(blocks=BLOCKS, ending=st.sampled_from([b"\n", b"\r\n", b"\r"]), cut=st.integers(0, 150))
def test_pieces_of_whole_events(
    path: str, blocks: list[tuple[list[bytes], bool]], ending: bytes, cut: int
) -> None:
    """However many events, and whatever lines, come in one piece: as if byte by byte."""
    begin = body({"type": "message_start", "message": {}}, BLOCK, _text("a"), named=True)
    if path != "/v1/messages":
        begin = body(_chunk({"content": "a"}))
        text = b"data: " + json.dumps(_chunk({"content": "more"})).encode()
        usual = {NAME: b": ping", b"data: " + TEXT: text, b"data:" + TEXT: text}
        blocks = [([usual.get(line, line) for line in lines[1:]], same) for lines, same in blocks]
    pieces = [begin]
    for lines, with_the_last in blocks:
        block = b"".join(line + ending for line in lines)
        if with_the_last:
            pieces[-1] += block
        else:
            pieces.append(block)
    stream = b"".join(pieces)
    pieces.append(body(_text("z"), named=True) + stream[:cut])
    whole = b"".join(pieces)
    assert _read_pieces(path, pieces) == _read_pieces(
        path, [whole[i : i + 1] for i in range(len(whole))]
    )


def _read_pieces(path: str, pieces: list[bytes]) -> list[Any]:
    request = {"model": "m", "messages": [], "stream": True, "max_tokens": 9}
    api, read_request = wire_of(path, request)
    with fresh_sink() as sink:
        recorder = api.recorder(Options(sink, "c"), read_request)
        reader = ReplyReader(api, recorder, 200, SSE)
        for piece in pieces:
            reader.feed(piece)
        ended = [writer.state for writer in recorder.writers.values()]
        return [ended, _written(sink, recorder, reader.end)]
