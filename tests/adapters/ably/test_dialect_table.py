"""Each row of the tables in docs/ably.md of what AI Transport shows and sends, with its client."""

from __future__ import annotations

import queue
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response as HttpResponse
from starlette.routing import Route

from tests.adapters.ably.places import sink
from tests.adapters.ably.test_backend_pages import FOLDER, Page
from tests.adapters.ably.test_dialect_approvals import results, waiting
from tests.adapters.ably.test_dialect_pages import asked
from tests.adapters.gateway.support import serving
from tests.support.nodejs import node_with
from tokenwire import ResponseWriter, Sink, approvals
from tokenwire.events import Event, InputEvent
from tokenwire.testing import read_until
from tokenwire_adapters.testing.ably import ServerThread, Settings

pytestmark = pytest.mark.slow

DOCS = Path(__file__).parents[3] / "docs" / "ably.md"

Scenario = Callable[["Scene"], None]
ROWS: dict[str, Scenario] = {}


class Scene:
    """A page that has asked, and an agent."""

    def __init__(self, thread: ServerThread, page: Page, agent: Sink) -> None:
        self.thread = thread
        self.page = page
        self.agent = agent

    def ask(self) -> ResponseWriter:
        """Let the page ask; return the response to it."""
        self.page.do("open", "user", "now")
        self.page.do("ask", "user", "How is the weather?")
        metadata = {"input": asked(self.agent).id}
        return self.agent.respond("ai:chat", response_id="r", metadata=metadata)

    def parts(self, kind: str, *, state: str = "complete") -> dict[str, Any]:
        """The one part of a kind, the same live and on a page that comes late."""
        self.page.do("status", "user", state)
        self.page.do("open", "late", "late")
        found: list[Any] = []
        for who in ("user", "late"):
            self.page.do("metadata", who, "state")
            parts = self.page.do("messages", who)[-1]["parts"]
            found += [part for part in parts if part["type"] == kind]
        assert len(found) == 2
        assert found[0] == found[1]
        part: dict[str, Any] = found[0]
        return part

    def input(self, name: str) -> InputEvent:
        """The first input with a name."""
        watch = self.agent.watch("ai:chat", rewind="all", types={"input"})

        def wanted(event: Event) -> bool:
            return isinstance(event, InputEvent) and event.name == name

        event = read_until(watch, wanted)[-1]
        watch.close()
        assert isinstance(event, InputEvent)
        return event


def row(*names: str) -> Callable[[Scenario], Scenario]:
    """Register what tries a row; `names` are the codes in its first cell."""

    def register(scenario: Scenario) -> Scenario:
        ROWS[" ".join(names)] = scenario
        return scenario

    return register


# -- what an agent produces


@row("text", "start", "start-step", "finish-step")
def text(scene: Scene) -> None:
    with scene.ask() as response:
        response.write("Hel")
        response.write("lo")
    assert scene.parts("text") == {"type": "text", "text": "Hello"}
    assert scene.page.do("messages", "late")[-1]["id"] == "r"
    assert scene.page.do("messages", "late")[-1]["parts"][0] == {"type": "step-start"}
    for kind in ("start", "start-step", "finish-step"):
        scene.page.do("seen", "user", f"ai-output {kind}")


@row("reasoning")
def reasoning(scene: Scene) -> None:
    with scene.ask() as response:
        response.write("Let me think.", kind="reasoning")
    assert scene.parts("reasoning")["text"] == "Let me think."


@row("tool-input", "tool-output-available")
def tool(scene: Scene) -> None:
    with scene.ask() as response:
        response.tool_call("weather", "call-1", '{"city": "Oslo"}')
        response.tool_result("call-1", {"degrees": 4})
    part = scene.parts("tool-weather")
    assert (part["state"], part["input"]) == ("output-available", {"city": "Oslo"})
    assert part["output"] == {"degrees": 4}


@row("tool-output-error")
def tool_error(scene: Scene) -> None:
    with scene.ask() as response:
        response.tool_call("weather", "call-1", '{"city": "Oslo"}')
        response.tool_result("call-1", error="no network")
    part = scene.parts("tool-weather")
    assert (part["state"], part["errorText"]) == ("output-error", "no network")


