"""The event streams of agent sessions: each turn is a response."""

import itertools
import json
import threading
from typing import Any

import pytest
from hypothesis import given

from tests.adapters.wires.reading import cuts, read, result_of, wire_of
from tests.support.sdk import fresh_sink, responses
from tests.support.sse import body, parts
from tokenwire import Response
from tokenwire.instrument import Options
from tokenwire_adapters._agents.stainless.recorder import CUT_OFF
from tokenwire_adapters._agents.wires.json_objects import decode
from tokenwire_adapters._agents.wires.recognition import HttpRequest, may_be_model_call, recognise

AGENTS = "https://api.openai.com/v1/agents/sessions/s1/events?include_obfuscation=false"
SESSIONS = "https://api.anthropic.com/v1/sessions/s1/events/stream?beta=true"
THREADS = "https://api.anthropic.com/v1/sessions/s1/threads/t1/stream?beta=true"
USAGE = {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}


def read_all(url: str, *events: dict[str, Any], **options: Any) -> list[Response]:
    data = body(*events, named=True, done=options.pop("done", False))
    return read(url, None, data, method="GET", **options)


# -- OpenAI


def turn(kind: str, turn_id: str = "t1", **fields: Any) -> dict[str, Any]:
    placed = {"event_id": "e", "session_id": "s1", "turn_id": turn_id}
    return {"type": f"agent.session.turn.{kind}", **placed, **fields}


def said(text: str, turn_id: str = "t1", item: str = "m1") -> dict[str, Any]:
    placed = {"item_id": item, "output_index": 1, "content_index": 0}
    return turn("output_text.delta", turn_id, delta=text, obfuscation="x", **placed)


def ended(kind: str, turn_id: str = "t1", **fields: Any) -> dict[str, Any]:
    return turn(kind, turn_id, turn={"id": turn_id, "status": kind, **fields}, usage=USAGE)


CALL = {"type": "function_call", "id": "f", "call_id": "k", "name": "f", "arguments": {"a": 1}}
COMMAND = {"type": "command_execution", "id": "c", "command": "ls", "output": "x", "exit_code": 0}
TURN = [
    {"type": "agent.session.in_progress", "event_id": "e", "session": {"id": "s1"}},
    turn("created", turn={"id": "t1", "status": "queued"}),
    turn("in_progress", turn={"id": "t1", "status": "in_progress"}),
    turn("reasoning_summary_text.delta", delta="Hm.", item_id="r", output_index=0, summary_index=0),
    turn("item.added", item={"type": "message", "id": "m1", "content": []}, output_index=1),
    said("Hé"),
    said("llo"),
    turn("item.done", item=CALL, output_index=2),
    {"type": "agent.output.command_execution_output.delta", "turn_id": "t1", "delta": "x"},
    turn("item.done", item=COMMAND, output_index=3),
    ended("completed"),
    {"type": "agent.session.idle", "event_id": "e", "session": {"id": "s1"}},
]


@given(sizes=cuts())
def test_an_agent_session(sizes: list[int]) -> None:
    second = [turn("created", "t2"), said("again", "t2"), ended("completed", "t2")]
    first, other = read_all(AGENTS, *TURN, *second, done=True, sizes=sizes)
    assert parts(first) == [
        ("reasoning", "Hm."),
        ("text", "Héllo"),
        ("tool_call", '{"a":1}', "f", "k"),
        ("tool_call", '{"command":"ls"}', "command_execution", "c"),
    ]
    assert result_of(first, "c").output == {"output": "x", "exit_code": 0}
    assert (first.state, first.finish_reason, first.usage) == ("complete", "completed", USAGE)
    assert (other.text, other.state) == ("again", "complete")
    assert first.run == other.run


def test_turns_side_by_side() -> None:
    events = [
        said("a", "t1"),
        said("x", "t2", "m2"),
        said("b", "t1"),
        said("y", "t2", "m2"),
        ended("failed", "t1", error={"message": "No."}),
        ended("cancelled", "t2"),
    ]
    one, two = read_all(AGENTS, *events)
    assert (one.text, one.state, one.error) == ("ab", "failed", "No.")
    assert (two.text, two.state) == ("xy", "cancelled")


def test_an_error_fails_the_turn_and_not_the_session() -> None:
    error = {"type": "error", "error": {"code": "c", "message": "Overloaded.", "type": "t"}}
    events = [said("a"), error, said("b", "t2"), ended("completed", "t2")]
    one, two = read_all(AGENTS, *events)
    assert (one.text, one.state, one.error) == ("a", "failed", "Overloaded.")
    assert (two.text, two.state) == ("b", "complete")


