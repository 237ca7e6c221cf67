"""An unmodified chat of TanStack AI, whose wire is AG-UI's, on Python agents."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

import tokenwire
from tests.adapters.gateway.support import Server, serving
from tests.adapters.ui.agents import REPORT, Agent, tell_slowly
from tests.adapters.ui.pages import PATIENCE, Pages, pages
from tokenwire_adapters.ag_ui import AgentRoutes, AgentTurn

pytestmark = pytest.mark.slow


@pytest.fixture
async def page() -> AsyncIterator[Pages]:
    async with pages("tanstack.mjs") as node:
        yield node


@pytest.fixture
def server(sink: tokenwire.Sink, agent: Agent) -> Iterator[Server]:
    with serving(Starlette(routes=AgentRoutes(sink, agent).routes)) as server:
        yield server


async def ask(page: Pages, server: Server, text: str) -> dict[str, Any]:
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
