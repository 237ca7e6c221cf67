"""Tabs of one browser whose users differ, or whose rights end: who is signed in can change."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from playwright.sync_api import BrowserContext, Page
from starlette.requests import HTTPConnection

from tests.adapters.gateway.support import SECRET
from tests.e2e.screens import TIMEOUT
from tests.e2e.tabs import Tabs
from tokenwire_adapters.asgi import Tokens, mint_token

pytestmark = [pytest.mark.slow, pytest.mark.browser]

WAYS = pytest.mark.parametrize("transport", ["websocket", "sse"])


def by_cookie(connection: HTTPConnection, channel: str, action: str) -> str | bool:
    user = connection.cookies.get("user", "")
    return user if user in ("u1", "u2") else False


def sign_in(context: BrowserContext, tabs: Tabs, user: str) -> None:
    context.add_cookies([{"name": "user", "value": user, "url": tabs.url}])


def shared(page: Page) -> bool:
    transport: str = page.evaluate("connection.transport")
    return transport == "shared"


def look_at(page: Page) -> None:
    """Do what a browser does when the user turns to a tab."""
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


@WAYS
def test_a_tab_of_another_user_is_given_nothing(
    context: BrowserContext, tabs_on: Callable[..., Tabs], transport: str
) -> None:
    tabs = tabs_on(authorize=by_cookie)
    sign_in(context, tabs, "u1")
    first, second = (tabs.open("c", transport=transport) for _ in range(2))
    tabs.settle()
    assert (shared(first), shared(second)) == (False, True)
    sign_in(context, tabs, "u2")
    third, fourth = (tabs.open("c", transport=transport) for _ in range(2))
    if transport == "websocket":
        assert (shared(third), shared(fourth)) == (False, False)
    else:  # a stream of one more is asked for with the cookie of now: it is the other user's
        second.wait_for_function("() => connection.transport === 'sse'", timeout=TIMEOUT)
    with tabs.sink.respond("c", response_id="r1") as response:
        tabs.write(response, "for each, by itself; ", *tabs.pages)
        first.close()
        second.close()
        tabs.pages = [third, fourth]
        tabs.leader()
        tabs.write(response, "for both, by one of them", *tabs.pages)
        fourth.wait_for_function(
            "() => connection._tabs.leads || connection.transport === 'shared'", timeout=TIMEOUT
        )
    tabs.settle()


@WAYS
@pytest.mark.parametrize("user", ["u2", "nobody"])
def test_a_tab_whose_user_has_changed_is_given_no_more(
    context: BrowserContext, tabs_on: Callable[..., Tabs], transport: str, user: str
) -> None:
    tabs = tabs_on(authorize=by_cookie)
    sign_in(context, tabs, "u1")
    leader, follower = (tabs.open("c", transport=transport) for _ in range(2))
    tabs.settle()
    with tabs.sink.respond("c", response_id="r1") as response:
        tabs.write(response, "before ", leader, follower)
        look_at(follower)
        tabs.write(response, "looked at ", leader, follower)
        assert shared(follower)
        sign_in(context, tabs, user)
        look_at(follower)
        if user == "nobody":
            follower.wait_for_function("() => errors.length > 0", timeout=TIMEOUT)
            assert follower.evaluate("errors") == [["c", "forbidden"]]
            tabs.write(response, "after", leader)
            assert follower.evaluate("textOf('c')") == "before looked at "
        else:
            if transport == "websocket":  # what the leader has open is the first user's
                follower.wait_for_function(
                    "() => connection.transport === 'websocket'", timeout=TIMEOUT
                )
                tabs.settle(2)
            tabs.write(response, "after", leader, follower)
    assert leader.evaluate("connection.reconnects") == 0


@WAYS
@pytest.mark.parametrize("renewed", [True, False])
def test_a_tab_is_given_no_more_once_its_token_has_expired(
    context: BrowserContext, tabs_on: Callable[..., Tabs], transport: str, renewed: bool
) -> None:
    passed = 0.0  # seconds
    tabs = tabs_on(tokens=Tokens(SECRET, clock=lambda: time.time() + passed))
    # An hour is a moment.
    context.add_init_script(
        "const { setTimeout: plain } = window;"
        "window.setTimeout = (f, ms, ...rest) => plain(f, ms > 600_000 ? 50 : ms, ...rest);"
    )

    def token(hours: float) -> str:
        lifetime = hours * 3600
        return mint_token(SECRET, subject="u1", capability={"*": ["*"]}, lifetime=lifetime)

    leader = tabs.open("c", transport=transport, token=token(100))
    follower = tabs.open("c", transport=transport, token=token(1))
    tabs.settle()
    with tabs.sink.respond("c", response_id="r1") as response:
        tabs.write(response, "before ", leader, follower)
        if renewed:
            follower.evaluate(
                "(token) => (connection._options.token = async () => token)", token(50)
            )
        passed = 2 * 3600
        if not renewed:
            follower.wait_for_function("() => errors.length > 0", timeout=TIMEOUT)
            assert follower.evaluate("errors") == [["c", "token_expired"]]
            tabs.write(response, "after", leader)
            assert follower.evaluate("textOf('c')") == "before "
        else:
            tabs.write(response, "after", leader, follower)
            assert shared(follower)
    assert leader.evaluate("connection.reconnects") == 0


def test_tabs_of_nobody_in_particular(tabs_on: Callable[..., Tabs]) -> None:
    def everybody(connection: HTTPConnection, channel: str, action: str) -> bool:
        return True

    tabs = tabs_on(authorize=everybody)
    for _ in range(2):
        assert not shared(tabs.open("c"))
    # The page itself may say whose it is.
    for wanted in (False, True):
        assert shared(tabs.open("c", share="u1")) is wanted
    with tabs.sink.respond("c", response_id="r1") as response:
        tabs.write(response, "for all", *tabs.pages)
