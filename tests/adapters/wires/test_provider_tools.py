"""Who runs a tool is read from every API: the provider, or somebody else."""

import json
from typing import Any

import pytest

from tests.adapters.wires.frames import event as frame_of
from tests.adapters.wires.reading import JSON, SSE, read, wire_of
from tests.support.sdk import fresh_sink, responses
from tests.support.sse import body
from tokenwire import Response
from tokenwire.instrument import Options
from tokenwire_adapters._agents.values import MAX_FILE
from tokenwire_adapters._agents.wires.reply import ReplyReader

GOOGLE = "https://generativelanguage.googleapis.com/v1beta"
CONVERSE = "https://bedrock-runtime.us-east-1.amazonaws.com/model/m/"
AMAZON = {"content-type": "application/vnd.amazon.eventstream"}


def calls(response: Response) -> list[tuple[str | None, bool, bool]]:
    """Of each call: the tool's name, whether the provider runs it, whether it is answered."""
    answered = {result.call_id for result in response.tool_results}
    return [
        (call.name, call.provider_executed, call.call_id in answered)
        for call in response.tool_calls
    ]


def item(kind: str, **fields: Any) -> list[dict[str, Any]]:
    """An item of a Responses stream: it begins, and comes whole."""
    begun = {"id": f"{kind}-1", "type": kind, "status": "in_progress"}
    if "name" in fields:
        begun["name"] = fields["name"]
    whole = {**begun, "status": "completed", **fields}
    return [
        {"type": "response.output_item.added", "output_index": 0, "item": begun},
        {"type": "response.output_item.done", "output_index": 0, "item": whole},
    ]


@pytest.mark.parametrize(
    ("kind", "fields", "expected"),
    [
        ("web_search_call", {"action": {"type": "search"}}, ("web_search", True, True)),
        ("file_search_call", {"queries": ["q"]}, ("file_search", True, True)),
        ("image_generation_call", {"result": "iVBO"}, ("image_generation", True, True)),
        ("code_interpreter_call", {"code": "1", "outputs": None}, ("code_interpreter", True, True)),
        ("mcp_call", {"name": "ask", "arguments": "{}", "output": "x"}, ("ask", True, True)),
        ("shell_call", {"call_id": "k", "action": {}, "environment": {"type": "local"}},
         ("shell", False, False)),
        ("shell_call", {"call_id": "k", "action": {}, "environment": {"type": "container_auto"}},
         ("shell", True, False)),
        ("tool_search_call", {"call_id": "k", "execution": "server"}, ("tool_search", True, False)),
        ("tool_search_call", {"call_id": "k", "execution": "client"},
         ("tool_search", False, False)),
        ("function_call", {"call_id": "k", "name": "f", "arguments": "{}"}, ("f", False, False)),
        ("custom_tool_call", {"call_id": "k", "name": "f", "input": "x"}, ("f", False, False)),
    ],
)  # fmt: skip
def test_responses(kind: str, fields: dict[str, Any], expected: tuple[Any, ...]) -> None:
    events = [*item(kind, **fields), {"type": "response.completed", "response": {"output": []}}]
    (streamed,) = read("/v1/responses", {"model": "m", "input": "x", "stream": True}, body(*events))
    assert calls(streamed) == [expected]
    reply = {"object": "response", "status": "completed", "output": [events[1]["item"]]}
    request = {"model": "m", "input": "x"}
    (whole,) = read("/v1/responses", request, json.dumps(reply).encode(), headers=JSON)
    assert calls(whole) == [expected]


@pytest.mark.parametrize("format_", ["png", "jpeg", None])
def test_a_generated_image_is_a_file(format_: str | None) -> None:
    more = {"output_format": format_} if format_ else {}
    events = item("image_generation_call", result="iVBORw0KGgo=", revised_prompt="a cat", **more)
    request = {"model": "m", "input": "x", "stream": True}
    (response,) = read("/v1/responses", request, body(*events))
    (image,) = [part for part in response.parts if part.kind == "file"]
    assert image.data["base64"] == "iVBORw0KGgo="
    assert image.data["media_type"] == f"image/{format_ or 'png'}"
    (result,) = response.tool_results
    assert result.output == {"status": "completed", "revised_prompt": "a cat", **more}
    too_large = item("image_generation_call", result="A" * (MAX_FILE + 1))
    (response,) = read("/v1/responses", request, body(*too_large))
    (image,) = [part for part in response.parts if part.kind == "file"]
    assert "base64" not in image.data


