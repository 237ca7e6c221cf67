"""An agent asks before it acts, and exactly one answer counts, whoever gives it."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

import tokenwire
from tokenwire import approvals
from tokenwire.approvals import Answer

PATIENCE = 30.0


@pytest.fixture
def sink() -> Any:
    with tokenwire.open_sink(tokenwire.MemoryBackend(), strict=True) as sink:
        yield sink


async def test_the_first_answer_is_the_decision(sink):
    async with sink.respond("c", response_id="r1") as response:
        request = approvals.ask(response, "send_mail", {"to": "ann"}, message="Send it?")
        waiting = asyncio.create_task(approvals.await_decision(sink, response, request))
        (asked,) = approvals.requests_in((await sink.ahistory("c")).items[0])
        assert asked == request
        assert (asked.tool, asked.input, asked.message) == ("send_mail", {"to": "ann"}, "Send it?")
        answers = [Answer(id=request.id, approved=n == 0, reason=str(n)) for n in range(5)]
        for answer in answers:
            await approvals.answer(sink, "c", answer, sender="u1")
        decision = await waiting
        assert (decision.approved, decision.reason, decision.sender) == (True, "0", "u1")
        again = await approvals.await_decision(sink, response, request)
        assert again == decision
    (stored,) = (await sink.ahistory("c")).items
    assert approvals.decisions_in(stored) == {request.id: decision}
    assert approvals.pending_in([stored]) == []
    (call,) = stored.tool_calls
    assert (call.name, call.call_id) == ("send_mail", request.call_id)


async def test_an_answer_that_names_the_tool_call(sink):
    async with sink.respond("c", response_id="r1") as response:
        for approved in (
            True,
            False,
        ):  # the same call is asked about again: the old answer is no more
            request = approvals.ask(response, "send_mail", call_id="call-1")
            waiting = asyncio.create_task(approvals.await_decision(sink, response, request))
            other = Answer(id="call-2", approved=not approved)
            await approvals.answer(sink, "c", other, sender="u1")
            name = f"answer-{approved}"
            data = {"id": "call-1", "approved": approved}
            await sink.ainput("c", approvals.INPUT, data, sender="u2", id=name)
            decision = await waiting
            assert (decision.id, decision.sender) == (request.id, "u2")
            assert decision.approved is approved
    (stored,) = (await sink.ahistory("c")).items
    assert len(approvals.decisions_in(stored)) == 2


async def test_what_is_no_answer_is_passed_over(sink):
    async with sink.respond("c") as response:
        request = approvals.ask(response, "send_mail", call_id="call-1")
        waiting = asyncio.create_task(approvals.await_decision(sink, response, request))
        for data in (
            None,
            "yes",
            {"id": request.id},
            {"id": request.id, "approved": 1},
            {"approved": True},
        ):
            await sink.ainput("c", approvals.INPUT, data)
        await sink.ainput("c", "other", {"id": request.id, "approved": True})
        await sink.ainput("c", approvals.INPUT, {"id": request.id, "approved": False, "more": 1})
        assert not (await waiting).approved


async def test_a_cancel_ends_the_wait(sink):
    response = sink.respond("c", response_id="r1")
    request = approvals.ask(response, "send_mail", call_id="call-1")
    waiting = asyncio.create_task(approvals.await_decision(sink, response, request))
    await sink.acancel("c", "r1", reason="never mind")
    with pytest.raises(tokenwire.ResponseCancelled, match="never mind"):
        await waiting


async def test_the_end_of_the_response_ends_the_wait(sink):
    with sink.respond("c", response_id="r1") as response:
        request = approvals.ask(response, "send_mail", call_id="call-1")
    with pytest.raises(tokenwire.ResponseClosed):
        await approvals.await_decision(sink, response, request)
    (stored,) = (await sink.ahistory("c")).items
    assert approvals.pending_in([stored]) == [request]


def test_code_in_a_thread_waits_too(sink):
    decided: list[bool] = []
    with sink.respond("c") as response:
        request = approvals.ask(response, "send_mail", call_id="call-1")

        def wait() -> None:
            decided.append(approvals.wait_for_decision(sink, response, request).approved)

        thread = threading.Thread(target=wait)
        thread.start()
        sink.input("c", approvals.INPUT, {"id": request.id, "approved": True})
        thread.join(PATIENCE)
    assert decided == [True]


async def test_a_decision_of_another_process_comes_first(sink):
    """Whoever decides: the first result in the log is the decision."""
    async with sink.respond("c", response_id="r1") as response:
        request = approvals.ask(response, "send_mail", call_id="call-1")
        for approved in (False, True):
            answer = Answer(id=request.id, approved=approved)
            approvals.decide(sink, "c", answer, response_id="r1", response_run="r1", run="run-2")
        decision = await approvals.await_decision(sink, response, request)
    assert (decision.approved, decision.run) == (False, "run-2")


@pytest.mark.parametrize("data", [None, [], {"requested_at": "now"}, {"call_id": 7}])
def test_what_is_no_request(data):
    assert approvals.request_of("send_mail", "ap-1", data) is None
    part = tokenwire.Part(kind=approvals.KIND, name="send_mail", call_id="ap-1", data=data)
    response = tokenwire.Response(id="r1", parts=(part,))
    assert approvals.requests_in(response) == []
