"""examples/one_chat: the pages of several kinds, in one browser, on one agent."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import BrowserContext, Page, Route, expect

from tests.e2e.screens import TIMEOUT
from tests.npm.package import ROOT, esbuild
from tests.support.nodejs import node_with

pytestmark = [pytest.mark.slow, pytest.mark.browser]

EXAMPLE = ROOT / "examples" / "one_chat"
PAGES = ("plain", "react", "vue")  # they share a conversation
OTHERS = ("usechat", "copilotkit", "usestream")
_TESTS = ROOT / "tests"
_REACT = ("react", "react-dom/client")
# What pages take from the CDN, by page, and where it is installed from. A page has one bundle, so
# that each package is there once.
_FROM_CDN: dict[str, tuple[Path, tuple[str, ...]]] = {
    "react": (_TESTS / "npm", _REACT),
    "vue": (_TESTS / "npm", ("vue",)),
    "usechat": (_TESTS / "e2e" / "pages", (*_REACT, "@ai-sdk/react")),
    "copilotkit": (_TESTS / "e2e" / "pages" / "components", (*_REACT, "@copilotkit/react-core/v2")),
    "usestream": (_TESTS / "e2e" / "pages" / "langchain", (*_REACT, "@langchain/react")),
    "ably": (
        _TESTS / "adapters" / "ably" / "js",
        ("ably", "@ably/ai-transport", "@ably/ai-transport/vercel"),
    ),
}


@cache
def packages(page: str) -> str:
    folder, names = _FROM_CDN[page]
    node = node_with(folder / "package.json")
    lines = [f'export * as m{n} from "{package}";' for n, package in enumerate(names)]
    script = node.write(f"one-chat-{page}.js", "\n".join(lines).encode())
    return esbuild(
        *(script, "--bundle", "--format=esm", "--charset=utf8", "--log-level=error"),
        '--define:process.env.NODE_ENV="production"',
        "--loader:.css=empty",
        "--minify",
    )


@cache
def module(page: str, package: str) -> str:
    """A package as a page imports it, out of the page's bundle."""
    names = _FROM_CDN[page][1]
    sources = [EXAMPLE / f"{page}.html", ROOT / "npm" / "src" / "react.js"]
    imports = re.findall(
        r"import \{([^}]*)\} from \"" + re.escape(package) + '"',
        "".join(source.read_text("utf-8") for source in sources),
    )
    exports = sorted({part.split(" as ")[0].strip() for one in imports for part in one.split(",")})
    return (
        f'import {{ m{names.index(package)} as m }} from "https://esm.sh/bundle";\n'
        f"export const {{ {', '.join(exports)} }} = {{ ...m.default, ...m }};\n"
    )


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The example, started by its one command."""
    plain = {key: value for key, value in os.environ.items() if not key.startswith("OPENAI_")}
    process = subprocess.Popen(
        [sys.executable, str(EXAMPLE / "server.py")],
        env={**plain, "PORT": "0", "PACE": "100", "PYTHONUNBUFFERED": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        for line in process.stderr:
            address = re.search(r"http://127\.0\.0\.1:\d+", line)
            if address is not None:
                yield address[0]
                break
    finally:
        process.terminate()
        process.communicate(timeout=60)


def ask(page: Page, question: str) -> None:
    page.get_by_label("Message").fill(question)
    page.get_by_role("button", name="Send").click()


@pytest.fixture
def cdn(context: BrowserContext) -> None:
    """A CDN that answers from here: styles, packages, and the bundle of a page that has them."""

    def answer(route: Route) -> None:
        headers = {"access-control-allow-origin": "*"}
        page = urlsplit(route.request.frame.url).path.strip("/")
        path = urlsplit(route.request.url).path.removeprefix("/")
        if path.endswith(".css"):
            route.fulfill(body="", content_type="text/css", headers=headers)
            return
        package = re.sub(r"@\d[\d.]*", "", path)
        script = packages(page) if path == "bundle" else module(page, package)
        route.fulfill(body=script, content_type="text/javascript", headers=headers)

    context.route("https://esm.sh/**", answer)


@pytest.fixture
def pages(cdn: None, open_page: Callable[[str], Page], url: str) -> dict[str, Page]:
    """The pages that share a conversation."""
    index = open_page(url)
    links = [link.get_attribute("href") for link in index.get_by_role("link").all()]
    assert links == [f"/{name}" for name in (*PAGES, *OTHERS, "ably")]
    return {name: open_page(f"{url}/{name}") for name in PAGES}


def test_each_page_asks_and_all_show_the_same(pages: dict[str, Page]) -> None:
    for number, (name, page) in enumerate(pages.items()):
        ask(page, f"A question from {name}")
        for other in pages.values():
            article = other.locator("article").nth(number)
            expect(article.locator("h2")).to_have_text(f"A question from {name}", timeout=TIMEOUT)
            expect(article).to_have_attribute("data-state", "complete", timeout=TIMEOUT)
        texts = {other.locator("article p").nth(number).text_content() for other in pages.values()}
        assert len(texts) == 1
        assert texts != {""}


def test_any_page_stops_what_another_asked_for(pages: dict[str, Page]) -> None:
    shown = list(pages.values())
    for page, other in zip(shown, [*shown[1:], shown[0]], strict=True):
        ask(page, "Tell me a very long story")
        # The button moves down as the text grows: no mouse would be quick enough.
        other.get_by_role("button", name="Stop").dispatch_event("click")
        article = page.locator("article").last
        expect(article).to_have_attribute("data-state", "cancelled", timeout=TIMEOUT)


def test_ablys_client_asks_and_stops(cdn: None, open_page: Callable[[str], Page], url: str) -> None:
    page, other = (open_page(f"{url}/ably") for _ in range(2))
    # Its script goes on once the page is loaded: until it has joined, the form would load it anew.
    page.wait_for_function("document.querySelector('form').onsubmit !== null")
    ask(page, "A question over Ably")
    for one in (page, other):
        expect(one.locator("article.user")).to_have_text("A question over Ably", timeout=TIMEOUT)
        reply = one.locator("article.assistant")
        expect(reply).to_have_attribute("data-state", "complete", timeout=TIMEOUT)
        expect(reply).not_to_be_empty()
    ask(page, "Tell me a very long story")
    expect(other.locator("article.assistant").nth(1)).not_to_be_empty(timeout=TIMEOUT)
    page.locator("#stop").dispatch_event("click")
    for one in (page, other):
        reply = one.locator("article.assistant").nth(1)
        expect(reply).to_have_attribute("data-state", "cancelled", timeout=TIMEOUT)


@pytest.mark.parametrize("name", OTHERS)
def test_clients_of_other_protocols_ask_and_stop(
    cdn: None, open_page: Callable[[str], Page], url: str, name: str
) -> None:
    packages(name)  # which may take longer than a page waits
    page = open_page(f"{url}/{name}")
    chat = Chat(page, name)
    chat.ask("A question")
    expect(chat.questions).to_have_text(["A question"], timeout=TIMEOUT)
    chat.end(1)
    assert len(str(chat.answers.last.text_content())) > 20

    chat.ask("Tell me a very long story")
    expect(chat.answers).to_have_count(2, timeout=TIMEOUT)
    expect(chat.answers.last).to_have_text(re.compile(r"\w+ \w+"), timeout=TIMEOUT)
    chat.stop.dispatch_event("click")
    chat.end(2)
    with httpx.Client(base_url=url, timeout=60) as client:
        newest = client.get(f"/tokenwire/channels/{name}-one-chat/responses").json()["items"][0]
    assert newest["state"] == "cancelled"

    page.reload()  # and the conversation is there
    chat = Chat(page, name)
    expect(chat.questions).to_have_count(2, timeout=TIMEOUT)
    expect(chat.answers).to_have_count(2, timeout=TIMEOUT)


class Chat:
    """A page of one of the `OTHERS`. CopilotKit's component has marks of its own."""

    def __init__(self, page: Page, name: str) -> None:
        copilot = name == "copilotkit"
        find = page.get_by_test_id
        self._page = page
        self._copilot = copilot
        self.questions = (
            find("copilot-user-message") if copilot else page.locator(".user, .human")
        ).filter(visible=True)
        self.answers = (
            find("copilot-assistant-message") if copilot else page.locator(".assistant, .ai")
        )
        self.stop = (
            find("copilot-send-button") if copilot else page.get_by_role("button", name="Stop")
        )

    def ask(self, question: str) -> None:
        if self._copilot:
            box = self._page.locator("textarea:visible").first
            box.fill(question)
            box.press("Enter")
        else:
            ask(self._page, question)

    def end(self, answers: int) -> None:
        """Wait until an answer is over."""
        expect(self.answers).to_have_count(answers, timeout=TIMEOUT)
        if self._copilot:  # its toolbar comes at the end
            toolbars = self._page.get_by_test_id("copilot-copy-button")
            expect(toolbars).to_have_count(answers, timeout=TIMEOUT)
        else:
            main = self._page.locator("main")
            expect(main).to_have_attribute("data-status", "ready", timeout=TIMEOUT)
