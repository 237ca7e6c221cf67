"""The README's examples, run as they are printed there."""

from __future__ import annotations

import contextlib
import io
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.needs import needs

needs("playwright")
needs("openai")
needs("anthropic")
needs("langchain_openai")
needs("llama_index.llms.openai")

import anthropic
from langchain_openai import ChatOpenAI
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.llms import ChatMessage
from llama_index.llms.openai import OpenAI as LlamaOpenAI
from playwright.sync_api import Page
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

import tokenwire
from tests.adapters.gateway.support import serving
from tests.redis_support import RedisServer
from tests.redis_support.fixtures import *  # noqa: F403
from tests.support.pages import only_block
from tokenwire.testing import read_until
from tokenwire_adapters.testing.provider import Provider, serve_in_thread

README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
MESSAGES = [{"role": "user", "content": "Why do people stream tokens?"}]
PAGE = """<!doctype html>
<p id="text"></p><button id="stop">Stop</button>
<script type="module">
  const stopButton = document.getElementById("stop");
  let current;
  const render = (response) => {
    current = response;
    document.getElementById("text").textContent = response.text;
    document.title = response.state;
  };
  CODE
</script>"""

pytestmark = [pytest.mark.slow, pytest.mark.redis]


def block(language: str, *, containing: str) -> str:
    """The one code block of that language that contains the text."""
    return only_block(README, language, containing=containing)


def run(code: str, **names: Any) -> dict[str, Any]:
    exec(compile(code, "README.md", "exec"), names)
    return names


@pytest.fixture(autouse=True)
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    with serve_in_thread(pace=0) as provider:
        monkeypatch.setenv("OPENAI_BASE_URL", provider.base_url)
        monkeypatch.setenv("OPENAI_API_BASE", provider.base_url)  # LlamaIndex reads this one
        monkeypatch.setenv("OPENAI_API_KEY", "unused")
        monkeypatch.setenv("ANTHROPIC_BASE_URL", provider.base_url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "unused")
        yield provider


@pytest.fixture
def sink() -> Iterator[tokenwire.Sink]:
    with tokenwire.open_sink("memory://readme", strict=True) as sink:
        yield sink


def only(sink: tokenwire.Sink, channel: str = "chat-42") -> tokenwire.Response:
    (response,) = sink.history(channel).items
    assert response.state == "complete"
    assert len(response.text) > 20
    return response


def test_the_first_example(shared_redis: RedisServer) -> None:
    code = block("python", containing="`wrap(…)` is new")
    assert '"redis://localhost"' in code
    names = run(code.replace("redis://localhost", shared_redis.url), messages=MESSAGES)
    with names["sink"] as sink, names["client"]:
        assert sink.flush(30)
        only(sink)


def test_ten_lines() -> None:
    reported = io.StringIO()
    with contextlib.redirect_stdout(reported):
        run(block("python", containing="with tokenwire.open_sink"))
    lines = reported.getvalue().splitlines()
    assert lines[-1] == "Hello"
    assert [line.split()[0] for line in lines[:-1]] == ["snapshot"]


def test_any_framework(sink: tokenwire.Sink) -> None:
    langchain, llama_index, claude = re.split(
        r"\n\n(?=from )", block("python", containing="TokenwireCallbackHandler")
    )
    with tokenwire.channel("from-langchain"):
        run(langchain, agent=ChatOpenAI(model="gpt-5"), question=MESSAGES, sink=sink)
    only(sink, "from-langchain")

    dispatcher = get_dispatcher()
    before = list(dispatcher.event_handlers)
    try:
        run(llama_index, sink=sink)
        for _ in LlamaOpenAI(model="gpt-4o").stream_chat(
            [ChatMessage(role="user", content="Hello, which tokens?")]
        ):
            pass
    finally:
        dispatcher.event_handlers = before
    llama_said = only(sink)

    with run(claude, anthropic=anthropic, sink=sink)["client"] as client:
        client.messages.create(model="claude-x", max_tokens=500, messages=MESSAGES)
    said = {response.id: response for response in sink.history("chat-42").items}
    del said[llama_said.id]
    (response,) = said.values()
    assert response.state == "complete"
    assert response.text


def test_no_code_at_all(shared_redis: RedisServer, tmp_path: Path) -> None:
    command = block("sh", containing="python agent.py").replace(
        "redis://localhost", shared_redis.url
    )
    agent = Path(__file__).parents[2] / "examples" / "no_code" / "agent.py"
    (tmp_path / "agent.py").write_text(agent.read_text("utf-8"), "utf-8")
    words = command.split()
    assert (words[0], words[-2]) == ("tokenwire", "python")
    words[:1] = [sys.executable, "-m", "tokenwire_adapters.cli"]
    words[-2] = sys.executable
    done = subprocess.run(
        words, cwd=tmp_path, check=True, capture_output=True, text=True, timeout=120
    )
    with tokenwire.open_sink(shared_redis.url) as sink:
        assert only(sink).text + "\n" == done.stdout


def test_to_browsers(sink: tokenwire.Sink, open_page: Callable[[str], Page]) -> None:
    page_code = block("js", containing="tokenwire.js")

    async def index(request: Request) -> Response:
        return HTMLResponse(PAGE.replace("CODE", page_code))

    def may_watch(connection: Any, channel: str, action: str) -> bool:
        return channel == "chat-42" and action in ("subscribe", "cancel")

    app = Starlette(routes=[Route("/", index)])
    run(block("python", containing="import Gateway"), app=app, sink=sink, may_watch=may_watch)
    with serving(app) as server:
        response = sink.respond("chat-42", response_id="r1")
        response.write("Every token, ")
        page = open_page(f"{server.url}/")
        page.wait_for_function("document.getElementById('text').textContent == 'Every token, '")
        response.write("on every screen.")
        page.wait_for_function("document.getElementById('text').textContent.endsWith('screen.')")
        page.reload()
        page.wait_for_function("document.getElementById('text').textContent.endsWith('screen.')")
        page.get_by_text("Stop").click()
        with sink.watch("chat-42", response_id="r1") as watch:
            read_until(
                watch,
                lambda event: (
                    getattr(event, "state", None) == "cancelled"
                    or getattr(getattr(event, "response", None), "state", None) == "cancelled"
                ),
            )
        page.wait_for_function("document.title == 'cancelled'")
        assert not response.write("No more.")
        assert page.text_content("#text") == "Every token, on every screen."
