"""What a person does with the demo's page, and sees there."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Locator, Page, expect

__all__ = ["Screen"]

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


class Screen:
    """One tab; `pane` is one of its screens, the first unless told otherwise."""

    def __init__(self, page: Page, pane: int = 0) -> None:
        self.page = page
        self.pane = page.locator(".pane").nth(pane)
        page.locator("body[data-started]").wait_for()

    @property
    def answer(self) -> Locator:
        """The last answer."""
        return self.pane.locator(".answer").last

    @property
    def raw(self) -> Locator:
        return self.answer.locator(".raw")

    @property
    def text(self) -> str:
        """The source of the last answer, as it is on the screen now."""
        return str(self.raw.evaluate("(raw) => raw.textContent"))

    def ask(self, question: str) -> None:
        self.page.get_by_label("Your question").fill(question)
        self.page.get_by_role("button", name="Send").click()

    def look(self) -> None:
        """Show the answer's source, and watch every change of it."""
        self.answer.get_by_role("button", name="Source").click()
        expect(self.raw).to_be_visible()
        self.raw.evaluate(_WATCH)

    def see_more(self) -> None:
        """Wait until more text is there than now."""
        before = self.text
        expect(self.raw).not_to_have_text(before, timeout=TIMEOUT, use_inner_text=False)

    def see(self, state: str) -> None:
        """Wait until the last answer has this state."""
        expect(self.answer).to_have_attribute("data-state", state, timeout=TIMEOUT)

    def see_text(self, text: str) -> None:
        """Wait until the source shown is `text`, and check it character for character."""
        seen = self.raw.evaluate(
            """(raw, wanted) => new Promise((resolve) => {
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
                const timer = setTimeout(done, 20000);
                look();
            })""",
            text,
        )
        assert seen == text
        self.check_growth()

    def check_growth(self) -> None:
        """Check that nothing was shown that had to be taken back."""
        broken: Any = self.raw.evaluate("(raw) => raw.shown?.broken ?? null")
        assert broken is None

    def status(self, text: str) -> None:
        """Wait until the screen's status begins with `text`."""
        expect(self.pane.locator(".status-text")).to_contain_text(text, timeout=TIMEOUT)
