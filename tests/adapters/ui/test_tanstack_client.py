"""An unmodified chat of TanStack AI, whose wire is AG-UI's, on Python agents."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

import tokenwire
from tests.adapters.gateway.support import Server, serving
from tests.adapters.ui.agents import IMAGE, REPORT, SOURCE, Agent, of_all_kinds, tell_slowly
from tests.adapters.ui.approving import Approving
from tests.adapters.ui.pages import PATIENCE, Pages, pages
from tests.redis_support import RedisServer
from tests.redis_support.fixtures import *  # noqa: F403
from tokenwire_adapters.ag_ui import AgentRoutes, AgentTurn
from tokenwire_adapters.testing.provider import Provider

pytestmark = pytest.mark.slow


@pytest.fixture
async def page() -> AsyncIterator[Pages]:
    async with pages("tanstack.mjs") as node:
        yield node


@pytest.fixture
def server(sink: tokenwire.Sink, agent: Agent) -> Iterator[Server]:
    with serving(Starlette(routes=AgentRoutes(sink, agent).routes)) as server:
        yield server


async def ask(page: Pages, server: Server, text: Any) -> dict[str, Any]:
    await page.do("send", tab=1, text=text)
    return await page.do("done", tab=1)


def parts(message: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [part for part in message["parts"] if part["type"] == kind]


async def test_text_reasoning_and_the_next_message(page, server, provider, agent):
    await page.do("open", tab=1, url=f"{server.url}/agent", thread="t1")
    result = await ask(page, server, "hello there")
    assert result["errors"] == []
    answer = result["messages"][-1]
    assert parts(answer, "text")[0]["content"] == provider.records[-1].text
    assert parts(answer, "thinking")[0]["content"] == provider.records[-1].reasoning
    result = await ask(page, server, "and now?")
    assert [message["role"] for message in result["messages"]] == ["user", "assistant"] * 2
    assert parts(result["messages"][-1], "text")[0]["content"] == provider.records[-1].text
    asked = [m["content"] for m in agent.turns[-1].chat_messages() if m["role"] == "user"]
    assert asked == ["hello there", "and now?"]


async def test_a_tool(page, server):
    await page.do("open", tab=1, url=f"{server.url}/agent", thread="t1")
    result = await ask(page, server, "What is the weather in Lisbon?")
    assert result["errors"] == []
    (call,) = [part for m in result["messages"] for part in parts(m, "tool-call")]
    assert (call["name"], call["state"], call["output"]) == ("get_weather", "complete", REPORT)


async def test_data_and_a_failure(page, sink):
    async def agent(turn: AgentTurn) -> None:
        turn.response.data_part("weather", {"celsius": 21})
        turn.response.write("I will ")
        raise RuntimeError("no more money")

    with serving(Starlette(routes=AgentRoutes(sink, agent).routes)) as server:
        await page.do("open", tab=1, url=f"{server.url}/agent", thread="t1")
        result = await ask(page, server, "hm?")
    assert result["customs"] == [["weather", {"celsius": 21}]]
    assert len(result["errors"]) == 1
    assert parts(result["messages"][-1], "text")[0]["content"] == "I will "


async def test_stop(page, server, sink, provider):
    tell_slowly(provider)
    await page.do("open", tab=1, url=f"{server.url}/agent", thread="t1")
    await page.do("send", tab=1, text="tell me a long story")
    await page.do("text", tab=1, length=20)
    async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client:
        assert (await client.post("/agent/t1/stop")).json()["state"] == "cancelled"
    result = await page.do("done", tab=1)
    assert result["errors"] == []
    response = next(one for one in (await sink.ahistory("t1")).items if one.parts)
    assert parts(result["messages"][-1], "text")[0]["content"] == response.text


async def test_what_is_neither_text_nor_a_tool_of_the_agent(page, sink):
    with serving(Starlette(routes=AgentRoutes(sink, of_all_kinds).routes)) as server:
        await page.do("open", tab=1, url=f"{server.url}/agent", thread="t1")
        result = await ask(page, server, "tides?")
    assert result["errors"] == []
    assert result["customs"] == [["source", SOURCE], ["file", IMAGE], ["weather", REPORT]]
    (call,) = [part for m in result["messages"] for part in parts(m, "tool-call")]
    assert (call["name"], call["state"], call["output"]) == ("web_search", "complete", ["found"])
    assert parts(result["messages"][-1], "text")[0]["content"] == "Found."


async def test_an_answer_is_made_anew_and_a_message_edited(page, server, provider, agent):
    await page.do("open", tab=1, url=f"{server.url}/agent", thread="t1")
    await ask(page, server, "hello there")
    had = (await ask(page, server, "and now?"))["messages"]
    await page.do("reload", tab=1)
    result = await page.do("done", tab=1)
    assert [message["id"] for message in result["messages"]][:3] == [m["id"] for m in had[:3]]
    assert parts(result["messages"][-1], "text")[0]["content"] == provider.records[-1].text
    assert [m["role"] for m in agent.turns[-1].chat_messages()][-1] == "user"
    # An edit: the page takes the message and those after it away, and sends another.
    await page.do("keep", tab=1, number=2)
    result = await ask(page, server, "something else")
    asked = [m["content"] for m in agent.turns[-1].chat_messages() if m["role"] == "user"]
    assert asked == ["hello there", "something else"]
    assert [message["role"] for message in result["messages"]] == ["user", "assistant"] * 2


async def test_a_tool_of_the_page(page, sink):
    """The client runs it where the agent sends the event that TanStack's own server sends."""
    turns: list[AgentTurn] = []

    async def agent(turn: AgentTurn) -> None:
        turns.append(turn)
        last = turn.chat_messages()[-1]
        if last["role"] == "tool":
            turn.response.write(f"It is {last['content']}.")
            return
        call = {"toolCallId": "call-1", "toolName": "get_weather", "input": {}}
        turn.response.tool_call("get_weather", "call-1", "{}")
        turn.response.data_part("tool-input-available", call)
        turn.response.finish("tool_calls")

    with serving(Starlette(routes=AgentRoutes(sink, agent).routes)) as server:
        await page.do("open", tab=1, url=f"{server.url}/agent", thread="t1", tools=True)
        await ask(page, server, "What is the weather?")
        await page.do("text", tab=1, length=5)
        result = await page.do("done", tab=1)
    assert result["errors"] == []
    assert len(turns) == 2
    assert json.loads(turns[1].chat_messages()[-1]["content"]) == REPORT


