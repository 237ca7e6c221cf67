"""Pages with Ably's AI Transport approve or deny what an agent asks for, and run its tools."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future

import pytest

from tests.adapters.ably.places import sink
from tests.adapters.ably.test_backend_pages import Page
from tests.adapters.ably.test_dialect_pages import asked
from tokenwire import ResponseWriter, Sink, approvals
from tokenwire.approvals import Answer, Approval, ApprovalRequest
from tokenwire.events import Event, InputEvent
from tokenwire.testing import read_until
from tokenwire_adapters.testing.ably import ServerThread, Settings

pytestmark = pytest.mark.slow


@pytest.fixture
def thread() -> Iterator[ServerThread]:
    with ServerThread(settings=Settings(inbound_rate=None)) as thread:
        yield thread


@pytest.fixture
def page(thread: ServerThread) -> Iterator[Page]:
    page = Page(thread, "dialect.cjs", 22)
    yield page
    page.close()


@pytest.fixture
def agent(thread: ServerThread) -> Iterator[Sink]:
    with sink(thread, rate=0, retry=0.05, dialect="ai-transport") as agent:
        yield agent


def waiting(agent: Sink, response: ResponseWriter, request: ApprovalRequest) -> Future[Approval]:
    """The decision, for which a thread waits."""
    future: Future[Approval] = Future()

    def wait() -> None:
        try:
            future.set_result(approvals.wait_for_decision(agent, response, request))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=wait, daemon=True).start()
    return future


def begin(page: Page, agent: Sink) -> ResponseWriter:
    """An answer that has got as far as a tool call."""
    page.do("open", "user", "now")
    page.do("ask", "user", "Delete the file.")
    response = agent.respond("ai:chat", response_id="r", metadata={"input": asked(agent).id})
    response.write("Shall I?")
    response.tool_call("delete", "call-1", '{"path": "a.txt"}')
    return response


@pytest.mark.parametrize("approved", [True, False])
@pytest.mark.parametrize("reloaded", [False, True])
def test_a_page_decides(
    thread: ServerThread, page: Page, agent: Sink, approved: bool, reloaded: bool
) -> None:
    response = begin(page, agent)
    request = approvals.ask(response, "delete", {"path": "a.txt"}, call_id="call-1")
    decision = waiting(agent, response, request)
    page.do("status", "user", "suspended")
    who = "user"
    if reloaded:
        who = "late"
        page.do("open", who, "late")
    part = page.do("tool", who, "call-1", "approval-requested")
    assert part["approval"]["id"] == request.id
    assert part["input"] == {"path": "a.txt"}
    page.do("approve", who, "call-1", "yes" if approved else "no", "said so")
    given = decision.result(60)
    assert (given.approved, given.reason) == (approved, "said so")
    page.do("started", who)
    page.do("status", who, "active")
    with response:
        if approved:
            page.do("tool", who, "call-1", "approval-responded")
            response.tool_result("call-1", "gone")
        response.write(" Done." if approved else " Left alone.")
    assert response.wait(60).status in ("delivered", "recovered")
    page.do("open", "later", "late")
    for each in {"user", who, "later"}:
        state = "output-available" if approved else "output-denied"
        page.do("tool", each, "call-1", state)
        page.do("text", each, "Shall I?" + (" Done." if approved else " Left alone."))
    page.do("status", who, "complete")
    roles = [message["role"] for message in page.do("messages", "later")]
    assert roles == ["user", "assistant"]
    (kept,) = agent.history("ai:chat").items
    assert kept.state == "complete"
    assert approvals.decisions_in(kept)[request.id].approved is approved


@pytest.mark.parametrize(("fault", "amount"), [("nack_every", 4), ("disconnect_every", 2.0)])
def test_a_page_decides_while_publishing_fails(
    thread: ServerThread, page: Page, agent: Sink, fault: str, amount: float
) -> None:
    thread.fault(fault, amount)
    response = begin(page, agent)
    request = approvals.ask(response, "delete", {"path": "a.txt"}, call_id="call-1")
    decision = waiting(agent, response, request)
    page.do("tool", "user", "call-1", "approval-requested")
    page.do("status", "user", "suspended")
    thread.fault(fault, 0)
    page.do("approve", "user", "call-1", "yes")
    thread.fault(fault, amount)
    assert decision.result(60).approved
    response.tool_result("call-1", "gone")
    response.write(" Done.")
    response.finish()
    assert response.wait(60).status in ("delivered", "recovered")
    thread.fault(fault, 0)
    page.do("status", "user", "complete")
    page.do("open", "late", "late")
    for who in ("user", "late"):
        page.do("tool", who, "call-1", "output-available")
        page.do("text", who, "Shall I? Done.")


@pytest.mark.parametrize("approved", [True, False])
def test_somebody_else_decides(
    thread: ServerThread, page: Page, agent: Sink, approved: bool
) -> None:
    """A page of the gateway, say: pages of AI Transport show it too."""
    response = begin(page, agent)
    request = approvals.ask(response, "delete", {"path": "a.txt"}, call_id="call-1")
    decision = waiting(agent, response, request)
    page.do("tool", "user", "call-1", "approval-requested")
    with sink(thread, "other") as other:
        asyncio.run(approvals.answer(other, "ai:chat", Answer(id=request.id, approved=approved)))
    assert decision.result(60).approved is approved
    state = "approval-responded" if approved else "output-denied"
    page.do("tool", "user", "call-1", state)
    page.do("status", "user", "active")
    response.write(" So be it.")
    response.finish()
    page.do("status", "user", "complete")
    page.do("open", "late", "late")
    page.do("text", "late", "Shall I? So be it.")
    page.do("tool", "late", "call-1", state)


def test_the_first_answer_of_two_tabs_counts(page: Page, agent: Sink) -> None:
    response = begin(page, agent)
    page.do("open", "tab", "late")
    request = approvals.ask(response, "delete", {"path": "a.txt"}, call_id="call-1")
    for who in ("user", "tab"):
        page.do("tool", who, "call-1", "approval-requested")
    page.do("approve", "user", "call-1", "yes")
    page.do("tool", "tab", "call-1", "approval-responded")
    page.do("approve", "tab", "call-1", "no")
    decision = waiting(agent, response, request)
    assert decision.result(60).approved
    response.tool_result("call-1", "gone")
    response.finish()
    for who in ("user", "tab"):
        page.do("status", who, "complete")
        page.do("tool", who, "call-1", "output-available")


def test_two_requests_at_once(page: Page, agent: Sink) -> None:
    response = begin(page, agent)
    first = approvals.ask(response, "delete", {"path": "a.txt"}, call_id="call-1", more=True)
    second = approvals.ask(response, "delete", {"path": "b.txt"}, call_id="call-2")
    decisions = [waiting(agent, response, request) for request in (first, second)]
    page.do("status", "user", "suspended")
    page.do("tool", "user", "call-1", "approval-requested")
    shown = page.do("tool", "user", "call-2", "approval-requested")
    assert shown["input"] == {"path": "b.txt"}  # nobody wrote this call: the request shows it
    page.do("approve", "user", "call-2", "no")
    assert not decisions[1].result(60).approved
    page.do("approve", "user", "call-1", "yes")
    assert decisions[0].result(60).approved
    response.finish()
    page.do("status", "user", "complete")
    page.do("open", "late", "late")
    for who in ("user", "late"):
        page.do("tool", who, "call-1", "approval-responded")
        page.do("tool", who, "call-2", "output-denied")


def test_a_cancel_while_nobody_has_answered(page: Page, agent: Sink) -> None:
    response = begin(page, agent)
    approvals.ask(response, "delete", {"path": "a.txt"}, call_id="call-1")
    page.do("status", "user", "suspended")
    page.do("cancel", "user")
    assert response.wait(60).status == "delivered"
    assert response.cancelled
    page.do("status", "user", "cancelled")
    page.do("seen", "user", "ai-output abort")


def results(agent: Sink, count: int) -> list[InputEvent]:
    """The first results of tools that pages gave."""
    found: list[InputEvent] = []

    def enough(event: Event) -> bool:
        assert isinstance(event, InputEvent)
        if event.name in ("tool-result", "tool-result-error"):
            found.append(event)
        return len(found) >= count

    watch = agent.watch("ai:chat", rewind="all", types={"input"})
    read_until(watch, enough)
    watch.close()
    return found


@pytest.mark.parametrize("given", ['{"output": {"degrees": 4}}', '{"errorMessage": "no network"}'])
def test_a_page_runs_a_tool(page: Page, agent: Sink, given: str) -> None:
    response = begin(page, agent)
    response.finish("tool_calls")
    page.do("status", "user", "suspended")
    page.do("tool", "user", "call-1", "input-available")
    page.do("result", "user", "call-1", given)
    (event,) = results(agent, 1)
    assert event.data["toolCallId"] == "call-1"
    assert event.sender == "user"
    if "output" in given:
        assert event.data["output"] == {"degrees": 4}
    else:
        assert event.data["message"] == "no network"
    with agent.respond("ai:chat", metadata={"input": event.id}) as going_on:
        going_on.write(" Thank you.")
    assert page.do("started", "user") == "r"
    page.do("status", "user", "complete")
    page.do("open", "late", "late")
    for who in ("user", "late"):
        page.do("text", who, " Thank you.")
        state = "output-available" if "output" in given else "output-error"
        page.do("tool", who, "call-1", state)


def test_two_tabs_run_a_tool(page: Page, agent: Sink) -> None:
    """The result that comes first is what the agent gets; the run goes on once, for both."""
    response = begin(page, agent)
    response.finish("tool_calls")
    page.do("open", "tab", "late")
    page.do("tool", "tab", "call-1", "input-available")
    page.do("result", "user", "call-1", '{"output": 1}')
    page.do("tool", "tab", "call-1", "output-available")
    page.do("result", "tab", "call-1", '{"output": 2}')
    page.do("ask", "tab", "And now?")
    assert asked(agent, text="And now?")
    watch = agent.watch("ai:chat", rewind="all", types={"input"})
    events = read_until(
        watch,
        lambda event: isinstance(event, InputEvent) and event.data.get("text") == "And now?",
    )
    watch.close()
    inputs = [event for event in events if isinstance(event, InputEvent)]
    (event,) = [event for event in inputs if event.name == "tool-result"]
    assert event.data["output"] == 1


def test_a_result_in_a_run_of_its_own(page: Page, agent: Sink) -> None:
    """As `useChat` gives it, over Ably's transport."""
    response = begin(page, agent)
    response.finish("tool_calls")
    page.do("tool", "user", "call-1", "input-available")
    page.do("fork", "user", "call-1", '{"degrees": 4}')
    (event,) = results(agent, 1)
    with agent.respond("ai:chat", response_id="r2", metadata={"input": event.id}) as going_on:
        going_on.write(" Thank you.")
    assert page.do("started", "user") == "r2"
    page.do("status", "user", "complete")
    page.do("open", "late", "late")
    for who in ("user", "late"):
        page.do("text", who, " Thank you.")
        part = page.do("tool", who, "call-1", "output-available")
        assert part["output"] == {"degrees": 4}


