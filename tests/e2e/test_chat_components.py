"""Chat components of CopilotKit and assistant-ui, unmodified, in Chromium on a Python agent."""

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
from tests.adapters.ui.approving import Approving
from tests.e2e.bundles import bundle, page_routes
from tests.e2e.screens import TIMEOUT, Shown
from tokenwire_adapters.ag_ui import AgentRoutes, AgentTurn
from tokenwire_adapters.testing.provider import Provider, serve_in_thread

pytestmark = [pytest.mark.slow, pytest.mark.browser]

LONG = "tell me a long story"

Open = Callable[[str], Page]


class Chat:
    """A page with a chat of one make. Components of both are found by their roles."""

    def __init__(self, page: Page, make: str) -> None:
        self.page = page
        copilot = make == "copilotkit"
        self.box: Locator = page.locator("textarea:visible").first
        self.user = (
            page.get_by_test_id("copilot-user-message") if copilot else page.locator(".user")
        )
        answers = page.get_by_test_id("copilot-assistant-message")
        self.answers = answers if copilot else page.locator(".assistant .text")
        send = page.get_by_test_id("copilot-send-button")
        self.stop_button = send if copilot else page.get_by_role("button", name="Stop")
        self.box.wait_for()

    def send(self, text: str) -> None:
        self.box.fill(text)
        self.box.press("Enter")

    def watch(self, number: int = 1) -> Shown:
        """Wait until the model has begun its answer of this number."""
        expect(self.answers).to_have_count(number, timeout=TIMEOUT)
        answer = Shown(self.answers.last)
        expect(answer.place).to_have_text(WORDS, timeout=TIMEOUT)
        return answer


WORDS = re.compile(r"\w+ \w+")


class Site:
    """A server with the page and the agent."""

    def __init__(self, sink: tokenwire.Sink, provider: Provider, make: str) -> None:
        self.sink, self.provider, self.make = sink, provider, make
        script = bundle(f"components/{make}.jsx")

        pages = page_routes(script, "/chats/{id}")
        self.agent = Agent(provider)
        self.approving = Approving()
        self.app = Starlette(routes=[*pages, *AgentRoutes(sink, self._agent).routes])
        self.server: Server

    async def _agent(self, turn: AgentTurn) -> None:
        await (self.approving if "Ann" in turn.text else self.agent)(turn)  # type: ignore[arg-type]

    def open(self, open_page: Open) -> Chat:
        return Chat(open_page(f"{self.server.url}/chats/c1"), self.make)

    @property
    def answer(self) -> tokenwire.Response:
        """The newest response that a model wrote."""
        return next(one for one in self.sink.history("c1").items if one.parts)


@pytest.fixture(params=["copilotkit", "assistant"])
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    with (
        tokenwire.open_sink(tokenwire.MemoryBackend(), strict=True) as sink,
        serve_in_thread(pace=SLOW) as provider,
    ):
        site = Site(sink, provider, request.param)
        with serving(site.app) as site.server:
            yield site


def test_send_stream_and_go_on(site: Site, open_page: Open) -> None:
    site.provider.pace = 0
    chat = site.open(open_page)
    chat.send("hello there")
    chat.watch()
    expect(chat.answers.last).to_contain_text(last_words(site), timeout=TIMEOUT)
    chat.send("and now?")
    chat.watch(2)
    expect(chat.answers.last).to_contain_text(last_words(site), timeout=TIMEOUT)
    expect(chat.user).to_have_count(2)
    asked = [m["content"] for m in site.agent.turns[-1].chat_messages() if m["role"] == "user"]
    assert asked == ["hello there", "and now?"]


def test_a_tool_is_called(site: Site, open_page: Open) -> None:
    site.provider.pace = 0
    chat = site.open(open_page)
    chat.send("What is the weather in Lisbon?")
    # The second reply, which comes in the same message or in one of its own.
    expect(chat.answers.last).to_contain_text("what the tool told me", timeout=TIMEOUT)
    expect(chat.answers.last).to_contain_text(last_words(site), timeout=TIMEOUT)
    if site.make == "assistant":
        expect(chat.page.locator("pre")).to_contain_text("clear")


def test_the_stop_button_stops_the_provider(site: Site, open_page: Open) -> None:
    chat = site.open(open_page)
    site.provider.script(STORY)
    chat.send(LONG)
    chat.watch().see_more()
    record = site.provider.records[-1]
    chat.stop_button.click()
    assert record.wait(PATIENCE) == "closed_early"
    assert site.answer.state == "cancelled"
    site.provider.pace = 0
    chat.send("hello there")
    chat.watch(2)
    expect(chat.answers.last).to_contain_text(last_words(site), timeout=TIMEOUT)


@pytest.mark.parametrize("site", ["copilotkit"], indirect=True)
def test_reload_and_a_second_tab(site: Site, open_page: Open) -> None:
    """CopilotKit's chat joins its thread by itself."""
    chat = site.open(open_page)
    site.provider.script(STORY)
    chat.send(LONG)
    chat.watch().see_more()
    chat.page.reload()
    tabs = [Chat(chat.page, site.make), site.open(open_page)]
    for tab in tabs:
        tab.watch().see_more()
    assert site.provider.records[-1].outcome == "running"
    site.provider.pace = 0
    for tab in tabs:
        expect(tab.answers.last).to_contain_text(last_words(site), timeout=TIMEOUT)
        expect(tab.answers).to_have_count(1)
        expect(tab.user).to_have_count(1)
    assert len(site.provider.records) == 1


def test_an_approval(site: Site, open_page: Open) -> None:
    """The component asks, by its own means, and its answer reaches the agent that waits."""
    chat = site.open(open_page)
    chat.send("write to Ann")
    approve = chat.page.get_by_role("button", name="Approve")
    approve.click(timeout=TIMEOUT)
    expect(chat.answers.last).to_contain_text("Sent.", timeout=TIMEOUT)
    expect(approve).to_have_count(0)
    assert site.approving.sent == [None]
    assert len(site.approving.turns) == 1


def last_words(site: Site) -> str:
    """The end of what the model says, as it is on a page that renders Markdown."""
    record = site.provider.records[-1]
    record.wait(PATIENCE)
    return record.text.split()[-1]