async def test_an_approval(page, sink):
    agent = Approving()
    with serving(Starlette(routes=AgentRoutes(sink, agent).routes)) as server:
        await page.do("open", tab=1, url=f"{server.url}/agent", thread="t1")
        await ask(page, server, "write to Ann")
        assert agent.sent == []
        await page.do("approve", tab=1)
        result = await page.do("done", tab=1)
    assert result["errors"] == []
    assert agent.sent == [None]
    assert len(agent.turns) == 1
    texts = [part["content"] for m in result["messages"] for part in parts(m, "text")]
    assert texts[-1].endswith("Sent.")


async def test_a_picture_of_the_user(page, server, agent):
    await page.do("open", tab=1, url=f"{server.url}/agent", thread="t1")
    picture = {
        "type": "image",
        "source": {"type": "data", "value": "iVBORw0KGgo=", "mimeType": "image/png"},
    }
    text = {"type": "text", "content": "What is this?"}
    result = await ask(page, server, {"content": [text, picture]})
    assert result["errors"] == []
    assert "image" in [part.type for part in agent.turns[-1].input.messages[-1].content]


@pytest.mark.redis
async def test_the_agent_has_the_conversation_after_a_restart(
    page, shared_redis: RedisServer, provider: Provider
):
    """The client sends the whole conversation; another server's agent goes on with it."""
    agents = [Agent(provider), Agent(provider)]
    for agent, text in zip(agents, ["hello there", "and now?"], strict=True):
        with (
            tokenwire.open_sink(shared_redis.url, strict=True) as sink,
            serving(Starlette(routes=AgentRoutes(sink, agent).routes)) as server,
        ):
            if agent is agents[0]:
                await page.do("open", tab=1, url=f"{server.url}/agent", thread="t1")
            else:
                await page.do("aim", tab=1, url=f"{server.url}/agent")
            result = await ask(page, server, text)
            assert result["errors"] == []
    assert [message["role"] for message in result["messages"]] == ["user", "assistant"] * 2
    asked = [m["content"] for m in agents[1].turns[-1].chat_messages() if m["role"] == "user"]
    assert asked == ["hello there", "and now?"]
