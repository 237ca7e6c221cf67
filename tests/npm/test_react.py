"""tokenwire/react in Chromium, with React 18 and 19, always in StrictMode."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from playwright.sync_api import Page, Route, expect

import tokenwire
from tests.e2e.screens import TIMEOUT
from tests.npm.package import bundle, run, with_package
from tests.npm.site import site
from tests.support.nodejs import node_with
from tokenwire.events import InputEvent

pytestmark = [pytest.mark.slow, pytest.mark.browser]

FOLDER = Path(__file__).parent
# Parts of React are CommonJS, and require modules of Node.
_REQUIRE = (
    "--banner:js=import { createRequire } from 'node:module';"
    "const require = createRequire(import.meta.url);"
)


def aliases(version: int) -> list[str]:
    """Options of esbuild with which a page gets this version of React."""
    if version == 19:
        return []
    modules = node_with(FOLDER / "react-18" / "package.json").folder / "node_modules"
    return [f"--alias:{name}={modules / name}" for name in ("react", "react-dom")]


class Screen(NamedTuple):
    sink: tokenwire.Sink
    page: Page

    def show(self, **state: Any) -> None:
        self.page.evaluate("(state) => window.show(state)", state)

    def write(self, channel: str, response_id: str, *texts: str) -> None:
        with self.sink.respond(channel, response_id=response_id) as response:
            for text in texts:
                response.write(text)

    def shows(self, selector: str, text: str) -> None:
        expect(self.page.locator(selector)).to_have_text(text, timeout=TIMEOUT)

    def has(self, selector: str, name: str, value: str) -> None:
        expect(self.page.locator(selector)).to_have_attribute(name, value, timeout=TIMEOUT)


@pytest.fixture(params=[18, 19])
def screen(request: pytest.FixtureRequest, open_page: Callable[[str], Page]) -> Iterator[Screen]:
    script = bundle("react.jsx", *aliases(request.param))
    with tokenwire.open_sink(tokenwire.MemoryBackend(), strict=True) as sink:
        with site(sink, script) as url:
            page = open_page(url)
            page.wait_for_function("() => window.show !== undefined")
            yield Screen(sink, page)


def test_a_switch_shows_the_other_channel_and_nothing_else(screen: Screen) -> None:
    screen.write("a", "a1", "of a")
    screen.show(channel="a")
    screen.shows("#texts", "of a")
    screen.show(channel="b")
    screen.has("#texts", "data-ready", "true")
    screen.shows("#texts", "")
    screen.write("b", "b1", "of b")
    screen.shows("#texts", "of b")
    screen.page.wait_for_function("() => window.own.get('b1')?.text === 'of b'")
    screen.show(channel="own")
    screen.shows("#texts", "of b")
    screen.show(channel="a")
    screen.shows("#texts", "of a")
    seen = screen.page.evaluate("window.seen")
    assert {text for channel, text in seen if channel == "a"} <= {"", "of", "of a"}
    assert {text for channel, text in seen if channel == "b"} <= {"", "of", "of b"}
    assert {text for channel, text in seen if channel == "own b"} <= {"of b"}


def test_a_channel_is_opened_once_and_closed_with_the_last_component(screen: Screen) -> None:
    screen.write("a", "a1", "of a")
    screen.show(channel="a", twice=True)
    screen.shows("#texts", "of a")
    screen.shows("#again", "of a")
    of_a = "window.opened.filter(({ name }) => name === 'a')"
    assert screen.page.evaluate(f"{of_a}.map(({{ closed }}) => closed)") == [False]
    screen.show(channel="a")
    expect(screen.page.locator("#again")).to_have_count(0)
    assert screen.page.evaluate(f"{of_a}.map(({{ closed }}) => closed)") == [False]
    screen.show()
    screen.page.wait_for_function(f"() => {of_a}.every(({{ closed }}) => closed)")
    assert screen.page.evaluate(f"{of_a}.length") == 1
    assert not screen.page.evaluate("window.own.closed")


def test_only_what_changed_renders_again(screen: Screen) -> None:
    screen.write("a", "first", "one")
    screen.show(channel="a", ones=["first", "second"])
    screen.shows("#one-first", "one")
    before = screen.page.evaluate("window.renders.first")
    screen.write("a", "second", "t", "w", "o")
    screen.shows("#one-second", "two")
    assert screen.page.evaluate("window.renders.first") == before


def test_a_stream_renders_as_it_comes(screen: Screen) -> None:
    stream = "pre#stream"
    screen.show(channel="a", stream={})
    screen.shows(stream, "nothing yet")
    with screen.sink.respond("a", response_id="live") as response:
        response.write("<b>Hel")
        screen.shows(stream, "<b>Hel")
        screen.has(stream, "data-state", "streaming")
        screen.has(stream, "aria-busy", "true")
        response.write("lo</b>")
        screen.shows(stream, "<b>Hello</b>")
    screen.has(stream, "data-state", "complete")
    screen.has(stream, "aria-busy", "false")
    with screen.sink.respond("a", response_id="next") as response:
        response.write("why", kind="reasoning")
        response.write("next")
    screen.shows(stream, "next")
    screen.show(channel="a", stream={"kind": "reasoning", "lang": "en"})
    screen.shows(stream, "why")
    screen.has(stream, "lang", "en")
    screen.show(channel="a", stream={"response": "live"})
    screen.shows(stream, "<b>Hello</b>")


def test_sends_and_cancels(screen: Screen) -> None:
    screen.show(channel="a", box=True)
    screen.page.locator("#send").click()
    expect(screen.page.locator("#sent")).to_have_text(re.compile("^i-"), timeout=TIMEOUT)
    for event in screen.sink.watch("a", rewind="all"):
        assert isinstance(event, InputEvent)
        assert (event.name, event.data) == ("message", {"text": "hello"})
        assert event.id == screen.page.locator("#sent").text_content()
        break
    with screen.sink.respond("a", response_id="slow") as response:
        response.write("so far")
        screen.page.locator("#cancel").click()
        screen.shows("#sent", "cancelled")


def test_an_input_that_failed_is_sent_again_with_its_id(screen: Screen) -> None:
    page = screen.page
    ids: list[str] = []

    def refuse(route: Route) -> None:
        ids.append(route.request.post_data_json["id"])
        route.fulfill(status=403, json={"code": "forbidden", "detail": "no"})

    # Without the socket, so that the test sees the requests.
    page.evaluate("window.connection.pause()")
    page.route("**/inputs", refuse)
    screen.show(channel="a", box=True)
    page.locator("#send").click()
    screen.shows("#sent", "failed")
    screen.has("#sent", "data-error", "forbidden")
    page.unroute("**/inputs")
    page.locator("#send").click()
    expect(page.locator("#sent")).to_have_text(ids[0], timeout=TIMEOUT)
    page.locator("#send").click()
    expect(page.locator("#sent")).not_to_have_text(ids[0], timeout=TIMEOUT)
    assert page.locator("#sent[data-error]").count() == 0


@pytest.mark.parametrize("version", [18, 19])
def test_what_a_server_rendered_is_taken_over(
    open_page: Callable[[str], Page], version: int
) -> None:
    """Rendering on a server opens nothing; React in the page finds what it would render itself."""
    node = with_package()
    bundled = bundle("server.mjs", "--platform=node", _REQUIRE, *aliases(version))
    script = node.write(f"server-{version}.mjs", bundled.encode())
    rendered = json.loads(run(node.executable, script))
    assert rendered["streamed"] == rendered["html"]
    assert "data-state" not in rendered["html"]
    assert "nothing yet" in rendered["html"]
    with (
        tokenwire.open_sink(tokenwire.MemoryBackend(), strict=True) as sink,
        site(sink, bundle("hydrate.jsx", *aliases(version)), rendered["html"]) as url,
    ):
        page = open_page(url)  # complaints of React in the console fail the test
        with sink.respond("chat", response_id="r1") as response:
            response.write("live")
            expect(page.locator("[data-state]")).to_have_text("live", timeout=TIMEOUT)
        assert page.evaluate("window.problems") == []
