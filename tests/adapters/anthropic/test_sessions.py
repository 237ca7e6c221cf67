"""Sessions of managed agents, and their threads: each turn is a response."""

import asyncio
import json
from typing import Any

import pytest
from anthropic.resources.beta import Beta

from tests.adapters.anthropic.clients import aclient, client
from tests.support.replay import Replay
from tests.support.sdk import ended, responses
from tokenwire import Sink
from tokenwire_adapters._agents.stainless.recorder import CUT_OFF
from tokenwire_adapters.anthropic import wrap

pytestmark = pytest.mark.skipif(
    not hasattr(Beta, "sessions"), reason="this anthropic is older than managed agents"
)


def body(*events: dict[str, Any]) -> bytes:
    return b"".join(
        f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events
    )


def message(event_id: str, *texts: str) -> dict[str, Any]:
    content = [{"type": "text", "text": text} for text in texts]
    return {"type": "agent.message", "id": event_id, "content": content}


def piece(event_id: str, text: str) -> dict[str, Any]:
    delta = {"type": "content_delta", "index": 0, "content": {"type": "text", "text": text}}
    return {"type": "event_delta", "event_id": event_id, "delta": delta}


def usage(count: int) -> dict[str, Any]:
    return {"type": "span.model_request_end", "id": "s", "model_usage": {"output_tokens": count}}


def idle(reason: str = "end_turn", kind: str = "session.status_idle") -> dict[str, Any]:
    return {"type": kind, "id": "i", "stop_reason": {"type": reason}}


TOOL = [
    {"type": "agent.tool_use", "id": "t1", "name": "bash", "input": {"command": "ls"}},
    {"type": "agent.tool_result", "id": "x", "tool_use_id": "t1", "content": [{"type": "text"}]},
]


def read(sink: Sink, *events: dict[str, Any]) -> list[str]:
    with Replay(body(*events)) as replay, wrap(client(replay), sink, channel="c") as api:
        return [event.type for event in api.beta.sessions.events.stream("sesn_1")]


def test_each_turn_is_a_response(sink: Sink) -> None:
    events = [
        {"type": "session.status_running", "id": "r"},
        message("m1", "one"),
        *TOOL,
        usage(2),
        message("m2", " and"),
        usage(3),
        idle(),
        {"type": "session.status_running", "id": "r"},
        message("m3", "two"),
        idle("requires_action"),
    ]
    assert read(sink, *events) == [event["type"] for event in events]
    first, second = responses(sink, "c")
    assert (first.text, first.finish_reason, first.usage) == (
        "one and",
        "end_turn",
        {"output_tokens": 5},
    )
    [call] = first.tool_calls
    assert (call.name, call.call_id, json.loads(call.arguments)) == (
        "bash",
        "t1",
        {"command": "ls"},
    )
    assert [result.call_id for result in first.tool_results] == ["t1"]
    assert (second.text, second.finish_reason, second.usage) == ("two", "requires_action", None)
    assert first.run == second.run
    assert {first.state, second.state} == {"complete"}
    assert first.metadata["api"] == "sessions"


def test_pieces_and_the_whole_are_written_once(sink: Sink) -> None:
    start = {"type": "event_start", "event": {"type": "agent.message", "id": "m1"}}
    read(sink, start, piece("m1", "Hel"), piece("m1", "lo"), message("m1", "Hello you"), idle())
    assert ended(sink, "c").text == "Hello you"


def test_what_a_turn_holds_besides_messages(sink: Sink) -> None:
    use = {"type": "agent.custom_tool_use", "id": "t1", "name": "ask", "input": {"a": [1]}}
    content = [{"type": "text", "text": "ok"}]
    result = {"type": "user.custom_tool_result", "id": "u", "custom_tool_use_id": "t1"}
    read(
        sink,
        piece("m1", "Helo"),
        message("m1", "Hello"),
        use,
        {**result, "content": content},
        idle(),
    )
    response = ended(sink, "c")
    assert [part.data for part in response.parts if part.kind == "data"] == [
        {"kind": "text", "text": "Hello"}
    ]
    assert [call.arguments for call in response.tool_calls] == ['{"a":[1]}']
    assert [result.output for result in response.tool_results] == [content]


def test_a_thread_ends_by_its_own_events(sink: Sink) -> None:
    other = idle(kind="session.thread_status_idle")
    read(sink, message("m1", "a"), other, message("m2", "b"), idle())
    assert [response.text for response in responses(sink, "c")] == ["ab"]

    async def main() -> None:
        events = body(message("m1", "a"), other, message("m2", "b"), other)
        with Replay(events) as replay:
            async with wrap(aclient(replay), sink, channel="t") as api:
                threads = api.beta.sessions.threads
                async for _ in await threads.events.stream("sthr_1", session_id="sesn_1"):
                    pass

    asyncio.run(main())
    assert [response.text for response in responses(sink, "t")] == ["a", "b"]


@pytest.mark.parametrize("status", ["retrying", "exhausted"])
def test_an_error_ends_a_turn_unless_it_is_tried_again(sink: Sink, status: str) -> None:
    error = {"type": "x", "message": "too many", "retry_status": {"type": status}}
    session_error = {"type": "session.error", "id": "e", "error": error}
    read(sink, message("m1", "a"), session_error, idle("retries_exhausted"))
    response = ended(sink, "c")
    expected = ("complete", None) if status == "retrying" else ("failed", "too many")
    assert (response.state, response.error) == expected


def test_a_stream_that_breaks_off(sink: Sink) -> None:
    read(sink, message("m1", "a"))
    assert (ended(sink, "c").state, ended(sink, "c").error) == ("failed", CUT_OFF)


def test_a_stream_without_a_turn(sink: Sink) -> None:
    read(sink, {"type": "session.status_running", "id": "r"})
    assert not responses(sink, "c")
