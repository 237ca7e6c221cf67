"""The demo in Chromium: what is on the screens is what the provider sent, whatever happens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, expect

from tests.e2e.demo_server import PATIENCE, DemoServer
from tests.e2e.screens import TIMEOUT, Screen
from tests.redis_support import FaultyProxy

pytestmark = [pytest.mark.slow, pytest.mark.browser]

Open = Callable[..., Screen]


@pytest.fixture(autouse=True)
def pace(demo: DemoServer) -> None:
    """A pace at which there is time to do something meanwhile, however slow the machine."""
    demo.provider.pace = 30


def hurry(demo: DemoServer) -> None:
    """Have the reply that is under way come to its end."""
    demo.provider.pace = 2000


@pytest.mark.parametrize("question", ["tea in Japan", "a recipe for dinner", "a train journey"])
def test_shows_what_was_sent(demo: DemoServer, open_screen: Open, question: str) -> None:
    demo.provider.pace = 1000
    before = demo.replies()
    screen = open_screen()
    screen.ask(question)
    screen.see("complete")
    screen.look()
    record = demo.reply(before)
    screen.see_text(record.text)
    assert record.sent_text == record.text
    expect(screen.pane.locator(".question")).to_have_text(question)
    expect(screen.pane.locator(".provider")).to_have_text(
        f"provider sent {record.tokens_sent} tokens"
    )


def test_reload_in_the_middle(demo: DemoServer, open_screen: Open) -> None:
    before = demo.replies()
    screen = open_screen()
    screen.ask("a long and detailed essay")
    screen.look()
    screen.see_more()
    seen = screen.text
    screen.page.reload()
    screen = Screen(screen.page)
    screen.look()
    record = demo.reply(before)
    assert record.outcome == "running", "the reload came too late to show anything"
    assert screen.text.startswith(seen)
    hurry(demo)
    screen.see("complete")
    screen.see_text(record.text)
    screen.page.reload()  # and history stays
    screen = Screen(screen.page)
    screen.look()
    screen.see_text(record.text)
    expect(screen.pane.locator(".question")).to_have_text("a long and detailed essay")


def test_second_tab_and_stop(demo: DemoServer, open_screen: Open) -> None:
    before = demo.replies()
    first = open_screen()
    first.ask("a long and detailed essay")
    first.look()
    first.see_more()
    second = open_screen(first.page.url)
    second.look()
    second.see_more()
    first.see_more()
    second.page.get_by_role("button", name="Stop").last.click()
    record = demo.reply(before)
    assert record.wait(PATIENCE) == "closed_early"
    assert record.tokens_sent < record.tokens_planned
    for screen in (first, second):
        screen.see("cancelled")
        expect(screen.pane.locator(".provider")).to_have_text(
            f"provider stopped after {record.tokens_sent} of {record.tokens_planned} tokens"
        )
    first.page.reload()
    third = Screen(first.page)
    third.look()
    third.see("cancelled")
    assert third.text == second.text
    assert record.sent_text.startswith(third.text)
    assert third.text
    second.check_growth()


def test_offline_and_online(context: BrowserContext, demo: DemoServer, open_screen: Open) -> None:
    before = demo.replies()
    screen = open_screen()
    screen.ask("a long essay about the night sky")
    screen.look()
    screen.see_more()
    context.set_offline(True)
    # What was under way is a sign of life. Where it goes on for long, as on a machine with much to
    # do, only 45 seconds without any tell that the network has gone.
    screen.status("Reconnecting", 2 * TIMEOUT)
    hurry(demo)
    record = demo.reply(before)
    record.wait(PATIENCE)  # the agent goes on by itself
    shown = screen.text
    assert record.text.startswith(shown)
    assert shown != record.text
    context.set_offline(False)
    screen.see("complete")
    screen.see_text(record.text)


@pytest.mark.parametrize("transport", ["websocket", "sse"])
def test_server_restart(demo: DemoServer, open_screen: Open, transport: str) -> None:
    before = demo.replies()
    screen = open_screen(f"{demo.url}?transport={transport}")
    screen.ask("explain how streaming works")
    screen.look()
    screen.see_more()
    demo.stop()
    try:
        screen.status("ing")  # Reconnecting, Connecting
        expect(screen.pane).not_to_have_attribute("data-status", "live")
        hurry(demo)
        record = demo.reply(before)
        record.wait(PATIENCE)
    finally:
        demo.start()
    screen.see("complete")
    screen.see_text(record.text)


def test_lost_connections_and_slow_network(demo: DemoServer, open_screen: Open) -> None:
    demo.provider.pace = 60
    before = demo.replies()
    with FaultyProxy(demo.address) as proxy:
        screen = open_screen(f"http://127.0.0.1:{proxy.port}/")
        proxy.throttle(4_000)  # less than the tokens need
        screen.ask("a long and detailed essay")  # which goes on while the screen comes back
        screen.look()
        for _ in range(3):
            screen.see_more()
            proxy.cut(reset=True)
        proxy.throttle(None)
        hurry(demo)
        screen.see("complete")
        screen.see_text(demo.reply(before).text)
        screen.page.close()


def test_two_devices_of_which_one_is_cut_off(demo: DemoServer, open_screen: Open) -> None:
    before = demo.replies()
    laptop = open_screen()
    laptop.page.get_by_text("Two devices").click()
    phone = Screen(laptop.page, pane=1)
    laptop.ask("a long story of the sea")
    laptop.look()
    phone.look()
    phone.see_more()
    laptop.page.evaluate("window.setInterval = () => 0")  # it stays cut until it is resumed
    phone.pane.get_by_role("button", name="Cut my connection").click()
    phone.status("Cut off")
    stale = phone.text
    laptop.see_more()
    laptop.see_more()
    assert phone.text == stale
    hurry(demo)
    phone.pane.get_by_role("button", name="Resume now").click()
    for screen in (laptop, phone):
        screen.see("complete")
        screen.see_text(demo.reply(before).text)
    expect(phone.pane.locator(".resumed")).to_contain_text("resumed 1")


def test_wall_of_six(demo: DemoServer, open_screen: Open) -> None:
    demo.provider.pace = 1000
    before = demo.replies()
    page = open_screen().page
    page.get_by_text("Wall of six").click()
    page.get_by_role("button", name="Start all six").click()
    panes = [Screen(page, pane) for pane in range(6)]
    for screen in panes:
        screen.see("complete")
        screen.answer.get_by_role("button", name="Source").click()
    texts = sorted(screen.text for screen in panes)
    demo.provider.wait_for_replies(before + 6, PATIENCE)
    assert texts == sorted(record.text for record in list(demo.provider.records)[before:])
    assert len(set(texts)) == 6


def test_without_websockets(context: BrowserContext, demo: DemoServer, open_screen: Open) -> None:
    context.route_web_socket("**/*", lambda socket: socket.close(code=1011))
    before = demo.replies()
    screen = open_screen()
    screen.status("event stream")
    screen.ask("tea, please")
    screen.look()
    screen.see_more()
    screen.page.reload()
    screen = Screen(screen.page)
    screen.look()
    hurry(demo)
    screen.see("complete")
    screen.see_text(demo.reply(before).text)


def test_reasoning_and_tools(demo: DemoServer, open_screen: Open) -> None:
    demo.provider.pace = 1000
    before = demo.replies()
    screen = open_screen()
    screen.page.get_by_role("button", name="Think first").click()
    screen.see("complete")
    thoughts = screen.answer.locator(".reasoning p")
    record = demo.reply(before)
    assert thoughts.evaluate("(p) => p.textContent") == record.reasoning
    screen.page.get_by_role("button", name="Call a tool").click()
    tool = screen.answer.locator(".tool")
    expect(tool.locator("strong")).to_have_text("get_weather")
    expect(tool.locator(".result")).to_contain_text("celsius")
    screen.see("complete")
    called, answered = demo.reply(before + 1), demo.reply(before + 2)
    assert tool.locator(".arguments").evaluate("(c) => c.textContent") == called.planned("tool")
    screen.look()
    screen.see_text(answered.text)


def test_keyboard(demo: DemoServer, open_screen: Open) -> None:
    before = demo.replies()
    screen = open_screen()
    expect(screen.page.get_by_label("Your question")).to_be_focused()
    screen.page.keyboard.type("a long essay")
    screen.page.keyboard.press("Enter")
    screen.look()
    screen.see_more()
    screen.page.keyboard.press("Escape")
    screen.see("cancelled")
    assert demo.reply(before).wait(PATIENCE) == "closed_early"
    expect(screen.page.get_by_role("status").last).to_contain_text("Answer cancelled")


def test_hostile_text_stays_text(demo: DemoServer, open_screen: Open) -> None:
    hostile = (
        "<img src=x onerror=alert(1)> <script>alert(2)</script>\n\n"
        "[click](javascript:alert(3)) [data](data:text/html,x) **<b>bold</b>**\n\n"
        '| <i>a</i> | b |\n| --- | --- |\n| [x](https://example.org/"onclick=) | `<u>` |\n\n'
        "```\n</code></pre><script>alert(4)</script>\n```\n"
    )
    screen = open_screen()
    channel = screen.page.url.partition("#")[2]
    with demo.sink.respond(channel, run="<script>", metadata={"model": "<b>"}) as response:
        response.write(hostile)
        response.write("<img src=y onerror=alert(5)>", kind="reasoning")
        response.finish()
    screen.see("complete")
    found: Any = screen.pane.evaluate(
        """(pane) => [
            pane.querySelectorAll("img, script, iframe, b, i, u").length,
            [...pane.querySelectorAll(".answer a")].map((a) => a.protocol),
        ]"""
    )
    assert found == [0, ["https:"]]
    screen.look()
    screen.see_text(hostile)
