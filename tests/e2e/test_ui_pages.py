"""Pages made with React's `useChat`, and with AG-UI's `HttpAgent`, in Chromium on Python agents.

The packages are npm's, unmodified; what is on the page is what the provider sent.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest

from tests.support.needs import needs

needs("ag_ui")
needs("starlette")

from playwright.sync_api import Locator, Page, expect
from starlette.applications import Starlette

import tokenwire
from tests.adapters.gateway.support import PATIENCE, Server, serving
from tests.adapters.ui.agents import SLOW, STORY, Agent
from tests.e2e.bundles import bundle, page_routes
from tests.e2e.screens import TIMEOUT, Shown
from tests.support.profile import EVERYTHING
from tokenwire_adapters.ag_ui import AgentRoutes
from tokenwire_adapters.testing.provider import Provider, serve_in_thread
from tokenwire_adapters.vercel import ChatRoutes

pytestmark = [pytest.mark.slow, pytest.mark.browser]

Open = Callable[[str], Page]
LONG = "tell me a long story"

# The page, what its bundle takes in place of packages, and what its address asks for.
PAGES = {
    "useChat of ai 7": ("chat.jsx", {}, ""),
    "useChat of ai 7, effects run twice": ("chat.jsx", {}, "?strict"),
    "useChat of ai 6": ("chat.jsx", {"react": "ai-sdk-react-3"}, ""),
    "useChat of ai 5": ("chat.jsx", {"react": "ai-sdk-react-2"}, ""),
    "HttpAgent": ("agent.js", {}, ""),
}
# Older releases of the AI SDK do in a page what they do in Node (tests/adapters/ui), but resume.
once = pytest.mark.parametrize(
    "site",
    [kind for kind in PAGES if EVERYTHING or kind in ("useChat of ai 7", "HttpAgent")],
    indirect=True,
)


class Site:
    """A server with a page, and with the agents that pages ask."""

    def __init__(self, sink: tokenwire.Sink, provider: Provider, kind: str) -> None:
        page, aliases, self._query = PAGES[kind]
        script = bundle(page, **aliases)
        self.sink = sink
        self.provider = provider

        agent = Agent(provider)
        self.app = Starlette(
            routes=[
                *page_routes(script, "/chats/{id}"),
                *ChatRoutes(sink, agent).routes,
                *AgentRoutes(sink, agent).routes,
            ]
        )
        self.server: Server

    @property
    def url(self) -> str:
        return f"{self.server.url}/chats/c1{self._query}"


@pytest.fixture(params=list(PAGES))
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    with (
        tokenwire.open_sink(tokenwire.MemoryBackend(), strict=True) as sink,
        serve_in_thread(pace=SLOW) as provider,
    ):
        site = Site(sink, provider, request.param)
        with serving(site.app) as site.server:
            yield site


class Tab:
    """A tab with a chat."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.answer = page.locator("article.assistant").last
        self.text = Shown(self.answer.locator(".text").last)
        page.get_by_label("Message").wait_for()

    def send(self, text: str) -> None:
        self.page.get_by_label("Message").fill(text)
        self.page.get_by_role("button", name="Send").click()

    def stop(self) -> None:
        self.page.get_by_role("button", name="Stop").click()

    def be_ready(self) -> None:
        """Wait until nothing is under way."""
        main = self.page.locator("main")
        expect(main).to_have_attribute("data-status", "ready", timeout=TIMEOUT)

    @property
    def messages(self) -> list[list[str | None]]:
        """Role and id of every message, reasoning aside."""
        shown: Locator = self.page.locator("article:not(.reasoning)")
        reported = shown.evaluate_all(
            "(all) => all.map((each) => [each.className, each.dataset.id])"
        )
        return [list(each) for each in reported]

    @property
    def thoughts(self) -> str:
        return Shown(self.page.locator("p.reasoning").last).text


def the_answer(site: Site) -> tokenwire.Response:
    """The newest response that a model wrote."""
    return next(each for each in site.sink.history("c1").items if each.parts)


@once
def test_send_and_stream(site: Site, open_page: Open) -> None:
    tab = Tab(open_page(site.url))
    tab.be_ready()
    tab.send("hello there")
    tab.text.watch()
    site.provider.pace = 0
    tab.be_ready()
    record = site.provider.records[-1]
    tab.text.see_text(record.text)
    assert tab.thoughts == record.reasoning != ""
    assert [role for role, _ in tab.messages] == ["user", "assistant"]

    tab.send("and now?")  # the conversation goes on
    expect(tab.page.locator("article.assistant")).to_have_count(2, timeout=TIMEOUT)
    tab.be_ready()
    tab.text.see_text(site.provider.records[-1].text)
    assert [role for role, _ in tab.messages] == ["user", "assistant"] * 2


def test_reload_and_resume(site: Site, open_page: Open) -> None:
    tab = Tab(open_page(site.url))
    tab.be_ready()
    site.provider.script(STORY)
    tab.send(LONG)
    tab.text.watch()
    tab.text.see_more()
    shown = tab.text.text
    tab.page.reload()
    tab = Tab(tab.page)
    tab.text.watch()
    record = site.provider.records[-1]
    tab.text.see_more()
    assert record.outcome == "running", "the reload came too late to show anything"
    tab.page.reload()
    tab = Tab(tab.page)
    tab.text.watch()
    site.provider.pace = 0
    tab.be_ready()
    tab.text.see_text(record.text)
    assert record.text.startswith(shown)
    assert tab.thoughts == record.reasoning
    before = tab.messages
    assert [role for role, _ in before] == ["user", "assistant"]
    tab.page.reload()  # and what is over stays
    tab = Tab(tab.page)
    tab.be_ready()
    tab.text.see_text(record.text)
    assert tab.messages == before
    assert len(site.provider.records) == 1


@pytest.mark.parametrize(
    "site",
    [kind for kind in PAGES if EVERYTHING or kind[-1] not in "65"],
    indirect=True,
)
def test_stop_and_a_second_tab(site: Site, open_page: Open) -> None:
    first = Tab(open_page(site.url))
    first.be_ready()
    site.provider.script(STORY)
    first.send(LONG)
    first.text.watch()
    first.text.see_more()
    second = Tab(open_page(site.url))
    second.text.watch()
    second.text.see_more()
    first.text.see_more()
    second.stop()
    record = site.provider.records[-1]
    assert record.wait(PATIENCE) == "closed_early"
    for tab in (first, second):
        tab.be_ready()
        tab.text.see_text(the_answer(site).text)
    assert the_answer(site).state == "cancelled"
    assert record.sent_text.startswith(second.text.text)
    assert second.text.text != ""

    site.provider.pace = 0
    second.send("hello there")  # the chat goes on after it
    expect(second.page.locator("article.assistant")).to_have_count(2, timeout=TIMEOUT)
    second.be_ready()
    second.text.see_text(site.provider.records[-1].text)


@once
def test_a_tool_is_called(site: Site, open_page: Open) -> None:
    site.provider.pace = 0
    tab = Tab(open_page(site.url))
    tab.be_ready()
    tab.send("What is the weather in Lisbon?")
    expect(tab.page.locator("pre, article.tool")).to_have_text(re.compile("clear"), timeout=TIMEOUT)
    tab.be_ready()
    tab.text.see_text(site.provider.records[-1].text)
    shown = tab.messages
    tab.page.reload()
    tab = Tab(tab.page)
    tab.be_ready()
    tab.text.see_text(site.provider.records[-1].text)
    assert tab.messages == shown
