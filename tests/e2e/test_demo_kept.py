"""`tokenwire demo --keep`: the page that is open goes on after a restart, with what was there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.adapters.cli.support import Running
from tests.e2e.screens import Screen

pytestmark = [pytest.mark.slow, pytest.mark.browser]


def test_the_open_page_goes_on_after_a_restart(
    tmp_path: Path, open_page: Callable[[str], Page], reserved_port: int
) -> None:
    options = ("--no-browser", "--pace", "500", "--keep", str(tmp_path / "demo.db"))
    port = str(reserved_port)
    with Running("demo", *options, "--port", port) as demo:
        demo.line(f":{port}/")
        screen = Screen(open_page(f"http://127.0.0.1:{port}/"))
        screen.ask("brief tea")
        screen.see("complete")
        screen.look()
        first = screen.text
    screen.status("ing")  # Reconnecting, Connecting
    with Running("demo", *options, "--port", port) as demo:
        demo.line(f":{port}/")
        expect(screen.pane).to_have_attribute("data-status", "live", timeout=45_000)
        screen.see_text(first)
        again = Screen(open_page(screen.page.url))  # what was kept
        again.see("complete")
        again.look()
        again.see_text(first)
        screen.ask("a brief recipe")
        for page in (screen, again):
            expect(page.pane.locator(".answer")).to_have_count(2)
            page.see("complete")
        again.page.close()
        screen.page.close()
