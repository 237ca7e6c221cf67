"""Pages in the back/forward cache: left, frozen, and shown again as they were."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from tests.e2e.screens import TIMEOUT
from tests.e2e.tabs import Tabs
from tests.support.browser import launched

pytestmark = [pytest.mark.slow, pytest.mark.browser, pytest.mark.in_turn("transport")]

WAYS = pytest.mark.parametrize("transport", ["websocket", "sse"])


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched(keeps_pages=True) as browser:
        yield browser


def mark(page: Page) -> None:
    page.evaluate("addEventListener('pageshow', (event) => (window.kept = event.persisted))")


def return_to(page: Page) -> None:
    """Go back to a page, which must not have been loaded anew."""
    page.go_back(wait_until="commit")
    page.wait_for_function("() => window.kept === true", timeout=TIMEOUT)


@WAYS
@pytest.mark.parametrize("leads", [True, False], ids=["leader", "follower"])
def test_a_tab_goes_on_where_it_was(
    tabs_on: Callable[..., Tabs], transport: str, leads: bool
) -> None:
    tabs = tabs_on()
    for _ in range(3):
        mark(tabs.open("c", transport=transport))
    tabs.settle()
    leader = tabs.leader()
    left = leader if leads else next(page for page in tabs.pages if page is not leader)
    others = [page for page in tabs.pages if page is not left]
    with tabs.sink.respond("c", response_id="r1") as response:
        tabs.write(response, "before 🙂 ", *tabs.pages)
        for number in range(3):
            tabs.leave(left)
            tabs.pages = others
            tabs.leader()
            tabs.write(response, f"meanwhile {number} 🙂 ", *others)
            return_to(left)
            tabs.pages = [left, *others]
            tabs.write(response, f"again {number} 🙂 ", *tabs.pages)
            left.evaluate("window.kept = null")
        tabs.settle()
        tabs.leave(left)
    return_to(left)
    left.wait_for_function("() => channels[0].get('r1').state === 'complete'", timeout=TIMEOUT)
    assert left.evaluate("channels[0].responses.length") == 1
    assert [page.evaluate("errors") for page in tabs.pages] == [[], [], []]


@WAYS
def test_a_tab_that_is_alone(tabs_on: Callable[..., Tabs], transport: str) -> None:
    tabs = tabs_on()
    page = tabs.open("c", transport=transport, share=False)
    mark(page)
    with tabs.sink.respond("c", response_id="r1") as response:
        tabs.write(response, "before ", page)
        tabs.leave(page)
        while tabs.gateway.connections:  # it has let go
            page.evaluate("0")
        tabs.write(response, "meanwhile ")
        return_to(page)
        tabs.write(response, "again", page)
    # Whoever has paused stays so.
    page.evaluate("connection.pause(); window.kept = null")
    tabs.leave(page)
    return_to(page)
    assert page.evaluate("connection.status") == "paused"
    page.evaluate("connection.resume()")
    page.wait_for_function("() => channels[0].get('r1').ended", timeout=TIMEOUT)


def test_nothing_listens_once_a_connection_is_closed(
    context: BrowserContext, tabs_on: Callable[..., Tabs]
) -> None:
    context.add_init_script(
        """
        window.listeners = [];
        const watched = new Set(["online", "offline", "pagehide", "pageshow", "visibilitychange"]);
        for (const target of [window, document]) {
          const { addEventListener, removeEventListener } = target;
          target.addEventListener = (type, listener, ...rest) => {
            if (watched.has(type)) listeners.push([type, listener]);  // Playwright has some, too
            addEventListener.call(target, type, listener, ...rest);
          };
          target.removeEventListener = (type, listener, ...rest) => {
            window.listeners = listeners.filter((one) => one[0] !== type || one[1] !== listener);
            removeEventListener.call(target, type, listener, ...rest);
          };
        }
        """
    )
    tabs = tabs_on()
    for _ in range(2):
        page = tabs.open("c")
        assert page.evaluate("listeners.length") > 0
        page.evaluate("connection.close()")
        assert page.evaluate("listeners.map(([type]) => type)") == []
