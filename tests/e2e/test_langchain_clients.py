"""``useStream`` of LangChain's clients, unmodified, in Chromium on agents without LangGraph."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator

import pytest

from tests.support.needs import needs

needs("starlette")

from playwright.sync_api import BrowserContext, Page, expect
from starlette.applications import Starlette

import tokenwire
from tests.adapters.gateway.support import PATIENCE, Server, serving
from tests.adapters.ui.agents import IMAGE, REPORT, SLOW, SOURCE, STORY, Agent, of_all_kinds
from tests.adapters.ui.approving import Approving
from tests.e2e.bundles import bundle, page_routes
from tests.e2e.screens import TIMEOUT, Shown
from tokenwire_adapters.langgraph import LangGraphRoutes, LangGraphTurn
from tokenwire_adapters.testing.provider import Provider, serve_in_thread

pytestmark = [pytest.mark.slow, pytest.mark.browser]

LONG = "tell me a long story"
CLIENTS = {"langgraph-sdk": "", "langchain-react": "react"}

Open = Callable[[str], Page]


class Site:
    """A server with the page and the agents."""

    def __init__(self, sink: tokenwire.Sink, provider: Provider, query: str) -> None:
        self.sink, self.provider, self.query = sink, provider, query
        self.turns: list[LangGraphTurn] = []
        self.approving = Approving()
        self.plain = Agent(provider)
        script = bundle("langchain/chat.jsx")

        routes = LangGraphRoutes(sink, self.agent).routes
        self.app = Starlette(routes=[*page_routes(script), *routes])
        self.server: Server

    async def agent(self, turn: LangGraphTurn) -> None:
        self.turns.append(turn)
        if "Ann" in turn.text:
            await self.approving(turn)
        elif turn.text == "all kinds":
            await of_all_kinds(turn)
        elif turn.text == "fail":
            turn.response.write("I will ")
            raise RuntimeError("no more money")
        else:
            await self.plain(turn)  # type: ignore[arg-type]

    def url(self, *more: str) -> str:
        return f"{self.server.url}/?" + "&".join(one for one in (self.query, *more) if one)

    def answer(self, thread: str) -> tokenwire.Response:
        """The newest response that a model wrote."""
        return next(one for one in self.sink.history(thread).items if one.parts)


class Tab:
    """A tab with the chat."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.answers = page.locator("article.ai")
        self.text = Shown(self.answers.locator(".text").last)
        page.get_by_label("Message").wait_for()

    def send(self, text: str) -> None:
        self.page.get_by_label("Message").fill(text)
        self.page.get_by_role("button", name="Send").click()

    def press(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).last.click()

    def be_ready(self) -> None:
        main = self.page.locator("main")
        expect(main).to_have_attribute("data-status", "ready", timeout=TIMEOUT)

    def see(self, text: str) -> None:
        expect(self.answers.locator(".text").last).to_have_text(
            text, timeout=TIMEOUT, use_inner_text=False
        )

    def begin(self) -> None:
        """Wait until some of an answer is there."""
        expect(self.answers.locator(".text").last).to_have_text(
            re.compile(r"\w+ \w+"), timeout=TIMEOUT
        )

    @property
    def thread(self) -> str:
        return str(self.page.locator("main").get_attribute("data-thread"))

    @property
    def kinds(self) -> list[str]:
        kinds = self.page.locator("article").evaluate_all(
            "(all) => all.map((one) => one.className)"
        )
        return [str(kind) for kind in kinds]


@pytest.fixture(params=list(CLIENTS))
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    with (
        tokenwire.open_sink(tokenwire.MemoryBackend(), strict=True) as sink,
        serve_in_thread(pace=SLOW) as provider,
    ):
        site = Site(sink, provider, CLIENTS[request.param])
        with serving(site.app) as site.server:
            yield site


def test_send_stream_and_go_on(site: Site, open_page: Open) -> None:
    tab = Tab(open_page(site.url()))
    tab.send("hello there")
    tab.begin()
    tab.text.watch()
    site.provider.pace = 0
    tab.be_ready()
    record = site.provider.records[-1]
    tab.text.see_text(record.text)
    assert tab.kinds == ["human", "ai"]
    expect(tab.page.locator(".reasoning").last).to_have_text(record.reasoning, use_inner_text=False)
    tab.send("and now?")
    expect(tab.answers).to_have_count(2, timeout=TIMEOUT)
    tab.be_ready()
    tab.see(site.provider.records[-1].text)
    assert tab.kinds == ["human", "ai"] * 2
    asked = [m["content"] for m in site.plain.turns[-1].chat_messages() if m["role"] == "user"]
    assert asked == ["hello there", "and now?"]
    tab.page.reload()
    tab = Tab(tab.page)
    tab.see(site.provider.records[-1].text)
    assert tab.kinds == ["human", "ai"] * 2


