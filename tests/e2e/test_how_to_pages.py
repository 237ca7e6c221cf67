"""The JavaScript of docs/how-to and docs/migration.md, run in Chromium as it is printed there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.needs import needs

needs("playwright")
needs("starlette")

from playwright.sync_api import Page, expect
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route

import tokenwire
from tests.adapters.gateway.support import serving
from tests.support.pages import only_block
from tokenwire_adapters.asgi import Gateway

pytestmark = [pytest.mark.slow, pytest.mark.browser]

DOCS = Path(__file__).parents[2] / "docs"
HYDRATE = (DOCS / "how-to" / "hydrate.md").read_text("utf-8")
MIGRATION = (DOCS / "migration.md").read_text("utf-8")
PAGE = """<!doctype html>
<link rel="icon" href="data:,">
<main></main><output></output><button>Stop</button>
<script type="module">
  import { connect } from "/stream/tokenwire.js";
  const chat = "c";
  const add = (text) => {
    const line = document.createElement("p");
    line.textContent = text;
    document.querySelector("main").append(line);
  };
  const stopButton = document.querySelector("button");
  const show = (first, text, state) => {
    if (!state) return add(`${first} ${text}`);
    document.querySelector("output").textContent = `${first} ${text} ${state}`;
  };
  const showLive = (response) => response.ended && add(`live: ${response.text}`);
  CODE
</script>"""


def test_hydrate(open_page: Callable[[str], Page]) -> None:
    code = only_block(HYDRATE, "js", containing="known")

    async def index(_: Request) -> Response:
        return HTMLResponse(PAGE.replace("CODE", code))

    async def answers(_: Request) -> Response:
        return JSONResponse([{"id": "r1", "question": "Why?", "text": "Because."}])

    with tokenwire.Sink(tokenwire.MemoryBackend(), strict=True) as sink:
        for response_id in ("r1", "r2"):
            with sink.respond("c", response_id=response_id) as response:
                response.write(f"text of {response_id}")
        routes = [Route("/", index), Route("/chats/c/answers", answers)]
        with serving(Starlette(routes=[*routes, Mount("/stream", Gateway(sink))])) as server:
            page = open_page(f"{server.url}/")
            expect(page.locator("p")).to_have_text(["Why? Because.", "live: text of r2"])


def test_migration_from_server_sent_events(open_page: Callable[[str], Page]) -> None:
    code = only_block(MIGRATION, "js", containing="stopButton")

    async def index(_: Request) -> Response:
        return HTMLResponse(PAGE.replace("CODE", code))

    with tokenwire.Sink(tokenwire.MemoryBackend(), strict=True) as sink:
        routes = [Route("/", index), Mount("/stream", Gateway(sink))]
        with (
            serving(Starlette(routes=routes)) as server,
            sink.respond("c", response_id="r1") as response,
        ):
            response.write("Hello")
            page = open_page(f"{server.url}/")
            expect(page.locator("output")).to_have_text("r1 Hello streaming")
            page.get_by_role("button").click()
            expect(page.locator("output")).to_have_text("r1 Hello cancelled")