@row("providerExecuted")
def provider_tool(scene: Scene) -> None:
    with scene.ask() as response:
        response.tool_call("web_search", "call-1", '{"q": "x"}', provider_executed=True)
        response.tool_result("call-1", ["found"])
    assert scene.parts("tool-web_search")["providerExecuted"] is True


@row("tool-approval-request", "approvalId", "ai-run-suspend", "ai-run-resume")
def approval(scene: Scene) -> None:
    with scene.ask() as response:
        request = approvals.ask(response, "delete", {"path": "a.txt"})
        scene.page.do("status", "user", "suspended")
        call = request.call_id
        assert call is not None
        part = scene.page.do("tool", "user", call, "approval-requested")
        assert (part["approval"]["id"], part["input"]) == (request.id, {"path": "a.txt"})
        decision = waiting(scene.agent, response, request)
        scene.page.do("approve", "user", call, "yes")
        assert decision.result(60).approved
        response.tool_result(call, "gone")
    assert scene.parts("tool-delete")["output"] == "gone"
    for name in ("ai-run-suspend", "ai-run-resume"):
        scene.page.do("seen", "user", name)
    assert scene.page.do("steps", "user") == ["complete", "complete"]


@row("tool-output-denied")
def denied(scene: Scene) -> None:
    with scene.ask() as response:
        request = approvals.ask(response, "delete", {"path": "a.txt"})
        decision = waiting(scene.agent, response, request)
        with sink(scene.thread, "other") as other:
            other.input("ai:chat", "approval", {"id": request.id, "approved": False})
        assert not decision.result(60).approved
        response.write("Left alone.")
    assert scene.parts("tool-delete")["state"] == "output-denied"


@row("source-url", "source-document")
def sources(scene: Scene) -> None:
    with scene.ask() as response:
        response.part("source", data={"url": "https://example.com/a", "title": "A page"})
        response.part("source", data={"filename": "a.pdf", "media_type": "application/pdf"})
    source = scene.parts("source-url")
    assert (source["url"], source["title"]) == ("https://example.com/a", "A page")
    document = [p for p in scene.page.do("messages", "late")[-1]["parts"] if "filename" in p]
    assert [(d["type"], d["mediaType"]) for d in document] == [
        ("source-document", "application/pdf")
    ]


@row("file")
def file(scene: Scene) -> None:
    with scene.ask() as response:
        response.part("file", data={"media_type": "image/png", "base64": "aGVsbG8="})
    part = scene.parts("file")
    assert (part["mediaType"], part["url"]) == ("image/png", "data:image/png;base64,aGVsbG8=")


@row("data-*")
def data(scene: Scene) -> None:
    with scene.ask() as response:
        response.data_part("chart", {"points": [1, 2]})
    assert scene.parts("data-chart")["data"] == {"points": [1, 2]}


@row("message-metadata", "messageMetadata")
def metadata(scene: Scene) -> None:
    with scene.ask() as response:
        response.part("metadata", data={"model": "m-1"})
        response.write("Hello")
        response.part("metadata", data={"too": "x" * 20_000})
        response.part("metadata", data={"cost": 2})
        response.finish("stop", usage={"input_tokens": 7, "output_tokens": 3})
    usage = {"inputTokens": 7, "outputTokens": 3, "totalTokens": 10}
    wanted = {"model": "m-1", "cost": 2, "run": "r", "state": "complete", "usage": usage}
    assert scene.parts("text")["text"] == "Hello"
    shown = [part["type"] for part in scene.page.do("messages", "late")[-1]["parts"]]
    assert shown == ["step-start", "text"]
    for who in ("user", "late"):
        assert scene.page.do("metadata", who, "state") == wanted
    scene.page.do("seen", "user", "ai-output message-metadata")


@row("finish", "finishReason")
def finish(scene: Scene) -> None:
    with scene.ask() as response:
        response.write("Hel")
        response.finish("max_tokens")
    assert scene.parts("text")["text"] == "Hel"
    assert scene.page.do("finished", "user") == ["length"]


