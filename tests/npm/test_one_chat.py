"""examples/one_chat: the pages of several kinds, in one browser, on one agent."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache

import pytest
from playwright.sync_api import BrowserContext, Page, Route, expect

from tests.e2e.screens import TIMEOUT
from tests.npm.package import ROOT, esbuild, tools
from tests.support.nodejs import node_with

pytestmark = [pytest.mark.slow, pytest.mark.browser]

EXAMPLE = ROOT / "examples" / "one_chat"
PAGES = ("plain", "react", "vue")
_ABLY = ROOT / "tests" / "adapters" / "ably" / "js" / "package.json"
# What the pages take from the CDN, in bundles, so that each package is there once.
_FROM_CDN = {
    "all": ["react", "react-dom/client", "vue"],
    "ably": ["ably", "@ably/ai-transport", "@ably/ai-transport/vercel"],
}


@cache
def packages(name: str) -> str:
    folder = tools() if name == "all" else node_with(_ABLY)
    lines = [f'export * as m{n} from "{package}";' for n, package in enumerate(_FROM_CDN[name])]
    script = folder.write(f"{name}.js", "\n".join(lines).encode())
    return esbuild(
        *(script, "--bundle", "--format=esm", "--log-level=error"),
        '--define:process.env.NODE_ENV="production"',
    )


@cache
def module(url: str) -> str:
    """What the CDN answers."""
    path = url.removeprefix("https://esm.sh/")
    if path.startswith("bundles/"):
        return packages(path.removeprefix("bundles/"))
    package = re.sub(r"@\d[\d.]*", "", path)
    (name,) = [name for name, packages in _FROM_CDN.items() if package in packages]
    sources = [*EXAMPLE.glob("*.html"), ROOT / "npm" / "src" / "react.js"]
    imports = re.findall(
        r"import \{([^}]*)\} from \"" + re.escape(package) + '"',
        "".join(source.read_text("utf-8") for source in sources),
    )
    names = sorted({part.split(" as ")[0].strip() for one in imports for part in one.split(",")})
    return (
        f'import {{ m{_FROM_CDN[name].index(package)} as m }} from "https://esm.sh/bundles/{name}";\n'
        f"export const {{ {', '.join(names)} }} = {{ ...m.default, ...m }};\n"
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
    """A CDN that answers from here."""

    def answer(route: Route) -> None:
        headers = {"access-control-allow-origin": "*"}
        body = module(route.request.url)
        route.fulfill(body=body, content_type="text/javascript", headers=headers)

    context.route("https://esm.sh/**", answer)


@pytest.fixture
def pages(cdn: None, open_page: Callable[[str], Page], url: str) -> dict[str, Page]:
    """The pages that share a conversation."""
    index = open_page(url)
    links = [link.get_attribute("href") for link in index.get_by_role("link").all()]
    assert links == [f"/{name}" for name in (*PAGES, "ably")]
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
