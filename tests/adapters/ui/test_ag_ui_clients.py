"""Unmodified `HttpAgent`s of AG-UI, with their verifier on, on Python agents."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import httpx
import pytest
from starlette.applications import Starlette

import tokenwire
from tests.adapters.gateway.support import Server, serving
from tests.adapters.ui.agents import IMAGE as PICTURE
from tests.adapters.ui.agents import REPORT, SOURCE, Agent, Gate, of_all_kinds, tell_slowly
from tests.adapters.ui.pages import PATIENCE, SharedPages
from tokenwire_adapters.ag_ui import AgentRoutes, AgentTurn
from tokenwire_adapters.asgi import Gateway

pytestmark = pytest.mark.slow

LONG = "tell me a long story"


# 0.0.59 is what CopilotKit 1.74 and assistant-ui pin; it declares no version of the protocol.
CLIENTS = {"1.0.0": "@ag-ui/client", "0.0.59": "ag-ui-client-0"}


@pytest.fixture(scope="module", params=list(CLIENTS))
def client_version(request: pytest.FixtureRequest) -> str:
    version: str = request.param
    return version


@pytest.fixture(scope="module")
def _node(client_version: str) -> Iterator[SharedPages]:
    environment = {"AG_UI_CLIENT": CLIENTS[client_version], "SUPPRESS_TRANSFORMATION_WARNINGS": ""}
    shared = SharedPages("ag_ui.mjs", **environment)
    yield shared
    shared.close()


@pytest.fixture
async def page(_node: SharedPages) -> AsyncIterator[SharedPages]:
    async with _node.used():
        yield _node


@pytest.fixture
def server(sink: tokenwire.Sink, agent: Agent) -> Iterator[Server]:
    app = Starlette(routes=AgentRoutes(sink, agent).routes)
    app.mount("/tokenwire", Gateway(sink))
    with serving(app) as server:
        yield server


def text_of(messages: list[dict[str, Any]]) -> str:
    return "".join(each.get("content") or "" for each in messages if each["role"] == "assistant")


async def ask(page: SharedPages, server: Server, text: str, *, tab: int = 1) -> None:
    await page.do("open", tab=tab, url=f"{server.url}/agent", thread="t1")
    await page.do("say", tab=tab, id=f"u{tab}", text=text)
    await page.do("run", tab=tab)


async def the_response(sink: tokenwire.Sink) -> tokenwire.Response:
    """The newest response that a model wrote."""
    return next(each for each in (await sink.ahistory("t1")).items if each.parts)


def fine(shown: dict[str, Any]) -> dict[str, Any]:
    assert shown.get("error") is None
    assert shown["warnings"] == []
    return shown


async def test_run_and_stream(page, server, sink, agent):
    await ask(page, server, "hello there")
    shown = fine(await page.do("done", tab=1))
    response = await the_response(sink)
    user, reasoning, answer = shown["messages"]
    assert user["id"] == "u1"
    assert (reasoning["role"], reasoning["content"]) == ("reasoning", response.reasoning)
    assert (answer["id"], answer["content"]) == (response.id, response.text)
    assert shown["last"]["type"] == "RUN_FINISHED"
    assert shown["last"]["outcome"] == {"type": "success"}
    assert shown["last"]["usage"][0]["outputTokens"] > 0
    assert isinstance(shown["last"]["timestamp"], int)
    assert "MESSAGES_SNAPSHOT" not in shown["events"]
    assert agent.turns[0].text == "hello there"


async def test_a_tool_is_called_and_answered(page, server, sink):
    await ask(page, server, "What is the weather in São Paulo?")
    shown = fine(await page.do("done", tab=1))
    roles = [each["role"] for each in shown["messages"] if each["role"] != "reasoning"]
    assert roles == ["user", "assistant", "tool", "assistant"]
    (call,) = next(each for each in shown["messages"] if each.get("toolCalls"))["toolCalls"]
    assert call["function"]["name"] == "get_weather"
    result = next(each for each in shown["messages"] if each["role"] == "tool")
    assert result["toolCallId"] == call["id"]
    assert '"clear"' in result["content"]
    assert text_of(shown["messages"])


async def test_reload_and_join(page, server, sink, provider):
    tell_slowly(provider)
    await ask(page, server, LONG)
    await page.do("text", tab=1, length=20)
    await page.do("abort", tab=1)  # a page that goes
    await page.do("done", tab=1)
    await page.do("open", tab=2, url=f"{server.url}/agent/connect", thread="t1")
    await page.do("run", tab=2)
    await page.do("text", tab=2, length=20)
    provider.pace = 0
    shown = fine(await page.do("done", tab=2))
    response = await the_response(sink)
    assert response.state == "complete"
    assert [each["role"] for each in shown["messages"]] == ["user", "reasoning", "assistant"]
    assert shown["messages"][0]["content"] == LONG
    assert text_of(shown["messages"]) == response.text
    assert shown["events"][:2] == ["RUN_STARTED", "MESSAGES_SNAPSHOT"]


async def test_a_client_that_has_a_part_joins(page, server, sink, provider):
    """What it has is replaced, not added to."""
    tell_slowly(provider)
    await ask(page, server, LONG)
    await page.do("text", tab=1, length=20)
    await page.do("abort", tab=1)
    had = (await page.do("done", tab=1))["messages"]
    assert text_of(had)
    await page.do("open", tab=2, url=f"{server.url}/agent/connect", thread="t1", messages=had)
    await page.do("run", tab=2)
    provider.pace = 0
    shown = fine(await page.do("done", tab=2))
    response = await the_response(sink)
    assert [each["id"] for each in shown["messages"]] == [each["id"] for each in had]
    assert text_of(shown["messages"]) == response.text
    assert shown["messages"][1]["content"] == response.reasoning


async def test_join_when_nothing_is_under_way(page, server, sink):
    await ask(page, server, "hello there")
    first = fine(await page.do("done", tab=1))
    await page.do("open", tab=2, url=f"{server.url}/agent/connect", thread="t1")
    await page.do("run", tab=2)
    shown = fine(await page.do("done", tab=2))
    assert shown["messages"] == first["messages"]
    assert shown["events"] == ["RUN_STARTED", "MESSAGES_SNAPSHOT", "RUN_FINISHED"]
    async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client:
        assert (await client.get("/agent/t1/stream")).status_code == 204


async def test_the_same_run_again_is_the_same_run(page, server, sink, provider):
    """A client that repeats its request, since its connection broke, does not run twice."""
    tell_slowly(provider)
    await page.do("open", tab=1, url=f"{server.url}/agent", thread="t1")
    await page.do("say", tab=1, id="u1", text=LONG)
    await page.do("run", tab=1, runId="run-7")
    await page.do("text", tab=1, length=20)
    await page.do("open", tab=2, url=f"{server.url}/agent", thread="t1")
    await page.do("say", tab=2, id="u1", text=LONG)
    await page.do("run", tab=2, runId="run-7")
    await page.do("text", tab=2, length=20)
    provider.pace = 0
    tabs = [fine(await page.do("done", tab=tab)) for tab in (1, 2)]
    assert tabs[0]["messages"] == tabs[1]["messages"]
    assert len([each for each in (await sink.ahistory("t1")).items if each.parts]) == 1


async def test_who_holds_half_a_message_asks_for_the_run_again(page, server, sink, provider):
    """The client adds what it is sent to what it shows: it is given that anew."""
    tell_slowly(provider)
    await page.do("open", tab=1, url=f"{server.url}/agent", thread="t1")
    await page.do("say", tab=1, id="u1", text=LONG)
    await page.do("run", tab=1, runId="run-7")
    await page.do("text", tab=1, length=20)
    await page.do("abort", tab=1)
    assert text_of((await page.do("done", tab=1))["messages"])
    await page.do("run", tab=1, runId="run-7")
    provider.pace = 0
    shown = fine(await page.do("done", tab=1))
    response = await the_response(sink)
    assert [message["role"] for message in shown["messages"]] == ["user", "reasoning", "assistant"]
    assert text_of(shown["messages"]) == response.text
    assert shown["messages"][1]["content"] == response.reasoning
    await page.do("run", tab=1, runId="run-7")  # and once more, now that it is over
    assert fine(await page.do("done", tab=1))["messages"] == shown["messages"]
    assert len(provider.records) == 1


async def test_the_state_outlives_its_run(page, sink):
    gate = Gate()

    async def agent(turn: AgentTurn) -> None:
        if turn.text == "begin":
            turn.state({"steps": ["a"]})
        else:
            turn.state_delta([{"op": "add", "path": "/steps/-", "value": turn.text}])
            turn.state_delta([{"op": "remove", "path": "/nothing"}])  # no client applies it
        turn.response.write("Done.")
        if turn.text == "wait":
            await gate.wait()

    async def joined(tab: int) -> dict[str, Any]:
        await page.do("open", tab=tab, url=f"{server.url}/agent/connect", thread="t1")
        await page.do("run", tab=tab)
        await page.do("text", tab=tab, length=10)
        return await page.do("report", tab=tab)

    with serving(Starlette(routes=AgentRoutes(sink, agent).routes)) as server:
        await ask(page, server, "begin")
        assert fine(await page.do("done", tab=1))["state"] == {"steps": ["a"]}
        assert (await joined(2))["state"] == {"steps": ["a"]}
        await ask(page, server, "b", tab=3)  # a page that did not join first
        await page.do("done", tab=3)
        assert (await joined(4))["state"] == {"steps": ["a", "b"]}
        await ask(page, server, "wait", tab=5)
        await page.do("text", tab=5, length=5)
        assert (await joined(6))["state"] == {"steps": ["a", "b", "wait"]}
        gate.set()
        await page.do("done", tab=6)
        assert (await joined(7))["state"] == {"steps": ["a", "b", "wait"]}


async def test_a_state_that_the_page_changed_outlives_the_run(page, sink):
    async def agent(turn: AgentTurn) -> None:
        turn.state_delta([{"op": "replace", "path": "/seen", "value": turn.input.state["ask"]}])

    with serving(Starlette(routes=AgentRoutes(sink, agent).routes)) as server:
        state = {"ask": "blue", "seen": None}
        await page.do("open", tab=1, url=f"{server.url}/agent", thread="t1", state=state)
        await page.do("say", tab=1, id="u1", text="look")
        await page.do("run", tab=1)
        shown = fine(await page.do("done", tab=1))
        assert shown["state"] == {"ask": "blue", "seen": "blue"}
        await page.do("open", tab=2, url=f"{server.url}/agent/connect", thread="t1")
        await page.do("run", tab=2)
        assert fine(await page.do("done", tab=2))["state"] == shown["state"]


async def test_stop_stops_the_provider_for_every_tab(page, server, sink, provider, client_version):
    tell_slowly(provider)
    await ask(page, server, LONG)
    await page.do("text", tab=1, length=20)
    await page.do("open", tab=2, url=f"{server.url}/agent/connect", thread="t1")
    await page.do("run", tab=2)
    await page.do("text", tab=2, length=20)
    async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client:
        answer = (await client.post("/agent/t1/stop")).raise_for_status().json()
    assert answer["state"] == "cancelled"
    for tab in (1, 2):
        shown = fine(await page.do("done", tab=tab))
        assert shown["last"]["type"] == "RUN_FINISHED"
        if client_version == "1.0.0":
            assert shown["last"]["outcome"] == {"type": "cancelled"}
        else:
            assert shown["last"]["result"] == {"outcome": "cancelled"}
        assert text_of(shown["messages"]) == (await the_response(sink)).text
    with anyio.fail_after(PATIENCE):
        while provider.records[-1].outcome != "closed_early":
            await anyio.sleep(0.01)


@pytest.mark.parametrize("change", ["regenerate", "edit"])
async def test_what_took_the_place_of_messages_is_what_a_tab_that_joins_has(page, server, change):
    """Pages answer anew by running with fewer messages, and edit by running with other ones."""
    await ask(page, server, "hello there")
    first = fine(await page.do("done", tab=1))["messages"]
    await page.do("say", tab=1, id="u2", text="What is the weather in Lisbon?")
    await page.do("run", tab=1)
    had = fine(await page.do("done", tab=1))["messages"]
    place = next(i for i, message in enumerate(had) if message["id"] == "u2")
    kept = had[: place + 1] if change == "regenerate" else first
    await page.do("open", tab=2, url=f"{server.url}/agent", thread="t1", messages=kept)
    if change == "edit":
        await page.do("say", tab=2, id="u3", text="and now?")
    await page.do("run", tab=2)
    shown = fine(await page.do("done", tab=2))["messages"]
    assert text_of(shown[len(kept) :])
    await page.do("open", tab=3, url=f"{server.url}/agent/connect", thread="t1")
    await page.do("run", tab=3)
    joined = fine(await page.do("done", tab=3))["messages"]
    assert [message["id"] for message in joined] == [message["id"] for message in shown]
    assert text_of(joined) == text_of(shown)


async def test_a_tool_of_the_page(page, server, sink, agent, client_version):
    agent.here = False
    await ask(page, server, "What is the weather in São Paulo?")
    shown = fine(await page.do("done", tab=1))
    (call,) = shown["messages"][-1]["toolCalls"]
    if client_version == "1.0.0":
        assert shown["last"]["outcome"]["pendingToolCallIds"] == [call["id"]]
    message = {"id": "x1", "role": "tool", "toolCallId": call["id"], "content": str(REPORT)}
    await page.do("add", tab=1, message=message)
    await page.do("run", tab=1)
    shown = fine(await page.do("done", tab=1))
    assert [m["role"] for m in shown["messages"] if m["role"] != "reasoning"] == [
        "user",
        "assistant",
        "tool",
        "assistant",
    ]
    await page.do("open", tab=2, url=f"{server.url}/agent/connect", thread="t1")
    await page.do("run", tab=2)
    assert fine(await page.do("done", tab=2))["messages"] == shown["messages"]


async def test_state_and_failure(page, sink):
    async def agent(turn: AgentTurn) -> None:
        turn.state({"step": 1})
        turn.response.write("I will ")
        raise RuntimeError("no more money")

    with serving(Starlette(routes=AgentRoutes(sink, agent).routes)) as server:
        await ask(page, server, "hm?")
        shown = await page.do("done", tab=1)
    assert shown["state"] == {"step": 1}
    assert shown["last"]["type"] == "RUN_ERROR"
    assert "no more money" in shown["last"]["message"]
    assert text_of(shown["messages"]) == "I will "
    assert shown["warnings"] == []


async def test_what_is_neither_text_nor_a_tool_of_the_agent(page, sink):
    with serving(Starlette(routes=AgentRoutes(sink, of_all_kinds).routes)) as server:
        await ask(page, server, "tides?")
        shown = fine(await page.do("done", tab=1))
    assert shown["customs"] == [["source", SOURCE], ["file", PICTURE], ["weather", REPORT]]
    assert not shown.get("pending")  # the provider has run its tool
    assert json.loads(next(m for m in shown["messages"] if m["role"] == "tool")["content"]) == [
        "found"
    ]
    assert text_of(shown["messages"]) == "Found."


IMAGE = "iVBORw0KGgo="
MEDIA = {
    "image": {"type": "image", "source": {"type": "data", "value": IMAGE, "mimeType": "image/png"}},
    "binary": {"type": "binary", "mimeType": "image/png", "data": IMAGE},
    "url": {"type": "binary", "mimeType": "audio/mpeg", "url": "https://example.com/a.mp3"},
    "handle": {
        "type": "binary",
        "mimeType": "application/pdf",
        "id": "file-7",
        "filename": "a.pdf",
    },
}


# A client of 1.0 has no `binary` parts any more.
@pytest.mark.parametrize(
    ("client_version", "media"),
    [("1.0.0", "image"), *(("0.0.59", media) for media in MEDIA)],
    indirect=["client_version"],
)
async def test_a_message_with_media(page, server, sink, agent, client_version, media):
    """What this client sends is read, and given back to the other tabs of the same client."""
    content = [{"type": "text", "text": "hello there"}, MEDIA[media]]
    await page.do("open", tab=1, url=f"{server.url}/agent", thread="t1")
    await page.do("add", tab=1, message={"id": "u1", "role": "user", "content": content})
    await page.do("run", tab=1)
    fine(await page.do("done", tab=1))
    read = agent.turns[0].input.messages[0].content[1]
    assert (read.type, read.source.value) == {
        "image": ("image", IMAGE),
        "binary": ("image", IMAGE),
        "url": ("audio", "https://example.com/a.mp3"),
        "handle": ("document", "file-7"),
    }[media]
    assert agent.turns[0].text == "hello there"
    await page.do("open", tab=2, url=f"{server.url}/agent/connect", thread="t1")
    await page.do("run", tab=2)
    shown = fine(await page.do("done", tab=2))
    assert [message["role"] for message in shown["messages"]] == ["user", "reasoning", "assistant"]
    assert shown["messages"][0]["content"][0] == content[0]


async def test_what_another_client_said_is_shown_to_this_one(page, server, sink, client_version):
    """Messages of a client of 1.0, in parts that clients before it do not have."""
    messages = [
        {
            "id": "u1",
            "role": "user",
            "content": [
                {"type": "text", "text": "What is the weather?"},
                {"type": "document", "source": {"type": "file", "value": "file-7"}},
            ],
        },
        {
            "id": "x1",
            "role": "tool",
            "toolCallId": "c1",
            "content": [{"type": "text", "text": "21"}, MEDIA["image"]],
        },
    ]
    body = {"threadId": "t1", "runId": "r1", "protocolVersion": "1.0", "messages": messages}
    async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client:
        (await client.post("/agent", json=body)).raise_for_status()
    await page.do("open", tab=1, url=f"{server.url}/agent/connect", thread="t1")
    await page.do("run", tab=1)
    shown = fine(await page.do("done", tab=1))
    assert [message["id"] for message in shown["messages"]][:2] == ["u1", "x1"]
    if client_version == "0.0.59":
        assert shown["messages"][1]["content"] == "21"


async def test_the_gateways_format(page, server, sink):
    with sink.respond("c1", run="nightly") as response:
        response.write("It is ")
        url = f"{server.url}/tokenwire/channels/c1/events"
        async with httpx.AsyncClient(timeout=PATIENCE) as client:
            async with client.stream("GET", url, params={"format": "ag-ui"}) as stream:
                response.write("done.")
                response.finish()
                body = (await stream.aread()).decode()
    (shown,) = (await page.do("read", streams=[body]))["results"]
    assert text_of(fine(shown)["messages"]) == "It is done."


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422),
        ({"threadId": "t", "runId": "r", "messages": [{"role": "nobody"}]}, 422),
        ({"threadId": "t", "runId": "", "messages": []}, 400),
        ({"threadId": "x" * 300, "runId": "r", "messages": []}, 400),
        ([1], 422),
    ],
)
async def test_what_is_no_input(server, body, status):
    async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client:
        answer = await client.post("/agent", json=body)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