def test_what_the_user_says_and_a_repeated_command() -> None:
    user = {
        "type": "message",
        "id": "u",
        "role": "user",
        "content": [{"text": "Hi", "type": "text"}],
    }
    events = [
        turn("item.done", item=user, output_index=0),
        turn("item.done", item=COMMAND, output_index=1),
        ended("completed", output=[COMMAND]),
    ]
    (response,) = read_all(AGENTS, *events)
    assert parts(response) == [("tool_call", '{"command":"ls"}', "command_execution", "c")]
    assert len(response.tool_results) == 1


def test_an_agent_session_that_is_cut() -> None:
    (response,) = read_all(AGENTS, *TURN[:7])
    assert (response.text, response.error) == ("Héllo", CUT_OFF)


# -- Anthropic


def event(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": kind, "id": "e", "processed_at": "2026-11-28T00:00:00Z", **fields}


def message(*texts: str, message_id: str = "m1") -> dict[str, Any]:
    content = [{"type": "text", "text": text} for text in texts]
    return event("agent.message", content=content) | {"id": message_id}


def piece(text: str, index: int = 0, message_id: str = "m1") -> dict[str, Any]:
    content = {"type": "text", "text": text}
    delta = {"type": "content_delta", "index": index, "content": content}
    return {"type": "event_delta", "event_id": message_id, "delta": delta}


def idle(reason: str = "end_turn", kind: str = "session.status_idle") -> dict[str, Any]:
    return event(kind, stop_reason={"type": reason})


REQUEST_END = event("span.model_request_end", model_usage={"input_tokens": 1, "output_tokens": 2})
RESULT = {"content": [{"type": "text", "text": "ok"}]}


@pytest.mark.parametrize("in_pieces", [True, False])
@given(sizes=cuts())
def test_a_managed_session(in_pieces: bool, sizes: list[int]) -> None:
    pieces = [
        {"type": "event_start", "event": {"type": "agent.message", "id": "m1"}},
        piece("Hé"),
        piece("llo"),
        piece("more", 1),
    ]
    events = [
        event("session.status_running"),
        event("agent.thinking"),
        *(pieces if in_pieces else []),
        message("Héllo", "more!"),
        event("agent.tool_use", name="bash", input={"x": 1}) | {"id": "t1"},
        event("agent.tool_result", tool_use_id="t1", **RESULT),
        event("agent.mcp_tool_use", name="mcp", input={}) | {"id": "t2"},
        event("agent.mcp_tool_result", mcp_tool_use_id="t2", is_error=True),
        REQUEST_END,
        REQUEST_END,
        event("session.error", error={"message": "once", "retry_status": {"type": "retrying"}}),
        idle("requires_action"),
        message("again", message_id="m2"),
        idle(),
    ]
    first, second = read_all(SESSIONS, *events, sizes=sizes)
    assert parts(first) == [
        ("text", "Héllo"),
        ("text", "more!"),
        ("tool_call", '{"x":1}', "bash", "t1"),
        ("tool_call", "{}", "mcp", "t2"),
    ]
    assert result_of(first, "t1").output == RESULT["content"]
    assert result_of(first, "t2").error == "the tool failed"
    assert (first.state, first.finish_reason) == ("complete", "requires_action")
    assert first.usage == {"input_tokens": 2, "output_tokens": 4}
    assert (second.text, second.finish_reason, second.usage) == ("again", "end_turn", None)


@pytest.mark.parametrize(
    "failing",
    [
        [
            event("session.error", error={"message": "No.", "retry_status": {"type": "exhausted"}}),
            idle("retries_exhausted"),
        ],
        [{"type": "error", "error": {"type": "api_error", "message": "No."}}],
    ],
)
def test_a_managed_session_that_fails(failing: list[dict[str, Any]]) -> None:
    one, two = read_all(SESSIONS, message("a"), *failing, message("b"), idle())
    assert (one.text, one.state, one.error) == ("a", "failed", "No.")
    assert (two.text, two.state) == ("b", "complete")


def test_a_message_that_is_not_what_its_pieces_were() -> None:
    (response,) = read_all(SESSIONS, piece("Helo"), message("Hello"), idle())
    correction = {"kind": "text", "text": "Hello"}
    assert response.text == "Helo"
    assert [part.data for part in response.parts if part.kind == "data"] == [correction]


@pytest.mark.parametrize("kind", ["user.tool_result", "user.custom_tool_result"])
def test_results_of_the_users_tools(kind: str) -> None:
    name = "custom_tool_use_id" if "custom" in kind else "tool_use_id"
    result = event(kind, **{name: "t1"}, **RESULT)
    use = event("agent.custom_tool_use", name="ask", input={}) | {"id": "t1"}
    (response,) = read_all(SESSIONS, use, result, idle("requires_action"), result)
    assert result_of(response, "t1").output == RESULT["content"]
    assert len(response.tool_results) == 1


def test_token_counts_within_token_counts() -> None:
    usage = {"input_tokens": 1, "cache_creation": {"ephemeral_5m_input_tokens": 2}, "speed": "fast"}
    end = event("span.model_request_end", model_usage=usage)
    (response,) = read_all(SESSIONS, message("a"), end, end, idle())
    cache_creation = {"ephemeral_5m_input_tokens": 4}
    assert response.usage == {**usage, "input_tokens": 2, "cache_creation": cache_creation}


def test_a_failure_is_known_before_the_turn_is_over() -> None:
    error = {"message": "No.", "retry_status": {"type": "terminal"}}
    (response,) = read_all(SESSIONS, event("session.error", error=error))
    assert (response.state, response.error) == ("failed", "No.")


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("session.status_terminated", "terminated"), ("session.deleted", "deleted")],
)
def test_a_session_that_is_over(kind: str, reason: str) -> None:
    (response,) = read_all(SESSIONS, message("a"), event(kind))
    assert (response.state, response.finish_reason) == ("complete", reason)


