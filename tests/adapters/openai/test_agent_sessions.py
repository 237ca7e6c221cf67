"""Sessions of hosted agents: each turn is a response."""

import contextlib
import json
import logging
from typing import Any

import pytest
from openai import APIError, Stream
from openai._models import BaseModel

from tests.adapters.openai.clients import client
from tests.support.replay import Replay, Reply
from tests.support.sdk import ended, responses
from tokenwire import Sink
from tokenwire_adapters._agents.stainless.recorder import CUT_OFF
from tokenwire_adapters.openai import wrap

USAGE = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}


class Event(BaseModel):
    """What the SDK makes of an event, in releases that have no such API."""

    type: str = ""


def turn(what: str, turn_id: str = "turn-1", **fields: Any) -> dict[str, Any]:
    return {"type": f"agent.session.turn.{what}", "event_id": "e", "turn_id": turn_id, **fields}


def text(delta: str, turn_id: str = "turn-1") -> dict[str, Any]:
    at = {"item_id": f"m-{turn_id}", "output_index": 0, "content_index": 0}
    return turn("output_text.delta", turn_id, delta=delta, **at)


def over(status: str, turn_id: str = "turn-1", **fields: Any) -> dict[str, Any]:
    return turn(status, turn_id, turn={"id": turn_id, "status": status, **fields}, usage=USAGE)


def item(what: str, index: int, **fields: Any) -> dict[str, Any]:
    return turn(f"item.{what}", output_index=index, item=fields)


def read(sink: Sink, *events: dict[str, Any], end: bytes = b"data: [DONE]\n\n") -> list[str]:
    sent = b"".join(f"data: {json.dumps(event)}\n\n".encode() for event in events)
    with Replay(sent + end) as replay, wrap(client(replay), sink, channel="c") as api:
        agents: Any = getattr(api.beta, "agents", None)
        stream: Any
        if agents is not None:  # since openai 3
            stream = agents.sessions.events.stream("sess_1")
        else:
            path = "/agents/sessions/sess_1/events"
            stream = api.get(path, cast_to=Event, stream=True, stream_cls=Stream[Event])
        return [event.type for event in stream]


CALL: dict[str, Any] = {
    "type": "function_call",
    "id": "fc1",
    "call_id": "call-1",
    "name": "look",
    "arguments": {"a": 1},
}
COMMAND: dict[str, Any] = {
    "type": "command_execution",
    "id": "cmd1",
    "command": "ls",
    "output": "a b",
    "exit_code": 0,
}


def test_each_turn_is_a_response(sink: Sink) -> None:
    events = [
        {"type": "agent.session.in_progress", "event_id": "e"},
        turn("created", turn={"id": "turn-1"}),
        item("added", 0, type="message", role="user", id="u", content=[{"text": "hi"}]),
        turn(
            "reasoning_summary_text.delta",
            item_id="r",
            output_index=0,
            summary_index=0,
            delta="hm",
        ),
        text("Hel"),
        text("lo"),
        item("added", 2, **CALL),
        item("done", 2, **CALL),
        item("done", 3, **COMMAND),
        over("completed"),
        {"type": "agent.session.idle", "event_id": "e"},
        turn("created", "turn-2"),
        text("two", "turn-2"),
        over("completed", "turn-2"),
    ]
    assert read(sink, *events) == [event["type"] for event in events]
    first, second = responses(sink, "c")
    assert (first.text, first.reasoning, first.usage) == ("Hello", "hm", USAGE)
    assert [(call.name, json.loads(call.arguments)) for call in first.tool_calls] == [
        ("look", {"a": 1}),
        ("command_execution", {"command": "ls"}),
    ]
    assert [result.call_id for result in first.tool_results] == ["cmd1"]
    assert second.text == "two"
    assert {first.state, second.state} == {"complete"}
    assert first.run == second.run
    assert first.metadata["api"] == "agents.sessions"


@pytest.mark.parametrize(
    ("event", "state", "error"),
    [
        (over("failed", error={"message": "no"}), "failed", "no"),
        (over("cancelled"), "cancelled", "the provider cancelled it"),
        ({"type": "error", "error": {"code": "x", "message": "oh"}}, "failed", "oh"),
    ],
)
def test_how_a_turn_ends(sink: Sink, event: dict[str, Any], state: str, error: str) -> None:
    with contextlib.suppress(APIError):  # openai 2 raises it for an error event
        read(sink, text("Hel"), event)
    response = ended(sink, "c")
    assert (response.text, response.state, response.error) == ("Hel", state, error)


def test_turns_side_by_side(sink: Sink) -> None:
    read(sink, text("a"), text("b", "turn-2"), text("A"), over("completed", "turn-2"))
    first, second = responses(sink, "c")
    assert (first.text, second.text) == ("aA", "b")


def test_a_stream_that_breaks_off(sink: Sink) -> None:
    read(sink, text("Hel"), end=b"")
    response = ended(sink, "c")
    assert (response.state, response.error) == ("failed", CUT_OFF)


def test_a_list_of_past_events_is_no_reply(sink: Sink, caplog: pytest.LogCaptureFixture) -> None:
    past = Reply(b'{"data": []}', headers={"content-type": "application/json"})
    with Replay(past) as replay, wrap(client(replay), sink, channel="c") as api:
        api.get("/agents/sessions/sess_1/events", cast_to=Event)
    assert not responses(sink, "c")
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
