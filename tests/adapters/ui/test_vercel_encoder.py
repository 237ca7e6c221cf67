"""Whatever a watcher sees of a run, the AI SDK's client makes the same message of it."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.adapters.ui.logs import Log, loaded, logs, without
from tests.adapters.ui.vercel_checker import VercelMessage, frames_of
from tokenwire.encoding import find_encoder
from tokenwire.events import (
    DataEvent,
    DeltaEvent,
    EndEvent,
    PartEvent,
    Response,
    StartEvent,
    ToolResultEvent,
)
from tokenwire_adapters._web.vercel.requests import steps_of
from tokenwire_adapters.vercel import VercelEncoder


def test_the_format_is_found_by_name():
    assert find_encoder("vercel") is VercelEncoder
    assert VercelEncoder.headers["x-vercel-ai-ui-message-stream"] == "v1"


@given(log=logs(), data=st.data())
def test_any_log_from_any_point_makes_the_same_message(log, data):
    at = data.draw(st.integers(0, len(log.events)), label="joined at")
    begin = data.draw(st.integers(0, len(log.events)), label="conflated from")
    end = data.draw(st.integers(begin, len(log.events)), label="to")
    for seen in (log.events, log.joined(at), log.conflated(begin, end)):
        message = VercelMessage().read(
            frames_of(VercelEncoder(run=log.run, enveloped=log.enveloped), seen)
        )
        check(message, log)


@given(log=logs(), data=st.data())
def test_what_was_primed_is_told_first(log, data):
    at = data.draw(st.integers(0, len(log.events)))
    encoder = VercelEncoder(run=log.run, enveloped=log.enveloped)
    encoder.prime(log.snapshots(at))
    check(VercelMessage().read(frames_of(encoder, log.events[at:])), log)


@given(log=logs(), data=st.data())
def test_repeated_events_change_nothing(log, data):
    begin = data.draw(st.integers(0, len(log.events)))
    seen = [*log.events[:begin], *log.events[: begin // 2], *log.events[begin:]]
    check(
        VercelMessage().read(frames_of(VercelEncoder(run=log.run, enveloped=log.enveloped), seen)),
        log,
    )


def test_what_was_said_of_a_past_moment_is_not_said_again():
    def note(data):
        return DataEvent(name="note", data=data, run="r", transient=True)

    encoder = VercelEncoder(run="r")
    encoder.prime([StartEvent(response_id="r", run="r"), note("then")])
    frames = frames_of(encoder, [note("now"), EndEvent(response_id="r", state="complete")])
    chunks = [json.loads(frame.data) for frame in frames if frame.data != b"[DONE]"]
    assert [chunk["data"] for chunk in chunks if chunk["type"] == "data-note"] == ["now"]


@given(log=logs())
def test_it_finds_the_run_that_streams(log):
    message = VercelMessage().read(frames_of(VercelEncoder(), log.events))
    check(message, log)


def test_a_result_stays_with_its_response_where_call_ids_repeat():
    """The call that it answers is still growing when another response ends with the same id."""
    call = {"kind": "tool_call", "name": "f", "call_id": "call_1"}
    events = [
        StartEvent(response_id="r1", run="r1"),
        PartEvent(response_id="r1", part=0, **call),
        ToolResultEvent(call_id="call_1", response_id="r1", run="r1", output="of r1"),
        StartEvent(response_id="r2", run="r1"),
        PartEvent(response_id="r2", part=0, **call),
        DeltaEvent(response_id="r2", part=0, kind="tool_call", offset=0, text="{}"),
        EndEvent(response_id="r2", state="complete", finish_reason="tool_calls"),
        EndEvent(response_id="r1", state="complete"),
    ]
    message = VercelMessage().read(frames_of(VercelEncoder(run="r1", enveloped=False), events))
    results = {p["toolCallId"]: p.get("output") for p in message.parts if "toolCallId" in p}
    assert results == {"call_1": "of r1", "call_1:r2:0": None}


def check(message: VercelMessage, log: Log) -> None:
    assert message.done
    assert message.id == log.run
    assert not message.asks_again
    responses = log.responses()
    lead = log.outcome()
    if lead.state == "cancelled":
        assert message.over == "abort"
    else:
        assert message.over == "finish"
        assert (message.error is None) == (lead.state == "complete")
        if lead.state != "complete":
            assert message.error == lead.error
    assert message.metadata["state"] == lead.state
    for response in responses:
        check_response(message, response, log)


def check_response(message: VercelMessage, response: Response, log: Log) -> None:
    texts: dict[str, str] = defaultdict(str)
    order: dict[str, list[str]] = defaultdict(list)
    for part in message.parts:
        if part["type"] in ("text", "reasoning") and part["id"].startswith(f"{response.id}:"):
            base = part["id"].rstrip("~")
            if base not in texts:
                order[part["type"]].append(base)
            texts[base] += part["text"]
    text = "".join(texts[base] for base in order["text"])
    assert text == "".join(p.text for p in response.parts if p.kind in ("text", "refusal"))
    assert "".join(texts[base] for base in order["reasoning"]) == response.reasoning
    check_tools(message, response, log)
    for index, part in enumerate(response.parts):
        tag = f"{response.id}:{index}"
        if part.kind == "source":
            assert one(message, sourceId=tag)
        elif part.kind in ("data", "own"):
            found = one(message, id=tag)
            assert found["data"] == {"x": 1}
            assert found["type"] == ("data-chart" if part.kind == "data" else "data-own")


def check_tools(message: VercelMessage, response: Response, log: Log) -> None:
    reported: set[str] = set()
    for index, call in enumerate(response.parts):
        if call.kind != "tool_call":
            continue
        tags = (call.call_id, f"{call.call_id}:{response.id}:{index}")
        parts = [p for p in message.parts if p.get("toolCallId") in tags]
        kind = f"tool-{call.name or 'tool'}"
        # Under its own id, where another response had taken that of the call.
        own = sorted(parts, key=lambda p: p["toolCallId"] == call.call_id)
        part = next(p for p in own if p["raw"] == call.text and p["type"] == kind)
        assert part["providerExecuted"] is call.provider_executed
        name = call.call_id or ""
        result = log.results.get(name) or log.results.get(f"{response.id}/{name}")
        if result is None or name in reported:
            if response.state == "complete":
                assert part["state"] in ("input-available", "output-available", "output-error")
                assert part["input"] == loaded(call.text)
        elif result.error is not None:
            reported.add(name)
            assert any(p.get("errorText") == result.error for p in parts)
        else:
            reported.add(name)
            assert any(p.get("output", ...) == without(result.output) for p in parts)


def one(message: VercelMessage, **wanted: Any) -> dict[str, Any]:
    found = [p for p in message.parts if all(p.get(k) == v for k, v in wanted.items())]
    assert len(found) == 1
    return found[0]


def test_what_follows_an_answered_call_is_in_another_step():
    """One response with a call, its result and text: the page is not to go on with it."""
    events = [
        StartEvent(response_id="r1", run="r1"),
        PartEvent(response_id="r1", part=0, kind="tool_call", name="f", call_id="c1"),
        DeltaEvent(response_id="r1", part=0, kind="tool_call", offset=0, text="{}"),
        ToolResultEvent(call_id="c1", response_id="r1", run="r1", output=1),
        DeltaEvent(response_id="r1", part=1, kind="text", offset=0, text="One."),
        EndEvent(response_id="r1", state="complete"),
    ]
    message = VercelMessage().read(frames_of(VercelEncoder(run="r1"), events))
    kinds = [part["type"] for part in message.parts]
    assert kinds == ["step-start", "tool-f", "step-start", "text"]


def test_a_page_does_not_go_on_with_what_was_stopped():
    """Neither while its call is unanswered, nor once the page has answered it."""
    events = [
        StartEvent(response_id="r1", run="r1"),
        PartEvent(response_id="r1", part=0, kind="tool_call", name="f", call_id="c1"),
        DeltaEvent(response_id="r1", part=0, kind="tool_call", offset=0, text="{}"),
        EndEvent(response_id="r1", state="cancelled"),
    ]
    message = VercelMessage().read(frames_of(VercelEncoder(run="r1"), events))
    assert [part["type"] for part in message.parts] == ["step-start", "tool-f", "step-start"]
    assert not message.asks_again


def test_a_model_is_not_told_of_the_provider_s_tools():
    """Chat Completions has no form for their calls; what came of them is in the text."""
    done = {"state": "output-available", "input": {}, "output": 1}
    message = {
        "role": "assistant",
        "parts": [
            {"type": "step-start"},
            {"type": "tool-web_search", "toolCallId": "c1", "providerExecuted": True, **done},
            {"type": "tool-f", "toolCallId": "c2", **done},
            {"type": "step-start"},
            {"type": "text", "text": "Found."},
        ],
    }
    entries = steps_of(message)
    assert [call["id"] for entry in entries for call in entry.get("tool_calls", ())] == ["c2"]
    assert entries[-1] == {"role": "assistant", "content": "Found."}


def test_half_a_tool_call_is_nothing_to_act_on():
    """The producer fails within the arguments: no client may call the tool."""
    frames = frames_of(
        VercelEncoder(run="r1"),
        [
            StartEvent(response_id="r1", run="r1"),
            PartEvent(response_id="r1", part=0, kind="tool_call", name="pay", call_id="c1"),
            DeltaEvent(response_id="r1", part=0, kind="tool_call", offset=0, text='{"sum": 1'),
            EndEvent(response_id="r1", state="failed", error="gone"),
        ],
    )
    kinds = [json.loads(f.data)["type"] for f in frames if f.data.startswith(b"{")]
    assert "tool-input-start" in kinds
    assert "tool-input-available" not in kinds
