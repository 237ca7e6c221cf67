"""An agent asks before it acts: any page answers, once, whoever came and went meanwhile."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import httpx
import pytest

import tokenwire
from tests.adapters.gateway.support import Server, serving
from tests.adapters.ui.approving import MAIL, PATIENCE, Approving, Process, app_of
from tests.adapters.ui.pages import SharedPages
from tests.redis_support.fixtures import *  # noqa: F403

pytestmark = [pytest.mark.slow, pytest.mark.in_turn("way")]


class AiSdk:
    """A tab with the AI SDK's chat."""

    script = "vercel.mjs"
    environments = ({"AI_PACKAGE": "ai"}, {"AI_PACKAGE": "ai-6"})

    def __init__(self, pages: SharedPages, url: str, tab: int) -> None:
        self._pages, self._url, self._tab = pages, url, tab
        self._report: dict[str, Any] = {}

    async def _do(self, command: str, **fields: Any) -> dict[str, Any]:
        return await self._pages.do(command, tab=self._tab, **fields)

    async def open(self) -> None:
        """Open the chat as a page does that is loaded."""
        async with httpx.AsyncClient(timeout=PATIENCE) as client:
            saved = (await client.get(f"{self._url}/api/chat/c1/messages")).json()
        api = f"{self._url}/api/chat"
        await self._do("open", api=api, id="c1", messages=saved, approving=True)
        await self._do("resume")
        self._report = await self._do("idle")

    async def send(self, text: str) -> None:
        await self._do("send", text=text)
        self._report = await self._do("idle")

    @property
    def _tool(self) -> dict[str, Any]:
        parts = self._report["messages"][-1]["parts"]
        (tool,) = [part for part in parts if part["type"] == "tool-send_mail"]
        return tool

    @property
    def question(self) -> tuple[str, Any] | None:
        """The tool and its input that are to be approved."""
        tool = self._tool
        return ("send_mail", tool["input"]) if tool["state"] == "approval-requested" else None

    async def answer(self, approved: bool, reason: str | None = None) -> None:
        await self.begin_answer(approved, reason)
        await self.end_answer()

    async def begin_answer(self, approved: bool, reason: str | None = None) -> None:
        approval = self._tool["approval"]["id"]
        await self._do("approve", id=approval, approved=approved, reason=reason)

    async def end_answer(self) -> None:
        self._report = await self._do("idle")

    @property
    def state(self) -> str:
        return str(self._tool["state"])

    done, denied = "output-available", "output-denied"

    @property
    def text(self) -> str:
        assert self._report["errors"] == []
        parts = self._report["messages"][-1]["parts"]
        return "".join(part["text"] for part in parts if part["type"] == "text")

    @property
    def roles(self) -> list[str]:
        return [message["role"] for message in self._report["messages"]]

    conversation = roles


class AgUi:
    """A tab with an agent of AG-UI, which is replaced by one that has joined."""

    script = "ag_ui.mjs"
    environments = ({"AG_UI_CLIENT": "@ag-ui/client"}, {"AG_UI_CLIENT": "ag-ui-client-0"})
    done, denied = "done", "denied"

    def __init__(self, pages: SharedPages, url: str, tab: int) -> None:
        self._pages, self._url, self._tab = pages, url, tab
        self._report: dict[str, Any] = {}

    async def _do(self, command: str, **fields: Any) -> dict[str, Any]:
        return await self._pages.do(command, tab=self._tab, **fields)

    async def open(self) -> None:
        await self._do("open", url=f"{self._url}/agent/connect", thread="c1")
        await self._run()
        self._interrupts()
        await self._do("aim", url=f"{self._url}/agent")

    async def _run(self, **fields: Any) -> None:
        await self._do("run", **fields)
        self._report = await self._do("done")
        assert self._report.get("error") is None
        assert self._report["warnings"] == []

    async def send(self, text: str) -> None:
        await self._do("say", id="u1", text=text)
        await self._run()

    def _interrupts(self) -> list[dict[str, Any]]:
        outcome = self._report["last"].get("outcome") or {}
        interrupts: list[dict[str, Any]] = outcome.get("interrupts", [])
        return interrupts

    @property
    def question(self) -> tuple[str, Any] | None:
        for interrupt in self._interrupts():
            assert interrupt["reason"] == "tool_call"
            assert interrupt["toolCallId"] == self._call["id"]
            return interrupt["metadata"]["tool"], json.loads(self._call["function"]["arguments"])
        return None

    @property
    def _call(self) -> dict[str, Any]:
        (call,) = [
            call for message in self._report["messages"] for call in message.get("toolCalls", ())
        ]
        return call

    async def answer(self, approved: bool, reason: str | None = None) -> None:
        await self.begin_answer(approved, reason)
        await self.end_answer()

    async def begin_answer(self, approved: bool, reason: str | None = None) -> None:
        payload = {"approved": approved, "reason": reason}
        (interrupt,) = self._interrupts()
        resume = {"interruptId": interrupt["id"], "status": "resolved", "payload": payload}
        await self._do("run", resume=[resume])

    async def end_answer(self) -> None:
        self._report = await self._do("done")
        assert self._report.get("error") is None
        assert self._report["warnings"] == []

    @property
    def state(self) -> str:
        contents = [m["content"] for m in self._report["messages"] if m["role"] == "tool"]
        assert len(contents) == 1
        return "done" if json_of(contents[0]) == {"sent": True} else "denied"

    @property
    def text(self) -> str:
        assert self._report["last"]["type"] == "RUN_FINISHED"
        messages = self._report["messages"]
        return "".join(m.get("content") or "" for m in messages if m["role"] == "assistant")

    @property
    def roles(self) -> list[str]:
        return [m["role"] for m in self._report["messages"] if m["role"] == "user"]

    @property
    def conversation(self) -> list[str]:
        """The authors in turn, whose texts may be several messages."""
        roles = [m["role"] for m in self._report["messages"] if m["role"] != "tool"]
        return [role for role, _ in itertools.groupby(roles)]


