"""The demo's page for everybody: axe-core finds nothing to complain about, in either theme."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page

from tests.e2e.bundles import axe
from tests.e2e.demo_server import DemoServer
from tests.e2e.screens import Screen
from tests.support.profile import by_pairs

pytestmark = [pytest.mark.slow, pytest.mark.browser]

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def complaints(page: Page) -> list[str]:
    page.evaluate(axe())
    found: Any = page.evaluate(
        "(tags) => axe.run({runOnly: {type: 'tag', values: tags}}).then((run) => run.violations)",
        RULES,
    )
    return [
        f"{rule['id']}: {rule['help']}: {[node['target'] for node in rule['nodes']]}"
        for rule in found
    ]


THEMES, WIDTHS, VIEWS = ("light", "dark"), (390, 1180), ("one", "wall")


@pytest.mark.in_turn("theme")
@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_keeps_people_from_using_it(
    context: BrowserContext,
    demo: DemoServer,
    open_screen: Callable[..., Screen],
    theme: Any,
    width: int,
) -> None:
    demo.provider.pace = 2000
    screen = open_screen()
    page = screen.page
    page.emulate_media(color_scheme=theme, reduced_motion="reduce")
    page.set_viewport_size({"width": width, "height": 820})
    assert complaints(page) == []
    page.get_by_role("button", name="Call a tool").click()
    screen.see("complete")
    assert complaints(page) == []
    screen.look()
    page.get_by_text("Two devices").click()
    assert complaints(page) == []
    demo.provider.pace = 20
    page.get_by_text("One screen").click()
    screen = Screen(page)
    screen.ask("a long essay")
    screen.look()
    screen.see_more()
    assert complaints(page) == []
    page.keyboard.press("Escape")
    screen.see("cancelled")
    assert complaints(page) == []


@pytest.mark.parametrize(("view", "theme", "width"), by_pairs(VIEWS, THEMES, WIDTHS))
def test_nor_does_any_view_or_the_code(
    demo: DemoServer, open_screen: Callable[..., Screen], view: str, theme: str, width: int
) -> None:
    demo.provider.pace = 2000
    page = open_screen(f"{demo.url}?view={view}&theme={theme}").page
    page.set_viewport_size({"width": width, "height": 820})
    assert complaints(page) == []
    page.get_by_role("button", name="Code").click()  # opened on the phone, closed elsewhere
    assert complaints(page) == []
    page.get_by_role("button", name="Code").click()
    page.get_by_role("button", name="Start all six" if view == "wall" else "Think first").click()
    Screen(page).see("complete")
    assert complaints(page) == []