def test_the_agent_runs_its_tool_after_the_answer(page: Page, agent: Sink) -> None:
    """Two responses of one run are one run for pages as well."""
    page.do("open", "user", "now")
    page.do("ask", "user", "How is the weather?")
    metadata = {"input": asked(agent).id}
    with agent.respond("ai:chat", response_id="r", run="run-1", metadata=metadata) as response:
        response.tool_call("weather", "call-1", '{"city": "Oslo"}')
        response.finish("tool_calls")
    assert response.wait(60).status == "delivered"
    agent.tool_result("ai:chat", "call-1", {"degrees": 4}, response_id="r")
    with agent.respond("ai:chat", run="run-1") as going_on:
        going_on.write("Cold.")
    page.do("text", "user", "Cold.")
    page.do("status", "user", "complete")
    page.do("open", "late", "late")
    for who in ("user", "late"):
        page.do("text", who, "Cold.")
        assert page.do("tool", who, "call-1", "output-available")["output"] == {"degrees": 4}


def test_a_cancel_of_a_run_that_went_on(page: Page, agent: Sink) -> None:
    response = begin(page, agent)
    response.finish("tool_calls")
    page.do("tool", "user", "call-1", "input-available")
    page.do("result", "user", "call-1", '{"output": 1}')
    (event,) = results(agent, 1)
    going_on = agent.respond("ai:chat", metadata={"input": event.id})
    going_on.write("on and on")
    page.do("text", "user", "on and on")
    page.do("cancel", "user")
    assert going_on.wait(60).status == "delivered"
    assert going_on.cancelled
    page.do("status", "user", "cancelled")