def json_of(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


KINDS = [(kind, environment) for kind in (AiSdk, AgUi) for environment in kind.environments]
Tab = AiSdk | AgUi


@pytest.fixture(
    scope="module",
    params=KINDS,
    ids=[next(iter(environment.values())) for _, environment in KINDS],
)
def _node(request: pytest.FixtureRequest) -> Iterator[tuple[type[Tab], SharedPages]]:
    kind, environment = request.param
    shared = SharedPages(kind.script, **{"SUPPRESS_TRANSFORMATION_WARNINGS": "", **environment})
    yield kind, shared
    shared.close()


@pytest.fixture
def agent() -> Approving:
    return Approving()


@pytest.fixture
def server(sink: tokenwire.Sink, agent: Approving) -> Iterator[Server]:
    with serving(app_of(sink, agent)) as server:
        yield server


@pytest.fixture
async def open_tab(_node: tuple[type[Tab], SharedPages]) -> AsyncIterator[Any]:
    kind, shared = _node
    numbers = iter(range(1, 100))

    async def open_tab(url: str) -> Tab:
        tab = kind(shared, url, next(numbers))
        await tab.open()
        return tab

    async with shared.used():
        yield open_tab


async def test_approved(open_tab, server, agent):
    tab = await open_tab(server.url)
    await tab.send("write to Ann")
    assert tab.question == ("send_mail", MAIL)
    assert agent.sent == []
    await tab.answer(True, "go on")
    assert agent.sent == ["go on"]
    assert (tab.state, tab.text) == (tab.done, "I will write to Ann. Sent.")
    assert len(agent.turns) == 1
    again = await open_tab(server.url)
    assert again.question is None
    assert (again.state, again.text) == (tab.done, tab.text)


async def test_denied(open_tab, server, agent):
    tab = await open_tab(server.url)
    await tab.send("write to Ann")
    await tab.answer(False, "not now")
    assert agent.sent == []
    assert (tab.state, tab.text) == (tab.denied, "I will write to Ann. Not sent.")
    again = await open_tab(server.url)
    assert (again.state, again.text) == (tab.denied, tab.text)


async def test_another_tab_answers_after_a_reload(open_tab, server, agent):
    tab = await open_tab(server.url)
    await tab.send("write to Ann")
    other = await open_tab(server.url)
    assert other.question == ("send_mail", MAIL)
    await other.answer(True)
    assert (other.state, other.text) == (other.done, "I will write to Ann. Sent.")
    assert agent.sent == [None]


async def test_two_tabs_answer_and_one_counts(open_tab, server, agent):
    tabs = []
    first = await open_tab(server.url)
    await first.send("write to Ann")
    tabs = [first, *[await open_tab(server.url) for _ in range(2)]]
    for number, tab in enumerate(tabs):
        await tab.begin_answer(True, f"tab {number}")
    for tab in tabs:
        await tab.end_answer()
        assert (tab.state, tab.text) == (tab.done, "I will write to Ann. Sent.")
    assert len(agent.sent) == 1
    assert len(agent.turns) == 1


async def test_an_answer_that_comes_late_is_not_the_answer(open_tab, server, agent):
    first = await open_tab(server.url)
    await first.send("write to Ann")
    late = await open_tab(server.url)
    await first.answer(False)
    await late.answer(True)
    assert (late.state, late.text) == (late.denied, "I will write to Ann. Not sent.")
    assert agent.sent == []


async def test_the_user_goes_on_instead(open_tab, server, agent):
    tab = await open_tab(server.url)
    await tab.send("write to Ann")
    async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client:
        stopped = (await client.post("/api/chat/c1/stop")).json()
    assert stopped["state"] == "cancelled"
    again = await open_tab(server.url)
    assert again.question is None
    assert agent.sent == []


@pytest.mark.redis
async def test_the_agents_process_is_killed_meanwhile(open_tab, redis_server, reserved_port):
    """The question stays; the answer begins the agent again, once, and decides what it asks."""
    process = Process(f"{redis_server.url}?prefix=approvals", reserved_port)
    try:
        first = await open_tab(process.url)
        await first.send("write to Ann")
        process.kill()
        process.start()
        await known_as_gone(process.url)
        tabs = [first, await open_tab(process.url)]
        for tab in tabs:
            assert tab.question == ("send_mail", MAIL)
            await tab.begin_answer(True, "yes")
        for tab in tabs:
            await tab.end_answer()
            assert tab.text.endswith("Sent.")
            assert (tab.state, tab.conversation) == (tab.done, ["user", "assistant"])
        async with httpx.AsyncClient(base_url=process.url, timeout=PATIENCE) as client:
            assert (await client.get("/sent")).json() == ["yes"]
    finally:
        process.kill()


@pytest.mark.parametrize("path", ["api/chat", "agent"])
async def test_two_tabs_with_a_page_run_tool_and_one_runs_it(sink, server, path):
    with sink.respond("c1", response_id="r1") as response:
        response.tool_call("pick_file", "call-1", "{}")
        response.finish("tool_calls")
    async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client:

        async def claim(tab: Any, call: str = "call-1") -> Any:
            answer = await client.post(f"/{path}/c1/tools/{call}/claim", json={"tab": tab})
            return answer.json().get("claimed", answer.status_code)

        claims: list[tuple[str, Any]] = []

        async def race(tab: str) -> None:
            claims.append((tab, await claim(tab)))

        async with anyio.create_task_group() as tabs:
            for tab in ("a", "b", "c"):
                tabs.start_soon(race, tab)
        (winner,) = [tab for tab, claimed in claims if claimed]
        assert await claim(winner)  # after a reload
        assert not await claim("d")
        assert not await claim("d", "call-2")
        assert await claim(7) == 422
        sink.tool_result("c1", "call-1", "a.txt", response_id="r1")
        assert not await claim(winner)


async def known_as_gone(url: str) -> None:
    """Wait until the lease of the killed agent has run out."""
    async with httpx.AsyncClient(base_url=url, timeout=PATIENCE) as client:
        with anyio.fail_after(PATIENCE):
            while (await client.get("/api/chat/c1/stream")).status_code != 204:
                await anyio.sleep(0.05)


@pytest.mark.redis
async def test_the_answer_comes_before_the_killed_agent_is_known_to_be_gone(
    open_tab, redis_server, reserved_port
):
    process = Process(f"{redis_server.url}?prefix=approvals", reserved_port)
    try:
        tab = await open_tab(process.url)
        await tab.send("write to Ann")
        process.kill()
        process.start()
        await tab.answer(True, "yes")
        assert tab.text.endswith("Sent.")
        async with httpx.AsyncClient(base_url=process.url, timeout=PATIENCE) as client:
            assert (await client.get("/sent")).json() == ["yes"]
    finally:
        process.kill()


async def test_a_watcher_without_a_ui_protocol_answers(sink, server, agent):
    """An input of this name is all it takes, as from a native page."""
    async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client:
        body = {"id": "c1", "messages": [{"role": "user", "parts": []}]}
        await client.post("/api/chat", json=body)
    (response,) = (await sink.ahistory("c1")).items
    (request,) = tokenwire.approvals.pending_in([response])
    assert (request.tool, request.input, request.message) == ("send_mail", MAIL, "Send it?")
    await sink.ainput("c1", "approval", {"id": request.id, "approved": "yes"})  # no answer
    await sink.ainput("c1", "approval", {"id": "other", "approved": True})
    await sink.ainput("c1", "approval", {"id": request.id, "approved": True}, sender="u7")
    async with sink.watch("c1", response_id=response.id) as watch:
        with anyio.fail_after(PATIENCE):
            async for _ in watch:
                pass
    (response,) = (await sink.ahistory("c1")).items
    decision = tokenwire.approvals.decisions_in(response)[request.id]
    assert (decision.approved, decision.sender) == (True, "u7")
    assert agent.sent == [None]
