"""A browser's tabs on a gateway."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Page
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

import tokenwire
from tests.adapters.gateway.support import serving
from tests.e2e.screens import TIMEOUT
from tokenwire_adapters.asgi import Gateway

__all__ = ["Tabs", "tabs_on"]

_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Tab</title>
<link rel="icon" href="data:,">
<script type="module">
import { connect } from "/stream/tokenwire.js";
const { names, ...options } = JSON.parse(decodeURIComponent(location.hash.slice(1)));
window.connection = connect("/stream", options);
window.channels = names.map((name) => connection.channel(name, { rewind: "all" }));
window.deltas = []; // each that came, with the text of its response after it
window.errors = [];
for (const channel of channels) {
  channel.on("delta", ({ offset, text }) => deltas.push([channel.name, offset, text]));
  channel.on("error", ({ code }) => errors.push([channel.name, code]));
}
window.textOf = (wanted) => channels.find(({ name }) => name === wanted).responses[0]?.text ?? "";
window.ready = () => channels.every(({ ready }) => ready);
</script>"""


class Tabs:
    """A browser's tabs on a gateway."""

    def __init__(self, sink: tokenwire.Sink, gateway: Gateway, url: str, open_page: Any) -> None:
        self.sink = sink
        self.gateway = gateway
        self.url = url
        self._open_page = open_page
        self.pages: list[Page] = []

    def leave(self, page: Page) -> None:
        """Follow a link out of a tab's page."""
        page.goto(f"{self.url}/elsewhere")

    def open(self, *names: str, **options: Any) -> Page:
        fields = json.dumps({"names": names, **options})
        page: Page = self._open_page(f"{self.url}/?{len(self.pages)}#{fields}")
        self.pages.append(page)
        page.wait_for_function("() => window.ready?.() || window.errors?.length", timeout=TIMEOUT)
        return page

    def show(self, page: Page, name: str, text: str) -> None:
        page.wait_for_function(
            "([name, text]) => textOf(name) === text", arg=[name, text], timeout=TIMEOUT
        )

    def write(self, response: tokenwire.ResponseWriter, text: str, *pages: Page) -> None:
        """Write to `c`, and wait until pages show it; what came to them has no hole."""
        response.write(text)
        whole = self.sink.history("c").items[0].text
        for page in pages:
            self.show(page, "c", whole)
            come = ""
            for _, offset, piece in page.evaluate("deltas"):
                assert offset <= len(come)
                come = come[:offset] + piece

    def settle(self, connections: int = 1) -> None:
        """Wait until tabs have so many connections: one that asked for itself may still be open."""
        while self.gateway.connections != connections:  # pytest-timeout ends it
            self.pages[-1].evaluate("0")

    def leader(self) -> Page:
        while True:
            leaders = [page for page in self.pages if page.evaluate("connection._tabs.leads")]
            if len(leaders) == 1:  # between two questions, one may have taken over from another
                return leaders[0]


@pytest.fixture
def tabs_on(open_page: Callable[[str], Page]) -> Iterator[Callable[..., Tabs]]:
    """Serve a gateway, with options of its own, and pages that use it."""
    with contextlib.ExitStack() as stack:

        def tabs_on(around: Callable[[ASGIApp], ASGIApp] = lambda app: app, **options: Any) -> Tabs:
            sink = stack.enter_context(tokenwire.open_sink(tokenwire.MemoryBackend(), strict=True))
            gateway = Gateway(sink, **options)

            def html(request: Request) -> Response:
                return HTMLResponse(_PAGE)

            def elsewhere(request: Request) -> Response:
                return HTMLResponse('<title>Another page</title><link rel="icon" href="data:,">')

            routes = [
                Route("/", html),
                Route("/elsewhere", elsewhere),
                Mount("/stream", around(gateway)),
            ]
            server = stack.enter_context(serving(Starlette(routes=routes)))
            return Tabs(sink, gateway, server.url, open_page)

        yield tabs_on
