"""docs/migration.md: what comes after each migration runs as it is printed there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

import tokenwire
from tests.support.needs import needs
from tests.support.pages import only_block

needs("fastapi")
needs("uvicorn")
needs("openai")
needs("langchain_openai")

import httpx
from fastapi import BackgroundTasks, FastAPI, Response
from fastapi.responses import StreamingResponse
from langchain_openai import ChatOpenAI
from openai import AsyncOpenAI
from pydantic import BaseModel

from tests.adapters.gateway.support import serving
from tokenwire.testing import assert_streamed, read_until
from tokenwire_adapters.asgi import Gateway
from tokenwire_adapters.testing.provider import Provider, serve_in_thread

PAGE = (Path(__file__).parents[2] / "docs" / "migration.md").read_text("utf-8")
TEXT = "Tea comes from two words, and it has many spaces."


class Question(BaseModel):
    chat: str = "c"
    text: str


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    with serve_in_thread(pace=0) as provider:
        monkeypatch.setenv("OPENAI_BASE_URL", provider.base_url)
        monkeypatch.setenv("OPENAI_API_BASE", provider.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "unused")
        provider.script(TEXT)
        yield provider


def streamed(sink: tokenwire.Sink, **expected: Any) -> tokenwire.Response:
    """What the background task streams, once it has."""

    def ended(event: Any) -> bool:
        if isinstance(event, tokenwire.SnapshotEvent):
            return event.response.state != "streaming"
        return isinstance(event, tokenwire.EndEvent)

    with sink.watch("c", rewind="all") as watch:
        read_until(watch, ended, timeout=60)
    return assert_streamed("c", sink=sink, **expected)


def run(code: str, **names: Any) -> dict[str, Any]:
    exec(compile(code, "docs/migration.md", "exec"), names)
    return names


def ask(app: FastAPI, path: str, **options: Any) -> httpx.Response:
    with serving(app) as server:
        return httpx.post(f"{server.url}{path}", timeout=60, **options)


@pytest.mark.usefixtures("provider")
def test_the_hand_written_stream_of_before() -> None:
    app = FastAPI()
    run(
        "import json\n" + only_block(PAGE, "python", containing="if chunk.choices and"),
        app=app,
        client=AsyncOpenAI(),
        Question=Question,
        StreamingResponse=StreamingResponse,
    )
    lines = ask(app, "/chat", json={"text": "Tea?"}).text.splitlines()
    assert "".join(line.removeprefix('data: "').removesuffix('"') for line in lines) == TEXT


@pytest.mark.usefixtures("provider")
def test_from_server_sent_events(tokenwire_sink: tokenwire.Sink) -> None:
    app = FastAPI()
    code = only_block(PAGE, "python", containing="client = wrap(client, sink)")
    names = run(code, app=app, client=AsyncOpenAI(), Question=Question)
    assert ask(app, "/chat", json={"chat": "c", "text": "Tea?"}).status_code == 202
    response = streamed(tokenwire_sink, text=TEXT)
    assert response.metadata["question"] == "Tea?"
    names["sink"].close()


def test_from_resumable_stream(tokenwire_sink: tokenwire.Sink) -> None:
    app = FastAPI()

    async def tokens() -> AsyncIterator[str]:
        for word in TEXT.split(" "):
            yield f"{word} "

    run(
        only_block(PAGE, "python", containing="async def produce"),
        app=app,
        tokens=tokens,
        tokenwire=tokenwire,
        Gateway=Gateway,
        Response=Response,
        BackgroundTasks=BackgroundTasks,
    )
    with serving(app) as server:
        httpx.post(f"{server.url}/chats/c/stream-1", timeout=60).raise_for_status()
        streamed(tokenwire_sink, response_id="stream-1", text=f"{TEXT} ")
        # The stream is over, and can still be read.
        assert TEXT in httpx.get(f"{server.url}/chats/c/stream-1", timeout=60).text


@pytest.mark.usefixtures("provider")
def test_from_async_iterator_callback_handler(tokenwire_sink: tokenwire.Sink) -> None:
    app = FastAPI()
    run(
        only_block(PAGE, "python", containing="handler = TokenwireCallbackHandler(sink)"),
        app=app,
        sink=tokenwire_sink,
        tokenwire=tokenwire,
        ChatOpenAI=ChatOpenAI,
        Question=Question,
        BackgroundTasks=BackgroundTasks,
    )
    assert ask(app, "/chat", json={"chat": "c", "text": "Tea?"}).status_code == 202
    streamed(tokenwire_sink, text=TEXT)