def test_a_thread() -> None:
    ends = idle(kind="session.thread_status_idle")
    (response,) = read_all(THREADS, message("a"), ends)
    assert (response.text, response.state) == ("a", "complete")
    (response,) = read_all(SESSIONS, message("a"), ends)  # a thread below the session
    assert (response.state, response.error) == ("failed", CUT_OFF)


@pytest.mark.parametrize("url", [AGENTS, SESSIONS, THREADS])
def test_a_session_in_which_nothing_happens(url: str) -> None:
    assert read_all(url, event("session.status_running"), end="close") == []
    assert read(url, None, b'{"data": []}', headers={}, method="GET") == []


def test_a_session_of_many_turns() -> None:
    turns = ((message(str(number)), idle()) for number in range(500))
    assert [response.text for response in read_all(SESSIONS, *itertools.chain(*turns))][-1] == "499"


def agent_turn(number: int) -> list[dict[str, Any]]:
    return [said("a", f"t{number}"), ended("completed", f"t{number}")]


@pytest.mark.parametrize(
    ("url", "turns"),
    [
        (AGENTS, [agent_turn(number) for number in range(9)]),
        (SESSIONS, [[message("a"), idle()] for _ in range(9)]),
    ],
)
def test_turns_that_have_ended_are_forgotten(url: str, turns: list[list[dict[str, Any]]]) -> None:
    wire, request = wire_of(url, None, "GET")
    with fresh_sink() as sink:
        recorder = wire.recorder(Options(sink, "c"), request)
        for item in itertools.chain(*turns):
            recorder.feed(decode(json.dumps(item)))
        assert len(recorder.writers) == 2
        assert len(responses(sink, "c")) == 9


def test_a_turn_that_a_watcher_cancelled_stays_cancelled() -> None:
    wire, request = wire_of(AGENTS, None, "GET")
    with fresh_sink() as sink:
        recorder = wire.recorder(Options(sink, "c"), request)
        recorder.feed(decode(json.dumps(said("a", "open"))))
        cancelled = threading.Event()
        recorder.writers[0].add_cancel_callback(cancelled.set)
        assert sink.cancel("c", recorder.writers[0].id).state == "cancelled"
        assert cancelled.wait(60)
        for item in itertools.chain(*map(agent_turn, range(3))):
            recorder.feed(decode(json.dumps(item)))
        recorder.feed(decode(json.dumps(turn("item.done", "open", item=CALL, output_index=2))))
        assert [response.text for response in responses(sink, "c")] == ["a"] * 4


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/agents/sessions/s1/events"),
        ("POST", "/v1/sessions/s1/events/stream"),
        ("GET", "/v1/sessions/s1/events"),
        ("GET", "/events/stream"),
        ("GET", "/stream"),
        ("GET", "/v1/chat/completions"),
    ],
)
def test_other_requests(method: str, path: str) -> None:
    assert not may_be_model_call(method, path)
    assert recognise(HttpRequest(method, path, {}, None)) is None
