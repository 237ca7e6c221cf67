"""Pages of the AI SDK on Redis: another server, and one that was started again."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.needs import needs

needs("redis")

import httpx
from starlette.applications import Starlette

import tokenwire
from tests.adapters.gateway.support import PATIENCE, serving
from tests.adapters.ui.agents import Agent, tell_slowly
from tests.adapters.ui.pages import text_of
from tests.redis_support import RedisServer
from tests.redis_support.fixtures import *  # noqa: F403
from tokenwire_adapters.testing.provider import Provider
from tokenwire_adapters.vercel import ChatRoutes

pytestmark = pytest.mark.slow

LONG = "tell me a long story"


async def saved(url: str) -> list[dict[str, Any]]:
    async with httpx.AsyncClient(base_url=url, timeout=PATIENCE) as client:
        messages: list[dict[str, Any]] = (await client.get("/api/chat/c1/messages")).json()
        return messages


async def test_a_server_that_was_started_again(page, shared_redis: RedisServer, provider: Provider):
    agents = [Agent(provider), Agent(provider)]
    with tokenwire.open_sink(shared_redis.url, strict=True) as sink:
        with serving(Starlette(routes=ChatRoutes(sink, agents[0]).routes)) as server:
            api = f"{server.url}/api/chat"
            await page.do("open", tab=1, api=api, id="c1", cuts=[{"bytes": 700, "how": "error"}])
            await page.do("send", tab=1, text="hello there")
            cut = (await page.do("done", tab=1))["messages"][-1]
            before = await saved(server.url)
            while len(before) < 2:
                before = await saved(server.url)
    with tokenwire.open_sink(shared_redis.url, strict=True) as sink:
        with serving(Starlette(routes=ChatRoutes(sink, agents[1]).routes)) as server:
            api = f"{server.url}/api/chat"
            stored = await saved(server.url)
            assert stored == before
            assert len(text_of(cut)) < len(text_of(stored[-1]))
            await page.do("open", tab=2, api=api, id="c1", messages=[stored[0], cut])
            await page.do("resume", tab=2)
            seen = await page.do("done", tab=2)
            assert text_of(seen["messages"][-1]) == text_of(stored[-1])
            await page.do("open", tab=3, api=api, id="c1", messages=stored, lastOnly=True)
            await page.do("send", tab=3, text="hello again")
            seen = await page.do("done", tab=3)
    assert not seen["errors"]
    assert [text_of(message) for message in agents[1].turns[-1].messages] == [
        *[text_of(message) for message in stored],
        "hello again",
    ]


async def test_a_tab_on_another_server(page, shared_redis: RedisServer, provider: Provider):
    tell_slowly(provider)
    with (
        tokenwire.open_sink(shared_redis.url, strict=True) as one,
        tokenwire.open_sink(shared_redis.url, strict=True) as other,
        serving(Starlette(routes=ChatRoutes(one, Agent(provider)).routes)) as first,
        serving(Starlette(routes=ChatRoutes(other, Agent(provider)).routes)) as second,
    ):
        await page.do("open", tab=1, api=f"{first.url}/api/chat", id="c1", ours=True)
        await page.do("send", tab=1, text=LONG)
        await page.do("text", tab=1, length=20)
        await page.do("open", tab=2, api=f"{second.url}/api/chat", id="c1", ours=True)
        await page.do("resume", tab=2)
        await page.do("text", tab=2, length=20)
        assert (await page.do("halt", tab=2))["state"] == "cancelled"
        texts: list[str] = []
        for tab in (1, 2):
            seen = await page.do("done", tab=tab)
            assert seen["status"] == "ready"
            assert not seen["errors"]
            texts.append(text_of(seen["messages"][-1]))
        assert texts[0] == texts[1] == text_of((await saved(second.url))[-1])