def test_a_hosted_tool_begins_with_its_item() -> None:
    """A page shows that the web is being searched while that goes on."""
    begun = item("web_search_call")[0]
    (response,) = read("/v1/responses", {"model": "m", "input": "x", "stream": True}, body(begun))
    assert calls(response) == [("web_search", True, False)]


SEARCH = {"type": "server_tool_use", "id": "c", "name": "web_search", "input": {}}
FOUND = {"type": "web_search_tool_result", "tool_use_id": "c", "content": []}


@pytest.mark.parametrize(
    ("path", "request_", "data", "tool"),
    [
        (
            "/v1/responses",
            {"model": "m", "input": "x", "stream": True},
            body(*item("mcp_call", name="ask", arguments="{}", output="x")),
            "ask",
        ),
        (
            "/v1/messages",
            {"model": "claude", "messages": [], "max_tokens": 9, "stream": True},
            body(
                {"type": "message_start", "message": {}},
                {"type": "content_block_start", "index": 0, "content_block": SEARCH},
                {"type": "content_block_stop", "index": 0},
                {"type": "content_block_start", "index": 1, "content_block": FOUND},
                {"type": "content_block_stop", "index": 1},
                named=True,
            ),
            "web_search",
        ),
    ],
    ids=["responses", "messages"],
)
def test_a_result_is_there_while_the_reply_goes_on(
    path: str, request_: dict[str, Any], data: bytes, tool: str
) -> None:
    wire, read_request = wire_of(path, request_)
    with fresh_sink() as sink:
        reader = ReplyReader(wire, wire.recorder(Options(sink, "c"), read_request), 200, SSE)
        reader.feed(data)
        assert sink.flush(60)
        (response,) = responses(sink, "c")
        assert response.state == "streaming"
        assert calls(response) == [(tool, True, True)]
        reader.close()


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("server_tool_use", True), ("mcp_tool_use", True), ("tool_use", False)],
)
def test_messages(kind: str, expected: bool) -> None:
    block = {"type": kind, "id": "c", "name": "search", "input": {}}
    events = [
        {"type": "message_start", "message": {}},
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {}},
        {"type": "message_stop"},
    ]
    request = {"model": "claude", "messages": [], "max_tokens": 9, "stream": True}
    (response,) = read("/v1/messages", request, body(*events, named=True))
    assert calls(response) == [("search", expected, False)]


def test_gemini() -> None:
    parts = [
        {"executableCode": {"language": "PYTHON", "code": "1+1"}},
        {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "2"}},
        {"toolCall": {"toolType": "GOOGLE_SEARCH", "id": "t", "args": {}}},
        {"functionCall": {"name": "weather", "args": {}}},
    ]
    candidate = {"content": {"parts": parts}, "finishReason": "STOP", "index": 0}
    url = f"{GOOGLE}/models/gemini-3-pro:streamGenerateContent"
    (response,) = read(url, {"contents": []}, body({"candidates": [candidate]}))
    assert calls(response) == [
        ("code_execution", True, True),
        ("GOOGLE_SEARCH", True, False),
        ("weather", False, False),
    ]


def test_interactions() -> None:
    steps = [{"type": "google_search_call", "id": "s"}, {"type": "function_call", "name": "f"}]
    events = [
        {"event_type": kind, "index": index, "step": step}
        for index, step in enumerate(steps)
        for kind in ("step.start", "step.stop")
    ]
    request = {"model": "gemini-3-pro", "input": "Hi", "stream": True}
    (response,) = read(f"{GOOGLE}/interactions", request, body(*events))
    assert calls(response) == [("google_search", True, False), ("f", False, False)]


def test_converse() -> None:
    uses = [
        {"toolUseId": "t1", "name": "search", "type": "server_tool_use"},
        {"toolUseId": "t2", "name": "weather"},
    ]
    expected = [("search", True, False), ("weather", False, False)]
    starts = [
        frame_of("contentBlockStart", {"contentBlockIndex": index, "start": {"toolUse": use}})
        for index, use in enumerate(uses)
    ]
    data = b"".join([*starts, frame_of("messageStop", {"stopReason": "tool_use"})])
    (streamed,) = read(f"{CONVERSE}converse-stream", {"messages": []}, data, headers=AMAZON)
    assert calls(streamed) == expected
    message = {"role": "assistant", "content": [{"toolUse": use} for use in uses]}
    reply = {"output": {"message": message}, "stopReason": "tool_use"}
    (whole,) = read(
        f"{CONVERSE}converse", {"messages": []}, json.dumps(reply).encode(), headers=JSON
    )
    assert calls(whole) == expected
