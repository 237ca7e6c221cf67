"""Chat components of CopilotKit and assistant-ui, unmodified, in Chromium on a Python agent."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest

from tests.support.needs import needs

needs("ag_ui")
needs("starlette")

from playwright.sync_api import BrowserContext, Locator, Page, expect
from starlette.applications import Starlette

import tokenwire
from tests.adapters.gateway.support import PATIENCE, Server, serving
from tests.adapters.ui.agents import SLOW, STORY, Agent, of_all_kinds
from tests.adapters.ui.approving import Approving
from tests.e2e.bundles import bundle, page_routes
from tests.e2e.screens import TIMEOUT, Shown, submit
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
        submit(self.box, text)

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
        self.turns: list[AgentTurn] = []
        self.app = Starlette(routes=[*pages, *AgentRoutes(sink, self._agent).routes])
        self.server: Server

    async def _agent(self, turn: AgentTurn) -> None:
        self.turns.append(turn)
        last = turn.chat_messages()[-1]
        if turn.text == "pick a file" and last["role"] == "tool":
            turn.response.write(f"You picked {last['content']}.")
        elif turn.text == "pick a file":
            turn.response.tool_call("pick_file", "call-1", "{}")
            turn.response.finish("tool_calls")
        elif turn.text == "anew":
            turn.response.write("Anew." if len(self.turns) > 1 else "Once.")
        elif turn.text == "all kinds":
            await of_all_kinds(turn)
        elif turn.text == "fail":
            turn.response.write("I will ")
            raise RuntimeError("no more money")
        else:
            await (self.approving if "Ann" in turn.text else self.agent)(turn)  # type: ignore[arg-type]

    def open(self, open_page: Open, query: str = "") -> Chat:
        return Chat(open_page(f"{self.url}{query}"), self.make)

    @property
    def url(self) -> str:
        return f"{self.server.url}/chats/c1"

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
    while not site.answer.ended:  # a moment later; pytest-timeout ends it
        chat.page.wait_for_timeout(20)
    assert site.answer.state == "cancelled"
    site.provider.pace = 0
    chat.send("hello there")
    chat.watch(2)
    expect(chat.answers.last).to_contain_text(last_words(site), timeout=TIMEOUT)


def test_reload_and_a_second_tab(site: Site, open_page: Open) -> None:
    """CopilotKit's chat joins its thread by itself; that of assistant-ui by its history."""
    chat = site.open(open_page, "?history")
    site.provider.script(STORY)
    chat.send(LONG)
    chat.watch().see_more()
    chat.page.reload()
    tabs = [Chat(chat.page, site.make), site.open(open_page, "?history")]
    for tab in tabs:
        tab.watch().see_more()
    assert site.provider.records[-1].outcome == "running"
    site.provider.pace = 0
    for tab in tabs:
        expect(tab.answers.last).to_contain_text(last_words(site), timeout=TIMEOUT)
        expect(tab.answers).to_have_count(1)
        expect(tab.user).to_have_count(1)
    assert len(site.provider.records) == 1
    chat.page.reload()  # and what is over stays
    chat = Chat(chat.page, site.make)
    expect(chat.answers.last).to_contain_text(last_words(site), timeout=TIMEOUT)
    expect(chat.user).to_have_count(1)


def test_reasoning(site: Site, open_page: Open) -> None:
    site.provider.pace = 0
    chat = site.open(open_page)
    chat.send("hello there")
    chat.watch()
    expect(chat.answers.last).to_contain_text(last_words(site), timeout=TIMEOUT)
    for line in site.provider.records[-1].reasoning.split("\n"):
        expect(chat.page.locator("body")).to_contain_text(line, timeout=TIMEOUT)


def test_what_is_neither_text_nor_a_tool_of_the_agent(site: Site, open_page: Open) -> None:
    chat = site.open(open_page)
    chat.send("all kinds")
    expect(chat.answers.last).to_contain_text("Found.", timeout=TIMEOUT)
    shown = chat.page.locator("pre.custom")
    expect(shown).to_have_text(
        ["source https://example.com/tides", "file image/png", "weather 21"], timeout=TIMEOUT
    )
    expect(chat.page.locator("[data-tool=web_search]")).to_contain_text("found", timeout=TIMEOUT)


def test_a_failure(site: Site, context: BrowserContext) -> None:
    page = context.new_page()  # the client itself says in the console what went wrong
    page.goto(site.url)
    chat = Chat(page, site.make)
    chat.send("fail")
    expect(chat.page.get_by_role("alert")).to_contain_text("no more money", timeout=TIMEOUT)
    expect(chat.answers.last).to_contain_text("I will", timeout=TIMEOUT)


def test_an_answer_is_made_anew(site: Site, open_page: Open) -> None:
    chat = site.open(open_page)
    chat.send("anew")
    expect(chat.answers.last).to_contain_text("Once.", timeout=TIMEOUT)
    again = "copilot-regenerate-button" if site.make == "copilotkit" else "again"
    chat.page.get_by_test_id(again).click()
    expect(chat.page.locator("body")).to_contain_text("Anew.", timeout=TIMEOUT)
    expect(chat.answers).to_have_count(1)
    assert [m["role"] for m in site.turns[-1].chat_messages()] == ["user"]


@pytest.mark.parametrize("site", ["assistant"], indirect=True)
def test_a_message_is_edited(site: Site, open_page: Open) -> None:
    site.provider.pace = 0
    chat = site.open(open_page, "?history")
    for number, text in enumerate(("hello there", "and now?"), 1):
        chat.send(text)
        chat.watch(number)
        expect(chat.answers.last).to_contain_text(last_words(site), timeout=TIMEOUT)
    chat.page.get_by_role("button", name="Edit").last.click()
    chat.page.get_by_label("Edited").fill("something else")
    chat.page.get_by_role("button", name="Save").click()
    expect(chat.user).to_have_text(
        [re.compile("hello there"), re.compile("something else")], timeout=TIMEOUT
    )
    chat.watch(2)
    expect(chat.answers.last).to_contain_text(last_words(site), timeout=TIMEOUT)
    asked = [m["content"] for m in site.turns[-1].chat_messages() if m["role"] == "user"]
    assert asked == ["hello there", "something else"]


def test_a_tool_of_the_page(site: Site, open_page: Open) -> None:
    chat = site.open(open_page)
    chat.send("pick a file")
    expect(chat.answers.last).to_contain_text("You picked a.txt.", timeout=TIMEOUT)
    assert len(site.turns) == 2


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
