"""Calls of a wrapped client in bodies and dependencies of a web app: which channel they reach."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI
from fastapi.responses import StreamingResponse
from openai import AsyncOpenAI, OpenAI

import tokenwire
from tests.adapters.openai.clients import aclient, client
from tests.support.recordings import named
from tests.support.replay import Replay
from tests.support.sdk import responses
from tokenwire import Sink
from tokenwire.errors import ChannelMissing
from tokenwire_adapters.asgi import TokenwireMiddleware
from tokenwire_adapters.openai import wrap

TEXT = named("chat-text")
CHAT: dict[str, Any] = {"model": "m", "messages": []}


def words(on: OpenAI) -> Iterator[str]:
    for chunk in on.chat.completions.create(**CHAT, stream=True):
        yield (chunk.choices[0].delta.content or "") if chunk.choices else ""


async def awords(on: AsyncOpenAI) -> AsyncIterator[str]:
    async for chunk in await on.chat.completions.create(**CHAT, stream=True):
        yield (chunk.choices[0].delta.content or "") if chunk.choices else ""


def sync_channel(name: str) -> Iterator[None]:
    with tokenwire.channel(name, run=f"run-{name}"):
        yield


async def async_channel(name: str) -> AsyncIterator[None]:
    with tokenwire.channel(name, run=f"run-{name}"):
        yield


def app_of(on: OpenAI, aon: AsyncOpenAI) -> FastAPI:
    app = FastAPI()

    @app.get("/sync/{name}")
    def sync(name: str) -> StreamingResponse:
        def body() -> Iterator[str]:
            with tokenwire.channel(name), tokenwire.run(f"run-{name}"):
                for _ in range(2):  # the first call begins in one context, the second in another
                    yield from words(on)

        return StreamingResponse(body())

    @app.get("/async/{name}")
    async def in_the_loop(name: str) -> StreamingResponse:
        async def body() -> AsyncIterator[str]:
            with tokenwire.channel(name), tokenwire.run(f"run-{name}"):
                for _ in range(2):
                    async for word in awords(aon):
                        yield word

        return StreamingResponse(body())

    @app.get("/tasks/{name}")
    async def a_task_for_each_step(name: str) -> StreamingResponse:
        async def steps() -> AsyncIterator[str]:
            with tokenwire.channel(name), tokenwire.run(f"run-{name}"):
                for _ in range(2):
                    async for word in awords(aon):
                        yield word

        async def body() -> AsyncIterator[str]:
            generator = steps()
            while True:
                try:
                    yield await asyncio.create_task(anext(generator))  # type: ignore[arg-type]
                except StopAsyncIteration:
                    return

        return StreamingResponse(body())

    @app.get("/sync-dependency/{name}")
    def after_a_sync_one(name: str, _: Annotated[None, Depends(sync_channel)]) -> str:
        return "".join(words(on))

    @app.get("/async-dependency/{name}")
    def after_an_async_one(name: str, _: Annotated[None, Depends(async_channel)]) -> str:
        return "".join([*words(on), *words(on)])

    return app


async def get(app: Any, path: str) -> httpx.Response:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        return await http.get(path, timeout=60)


@pytest.mark.parametrize("middleware", [False, True])
@pytest.mark.parametrize("way", ["sync", "async", "tasks", "async-dependency"])
async def test_each_body_reaches_its_own_channel(sink: Sink, way: str, middleware: bool) -> None:
    with Replay(TEXT.body) as replay, client(replay) as on:
        async with aclient(replay) as aon:
            app: Any = app_of(wrap(on, sink), wrap(aon, sink))
            if middleware:
                app = TokenwireMiddleware(app, channel=lambda scope: "of-the-request")
            names = [f"{way}-{n}" for n in range(6)]
            replies = await asyncio.gather(*(get(app, f"/{way}/{name}") for name in names))
    for name, reply in zip(names, replies, strict=True):
        assert reply.status_code == 200
        one, two = responses(sink, name)
        assert one.text == two.text == TEXT.expected.text
        assert one.text + two.text == (reply.json() if way == "async-dependency" else reply.text)
        assert one.run == two.run == f"run-{name}"
        assert one.state == two.state == "complete"
    for other in ("default", "of-the-request"):
        assert responses(sink, other) == []


async def test_a_sync_dependency_harms_no_request(
    sink: Sink, caplog: pytest.LogCaptureFixture
) -> None:
    """Its context is gone when the endpoint runs, which is in the channel of the code around."""
    with Replay(TEXT.body) as replay, client(replay) as on:
        async with aclient(replay) as aon:
            app: Any = app_of(wrap(on, sink), wrap(aon, sink))
            app = TokenwireMiddleware(app, channel=lambda scope: "of-the-request")
            reply = await get(app, "/sync-dependency/c")
    assert reply.status_code == 200
    assert [one.text for one in responses(sink, "of-the-request")] == [reply.json()]
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_text_without_a_channel_is_not_published(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("TOKENWIRE_CHANNEL", raising=False)
    with tokenwire.open_sink("memory://nobodys", default_channel=None, strict=False) as sink:
        with Replay(TEXT.body) as replay, client(replay) as on:
            assert "".join(words(wrap(on, sink)))
            assert not sink.history("default").items
            assert "no channel named" in caplog.text
            with tokenwire.channel("c"):
                assert "".join(words(on))
            assert len(responses(sink, "c")) == 1
    with tokenwire.open_sink("memory://nobodys", default_channel=None, strict=True) as sink:
        with Replay(TEXT.body) as replay, client(replay) as on, pytest.raises(ChannelMissing):
            list(words(wrap(on, sink)))
