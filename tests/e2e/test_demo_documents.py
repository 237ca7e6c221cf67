"""The documentation that the demo serves: what is installed, without a site to link to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.e2e.demo_server import DemoServer
from tests.e2e.screens import Screen
from tests.e2e.test_accessible import THEMES, WIDTHS, complaints
from tests.support.profile import by_pairs
from tokenwire_adapters._tools.demo.documents import documents

pytestmark = [pytest.mark.slow, pytest.mark.browser]

ROOT = Path(__file__).resolve().parents[2]


def test_the_demo_leads_to_the_documentation(
    demo: DemoServer, open_screen: Callable[..., Screen], context: BrowserContext
) -> None:
    page = open_screen(f"{demo.url}?theme=dark").page
    with context.expect_page() as opened:
        page.get_by_role("link", name="Docs").click()
    readme = opened.value
    readme.locator("body[data-started]").wait_for()
    expect(readme.get_by_role("heading", level=1)).to_have_text("tokenwire")
    expect(readme.locator("html")).to_have_attribute("data-theme", "dark")
    readme.locator("a[href*='docs/cli.md']").first.click()
    readme.locator("body[data-started]").wait_for()
    expect(readme.get_by_role("heading", name="tokenwire demo")).to_be_visible()
    expect(readme.locator("html")).to_have_attribute("data-theme", "dark")
    readme.get_by_label("Page").select_option("docs/redis.md")
    readme.wait_for_url("**/docs/redis.md?theme=dark")


def test_links_lead_somewhere(demo: DemoServer, open_page: Callable[[str], Page]) -> None:
    page = open_page(f"{demo.url}documents/README.md")
    page.locator("body[data-started]").wait_for()
    links: list[str] = page.locator("main a").evaluate_all(
        "(links) => links.filter((a) => a.origin === location.origin).map((a) => a.pathname)"
    )
    assert links
    for path in set(links):
        assert page.request.get(demo.url.rstrip("/") + path).ok, path
    page.goto(f"{demo.url}documents/docs/cli.md#tokenwire-demo")
    page.locator("body[data-started]").wait_for()
    expect(page.get_by_role("heading", name="tokenwire demo")).to_be_in_viewport()


KINDS = ("README.md", "docs/cli.md", "docs/compatibility.md")  # prose, code and tables


@pytest.mark.parametrize(("path", "theme", "width"), by_pairs(KINDS, THEMES, WIDTHS))
def test_nothing_keeps_people_from_reading(
    demo: DemoServer, open_page: Callable[[str], Page], path: str, theme: str, width: int
) -> None:
    page = open_page(f"{demo.url}documents/{path}?theme={theme}")
    page.set_viewport_size({"width": width, "height": 820})
    page.locator("body[data-started]").wait_for()
    assert complaints(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("path", ["docs/no.md", "pyproject.toml", "docs/../pyproject.toml", ""])
def test_serves_nothing_else(demo: DemoServer, open_page: Callable[[str], Page], path: str) -> None:
    page = open_page(demo.url)
    for query in ("", "?source"):
        encoded = path.replace("/", "%2F")
        for spelled in (path, encoded):
            answer = page.request.get(f"{demo.url}documents/{spelled}{query}")
            assert "[project]" not in answer.text()
            assert not answer.ok


def test_a_checkout_shows_its_own_pages() -> None:
    found = documents()
    assert found["README.md"].read_text("utf-8") == (ROOT / "README.md").read_text("utf-8")
    assert {f"docs/{path.name}" for path in ROOT.glob("docs/*.md")} <= set(found)
