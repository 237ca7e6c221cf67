"""Tabs on plain HTTP under a host's name, where a browser has no locks: each has its own line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.needs import needs

needs("starlette")

from playwright.sync_api import Browser
from starlette.requests import HTTPConnection

from tests.e2e.tabs import Tabs
from tests.support.browser import launched
from tokenwire.events import InputEvent

pytestmark = [pytest.mark.slow, pytest.mark.browser]

HOST = "chat.test"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser that finds this machine under a name, which it does not trust as `localhost`."""
    with launched(f"--host-resolver-rules=MAP {HOST} 127.0.0.1") as browser:
        yield browser


def everybody(connection: HTTPConnection, channel: str, action: str) -> str:
    return "u1"


# On SSE, HTTP/1.1 leaves a browser six connections to a host, and a request needs one of them.
@pytest.mark.parametrize(("transport", "number"), [("auto", 7), ("websocket", 7), ("sse", 4)])
def test_each_tab_has_its_own_line(
    tabs_on: Callable[..., Tabs], transport: str, number: int
) -> None:
    tabs = tabs_on(authorize=everybody)
    tabs.url = tabs.url.replace("127.0.0.1", HOST)
    options: dict[str, Any] = {} if transport == "auto" else {"transport": transport}
    for _ in range(number):
        page = tabs.open("c", **options)
        assert not page.evaluate("isSecureContext")
        assert not page.evaluate("'locks' in navigator")
    with tabs.sink.respond("c", response_id="r1") as response:
        tabs.write(response, "for each ", *tabs.pages)
        assert tabs.gateway.connections == number
        tabs.pages.pop(0).close()  # the one that would lead
        tabs.write(response, "of them", *tabs.pages)
        sent = tabs.pages[-1].evaluate("channels[0].send('message', 'hello').then(({ id }) => id)")
        for event in tabs.sink.watch("c", rewind="all"):
            if isinstance(event, InputEvent):
                assert event.id == sent
                break
        outcome = tabs.pages[-1].evaluate("channels[0].cancel('r1')")
        assert (outcome["state"], outcome["acknowledged"]) == ("cancelled", True)
    for page in tabs.pages:
        page.wait_for_function("() => channels[0].get('r1').state === 'cancelled'")
        assert page.evaluate("connection.reconnects") == 0
        assert page.evaluate("errors") == []
