"""Pages of each client whose agent's process is killed and started again, on Redis."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.needs import needs

needs("ag_ui")
needs("redis")
needs("starlette")

from playwright.sync_api import Page, expect

from tests.adapters.ui.approving import Process
from tests.e2e.bundles import bundle
from tests.e2e.screens import TIMEOUT, submit
from tests.redis_support.fixtures import *  # noqa: F403

pytestmark = [pytest.mark.slow, pytest.mark.browser, pytest.mark.redis]

Open = Callable[[str], Page]

# The page, and what its address asks for.
PAGES = {
    "copilotkit": ("components/copilotkit.jsx", ""),
    "assistant-ui": ("components/assistant.jsx", "?history"),
    "langgraph-sdk": ("langchain/chat.jsx", "?thread=c1"),
    "langchain-react": ("langchain/chat.jsx", "?thread=c1&react"),
}


@pytest.fixture
def own_errors() -> tuple[str, ...]:
    return ("network error",)  # of a body that breaks off, where its server is killed


@pytest.fixture(params=list(PAGES))
def kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@pytest.fixture
def process(
    kind: str, redis_server: object, reserved_port: int, tmp_path: Path
) -> Iterator[Process]:
    script = tmp_path / "page.js"
    script.write_text(bundle(PAGES[kind][0]), encoding="utf-8")
    url = f"{redis_server.url}?prefix=restart"  # type: ignore[attr-defined]
    process = Process(url, reserved_port, page=script)
    yield process
    process.kill()


def joined(kind: str, page: Page) -> contextlib.AbstractContextManager[object]:
    """Wait for a page that joins its thread once it is loaded: before that, it asks in vain."""
    if kind != "assistant-ui":
        return contextlib.nullcontext()
    return page.expect_response(
        lambda response: response.url.endswith("/agent/connect"), timeout=TIMEOUT
    )


def test_the_conversation_goes_on(kind: str, process: Process, open_page: Open) -> None:
    page = open_page("about:blank")
    with joined(kind, page):
        page.goto(f"{process.url}/chats/c1{PAGES[kind][1]}")
    for number in (1, 2):
        box = page.locator("textarea:visible, input:visible").first
        submit(box, "write to Ann")
        approve = page.get_by_role("button", name="Approve")
        approve.wait_for(timeout=TIMEOUT)
        if kind == "assistant-ui":  # where a question is not shown to a page that was loaded later
            approve.click()
            expect(page.get_by_text("Sent.")).to_have_count(number, timeout=TIMEOUT)
        process.kill()
        process.start()
        with joined(kind, page):
            page.reload()
        if kind != "assistant-ui":
            approve.click(timeout=TIMEOUT)
        sent = page.get_by_text("Sent.")
        expect(sent.last).to_be_visible(timeout=TIMEOUT)
        expect(sent).to_have_count(number, timeout=TIMEOUT)
        expect(approve).to_have_count(0)
        expect(page.get_by_text("write to Ann", exact=True)).to_have_count(number)
    process.kill()
    process.start()
    page.reload()
    expect(page.get_by_text("Sent.")).to_have_count(2, timeout=TIMEOUT)
