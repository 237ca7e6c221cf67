"""The demo's page as a stranger meets it: what it says, on which device; what its address keeps."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Locator, Page, expect

from tests.e2e.demo_server import PATIENCE, DemoServer
from tests.e2e.screens import TIMEOUT, Screen
from tokenwire_adapters._tools.demo.agent import stream_turn
from tokenwire_adapters._tools.demo.wiring import answer_in, publish
from tokenwire_adapters.testing.provider import _canned_text

pytestmark = [pytest.mark.slow, pytest.mark.browser]

Open = Callable[..., Screen]

# What is cut: text wider than its box, or a control that reaches beyond the window.
_CLIPPED = """() => {
    const texts = "button, a, label, select, h2, p, li, .file, .status-text";
    return [...document.querySelectorAll(texts)]
        .filter((node) => node.checkVisibility() && !node.closest("details:not([open])"))
        .filter((node) => !node.closest(".hidden, .skip, .log:has(.turn)"))
        .filter((node) => {
            const {left, right} = node.getBoundingClientRect();
            const isCut = node.clientWidth > 0 && node.scrollWidth > node.clientWidth + 1;
            return isCut || left < 0 || right > innerWidth + 0.5;
        })
        .map((node) => node.outerHTML);
}"""


def stop_button(page: Page) -> Locator:
    return page.get_by_role("button", name="Stop")


def view(page: Page) -> str | None:
    return page.locator("body").get_attribute("data-view")


def colours(page: Page) -> Any:
    return page.evaluate("getComputedStyle(document.documentElement).colorScheme")


def test_opens_on_two_devices_and_says_what_one_sees(demo: DemoServer, open_screen: Open) -> None:
    demo.provider.pace = 1000
    laptop = open_screen()
    phone = Screen(laptop.page, pane=1)
    assert laptop.page.locator(".pane h2").all_inner_texts() == ["Laptop", "Phone"]
    expect(laptop.page.locator("#lead")).to_contain_text(
        "One agent, watched by a laptop and a phone"
    )
    laptop.ask("tea, please")
    for screen in (laptop, phone):
        screen.see("complete")
        screen.look()
    assert laptop.text == phone.text != ""


def test_shows_the_code_that_runs(open_screen: Open) -> None:
    page = open_screen().page
    pieces = page.locator("#code pre").all_text_contents()
    sources = [[stream_turn], [publish, answer_in]]
    assert [piece.rstrip() for piece in pieces] == [
        "\n\n".join(inspect.getsource(function).rstrip() for function in functions)
        for functions in sources
    ]
    added = page.locator("#code mark").all_text_contents()
    assert [line.strip() for line in added] == [
        "return wrap(client, sink)  # new",
        "with tokenwire.channel(chat, run=run):  # new",
    ]
    for file in page.locator("#code .file").all_inner_texts():
        __import__(file.removesuffix(".py").replace("/", "."))


def test_opens_and_closes_the_code(open_screen: Open) -> None:
    page = open_screen().page
    code, button = page.locator("#code"), page.get_by_role("button", name="Code")
    expect(code).to_be_visible()
    button.click()
    expect(code).to_be_hidden()
    expect(button).to_have_attribute("aria-expanded", "false")
    button.press("Enter")
    code.locator("pre").first.focus()
    page.keyboard.press("Escape")
    expect(code).to_be_hidden()
    expect(button).to_be_focused()


@pytest.mark.parametrize("label", ["One screen", "Wall of six"])
def test_the_address_keeps_view_chat_and_theme(
    demo: DemoServer, open_screen: Open, context: BrowserContext, label: str
) -> None:
    demo.provider.pace = 1000
    page = open_screen().page
    before = colours(page)
    page.get_by_text(label).click()
    page.get_by_role("button", name="Switch between light and dark").click()
    theme = colours(page)
    assert theme in {"light", "dark"}
    assert theme != before
    shown = view(page)
    if shown == "wall":
        page.get_by_role("button", name="Start all six").click()
    else:
        Screen(page).ask("tea, please")
    count = {"one": 1, "wall": 6}[shown or ""]
    for pane in range(count):
        Screen(page, pane).see("complete")
    texts = page.locator(".answer .parts").all_text_contents()

    def check(page: Page) -> None:
        page.locator("body[data-started]").wait_for()
        assert view(page) == shown
        assert colours(page) == theme
        expect(
            page.get_by_role("radio", name=re.compile(label.split(maxsplit=1)[0]))
        ).to_be_checked()
        for pane in range(count):
            Screen(page, pane).see("complete")
        expect(page.locator(".answer .parts")).to_have_text(
            texts, timeout=TIMEOUT, use_inner_text=False
        )

    page.reload()
    check(page)
    with context.expect_page() as opened:
        page.get_by_role("link", name="Second tab").click()
    check(opened.value)
    opened.value.close()


def test_back_returns_to_what_was_there(open_screen: Open) -> None:
    page = open_screen().page
    chat = page.url.partition("#")[2]
    page.get_by_text("Wall of six").click()
    expect(page.locator(".pane")).to_have_count(6)
    page.get_by_role("button", name="New chat").click()
    assert page.url.partition("#")[2] != chat
    page.go_back()
    page.go_back()
    expect(page.locator(".pane")).to_have_count(2)
    expect(page.get_by_role("radio", name="Two devices")).to_be_checked()
    assert page.url.partition("#")[2] == chat


@pytest.mark.parametrize(
    "address", ["?view=<b>&theme=red#<i>", "?view=two&view=wall&theme=&transport=x#a/b"]
)
def test_an_address_of_nonsense_opens_the_usual_page(
    demo: DemoServer, open_screen: Open, address: str
) -> None:
    page = open_screen(demo.url + address).page
    assert view(page) == "two"
    assert re.fullmatch(r"chat-[0-9a-f]{8}", page.url.partition("#")[2])
    assert page.locator("html").get_attribute("data-theme") is None


@pytest.mark.parametrize("view", ["one", "two", "wall"])
@pytest.mark.parametrize("size", [(390, 844), (1280, 800)], ids=["phone", "laptop"])
def test_nothing_is_clipped(
    demo: DemoServer, open_page: Callable[[str], Page], view: str, size: tuple[int, int]
) -> None:
    """Nor on a screen that is somewhat narrower."""
    demo.provider.pace = 2000
    page = open_page("about:blank")
    widest, height = size
    widths = [widest, 360 if widest < 1000 else 1180]

    def at_each_width(check: Callable[[], None] | None = None) -> None:
        for width in widths:
            page.set_viewport_size({"width": width, "height": height})
            if check is not None:
                check()
            assert page.evaluate(_CLIPPED) == []
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")

    def invited() -> None:
        """What it says one may do is seen, and what one needs for that."""
        for step in page.locator(".empty li").all():
            expect(step).to_be_in_viewport(ratio=1)
        names = ["Second tab", "New chat", "Code", "Send"]
        for name in [*names, "Start all six" if view == "wall" else "A story"]:
            button = page.get_by_role("button", name=name)
            expect(button.or_(page.get_by_role("link", name=name))).to_be_in_viewport(ratio=1)
        if view != "wall":
            cut = page.get_by_role("button", name="Cut my connection")
            expect(cut.last).to_be_in_viewport(ratio=1)

    page.set_viewport_size({"width": widest, "height": height})
    page.goto(f"{demo.url}?view={view}#clip-{view}-{widest}")
    page.locator("body[data-started]").wait_for()
    expect(page.locator(".pane").last).to_have_attribute("data-status", "live", timeout=TIMEOUT)
    at_each_width(invited)
    page.get_by_role("button", name="Start all six" if view == "wall" else "Call a tool").click()
    for pane in range(page.locator(".pane").count()):
        Screen(page, pane).see("complete")
    at_each_width()
    if widest < 1000:
        page.get_by_role("button", name="Code").click()
        at_each_width()


@pytest.mark.parametrize("view", ["one", "two", "wall"])
def test_has_one_stop_button(demo: DemoServer, open_screen: Open, view: str) -> None:
    demo.provider.pace = 10  # none of six is at its end when the last is seen
    before = demo.replies()
    page = open_screen(f"{demo.url}?view={view}").page
    if view == "wall":
        page.get_by_role("button", name="Start all six").click()
        demo.provider.wait_for_replies(before + 6, PATIENCE)
    else:
        Screen(page).ask("a long essay")
    panes = [Screen(page, pane) for pane in range(page.locator(".pane").count())]
    for screen in panes:
        screen.see("streaming")
    expect(stop_button(page)).to_have_count(1)
    stop_button(page).click()
    for screen in panes:
        screen.see("cancelled")
    expect(stop_button(page)).to_have_count(0)
    for record in list(demo.provider.records)[before:]:
        assert record.wait(PATIENCE) == "closed_early"


def test_shows_thoughts_while_they_come(demo: DemoServer, open_screen: Open) -> None:
    demo.provider.pace = 3  # they are short
    screen = open_screen()
    screen.page.get_by_role("button", name="Think first").click()
    thoughts = screen.answer.locator(".reasoning p")
    expect(thoughts).to_be_visible(timeout=TIMEOUT)
    expect(screen.answer.locator("summary")).to_have_text("Thinking…")
    demo.provider.pace = 2000
    screen.see("complete")
    expect(thoughts).to_be_hidden()
    screen.answer.locator("summary").click()
    expect(thoughts).to_be_visible()


def test_the_outcome_is_seen_without_scrolling(demo: DemoServer, open_screen: Open) -> None:
    demo.provider.pace = 30
    before = demo.replies()
    screen = open_screen()
    screen.page.set_viewport_size({"width": 390, "height": 844})
    screen.ask("a long essay")
    screen.look()
    while len(screen.text) < 900:
        screen.see_more()
    stop_button(screen.page).click()
    assert demo.reply(before).wait(PATIENCE) == "closed_early"
    expect(screen.answer.locator(".state")).to_have_text("Stopped")
    for pane in (screen, Screen(screen.page, pane=1)):
        expect(pane.answer.locator(".provider")).to_contain_text("provider stopped after")
        expect(pane.answer.locator(".provider")).to_be_in_viewport(ratio=1)


def test_stops_while_a_device_is_cut_off(demo: DemoServer, open_screen: Open) -> None:
    demo.provider.pace = 30
    before = demo.replies()
    laptop = open_screen()
    phone = Screen(laptop.page, pane=1)
    laptop.ask("a long essay")
    for screen in (laptop, phone):
        screen.see("streaming")
    laptop.page.evaluate("window.setInterval = () => 0")  # it stays cut until it is resumed
    laptop.pane.get_by_role("button", name="Cut my connection").click()
    laptop.status("Cut off")
    stop_button(laptop.page).click()
    phone.see("cancelled")
    assert demo.reply(before).wait(PATIENCE) == "closed_early"
    expect(laptop.page.get_by_role("button", name="Send")).to_be_visible()
    laptop.see("streaming")  # it knows no better
    laptop.pane.get_by_role("button", name="Resume now").click()
    laptop.see("cancelled")


def test_says_how_the_text_came(demo: DemoServer, open_screen: Open) -> None:
    demo.provider.pace = 1000
    screen = open_screen()
    count = screen.pane.locator(".count")
    expect(count).to_have_text("nothing received yet")
    # Else some of it may come before the page listens.
    expect(screen.pane).to_have_attribute("data-ready", "true", timeout=TIMEOUT)
    screen.ask("tea, please")
    screen.see("complete")
    expect(count).to_have_text(re.compile(r"^[1-9]\d* deltas live$"))
    screen.look()
    size = screen.page.evaluate("(text) => text.length", screen.text)
    screen.page.reload()
    Screen(screen.page).see("complete")
    expect(count).to_have_text(f"caught up on {size} characters")


def test_shows_no_formula_as_source(demo: DemoServer, open_screen: Open) -> None:
    demo.provider.pace = 0
    screen = open_screen(f"{demo.url}?view=one")
    for topic in _canned_text.TOPICS:
        screen.ask(f"a long and detailed text: {min(topic.keywords)}")
        screen.see("complete")
    prose: list[str] = screen.pane.evaluate(
        """(pane) => [...pane.querySelectorAll(".prose")].map((prose) => {
            const copy = prose.cloneNode(true);
            for (const code of copy.querySelectorAll("code")) code.remove();
            return copy.textContent;
        })"""
    )
    assert len(prose) == len(_canned_text.TOPICS)
    assert [text for text in prose if re.search(r"\$|\\[a-z]", text)] == []


@pytest.mark.parametrize("motion", ["reduce", "no-preference"])
def test_moves_nothing_for_those_who_ask(demo: DemoServer, open_screen: Open, motion: Any) -> None:
    demo.provider.pace = 30
    screen = open_screen()
    screen.page.emulate_media(reduced_motion=motion)
    screen.ask("a long essay")
    screen.see("streaming")
    moving = screen.page.evaluate("document.getAnimations().length")
    assert (moving == 0) == (motion == "reduce")
    stop_button(screen.page).click()
    screen.see("cancelled")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_follows_the_system_until_told(open_screen: Open, demo: DemoServer, scheme: Any) -> None:
    page = open_screen().page
    page.emulate_media(color_scheme=scheme)
    paper = "getComputedStyle(document.body).backgroundColor"
    system = page.evaluate(paper)
    page.goto(f"{demo.url}?theme={scheme}")
    page.emulate_media(color_scheme="light" if scheme == "dark" else "dark")
    assert page.evaluate(paper) == system
    page.goto(demo.url)
    assert page.evaluate(paper) != system


_FOCUSED = """() => {
    const focused = document.activeElement;
    const shown = getComputedStyle(focused).outlineStyle !== "none";
    return {
        name: focused.id || focused.className || focused.value || "page",
        isShown: shown || focused.matches("body, textarea, input"), // those show it by their frames
    };
}"""


def test_every_control_is_reached_by_keyboard(open_screen: Open) -> None:
    page = open_screen().page
    reached: list[str] = []
    while len(reached) < 60 and reached.count("question") < 2:
        page.keyboard.press("Tab")
        focused = page.evaluate(_FOCUSED)
        assert focused["isShown"], focused
        reached.append(focused["name"])
    wanted = ["skip", "two", "second", "fresh", "show-code", "theme", "quiet small cut", "log"]
    for control in [*wanted, "chip", "question", "model", "send"]:
        assert control in reached, reached