def test_a_tool_is_called(site: Site, open_page: Open) -> None:
    site.provider.pace = 0
    tab = Tab(open_page(site.url()))
    tab.send("What is the weather in Lisbon?")
    expect(tab.page.locator("article.tool")).to_contain_text("clear", timeout=TIMEOUT)
    expect(tab.page.locator("article pre")).to_contain_text("get_weather")
    tab.be_ready()
    tab.see(site.provider.records[-1].text)
    assert tab.kinds == ["human", "ai", "tool", "ai"]
    tab.page.reload()
    tab = Tab(tab.page)
    tab.see(site.provider.records[-1].text)
    assert tab.kinds == ["human", "ai", "tool", "ai"]


def test_reload_in_the_middle_of_an_answer(site: Site, open_page: Open) -> None:
    tab = Tab(open_page(site.url()))
    site.provider.script(STORY)
    tab.send(LONG)
    tab.begin()
    tab.page.reload()
    tab = Tab(tab.page)
    tab.begin()
    tab.text.watch()
    tab.text.see_more()
    assert site.provider.records[-1].outcome == "running"
    site.provider.pace = 0
    tab.be_ready()
    tab.text.see_text(site.provider.records[-1].text)
    assert tab.kinds == ["human", "ai"]
    assert len(site.provider.records) == 1


def test_stop(site: Site, open_page: Open) -> None:
    tab = Tab(open_page(site.url()))
    site.provider.script(STORY)
    tab.send(LONG)
    tab.begin()
    record = site.provider.records[-1]
    tab.press("Stop")
    assert record.wait(PATIENCE) == "closed_early"
    tab.be_ready()
    # The older client shows what the thread had when it read that, which it does while it cancels.
    assert site.answer(tab.thread).text.startswith(tab.text.text)
    tab.page.reload()
    tab = Tab(tab.page)
    tab.see(site.answer(tab.thread).text)
    assert site.answer(tab.thread).state == "cancelled"
    site.provider.pace = 0
    tab.send("hello there")
    expect(tab.answers).to_have_count(2, timeout=TIMEOUT)
    tab.be_ready()
    tab.see(site.provider.records[-1].text)
    assert tab.kinds == ["human", "ai"] * 2


@pytest.mark.in_turn("site")
@pytest.mark.parametrize(("press", "end"), [("Approve", "Sent."), ("Reject", "Not sent.")])
def test_an_interrupt_is_answered_after_a_reload(
    site: Site, open_page: Open, press: str, end: str
) -> None:
    tab = Tab(open_page(site.url()))
    tab.send("write to Ann")
    question = tab.page.locator(".question")
    expect(question).to_contain_text("send_mail", timeout=TIMEOUT)
    tab.page.reload()
    tab = Tab(tab.page)
    expect(tab.page.locator(".question")).to_contain_text("send_mail", timeout=TIMEOUT)
    assert site.approving.sent == []
    tab.press(press)
    expect(tab.page.locator("article")).to_contain_text([end], timeout=TIMEOUT)
    tab.be_ready()
    expect(tab.page.locator(".question")).to_have_count(0)
    assert len(site.approving.sent) == (press == "Approve")
    assert len(site.approving.turns) == 1


def test_a_failure(site: Site, context: BrowserContext) -> None:
    page = context.new_page()  # the client itself says in the console what went wrong
    page.goto(site.url())
    tab = Tab(page)
    tab.send("fail")
    expect(tab.page.get_by_role("alert")).to_contain_text("no more money", timeout=TIMEOUT)
    tab.see("I will ")


def test_a_lost_connection(site: Site, context: BrowserContext) -> None:
    """The text is there once, however often the client comes back for it."""
    page = context.new_page()
    page.goto(site.url("cut"))
    tab = Tab(page)
    site.provider.script(STORY)
    tab.send(LONG)
    page.wait_for_function("window.cuts === 0", timeout=TIMEOUT)
    tab.text.see_more()
    site.provider.pace = 0
    tab.be_ready()
    tab.see(site.provider.records[-1].text)
    assert tab.kinds == ["human", "ai"]
    assert len(site.provider.records) == 1