@row("error", "error-code", "error-message")
def error(scene: Scene) -> None:
    with scene.ask() as response:
        response.write("So far")
        response.fail("the model is away")
    assert scene.parts("text", state="error")["text"] == "So far"
    assert scene.page.do("error", "user") == "the model is away"
    scene.page.do("seen", "user", "ai-output error")


@row("abort")
def abort(scene: Scene) -> None:
    response = scene.ask()
    response.write("So far")
    scene.page.do("text", "user", "So far")
    scene.agent.cancel("ai:chat", "r", reason="enough")
    assert response.wait(60).status == "delivered"
    assert scene.parts("text", state="cancelled")["text"] == "So far"
    scene.page.do("seen", "user", "ai-output abort")


@row("ai-run-start", "ai-run-end", "run-reason", "ai-step-start", "ai-step-end", "step-reason")
def lifecycle(scene: Scene) -> None:
    with scene.ask() as response:
        response.write("Hello")
    assert scene.page.do("started", "user") == "r"
    scene.page.do("status", "user", "complete")
    assert scene.page.do("steps", "user") == ["complete"]


@row("parent", "fork-of", "msg-regenerate")
def branches(scene: Scene) -> None:
    with scene.ask() as response:
        response.write("Wet.")
    scene.page.do("status", "user", "complete")
    scene.page.do("regenerate", "user")
    again = asked(scene.agent, kind="regenerate")
    with scene.agent.respond("ai:chat", metadata={"input": again.id}) as response:
        response.write("Dry.")
    scene.page.do("started", "user")
    scene.page.do("status", "user", "complete")
    assert scene.page.do("versions", "user", "assistant") == [2, 1]
    scene.page.do("edit", "user", "How is the food?")
    edited = asked(scene.agent, text="How is the food?")
    with scene.agent.respond("ai:chat", metadata={"input": edited.id}) as response:
        response.write("Good.")
    scene.page.do("started", "user")
    scene.page.do("status", "user", "complete")
    scene.page.do("open", "late", "late")
    for who in ("user", "late"):
        scene.page.do("text", who, "Good.")
        assert scene.page.do("versions", who, "user") == [2, 1]


@row("steer-codec-message-ids")
def steered(scene: Scene) -> None:
    response = scene.ask()
    response.write("It is ")
    scene.page.do("text", "user", "It is ")
    scene.page.do("started", "user")
    scene.page.do("steer", "user", "In French, please.")
    event = scene.input("steer")
    assert (event.data["text"], event.data["run-id"]) == ("In French, please.", "r")
    response.part("metadata", data={"inputs": [event.id]})
    response.write("froid.")
    response.finish()
    assert scene.page.do("steered", "user") == {"consumed": True, "runTerminalReason": "complete"}
    scene.page.do("status", "user", "complete")


# -- what a page sends


@row("user-message", "view.send")
def user_message(scene: Scene) -> None:
    scene.page.do("open", "user", "now")
    parts = (
        '[{"type": "text", "text": "What is this?"},'
        ' {"type": "file", "mediaType": "image/png", "url": "data:image/png;base64,aGVsbG8="},'
        ' {"type": "data-place", "id": "p", "data": {"city": "Oslo"}}]'
    )
    live = scene.agent.watch("ai:chat", types={"input"})
    live.open()
    scene.page.do("send", "user", parts)
    event = read_until(live, lambda event: event.type == "input")[-1]
    late = scene.input("message")
    for one in (event, late):
        assert isinstance(one, InputEvent)
        assert one.data["text"] == "What is this?"
        assert one.data["parts"] == [
            {"type": "text", "text": "What is this?"},
            {"type": "file", "mediaType": "image/png", "url": "data:image/png;base64,aGVsbG8="},
            {"type": "data-place", "data": {"city": "Oslo"}, "id": "p"},
        ]
    scene.page.do("ask", "user", "And now?")
    following = read_until(live, lambda event: event.type == "input")[-1]
    live.close()
    assert isinstance(following, InputEvent)
    assert following.data["text"] == "And now?"  # the parts came as one input


@row("regenerate", "view.regenerate")
def regenerate(scene: Scene) -> None:
    branches(scene)


@row("view.edit")
def edit(scene: Scene) -> None:
    branches(scene)


