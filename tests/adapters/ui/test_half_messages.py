"""A page of the AI SDK that holds half an answer, as one that stores messages does, and resumes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from starlette.applications import Starlette

import tokenwire
from tests.adapters.gateway.support import Server, serving
from tests.adapters.ui.agents import Agent, tell_slowly
from tests.adapters.ui.pages import Pages, pages
from tokenwire_adapters.testing.provider import Provider
from tokenwire_adapters.vercel import ChatRoutes

pytestmark = pytest.mark.slow

LONG = "tell me a long story"


@pytest.fixture(params=["ai", "ai-6"])
async def page(request: pytest.FixtureRequest) -> AsyncIterator[Pages]:
    async with pages("vercel.mjs", AI_PACKAGE=request.param) as node:
        yield node


@pytest.fixture
def server(sink: tokenwire.Sink, provider: Provider) -> Iterator[Server]:
    with serving(Starlette(routes=ChatRoutes(sink, Agent(provider)).routes)) as server:
        yield server


def shown(message: dict) -> list[tuple[str, str]]:
    parts = [part for part in message["parts"] if part["type"] in ("text", "reasoning")]
    return [(part["type"], part["text"]) for part in parts]


async def test_it_shows_the_answer_once(page, server, sink, provider):
    tell_slowly(provider)
    api = f"{server.url}/api/chat"
    await page.do("open", tab=1, api=api, id="c1")
    await page.do("send", tab=1, text=LONG)
    await page.do("text", tab=1, length=20)
    half = (await page.do("report", tab=1))["messages"]
    await page.do("drop", tab=1)
    assert dict(shown(half[-1]))["text"]
    await page.do("open", tab=2, api=api, id="c1", messages=half)
    await page.do("resume", tab=2)
    provider.pace = 0
    result = await page.do("done", tab=2)
    assert not result["errors"]
    response = next(one for one in (await sink.ahistory("c1")).items if one.parts)
    assert [message["role"] for message in result["messages"]] == ["user", "assistant"]
    assert shown(result["messages"][-1]) == [
        ("reasoning", response.reasoning),
        ("text", response.text),
    ]
