"""React pages with `useChat` and our transport, in Chromium: what stops an agent, and what not."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.support.needs import needs

needs("starlette")

from playwright.sync_api import Page, expect
from starlette.applications import Starlette
from starlette.routing import Mount

import tokenwire
from tests.adapters.gateway.support import PATIENCE, serving
from tests.adapters.ui.agents import SLOW, STORY, Agent
from tests.e2e.bundles import bundle, page_routes
from tests.e2e.screens import TIMEOUT, Shown
from tokenwire_adapters.asgi import Gateway
from tokenwire_adapters.testing.provider import Provider, RequestRecord, serve_in_thread
from tokenwire_adapters.vercel import ChatRoutes

pytestmark = [pytest.mark.slow, pytest.mark.browser]


@pytest.fixture
def provider() -> Iterator[Provider]:
    with serve_in_thread(pace=SLOW) as provider:
        yield provider


@pytest.fixture(params=["@ai-sdk/react", "ai-sdk-react-3", "ai-sdk-react-2"])
def url(request: pytest.FixtureRequest, provider: Provider) -> Iterator[str]:
    script = bundle("chats.jsx", react=request.param)

    with tokenwire.open_sink(tokenwire.MemoryBackend(), strict=True) as sink:
        routes = [
            *page_routes(script),
            *ChatRoutes(sink, Agent(provider)).routes,
            Mount("/stream", Gateway(sink)),
        ]
        with serving(Starlette(routes=routes)) as server:
            yield server.url


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def text_in(page: Page, chat: str) -> Shown:
    answer = page.locator(f'main[data-chat="{chat}"] article.assistant .text').last
    shown = Shown(answer)
    shown.watch()
    return shown


def ask(page: Page, provider: Provider, chat: str) -> RequestRecord:
    """Send a message, and wait until its answer is on the page."""
    provider.script(STORY)
    press(page, "Send")
    text_in(page, chat).see_more()
    record = provider.records[-1]
    assert record.outcome == "running"
    return record


def be_ready(page: Page) -> None:
    expect(page.locator("main")).to_have_attribute("data-status", "ready", timeout=TIMEOUT)


def test_another_chat_or_none_does_not_stop_the_agent(
    url: str, provider: Provider, open_page: Callable[[str], Page]
) -> None:
    page = open_page(url)
    be_ready(page)
    record = ask(page, provider, "c1")
    press(page, "c2")
    be_ready(page)
    press(page, "none")
    expect(page.locator("main")).to_have_count(0, timeout=TIMEOUT)
    press(page, "c1")
    text_in(page, "c1").see_more()
    assert record.outcome == "running"
    provider.pace = 0
    be_ready(page)
    text_in(page, "c1").see_text(record.text)
    assert record.wait(PATIENCE) == "complete"


def test_the_stop_button_of_a_reloaded_page_stops_it(
    url: str, provider: Provider, open_page: Callable[[str], Page]
) -> None:
    page = open_page(url)
    be_ready(page)
    record = ask(page, provider, "c1")
    page.reload()
    text_in(page, "c1").see_more()
    press(page, "Stop")
    assert record.wait(PATIENCE) == "closed_early"
    be_ready(page)
    expect(page.get_by_role("alert")).to_have_count(0)
    assert len(provider.records) == 1
