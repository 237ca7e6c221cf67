"""Tabs of one chat that run the same tool: they go on in one run, whichever server each asks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette

import tokenwire
from tests.adapters.gateway.support import Server, serving
from tests.adapters.ui.agents import REPORT, Agent
from tests.adapters.ui.pages import pages, text_of
from tests.redis_support.fixtures import *  # noqa: F403
from tokenwire_adapters.ag_ui import AgentRoutes
from tokenwire_adapters.testing.provider import Provider
from tokenwire_adapters.vercel import ChatRoutes, ChatTurn

pytestmark = [pytest.mark.slow, pytest.mark.in_turn("url")]

WEATHER = "What is the weather in São Paulo?"


@pytest.fixture(params=["memory", "redis", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "redis":
        server: Any = request.getfixturevalue("shared_redis")
        return str(server.url)
    return (
        f"sqlite:///{tmp_path}/t.db" if request.param == "sqlite" else f"memory://{tmp_path.name}"
    )


@pytest.fixture
def agent(provider: Provider) -> Agent:
    return Agent(provider, here=False)


@pytest.fixture
def servers(url: str, agent: Agent) -> Iterator[list[Server]]:
    """Two servers of one agent."""
    with tokenwire.open_sink(url, strict=True) as one, tokenwire.open_sink(url) as other:
        first, second = (
            Starlette(routes=[*ChatRoutes(s, agent).routes, *AgentRoutes(s, agent).routes])
            for s in (one, other)
        )
        with serving(first) as first_server, serving(second) as second_server:
            yield [first_server, second_server]


async def asked(page: Any, servers: list[Server]) -> str:
    """Open two tabs that have the call of a tool which pages run."""
    first, second = (f"{server.url}/api/chat" for server in servers)
    await page.do("open", tab=1, api=first, id="c1", automatic=True)
    await page.do("send", tab=1, text=WEATHER)
    seen = await page.do("done", tab=1)
    (call,) = seen["toolCalls"]
    await page.do("open", tab=2, api=second, id="c1", automatic=True, messages=seen["messages"])
    return str(call)


async def test_both_send_the_output_and_one_run_begins(page, servers, agent):
    call = await asked(page, servers)
    await page.do("race", tabs=[1, 2], tool="get_weather", call=call, output=REPORT)
    seen = [await page.do("idle", tab=tab) for tab in (1, 2)]
    assert [tab["errors"] for tab in seen] == [[], []]
    assert len(agent.turns) == 2
    first, second = (tab["messages"][-1] for tab in seen)
    assert text_of(first) == text_of(second) != ""
    assert first["id"] == second["id"]
    assert first["metadata"]["run"] == second["metadata"]["run"] == agent.turns[-1].run


async def test_the_second_tab_comes_after_the_end(page, servers, agent):
    call = await asked(page, servers)
    seen = []
    for tab in (1, 2):
        await page.do("race", tabs=[tab], tool="get_weather", call=call, output=REPORT)
        seen.append(await page.do("idle", tab=tab))
    assert len(agent.turns) == 2
    assert text_of(seen[0]["messages"][-1]) == text_of(seen[1]["messages"][-1])


async def test_a_page_may_go_on_where_the_run_has_failed(page, sink):
    turns: list[ChatTurn] = []

    async def agent(turn: ChatTurn) -> None:
        turns.append(turn)
        if len(turns) == 1:
            turn.response.tool_call("ask_user", "call-1", "{}")
        elif len(turns) == 2:
            raise RuntimeError("the model is not there")
        else:
            turn.response.write("Thank you.")

    with serving(Starlette(routes=ChatRoutes(sink, agent).routes)) as server:
        api = f"{server.url}/api/chat"
        await page.do("open", tab=1, api=api, id="c1")
        await page.do("send", tab=1, text="hm?")
        (call,) = (await page.do("done", tab=1))["toolCalls"]
        for _ in range(2):
            await page.do("output", tab=1, tool="ask_user", call=call, output="yes")
            seen = await page.do("done", tab=1)
    assert len(turns) == 3
    assert text_of(seen["messages"][-1]) == "Thank you."


@pytest.mark.parametrize("package", ["@ag-ui/client", "ag-ui-client-0"])
async def test_clients_of_ag_ui_send_the_output_and_one_run_begins(servers, agent, package):
    async with pages("ag_ui.mjs", AG_UI_CLIENT=package) as page:
        first, second = (f"{server.url}/agent" for server in servers)
        await page.do("open", tab=1, url=first, thread="t1")
        await page.do("say", tab=1, id="u1", text=WEATHER)
        await page.do("run", tab=1)
        messages = (await page.do("done", tab=1))["messages"]
        (call,) = messages[-1]["toolCalls"]
        await page.do("open", tab=2, url=second, thread="t1", messages=messages)
        for tab in (1, 2):
            output = {"role": "tool", "toolCallId": call["id"], "content": "clear"}
            await page.do("add", tab=tab, message={"id": f"tool-{tab}", **output})
        await page.do("race", tabs=[1, 2])
        seen = [await page.do("done", tab=tab) for tab in (1, 2)]
    assert [(tab.get("error"), tab["warnings"]) for tab in seen] == [(None, []), (None, [])]
    assert len(agent.turns) == 2
    one, other = (tab["messages"][-1] for tab in seen)
    assert one == other
    assert one["role"] == "assistant"
    assert one["content"]
