"""The hook for React in docs/javascript.md, in Chromium."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.needs import needs

needs("starlette")

from playwright.sync_api import Page, expect
from starlette.applications import Starlette
from starlette.routing import Mount

import tokenwire
from tests.adapters.gateway.support import serving
from tests.e2e.bundles import bundle, page_routes
from tests.e2e.screens import TIMEOUT
from tokenwire_adapters.asgi import Gateway

pytestmark = [pytest.mark.slow, pytest.mark.browser]

DOCS = Path(__file__).parents[2] / "docs" / "javascript.md"


def hook() -> str:
    blocks = re.findall(r"```jsx\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL)
    (block,) = [block for block in blocks if "function useChannel" in block]
    return str(block)


def test_shows_what_its_channel_has_and_nothing_else(open_page: Callable[[str], Page]) -> None:
    script = bundle("channels.jsx", before=hook())

    with tokenwire.open_sink(tokenwire.MemoryBackend(), strict=True) as sink:
        routes = [*page_routes(script), Mount("/stream", Gateway(sink))]
        with sink.respond("a") as response:
            response.write("of a")
        with serving(Starlette(routes=routes)) as server:
            page = open_page(server.url)
            paragraph = page.locator("p")
            expect(paragraph).to_have_text("of a", timeout=TIMEOUT)
            page.get_by_role("button", name="b").click()
            expect(paragraph).to_have_text("", timeout=TIMEOUT)
            with sink.respond("b") as response:
                response.write("of b")
            expect(paragraph).to_have_text("of b", timeout=TIMEOUT)
            page.get_by_role("button", name="a").click()
            expect(paragraph).to_have_text("of a", timeout=TIMEOUT)
            shown = page.evaluate("window.shown")
    assert {text for name, text in shown if name == "a"} == {"of a"}
    assert {text for name, text in shown if name == "b"} <= {"", "of", "of b"}
