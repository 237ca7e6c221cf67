"""The examples with a page of their own, each started by its command and seen in Chromium."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.needs import needs

needs("playwright")
needs("fastapi")
needs("openai")

from playwright.sync_api import Browser, Page, expect

EXAMPLES = Path(__file__).parents[2] / "examples"
TIMEOUT = 60_000

pytestmark = [pytest.mark.slow, pytest.mark.browser]


@contextlib.contextmanager
def started(example: str, port: int, pace: str) -> Iterator[str]:
    """Run an example's server; the value is its address."""
    environment = {**os.environ, "PORT": str(port), "PACE": pace, "PYTHONUNBUFFERED": "1"}
    for name in ("OPENAI_API_KEY", "TOKENWIRE_URL"):
        environment.pop(name, None)
    process = subprocess.Popen(
        [sys.executable, str(EXAMPLES / example)],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        output = ""
        for line in process.stderr:
            output += line
            if "Uvicorn running" in line:
                break
        else:
            raise AssertionError(output)
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.terminate()
        process.communicate(timeout=60)


def sign_in(page: Page, user: str, password: str) -> None:
    page.get_by_label("User").fill(user)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()


def test_a_chat_with_login(
    open_page: Callable[[str], Page], browser: Browser, reserved_port: int
) -> None:
    with started("fastapi_chat/server.py", reserved_port, "5") as url:
        page = open_page(url)
        sign_in(page, "ada", "turing")
        expect(page.locator("output")).to_have_text(
            "no such user, or another password", timeout=TIMEOUT
        )
        sign_in(page, "ada", "lovelace")
        page.get_by_label("Message").fill("Tell me a long story")
        page.get_by_role("button", name="Send").click()
        expect(page.locator("article h2")).to_have_text("Tell me a long story", timeout=TIMEOUT)
        expect(page.locator("article p")).not_to_be_empty(timeout=TIMEOUT)
        page.reload()
        expect(page.locator("article p")).not_to_be_empty(timeout=TIMEOUT)
        expect(page.locator("article small")).to_have_text("streaming")
        second = open_page(url)
        second.get_by_role("button", name="Stop").click()
        for tab in (page, second):
            expect(tab.locator("article small")).to_have_text("cancelled", timeout=TIMEOUT)

        other = browser.new_context()
        try:
            stranger = other.new_page()
            stranger.goto(url)
            sign_in(stranger, "alan", "turing")
            expect(stranger).to_have_title("Chat of alan", timeout=TIMEOUT)
            reply = stranger.request.get(f"{url}stream/channels/chat%3Aada/responses")
            assert reply.status == 403
            assert stranger.request.get(f"{url}stream/channels/chat%3Aalan/responses").json() == {
                "items": [],
                "next": None,
            }
        finally:
            other.close()


def test_live_captions(open_page: Callable[[str], Page], reserved_port: int) -> None:
    with started("live_captions/server.py", reserved_port, "20") as url:
        early = open_page(url)
        expect(early.locator("p").first).to_contain_text("and welcome.", timeout=TIMEOUT)
        late = open_page(url)
        expect(late.locator("p").filter(has_text="Moderator: ")).not_to_have_count(
            0, timeout=TIMEOUT
        )
        for page in (early, late):
            expect(page.locator("main")).to_contain_text("Speaker: A river", timeout=TIMEOUT)
        refused = early.request.post(
            f"{url}stream/channels/captions/inputs", data={"name": "x", "data": 1}
        )
        assert refused.status == 403
