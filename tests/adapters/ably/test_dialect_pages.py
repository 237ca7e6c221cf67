"""Pages with Ably's own AI Transport show a Python agent's tokens, tools and reasoning."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette

from tests.adapters.ably.places import backend, sink
from tests.adapters.ably.test_backend_pages import Page
from tests.adapters.gateway.support import serving
from tests.support.pages import code_blocks
from tokenwire import Sink
from tokenwire.events import Event, InputEvent
from tokenwire.testing import FaultyBackend, read_until
from tokenwire_adapters.testing.ably import ServerThread, Settings

pytestmark = pytest.mark.slow

TOKENS = [f" tök{i} 🙂" for i in range(60)]
TEXT = "".join(TOKENS)


@pytest.fixture
def thread() -> Iterator[ServerThread]:
    with ServerThread(settings=Settings(inbound_rate=None)) as created:
        yield created


@pytest.fixture
def page(thread: ServerThread) -> Iterator[Page]:
    created = Page(thread, "dialect.cjs", 22)
    yield created
    created.close()


@pytest.fixture
def agent(thread: ServerThread) -> Iterator[Sink]:
    with sink(thread, rate=0, retry=0.05, dialect="ai-transport") as created:
        yield created


def asked(agent: Sink, **fields: str) -> InputEvent:
    """The first question in the channel whose data has these fields."""

    def wanted(event: Event) -> bool:
        assert isinstance(event, InputEvent)
        return all(event.data.get(name) == value for name, value in fields.items())

    watch = agent.watch("ai:chat", rewind="all", types={"input"})
    event = read_until(watch, wanted)[-1]
    watch.close()
    assert isinstance(event, InputEvent)
    return event


def check_whole(messages: list[dict[str, Any]]) -> None:
    assert [message["role"] for message in messages] == ["user", "assistant"]
    parts = messages[-1]["parts"]
    texts = [part["text"] for part in parts if part["type"] == "text"]
    assert "".join(texts) == "Before." + TEXT
    assert [p["text"] for p in parts if p["type"] == "reasoning"] == ["Let me think."]
    (tool,) = [part for part in parts if part["type"] in ("tool-weather", "dynamic-tool")]
    assert tool["toolCallId"] == "call-1"
    assert tool["input"] == {"city": "Oslo"}
    assert tool["output"] == {"degrees": 4}
    assert tool["state"] == "output-available"
    (chart,) = [part for part in parts if part["type"] == "data-chart"]
    assert chart["data"] == {"points": [1, 2]}


@pytest.mark.parametrize("fault", ["", "nack_every", "disconnect_every"])
def test_a_run(thread: ServerThread, page: Page, agent: Sink, fault: str) -> None:
    page.do("open", "user", "now")
    page.do("ask", "user", "How is the weather?")
    question = asked(agent)
    assert (question.name, question.sender) == ("message", "user")
    assert question.data["text"] == "How is the weather?"
    if fault:
        thread.fault(fault, 10 if fault == "nack_every" else 0.3)
    with agent.respond("ai:chat", response_id="r", metadata={"input": question.id}) as response:
        response.write("Let me think.", kind="reasoning")
        response.write("Before.")
        call = response.tool_call("weather", "call-1", '{"city"')
        agent.flush(30)
        call.write(': "Oslo"}')
        response.tool_result("call-1", {"degrees": 4}, name="weather")
        response.data_part("chart", {"points": [1, 2]})
        for step, token in enumerate(TOKENS):
            response.write(token)
            if step % 10 == 0:
                agent.flush(30)
            if step == 30 and not fault:
                page.do("open", "reloaded", "late")
                page.do("text", "reloaded", "Before." + "".join(TOKENS[:31]))
        thread.fault("disconnect_every", 0)
        response.finish("stop")
    assert response.wait(60).status in ("delivered", "recovered")
    page.do("started", "user")
    page.do("status", "user", "complete")
    page.do("text", "user", "Before." + TEXT)
    check_whole(page.do("messages", "user"))
    page.do("open", "late", "late")
    page.do("text", "late", "Before." + TEXT)
    check_whole(page.do("messages", "late"))
    (kept,) = agent.history("ai:chat").items
    assert (kept.text, kept.reasoning, kept.state) == (
        "Before." + TEXT,
        "Let me think.",
        "complete",
    )
    assert kept.tool_results[0].output == {"degrees": 4}
    assert kept.parts[3].data == {"points": [1, 2]}


def test_a_long_answer_goes_on_in_another_stream(
    thread: ServerThread, page: Page, agent: Sink
) -> None:
    page.do("open", "user", "now")
    page.do("ask", "user", "Tell me everything.")
    asked(agent)
    with agent.respond("ai:chat") as response:
        for _ in range(100):
            response.write("0123456789" * 150)
    assert response.wait(60).status == "delivered"
    page.do("text", "user", "0123456789" * 15000)
    page.do("open", "late", "late")
    page.do("text", "late", "0123456789" * 15000)


def test_a_page_cancels(thread: ServerThread, page: Page, agent: Sink) -> None:
    page.do("open", "user", "now")
    page.do("ask", "user", "Go on for ever.")
    asked(agent)
    response = agent.respond("ai:chat", response_id="r")
    response.write("on and on")
    assert agent.flush(30)
    assert page.do("started", "user") == "r"
    page.do("text", "user", "on and on")
    page.do("cancel", "user")
    assert response.wait(60).status == "delivered"
    assert response.cancelled
    page.do("status", "user", "cancelled")
    assert agent.history("ai:chat").items[0].state == "cancelled"
    page.do("open", "late", "late")
    page.do("text", "late", "on and on")


def test_a_cancel_before_the_run_begins(thread: ServerThread, page: Page, agent: Sink) -> None:
    page.do("open", "user", "now")
    page.do("ask", "user", "No, forget it.")
    question = asked(agent)
    page.do("cancel", "user")
    response = agent.respond("ai:chat", metadata={"input": question.id})
    response.write("never mind")
    assert response.wait(60).status == "delivered"
    assert response.cancelled
    page.do("status", "user", "cancelled")


def test_a_failure(thread: ServerThread, page: Page, agent: Sink) -> None:
    page.do("open", "user", "now")
    page.do("ask", "user", "Fail, please.")
    asked(agent)
    with agent.respond("ai:chat") as response:
        response.write("so far")
        response.fail("the model is away")
    response.wait(60)
    page.do("started", "user")
    page.do("status", "user", "error")
    page.do("text", "user", "so far")


@pytest.mark.slow
def test_a_producer_that_dies(thread: ServerThread, page: Page, agent: Sink) -> None:
    page.do("open", "user", "now")
    page.do("ask", "user", "Are you there?")
    killable = FaultyBackend(backend(thread, dialect="ai-transport"))
    dying = Sink(killable, lease=2.0, close_timeout=0.1)
    question = asked(agent)
    response = dying.respond("ai:chat", response_id="r", metadata={"input": question.id})
    response.write("last words")
    assert dying.flush(30)
    page.do("text", "user", "last words")
    killable.kill()
    # Whoever ends it for its producer may leave at once: the page must not depend on its staying.
    thread.fault("delay_rest", 0.3)
    with sink(thread, "viewer", lease=2.0) as viewer:
        watch = viewer.watch("ai:chat", response_id="r")
        last = read_until(watch, lambda event: event.type == "end")[-1]
        assert last.state == "abandoned"
    page.do("status", "user", "error")
    dying.close()


def test_a_conversation_goes_on(thread: ServerThread, page: Page, agent: Sink) -> None:
    page.do("open", "user", "now")
    for number in range(3):
        page.do("ask", "user", f"Question {number}?")
        watch = agent.watch("ai:chat", rewind="all", types={"input"})
        wanted = f"Question {number}?"
        event = read_until(watch, lambda e, wanted=wanted: e.data.get("text") == wanted)[-1]
        watch.close()
        with agent.respond("ai:chat", metadata={"input": event.id}) as response:
            response.write(f"Answer {number}.")
        assert response.wait(60).status == "delivered"
        page.do("text", "user", f"Answer {number}.")
    page.do("open", "late", "late")
    roles = [message["role"] for message in page.do("messages", "late")]
    assert roles == ["user", "assistant"] * 3


@pytest.mark.parametrize(
    ("reason", "shown"),
    [
        ("stop", "stop"),
        ("end_turn", "stop"),
        ("completed", "stop"),
        (None, "stop"),
        ("max_tokens", "length"),
        ("refusal", "content-filter"),
        ("tool_calls", "tool-calls"),
        ("something else", "other"),
    ],
)
def test_finish_reasons_and_usage(
    thread: ServerThread, page: Page, agent: Sink, reason: str | None, shown: str
) -> None:
    page.do("open", "user", "now")
    page.do("ask", "user", "How much was it?")
    asked(agent)
    with agent.respond("ai:chat", response_id="r", run="run-1") as response:
        response.write("All of it.")
        response.finish(reason, usage={"prompt_tokens": 7, "completion_tokens": 3})
    assert response.wait(60).status == "delivered"
    page.do("status", "user", "complete")
    assert page.do("metadata", "user", "state") == {
        "run": "run-1",
        "state": "complete",
        "usage": {"inputTokens": 7, "outputTokens": 3, "totalTokens": 10},
    }
    assert page.do("finished", "user") == [shown]


@pytest.mark.parametrize("state", ["cancelled", "failed"])
def test_the_metadata_of_what_was_not_completed(
    thread: ServerThread, page: Page, agent: Sink, state: str
) -> None:
    page.do("open", "user", "now")
    page.do("ask", "user", "How much was it?")
    asked(agent)
    with agent.respond("ai:chat") as response:
        response.write("So far")
        if state == "cancelled":
            agent.cancel("ai:chat", response.id)
        else:
            response.fail("the model is away")
    response.wait(60)
    page.do("status", "user", "error" if state == "failed" else "cancelled")
    assert page.do("metadata", "user", "state")["state"] == state


def test_sources_and_files(thread: ServerThread, page: Page, agent: Sink) -> None:
    page.do("open", "user", "now")
    page.do("ask", "user", "Where is that written?")
    asked(agent)
    link = {"type": "url_citation", "url": "https://example.com/a", "title": "A page"}
    paper = {"type": "file_citation", "filename": "paper.pdf", "media_type": "application/pdf"}
    picture = {"media_type": "image/png", "data": "aGVsbG8="}
    unshown = {"file_id": "file-1"}
    with agent.respond("ai:chat", response_id="r") as response:
        response.write("Here:")
        response.part("source", data=link)
        response.part("source", data=paper)
        response.part("file", data=picture)
        response.part("file", data=unshown)
        response.write("Seen?")
    assert response.wait(60).status == "delivered"
    page.do("open", "late", "late")
    for who in ("user", "late"):
        page.do("text", who, "Here:Seen?")
        parts = page.do("messages", who)[-1]["parts"]
        (source,) = [part for part in parts if part["type"] == "source-url"]
        assert (source["url"], source["title"]) == (link["url"], "A page")
        (document,) = [part for part in parts if part["type"] == "source-document"]
        assert (document["mediaType"], document["filename"]) == ("application/pdf", "paper.pdf")
        (file,) = [part for part in parts if part["type"] == "file"]
        assert (file["mediaType"], file["url"]) == ("image/png", "data:image/png;base64,aGVsbG8=")
        (data,) = [part for part in parts if part["type"].startswith("data-")]
        assert data["data"] == unshown
    (kept,) = agent.history("ai:chat").items
    held = [part.data for part in kept.parts if part.data is not None]
    assert held == [link, paper, picture, unshown]


def test_an_answer_is_given_again(thread: ServerThread, page: Page, agent: Sink) -> None:
    page.do("open", "user", "now")
    page.do("ask", "user", "How is the weather?")
    with agent.respond("ai:chat", metadata={"input": asked(agent).id}) as response:
        response.write("Wet.")
    page.do("text", "user", "Wet.")
    page.do("status", "user", "complete")
    page.do("regenerate", "user")
    again = asked(agent, kind="regenerate")
    assert again.name == "regenerate"
    with agent.respond("ai:chat", metadata={"input": again.id}) as response:
        response.write("Dry.")
    page.do("started", "user")
    page.do("status", "user", "complete")
    page.do("open", "late", "late")
    for who in ("user", "late"):
        page.do("text", who, "Dry.")
        assert [m["role"] for m in page.do("messages", who)] == ["user", "assistant"]
        assert page.do("versions", who, "assistant") == [2, 1]
    page.do("versions", "user", "assistant", "0")
    page.do("text", "user", "Wet.")


def test_a_question_is_asked_in_other_words(thread: ServerThread, page: Page, agent: Sink) -> None:
    page.do("open", "user", "now")
    page.do("ask", "user", "How is the weather?")
    with agent.respond("ai:chat", metadata={"input": asked(agent).id}) as response:
        response.write("Wet.")
    page.do("text", "user", "Wet.")
    page.do("edit", "user", "How is the food?")
    with agent.respond(
        "ai:chat", metadata={"input": asked(agent, text="How is the food?").id}
    ) as response:
        response.write("Good.")
    page.do("started", "user")
    page.do("status", "user", "complete")
    page.do("open", "late", "late")
    for who in ("user", "late"):
        page.do("text", who, "Good.")
        assert [m["role"] for m in page.do("messages", who)] == ["user", "assistant"]
        assert page.do("versions", who, "user") == [2, 1]
    page.do("versions", "user", "user", "0")
    page.do("text", "user", "Wet.")


def test_the_route_that_wakes_the_agent(thread: ServerThread, page: Page, agent: Sink) -> None:
    """What `createChatTransport` POSTs is answered by the route of docs/ably.md."""
    text = (Path(__file__).parents[3] / "docs" / "ably.md").read_text("utf-8")
    (code,) = [code for code in code_blocks(text, "python") if "/api/chat" in code]
    names: dict[str, Any] = {}
    exec(code, names)
    page.do("open", "user", "now")
    with serving(Starlette(routes=names["routes"])) as server:
        page.do("chat", "user", f"{server.url}/api/chat", "How is the weather?")
        question = asked(agent, text="How is the weather?")
        with agent.respond("ai:chat", metadata={"input": question.id}) as response:
            response.write("Wet.")
        message = page.do("chatted", "user")
    assert [part["text"] for part in message["parts"] if part["type"] == "text"] == ["Wet."]
