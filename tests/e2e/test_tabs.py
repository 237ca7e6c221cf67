"""Tabs of one origin share one connection: seven of them on HTTP/1.1, where a browser has six."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.needs import needs

needs("starlette")

from playwright.sync_api import Error
from starlette.responses import Response
from starlette.types import ASGIApp

from tests.adapters.gateway.support import SECRET
from tests.e2e.screens import TIMEOUT
from tests.e2e.tabs import Tabs
from tests.redis_support import FaultyProxy
from tokenwire.events import InputEvent
from tokenwire_adapters.asgi import Tokens, mint_token

pytestmark = [pytest.mark.slow, pytest.mark.browser, pytest.mark.in_turn("transport")]

TABS = 7


@pytest.mark.parametrize("transport", ["websocket", "sse"])
@pytest.mark.parametrize("own", [False, True], ids=["one channel", "a channel each"])
def test_seven_tabs_have_one_connection(
    tabs_on: Callable[..., Tabs], transport: str, own: bool
) -> None:
    tabs = tabs_on()
    names = [f"c{number}" if own else "c" for number in range(TABS)]
    responses = {name: tabs.sink.respond(name, response_id="r1") for name in set(names)}
    for response in responses.values():
        response.write("before ")
    for name in names:
        page = tabs.open(name, transport=transport)
        tabs.show(page, name, "before ")
    tabs.settle()
    for response in responses.values():
        response.write("and after")
    for page, name in zip(tabs.pages, names, strict=True):
        tabs.show(page, name, "before and after")
    follower, name = next(
        (page, name)
        for page, name in zip(tabs.pages, names, strict=True)
        if page.evaluate("connection.transport") == "shared"
    )
    sent = follower.evaluate("channels[0].send('message', 'hello').then(({ id }) => id)")
    for event in tabs.sink.watch(name, rewind="all"):
        if isinstance(event, InputEvent):
            assert event.id == sent
            break
    outcome = follower.evaluate("channels[0].cancel('r1')")
    assert (outcome["state"], outcome["acknowledged"]) == ("cancelled", True)
    for page, its in zip(tabs.pages, names, strict=True):
        if its == name:
            page.wait_for_function("() => channels[0].get('r1').state === 'cancelled'")


@pytest.mark.parametrize("transport", ["websocket", "sse"])
def test_the_next_tab_goes_on_where_the_leader_closes(
    tabs_on: Callable[..., Tabs], transport: str
) -> None:
    tabs = tabs_on()
    for _ in range(TABS):
        tabs.open("c", transport=transport)
    text = ""
    with tabs.sink.respond("c", response_id="r1") as response:
        for number in itertools.count():
            piece = f"{number} 🙂 "
            response.write(piece)
            text += piece
            if number % 5 == 4:
                if len(tabs.pages) > 1:
                    leader = tabs.leader()
                    tabs.pages.remove(leader)
                    leader.close()
                else:
                    break
            if number % 5 == 2:  # while the lock changes hands, it goes on
                for page in tabs.pages:
                    tabs.show(page, "c", text)
    (page,) = tabs.pages
    tabs.show(page, "c", text)
    come = ""
    for _, offset, piece in page.evaluate("deltas"):
        assert offset <= len(come)  # nothing was lost
        come = come[:offset] + piece
    assert text.startswith(come)


@pytest.mark.parametrize("transport", ["websocket", "sse"])
def test_a_hint_drops_no_stream_that_works(tabs_on: Callable[..., Tabs], transport: str) -> None:
    probed = threading.Event()

    def around(app: ASGIApp) -> ASGIApp:
        async def stall(scope: Any, receive: Any, send: Any) -> None:
            if scope["path"].endswith("/healthz"):
                await receive()
                await receive()  # until the client waits no longer
                probed.set()
                return
            await app(scope, receive, send)

        return stall

    tabs = tabs_on(around)
    for _ in range(2):
        tabs.open("c", transport=transport)
    for page in tabs.pages:
        page.evaluate("dispatchEvent(new Event('online'))")
    if transport == "sse":
        assert probed.wait(TIMEOUT / 1000)
    with tabs.sink.respond("c", response_id="r1") as response:
        response.write("still here")
    for page in tabs.pages:
        tabs.show(page, "c", "still here")
    assert [page.evaluate("connection.reconnects") for page in tabs.pages] == [0, 0]


def test_what_was_under_way_when_the_network_went_is_no_sign_of_life(
    tabs_on: Callable[..., Tabs],
) -> None:
    tabs = tabs_on()
    with FaultyProxy(("127.0.0.1", urlsplit(tabs.url).port or 0)) as proxy:
        tabs.url = f"http://127.0.0.1:{proxy.port}"
        page = tabs.open("c", transport="websocket", silence=3_600_000)
        with tabs.sink.respond("c") as response:
            response.write("before")
            tabs.show(page, "c", "before")
            proxy.stall("up")
            page.evaluate("dispatchEvent(new Event('offline'))")
            response.write(" and after")
            tabs.show(page, "c", "before and after")
            proxy.stall()
            page.wait_for_function("() => connection.status !== 'live'", timeout=TIMEOUT)
            proxy.heal()
            response.write(", and again")
            tabs.show(page, "c", "before and after, and again")


def test_a_tab_that_may_not_read_a_channel_does_not_get_it_from_another(
    tabs_on: Callable[..., Tabs],
) -> None:
    tabs = tabs_on(tokens=Tokens(SECRET))
    with tabs.sink.respond("secret", response_id="r1") as response:
        response.write("for some")
    everything = mint_token(SECRET, subject="u1", capability={"*": ["*"]})
    little = mint_token(SECRET, subject="u1", capability={"open": ["*"]})
    first = tabs.open("secret", token=everything)
    tabs.show(first, "secret", "for some")
    second = tabs.open("secret", token=little)
    assert second.evaluate("errors") == [["secret", "forbidden"]]
    assert second.evaluate("textOf('secret')") == ""
    third = tabs.open("open", token=little)
    assert third.evaluate("connection.transport") == "shared"
    # And the other way round: the tab that leads may not read what this one may.
    first.close()
    second.close()
    tabs.pages = [third]
    assert tabs.leader() is third
    fourth = tabs.open("secret", token=everything)
    tabs.show(fourth, "secret", "for some")


def test_tabs_of_other_users_share_nothing(tabs_on: Callable[..., Tabs]) -> None:
    tabs = tabs_on()
    for share in ("u1", "u2", True, False, False):
        page = tabs.open("c", share=share)
        assert page.evaluate("connection.transport") == "websocket"
    assert tabs.gateway.connections == 5
    assert tabs.open("c", share="u2").evaluate("connection.transport") == "shared"


@pytest.mark.parametrize("transport", ["websocket", "sse"])
def test_a_leader_whose_connection_closes_hands_over(
    tabs_on: Callable[..., Tabs], transport: str
) -> None:
    tabs = tabs_on()
    for _ in range(3):
        tabs.open("c", transport=transport)
    first = tabs.leader()
    first.evaluate("connection.close()")
    tabs.pages.remove(first)
    with tabs.sink.respond("c", response_id="r1") as response:
        response.write("one")
    for page in tabs.pages:
        tabs.show(page, "c", "one")


@pytest.mark.parametrize("transport", ["websocket", "sse"])
def test_others_take_over_from_a_leader_that_is_frozen(
    tabs_on: Callable[..., Tabs], transport: str
) -> None:
    """Browsers freeze hidden tabs, and leave them the lock; a debugger does the same."""
    tabs = tabs_on()
    for _ in range(4):
        tabs.open("c", transport=transport, silence=3000)
    tabs.settle()
    frozen = tabs.leader()
    others = [page for page in tabs.pages if page is not frozen]
    session = frozen.context.new_cdp_session(frozen)
    with tabs.sink.respond("c", response_id="r1") as response:
        tabs.write(response, "before ", *tabs.pages)
        session.send("Debugger.enable")
        session.send("Debugger.pause")
        for number in range(3):
            tabs.write(response, f"frozen {number} ", *others)
        tabs.pages = others
        tabs.leader()
        session.send("Debugger.disable")
        tabs.pages = [frozen, *others]
        tabs.write(response, "thawed", *tabs.pages)
    frozen.wait_for_function("() => connection.transport === 'shared'", timeout=TIMEOUT)
    assert tabs.leader() is not frozen
    assert frozen.evaluate("connection.members.length") == 1  # none of the tabs that it led
    tabs.settle()


@pytest.mark.parametrize("transport", ["websocket", "sse"])
def test_others_take_over_from_a_leader_that_crashes(
    tabs_on: Callable[..., Tabs], transport: str
) -> None:
    tabs = tabs_on()
    for _ in range(3):
        tabs.open("c", transport=transport)
    tabs.settle()
    crashed = tabs.leader()
    tabs.pages.remove(crashed)
    with tabs.sink.respond("c", response_id="r1") as response:
        tabs.write(response, "before ", crashed, *tabs.pages)
        with contextlib.suppress(Error):
            crashed.goto("chrome://crash")
        for number in range(3):
            tabs.write(response, f"after {number} ", *tabs.pages)
    tabs.settle()
    tabs.leader()


def test_a_leader_that_pauses_hands_over(tabs_on: Callable[..., Tabs]) -> None:
    tabs = tabs_on()
    for _ in range(3):
        tabs.open("c")
    first = tabs.leader()
    first.evaluate("connection.pause()")
    second = tabs.leader()
    assert second is not first
    with tabs.sink.respond("c", response_id="r1") as response:
        response.write("one")
    for page in tabs.pages:
        if page is not first:
            tabs.show(page, "c", "one")
    first.evaluate("connection.resume()")
    tabs.show(first, "c", "one")
    assert first.evaluate("connection.transport") == "shared"
    assert tabs.gateway.connections == 1


def test_a_gateway_without_the_stream_of_many(tabs_on: Callable[..., Tabs]) -> None:
    def around(app: ASGIApp) -> ASGIApp:
        async def without(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http" and scope["path"].endswith("/stream/events"):
                await Response(status_code=404)(scope, receive, send)
                return
            await app(scope, receive, send)

        return without

    tabs = tabs_on(around)
    for name in ("a", "b", "c"):
        tabs.open(name, transport="sse")
        with tabs.sink.respond(name, response_id="r1") as response:
            response.write(f"of {name}")
    for page, name in zip(tabs.pages, "abc", strict=True):
        tabs.show(page, name, f"of {name}")