@row("tool-approval-response")
def approval_response(scene: Scene) -> None:
    with scene.ask() as response:
        request = approvals.ask(response, "delete", {"path": "a.txt"})
        scene.page.do("status", "user", "suspended")
        call = request.call_id
        assert call is not None
        decision = waiting(scene.agent, response, request)
        scene.page.do("approve", "user", call, "no", "too risky")
        given = decision.result(60)
        assert (given.approved, given.reason, given.sender) == (False, "too risky", "user")
    assert scene.parts("tool-delete")["state"] == "output-denied"


@row("tool-result", "tool-result-error")
def tool_results(scene: Scene) -> None:
    with scene.ask() as response:
        response.tool_call("locate", "call-1", "{}")
        response.tool_call("measure", "call-2", "{}")
        response.finish("tool_calls")
    scene.page.do("status", "user", "suspended")
    scene.page.do("tool", "user", "call-2", "input-available")
    scene.page.do("result", "user", "call-1", '{"output": {"city": "Oslo"}}')
    scene.page.do("result", "user", "call-2", '{"errorMessage": "no sensor"}')
    first, second = results(scene.agent, 2)
    assert (first.data["toolCallId"], first.data["output"]) == ("call-1", {"city": "Oslo"})
    assert (second.data["toolCallId"], second.data["message"]) == ("call-2", "no sensor")
    with scene.agent.respond("ai:chat", metadata={"input": second.id}) as going_on:
        going_on.write("Thank you.")
    assert scene.parts("text")["text"] == "Thank you."
    scene.page.do("tool", "late", "call-1", "output-available")
    scene.page.do("tool", "late", "call-2", "output-error")


@row("createToolResultFork", "supersedes")
def fork(scene: Scene) -> None:
    with scene.ask() as response:
        response.tool_call("locate", "call-1", "{}")
        response.finish("tool_calls")
    scene.page.do("tool", "user", "call-1", "input-available")
    scene.page.do("fork", "user", "call-1", '{"city": "Oslo"}')
    (event,) = results(scene.agent, 1)
    with scene.agent.respond("ai:chat", metadata={"input": event.id}) as going_on:
        going_on.write("Thank you.")
    assert scene.parts("text")["text"] == "Thank you."
    assert scene.page.do("tool", "late", "call-1", "output-available")["output"] == {"city": "Oslo"}


@row("run.steer")
def steer(scene: Scene) -> None:
    """What the agent does not take in."""
    response = scene.ask()
    response.write("It is ")
    scene.page.do("started", "user")
    scene.page.do("steer", "user", "In French, please.")
    assert scene.input("steer").data["text"] == "In French, please."
    response.finish()
    assert scene.page.do("steered", "user") == {"consumed": False, "runTerminalReason": "complete"}


@row("ai-cancel", "run.cancel", "session.cancel")
def cancel(scene: Scene) -> None:
    response = scene.ask()
    response.write("on and on")
    scene.page.do("text", "user", "on and on")
    scene.page.do("cancel", "user")
    assert response.wait(60).status == "delivered"
    assert response.cancelled
    scene.page.do("status", "user", "cancelled")


