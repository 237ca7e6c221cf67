"""Whatever a watcher sees of a run, a client of AG-UI 1.0 has the same messages of it."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from tests.adapters.ui.ag_ui_checker import AgUiRun
from tests.adapters.ui.logs import Log, logs, without
from tests.adapters.ui.vercel_checker import frames_of
from tokenwire.encoding import find_encoder
from tokenwire.events import DataEvent, EndEvent, PartEvent, Response, StartEvent, ToolResultEvent
from tokenwire_adapters.ag_ui import AgUiEncoder


def test_the_format_is_found_by_name():
    assert find_encoder("ag-ui") is AgUiEncoder


@given(log=logs(), data=st.data())
def test_any_log_from_any_point_makes_the_same_messages(log, data):
    at = data.draw(st.integers(0, len(log.events)), label="joined at")
    begin = data.draw(st.integers(0, len(log.events)), label="conflated from")
    end = data.draw(st.integers(begin, len(log.events)), label="to")
    for seen in (log.events, log.joined(at), log.conflated(begin, end)):
        encoder = AgUiEncoder(run=log.run, enveloped=log.enveloped)
        check(AgUiRun().read(frames_of(encoder, seen)), log)


@given(log=logs(), data=st.data())
def test_who_joins_with_messages_is_given_them_anew(log, data):
    at = data.draw(st.integers(0, len(log.events)), label="joined at")
    had = data.draw(st.integers(0, at), label="had")
    user = {"id": "u1", "role": "user", "content": "hm?"}
    before = AgUiRun([user]).read(_until(log, had))
    encoder = AgUiEncoder(run=log.run, enveloped=log.enveloped, history=before.messages)
    encoder.prime(log.snapshots(at))
    run = AgUiRun(before.messages).read(frames_of(encoder, log.events[at:]))
    assert run.messages[0] == user
    check(run, log)


def _until(log: Log, had: int) -> list:
    """What a client has read when its connection breaks."""
    encoder = AgUiEncoder(run=log.run, enveloped=log.enveloped)
    return [frame for event in log.events[:had] for frame in encoder.encode(event)]


@given(log=logs())
def test_it_finds_the_run_that_streams(log):
    check(AgUiRun().read(frames_of(AgUiEncoder(), log.events)), log)


def test_a_result_that_the_client_sent_itself_is_not_sent_back():
    mine = {"id": "r:0:result", "role": "tool", "toolCallId": "call-1", "content": "42"}
    encoder = AgUiEncoder(run="r", history=[mine])
    call = PartEvent(response_id="r", part=0, kind="tool_call", name="tool", call_id="call-1")
    encoder.prime([StartEvent(response_id="r", run="r"), call])
    live = [
        ToolResultEvent(response_id="r", call_id="call-1", output=42),
        EndEvent(response_id="r", state="complete"),
    ]
    kinds = [json.loads(frame.data)["type"] for frame in frames_of(encoder, live)]
    assert "TOOL_CALL_RESULT" not in kinds
    assert kinds[-1] == "RUN_FINISHED"


def test_state_and_data():
    patch = [{"op": "replace", "path": "/step", "value": 2}]
    events = [
        StartEvent(response_id="r1", channel="c"),
        PartEvent(response_id="r1", part=0, kind="data", name="state", data={"step": 1}),
        DataEvent(name="state_delta", data=patch, response_id="r1"),
        DataEvent(name="note", data=None, run="r1"),
        EndEvent(response_id="r1", state="complete"),
    ]
    run = AgUiRun()
    run._state_delta = lambda event: None  # type: ignore[attr-defined]
    run.read(frames_of(AgUiEncoder(), events))
    reported = [
        (e["type"], e.get("snapshot") or e.get("delta") or e.get("name")) for e in run.events
    ]
    assert reported[1:-1] == [
        ("STATE_SNAPSHOT", {"step": 1}),
        ("STATE_DELTA", patch),
        ("CUSTOM", "note"),
    ]
    assert run.events[0]["threadId"] == "c"


def test_a_run_ends_under_the_id_that_its_client_gave_it():
    events = [StartEvent(response_id="r1"), EndEvent(response_id="r1", state="complete")]
    run = AgUiRun().read(frames_of(AgUiEncoder(run="r1", client_run="run-of-client"), events))
    assert [(event["type"], event["runId"]) for event in run.events] == [
        ("RUN_STARTED", "run-of-client"),
        ("RUN_FINISHED", "run-of-client"),
    ]


def test_a_page_is_not_asked_for_what_the_provider_runs():
    calls = [
        PartEvent(
            response_id="r1",
            part=part,
            kind="tool_call",
            name="search",
            call_id=f"call-{part}",
            provider_executed=executed,
        )
        for part, executed in enumerate((True, False))
    ]
    end = EndEvent(response_id="r1", state="complete", finish_reason="tool_calls")
    run = AgUiRun().read(
        frames_of(AgUiEncoder(), [StartEvent(response_id="r1", channel="c"), *calls, end])
    )
    assert run.over is not None
    assert run.over["outcome"]["pendingToolCallIds"] == ["call-1"]


def check(run: AgUiRun, log: Log) -> None:
    responses = log.responses()
    lead = log.outcome()
    assert run.over is not None
    if lead.state in ("complete", "cancelled"):
        assert run.over["type"] == "RUN_FINISHED"
        wanted = "success" if lead.state == "complete" else "cancelled"
        assert run.over["outcome"]["type"] == wanted
        assert sum(each["inputTokens"] for each in run.over["usage"]) == 3 * len(responses)
    else:
        assert run.over["type"] == "RUN_ERROR"
        assert run.over["message"] == lead.error
    for response in responses:
        check_response(run, response, log)


def check_response(run: AgUiRun, response: Response, log: Log) -> None:
    def joined(role: str) -> str:
        return "".join(
            each.get("content") or ""
            for each in run.messages
            if each["role"] == role and each["id"].split(":")[0] == response.id
        )

    text = "".join(p.text for p in response.parts if p.kind in ("text", "refusal"))
    assert sorted(joined("assistant")) == sorted(text)
    for index, part in enumerate(response.parts):
        tag = f"{response.id}:{index}"
        if part.kind == "reasoning":
            message = run.message(tag)
            assert message is not None
            assert message["content"] == part.text
        elif part.kind in ("text", "refusal"):
            message = run.message(tag) or run.message(response.id)
            assert message is not None
            assert message["content"] == part.text
        elif part.kind == "tool_call":
            check_tool(run, response, index, log)
        else:
            name = part.name if part.kind == "data" and part.name else part.kind
            values = [each["value"] for each in run.customs if each["name"] == name]
            assert without(part.data) in values


def check_tool(run: AgUiRun, response: Response, index: int, log: Log) -> None:
    part = response.parts[index]
    tags = {part.call_id, f"{part.call_id}:{response.id}:{index}"}
    calls = [call for each in run.messages for call in each.get("toolCalls", ())]
    calls = [call for call in calls if call["id"] in tags]
    wanted = {"name": part.name or "tool", "arguments": part.text}
    assert wanted in [call["function"] for call in calls]
    result = log.results.get(part.call_id or "")
    answers = [e for e in run.messages if e["role"] == "tool" and e["toolCallId"] in tags]
    if result is not None:
        (answer,) = answers
        if result.error is not None:
            assert answer["content"] == result.error
        elif isinstance(result.output, str):
            assert answer["content"] == result.output
