"""A chat on a SQLite file: its two workers are restarted while another process answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.needs import needs

needs("playwright")
needs("fastapi")

from playwright.sync_api import Page, expect

from tests.e2e.screens import Shown
from tests.support.app_servers import UvicornCommand
from tests.support.producing import Producer

pytestmark = [pytest.mark.slow, pytest.mark.browser]

COMMAND = [
    *("chat_app:app", "--workers", "2", "--no-access-log"),
    *("--timeout-graceful-shutdown", "1"),
]
APP = """
import os
from fastapi import FastAPI
from fastapi.responses import FileResponse
from tokenwire_adapters.asgi import Gateway

app = FastAPI()
app.mount("/stream", Gateway(os.environ["CHAT_URL"]))

@app.get("/")
def page():
    return FileResponse("chat.html")
"""
PAGE = """<!doctype html>
<body><p id="answer"></p>
<script type="module">
  import { connect } from "/stream/tokenwire.js";

  const { dataset } = document.body;
  const transport = new URLSearchParams(location.search).get("transport");
  const connection = connect("/stream", { transport, share: false });
  const show = () => (dataset.status = connection.status);
  connection.on("status", show);
  const channel = connection.channel("chat-42", { rewind: "all" });
  channel.on("response", (response) => {
    document.querySelector("#answer").textContent = response.text;
    dataset.state = response.state;
    dataset.responses = channel.responses.length;
  });
  dataset.resets = 0;
  channel.on("reset", () => dataset.resets++);
  show();
</script>"""


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/chat.db"


@pytest.fixture
def chat(tmp_path: Path, url: str, reserved_port: int) -> Iterator[UvicornCommand]:
    (tmp_path / "chat_app.py").write_text(APP)
    (tmp_path / "chat.html").write_text(PAGE)
    chat = UvicornCommand(COMMAND, tmp_path, {"CHAT_URL": url}, reserved_port)
    chat.start()
    try:
        yield chat
    finally:
        chat.stop()


def test_workers_restarted_in_the_middle_of_an_answer(
    chat: UvicornCommand, url: str, open_page: Callable[[str], Page]
) -> None:
    both = [f"{chat.url}?transport={transport}" for transport in ("websocket", "sse")]
    words: Iterator[str] = (f"{number} 東京 naïve " for number in range(1000))
    with Producer(url, "chat-42", "r") as producer:

        def produce() -> None:
            for _ in range(20):
                producer.write(next(words))

        pages = [open_page(address) for address in 2 * both]
        produce()
        answers = [Shown(page.locator("#answer")) for page in pages]
        for answer in answers:
            answer.watch()
            answer.see_text(producer.text)
        chat.stop()
        for page in pages:
            expect(page.locator("body")).not_to_have_attribute("data-status", "live")
        seen = producer.text
        produce()
        assert [answer.text for answer in answers] == [seen] * 4
        chat.start()
        for answer in answers:
            answer.see_text(producer.text)
        pages += [open_page(address) for address in both]
        produce()
        for page in pages:
            Shown(page.locator("#answer")).see_text(producer.text)
        assert producer.finish() == ("delivered", "complete")
    pages += [open_page(address) for address in both]
    for page in pages:
        Shown(page.locator("#answer")).see_text(producer.text)
        body: Any = page.locator("body")
        expect(body).to_have_attribute("data-state", "complete")
        expect(body).to_have_attribute("data-responses", "1")
        expect(body).to_have_attribute("data-resets", "0")