def test_regenerate(site: Site, open_page: Open) -> None:
    site.provider.pace = 0
    tab = Tab(open_page(site.url("history")))
    tab.send("hello there")
    tab.begin()
    tab.be_ready()
    tab.press("Again")
    expect(tab.answers).to_have_count(1)
    tab.be_ready()
    tab.see(site.provider.records[-1].text)
    assert tab.kinds == ["human", "ai"]
    assert len(site.provider.records) == 2
    asked = site.plain.turns[-1].chat_messages()
    assert [message["role"] for message in asked] == ["user"]


@pytest.mark.in_turn("site")
@pytest.mark.parametrize("number", [0, 1])
def test_edit(site: Site, open_page: Open, number: int) -> None:
    """The message, and all after it, give way to another; a page that is loaded sees that one."""
    site.provider.pace = 0
    tab = Tab(open_page(site.url("history")))
    for count, text in enumerate(("hello there", "and now?"), 1):
        tab.send(text)
        expect(tab.answers).to_have_count(count, timeout=TIMEOUT)
        tab.be_ready()
    tab.page.get_by_label("Message").fill("something else")
    tab.page.locator("article.human").nth(number).get_by_role("button", name="Edit").click()
    questions = tab.page.locator("article.human .text")
    expected = ["hello there", "something else"][1 - number :]
    expect(questions).to_have_text(expected, timeout=TIMEOUT)
    expect(tab.answers).to_have_count(number + 1, timeout=TIMEOUT)
    tab.be_ready()
    tab.see(site.provider.records[-1].text)
    asked = [m["content"] for m in site.plain.turns[-1].chat_messages() if m["role"] == "user"]
    assert asked == expected
    tab.page.reload()
    tab = Tab(tab.page)
    expect(tab.page.locator("article.human .text")).to_have_text(expected, timeout=TIMEOUT)
    tab.see(site.provider.records[-1].text)


def test_a_picture_of_the_user(site: Site, open_page: Open) -> None:
    site.provider.pace = 0
    tab = Tab(open_page(site.url("picture")))
    tab.send("hello there")
    tab.begin()
    tab.be_ready()
    (message,) = site.plain.turns[-1].messages  # type: ignore[attr-defined]
    assert [block["type"] for block in message["content"]] == ["text", "image_url"]
    tab.page.reload()
    tab = Tab(tab.page)
    picture = tab.page.locator("article.human img")
    expect(picture).to_have_attribute("src", re.compile("^data:image/png"), timeout=TIMEOUT)


def test_what_is_neither_text_nor_a_tool_of_the_agent(site: Site, open_page: Open) -> None:
    tab = Tab(open_page(site.url()))
    tab.send("all kinds")
    expect(tab.answers.locator(".text").last).to_have_text("Found.", timeout=TIMEOUT)
    tab.be_ready()
    customs = [
        {"name": "source", "data": SOURCE},
        {"name": "file", "data": IMAGE},
        {"name": "weather", "data": REPORT},
    ]
    shown = tab.page.locator("pre.custom")
    tab.page.wait_for_function(
        "(wanted) => document.querySelector('pre.custom').textContent.includes(wanted)",
        arg="celsius",
        timeout=TIMEOUT,
    )
    assert json.loads(shown.text_content() or "") == customs
    if "react" in site.query:
        expect(tab.page.locator("pre.weather")).to_have_text(
            re.compile("celsius.*21"), timeout=TIMEOUT
        )
    expect(tab.page.locator("article.tool")).to_have_text(re.compile("found"))
    expect(tab.answers.first.locator("pre")).to_contain_text("web_search")
    assert len(site.turns) == 1  # nothing asks again for a tool that the provider ran


def test_several_tabs(site: Site, open_page: Open) -> None:
    first = Tab(open_page(site.url()))
    first.send(LONG)
    first.begin()
    second = Tab(open_page(site.url(f"thread={first.thread}")))
    if "react" not in site.query:
        second.page.get_by_role("button", name="Join").click()
    second.begin()
    second.text.see_more()
    assert site.provider.records[-1].outcome == "running"
    second.press("Stop everywhere")
    assert site.provider.records[-1].wait(PATIENCE) == "closed_early"
    for tab in (first, second):
        tab.be_ready()
        tab.see(site.answer(first.thread).text)
        assert tab.kinds == ["human", "ai"]
    assert site.answer(first.thread).state == "cancelled"
