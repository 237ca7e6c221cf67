"""What a person does with the demo's page, and sees there."""

from __future__ import annotations

import contextlib
from typing import Any

from playwright.sync_api import Locator, Page, expect

__all__ = ["Screen", "Shown", "submit"]

TIMEOUT = 45_000

# Each text that was shown must begin with the one shown before it: nothing is lost or repeated on
# the way. Runs in the page, beside what the page does.
_WATCH = """(raw) => {
    const shown = (raw.shown ??= {last: "", broken: null});
    const look = () => {
        const text = raw.textContent;
        if (!text.startsWith(shown.last)) shown.broken ??= [shown.last, text];
        shown.last = text;
    };
    new MutationObserver(look).observe(raw, {childList: true, characterData: true, subtree: true});
    look();
}"""

_SEE = """(raw, wanted) => new Promise((resolve) => {
    const look = () => {
        if (raw.textContent === wanted) done();
    };
    const done = () => {
        watcher.disconnect();
        clearTimeout(timer);
        resolve(raw.textContent);
    };
    const watcher = new MutationObserver(look);
    watcher.observe(raw, {childList: true, characterData: true, subtree: true});
    const timer = setTimeout(done, 45000);
    look();
})"""


def submit(box: Locator, text: str) -> None:
    """Send from a box: again where the page has taken nothing, as while a run goes on.

    A page that is slow to empty it is given time, so that it is not sent twice.
    """
    while True:
        box.fill(text)  # anew: an Enter that sends nothing is a line more
        box.press("Enter")
        with contextlib.suppress(AssertionError):
            expect(box).to_have_value("", timeout=10_000)
        if not box.input_value():
            return


class Shown:
    """A text on a page."""

    def __init__(self, place: Locator) -> None:
        self.place = place

    @property
    def text(self) -> str:
        """What is there now."""
        return str(self.place.evaluate("(raw) => raw.textContent"))

    def watch(self) -> None:
        """Wait until it is there, and watch every change of it."""
        expect(self.place).to_be_visible(timeout=TIMEOUT)
        self.place.evaluate(_WATCH)

    def see_more(self) -> None:
        """Wait until more text is there than now."""
        expect(self.place).not_to_have_text(self.text, timeout=TIMEOUT, use_inner_text=False)

    def see_text(self, text: str) -> None:
        """Wait until `text` is there, and check it character for character."""
        assert self.place.evaluate(_SEE, text) == text
        self.check_growth()

    def check_growth(self) -> None:
        """Check that nothing was shown that had to be taken back."""
        broken: Any = self.place.evaluate("(raw) => raw.shown?.broken ?? null")
        assert broken is None


class Screen:
    """One tab; `pane` is one of its screens, the first unless told otherwise."""

    def __init__(self, page: Page, pane: int = 0) -> None:
        self.page = page
        self.pane = page.locator(".pane").nth(pane)
        self._source = Shown(self.answer.locator(".raw"))
        page.locator("body[data-started]").wait_for()

    @property
    def answer(self) -> Locator:
        """The last answer."""
        return self.pane.locator(".answer").last

    @property
    def text(self) -> str:
        """The source of the last answer, as it is on the screen now."""
        return self._source.text

    def ask(self, question: str) -> None:
        """Ask, and wait until the last answer is the one to that."""
        self.page.get_by_label("Your question").fill(question)
        self.page.get_by_role("button", name="Send").click()
        expect(self.pane.locator(".question").last).to_have_text(question, timeout=TIMEOUT)

    def look(self) -> None:
        """Show the answer's source, and watch every change of it."""
        # By keyboard: text that comes moves the button, perhaps from under a mouse that is pressed.
        self.answer.get_by_role("button", name="Source").press("Enter")
        self._source.watch()

    def see_more(self) -> None:
        """Wait until more text is there than now."""
        self._source.see_more()

    def see(self, state: str) -> None:
        """Wait until the last answer has this state."""
        expect(self.answer).to_have_attribute("data-state", state, timeout=TIMEOUT)

    def see_text(self, text: str) -> None:
        """Wait until the source shown is `text`, and check it character for character."""
        self._source.see_text(text)

    def check_growth(self) -> None:
        """Check that nothing was shown that had to be taken back."""
        self._source.check_growth()

    def status(self, text: str, timeout: float = TIMEOUT) -> None:
        """Wait until the screen's status has `text` in it."""
        expect(self.pane.locator(".status-text")).to_contain_text(text, timeout=timeout)
