"""Any field of a block of LangChain's messages may be of any type: it costs that block alone."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessageChunk

from tests.support.fuzz import EXAMPLES, VALUES, Json, Place, changed, places, values
from tests.support.sdk import fresh_sink
from tokenwire_adapters._agents.calls import Parts
from tokenwire_adapters._agents.langchain import content

BLOCKS: list[Json] = [
    {"type": "text", "text": "T", "index": 0, "citations": [{"url": "u"}], "annotations": [{}]},
    {"type": "thinking", "thinking": "Hm", "index": 0},
    {"type": "reasoning", "summary": [{"text": "Hm", "index": 0}], "content": [{"text": "Hm"}]},
    {"type": "reasoning_content", "reasoning_content": {"text": "Hm"}, "index": "a"},
    {"type": "refusal", "refusal": "No", "index": 1},
    {"type": "server_tool_use", "id": "s", "name": "search", "input": {"q": 1}, "index": 2},
    {"type": "input_json_delta", "partial_json": "{}", "index": 2},
    {"type": "server_tool_call_chunk", "id": "s", "name": "f", "args": "{}", "index": 3},
    {"type": "web_search_tool_result", "tool_use_id": "s", "content": [{"url": "u"}]},
    {"type": "web_search_call", "id": "w", "status": "completed", "action": {"query": "q"}},
    {"type": "shell_call", "call_id": "k", "action": {"commands": ["ls"]}},
    {"type": "mcp_call", "id": "m", "name": "ask", "arguments": "{}", "output": "x", "error": None},
    {"type": "code_interpreter_call", "id": "c", "code": "1+1", "outputs": [{"logs": "2"}]},
    {"type": "image_generation_call", "id": "i", "result": "iVBO"},
    {"type": "image", "url": "u"},
]

EVENTS: list[Json] = [
    {"event": "content-block-start", "index": 0,
     "content": {"type": "tool_call_chunk", "id": "k", "name": "f"}},
    {"event": "content-block-delta", "index": 0,
     "delta": {"type": "tool-call-delta", "args": "{}"}},
    {"event": "content-block-delta", "index": 1, "delta": {"type": "text-delta", "text": "T"}},
    {"event": "content-block-delta", "index": 2,
     "delta": {"type": "reasoning-delta", "reasoning": "Hm"}},
    {"event": "content-block-finish", "index": 0,
     "content": {"type": "tool_call", "id": "k", "name": "f", "args": {"a": 1}}},
    {"event": "content-block-finish", "index": 1,
     "content": {"type": "text", "text": "T", "annotations": [{"url": "u"}]}},
    {"event": "content-block-finish", "index": 3,
     "content": {"type": "server_tool_result", "tool_call_id": "k", "output": "x"}},
]  # fmt: skip

EXTRA: list[Json] = [
    {"reasoning_content": "Hm", "refusal": "No"},
    {"reasoning": {"summary": [{"text": "Hm"}]}},
    {"tool_calls": [{"id": "k", "function": {"name": "f", "arguments": "{}"}}]},
]


def _check(kind: str, template: Json, place: Place, value: Json) -> None:
    odd = changed(template, place, value)
    with fresh_sink() as sink:  # strict: what fails on our side raises
        with sink.respond("c") as writer:
            parts = Parts(writer)
            content.write_chunk(parts, AIMessageChunk(content="<1>"))
            if kind == "event":
                content.write_event(parts, odd if isinstance(odd, dict) else {})
            else:
                chunk: Any = AIMessageChunk(content="")
                if kind == "block":  # as an integration makes it: nothing is validated
                    chunk.content = [odd]
                elif isinstance(odd, dict):
                    chunk.additional_kwargs = odd
                content.write_chunk(parts, chunk)
            content.write_chunk(parts, AIMessageChunk(content=[{"type": "text", "text": "<2>"}]))
        (response,) = sink.history("c").items
    assert response.text.startswith("<1>")
    assert response.text.endswith("<2>")
    # What the change puts in may be text or something else; ours is there once.
    assert 2 <= response.text.count("<") <= 2 + str(odd).count("<")


TEMPLATES = [
    *(("block", block) for block in BLOCKS),
    *(("event", event) for event in EVENTS),
    *(("extra", extra) for extra in EXTRA),
]


@st.composite
def changes(draw: st.DrawFn) -> tuple[str, Json, Place, Json]:
    """A kind of template, one of that kind, a place in it, and what to put there."""
    kind, template = draw(st.sampled_from(TEMPLATES))
    place = draw(st.sampled_from(list(places(template))))
    return kind, template, place, draw(values)


@pytest.mark.timeout(3600)  # 20,000 streams, under `tox -e everything`
@settings(max_examples=EXAMPLES)
@given(changes())
def test_any_field_may_be_of_any_type(change: tuple[str, Json, Place, Json]) -> None:
    _check(*change)


def test_every_field_once() -> None:
    for kind, template in TEMPLATES:
        for place in places(template):
            for value in VALUES:
                _check(kind, template, place, value)
