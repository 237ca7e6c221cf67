"""A browser, the demo, and pages that may not complain."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.support.needs import needs

needs("playwright")
needs("uvicorn")
needs("openai")

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page

from tests.e2e.demo_server import DemoServer
from tests.e2e.screens import Screen
from tests.e2e.tabs import tabs_on
from tests.support.browser import launched

__all__ = ["browser", "context", "demo", "open_page", "open_screen", "tabs_on"]

# What Chromium itself says when a test takes the network away.
_EXPECTED = ("net::ERR_", "WebSocket connection to", "Failed to load resource")


@pytest.fixture(scope="module")  # while it runs, its loop keeps others from the main thread
def browser() -> Iterator[Browser]:
    with launched() as browser:
        yield browser


@pytest.fixture(scope="session")
def demo() -> Iterator[DemoServer]:
    with DemoServer("memory://e2e") as demo:
        yield demo


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    # Without the dot that pulses beside an answer under way: each of its frames would be drawn.
    context = browser.new_context(viewport={"width": 1180, "height": 820}, reduced_motion="reduce")
    context.set_default_timeout(45_000)
    yield context
    context.close()


@pytest.fixture
def own_errors() -> tuple[str, ...]:
    """What pages of a module may say or throw, since its tests provoke it."""
    return ()


@pytest.fixture
def open_page(
    context: BrowserContext, own_errors: tuple[str, ...]
) -> Iterator[Callable[[str], Page]]:
    """Open a page in a new tab. One that throws, or breaks its policy, fails the test."""
    complaints: list[str] = []

    def complain(text: str, expected: tuple[str, ...]) -> None:
        if not any(known in text for known in expected):
            complaints.append(text)

    def received(message: ConsoleMessage) -> None:
        if message.type == "error":
            complain(message.text, (*_EXPECTED, *own_errors))

    def opened(page: Page) -> None:
        page.on("console", received)
        page.on("pageerror", lambda error: complain(str(error), own_errors))

    context.on("page", opened)

    def open_page(url: str) -> Page:
        page = context.new_page()
        page.goto(url)
        return page

    yield open_page
    assert complaints == []


@pytest.fixture
def open_screen(open_page: Callable[[str], Page], demo: DemoServer) -> Callable[..., Screen]:
    """Open the demo's page in a new tab."""

    def open_screen(url: str | None = None) -> Screen:
        return Screen(open_page(url or demo.url))

    return open_screen