@row("createChatTransport")
def chat(scene: Scene) -> None:
    """`useChat`: an answer, an approval, a tool of the page, a stop and a failure."""
    page, agent = scene.page, scene.agent
    woken: queue.SimpleQueue[None] = queue.SimpleQueue()

    async def wake(request: Request) -> HttpResponse:
        woken.put(None)
        return HttpResponse(status_code=202)

    def woken_by(text: str) -> InputEvent:
        """Wait for the request, as agents do: a page may miss an answer that comes sooner."""
        woken.get(timeout=60)
        return asked(agent, text=text)

    with serving(Starlette(routes=[Route("/api/chat", wake, methods=["POST"])])) as server:
        for who in ("user", "tab"):
            page.do("open", who, "now")
            page.do("useChat", who, f"{server.url}/api/chat")
        page.do("chatSend", "user", "Delete it.")
        question = woken_by("Delete it.")
        response = agent.respond("ai:chat", metadata={"input": question.id})
        request = approvals.ask(response, "delete", {"path": "a.txt"})
        call = request.call_id
        assert call is not None
        page.do("chatTool", "user", call, "approval-requested")
        page.do("chatIs", "user", "ready")
        decision = waiting(agent, response, request)
        page.do("chatApprove", "user", request.id, "yes")
        assert decision.result(60).approved
        woken.get(timeout=60)
        response.tool_result(call, "gone")
        response.write("Done.")
        response.finish()
        page.do("chatIs", "user", "ready", "Done.")
        page.do("chatTool", "user", call, "output-available")

        page.do("chatSend", "user", "Where am I?")
        question = woken_by("Where am I?")
        with agent.respond("ai:chat", metadata={"input": question.id}) as response:
            response.tool_call("locate", "call-1", "{}")
            response.finish("tool_calls")
        (event,) = results(agent, 1)
        assert event.data["output"] == {"city": "Oslo"}
        woken.get(timeout=60)
        with agent.respond("ai:chat", metadata={"input": event.id}) as response:
            response.write("In Oslo.")
        page.do("chatIs", "user", "ready", "In Oslo.")
        assert (page.do("ran", "user"), page.do("ran", "tab")) == (1, 0)  # one tab runs it

        page.do("chatSend", "user", "Go on for ever.")
        question = woken_by("Go on for ever.")
        response = agent.respond("ai:chat", metadata={"input": question.id})
        response.tool_call("weather", "call-2", '{"city": "Oslo"}')
        response.tool_result("call-2", 4)
        response.write("on and on")
        page.do("chatIs", "user", "streaming", "on and on")
        page.do("chatTool", "user", "call-2", "output-available")
        page.do("chatStop", "user")
        assert response.wait(60).status == "delivered"
        assert response.cancelled
        page.do("chatIs", "user", "ready")

        page.do("chatSend", "user", "Go on again.")
        question = woken_by("Go on again.")
        response = agent.respond("ai:chat", metadata={"input": question.id})
        response.write("again")
        page.do("chatIs", "user", "streaming", "again")
        agent.cancel("ai:chat", response.id)
        page.do("chatIs", "user", "ready", "again")

        page.do("chatSend", "user", "Fail, please.")
        question = woken_by("Fail, please.")
        with agent.respond("ai:chat", metadata={"input": question.id}) as response:
            response.fail("the model is away")
        assert page.do("chatIs", "user", "error")["error"] == "the model is away"


# -- the tables


def documented() -> dict[str, str]:
    """By the codes in the first cell of a row: its last cell."""
    text = DOCS.read_text("utf-8")
    text = text[text.index("## AI Transport") : text.index("## Failures")]
    rows = re.findall(r"^\| (`[^|]*) \|(?:.*\|)? (.*?) \|$", text, re.MULTILINE)
    return {" ".join(re.findall(r"`(.*?)`", first)): last for first, last in rows}


def test_the_tables_have_a_row_for_each_scenario() -> None:
    rows = documented()
    assert {name for name, last in rows.items() if not last.startswith("no: ")} == set(ROWS)


def test_the_tables_have_all_that_the_package_has() -> None:
    tools = node_with(FOLDER / "package.json", major=22)
    source = tools.folder / "node_modules" / "@ably" / "ai-transport" / "src"
    codes = {code for name in documented() for code in name.split(" ")}
    for file_ in ("outputs.ts", "inputs.ts"):
        text = (source / "vercel" / "codec" / file_).read_text("utf-8")
        kinds = set(re.findall(r"^  (?:event|stream|batch)\('(.*?)'", text, re.MULTILINE))
        assert len(kinds) > 4
        assert kinds <= codes
    text = (source / "constants.ts").read_text("utf-8")
    names = set(re.findall(r"^export const (?:EVENT|HEADER)_\w+ = '(.*?)'", text, re.MULTILINE))
    assert len(names) > 30
    assert names <= codes


@pytest.fixture
def thread() -> Iterator[ServerThread]:
    with ServerThread(settings=Settings(inbound_rate=None)) as thread:
        yield thread


@pytest.mark.parametrize("name", ROWS)
def test_a_row(thread: ServerThread, name: str) -> None:
    page = Page(thread, "dialect.cjs", 22)
    try:
        with sink(thread, rate=0, retry=0.05, dialect="ai-transport") as agent:
            ROWS[name](Scene(thread, page, agent))
    finally:
        page.close()
