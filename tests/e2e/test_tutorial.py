"""The tutorial: its files and commands are taken from the page, and followed step by step."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.needs import needs

needs("playwright")
needs("fastapi")
needs("openai")

from playwright.sync_api import Locator, Page, expect

from tests.e2e.screens import Shown
from tests.support.app_servers import UvicornCommand
from tests.support.pages import apply_diff, code_blocks, only_block, saved_file
from tokenwire_adapters.testing.provider import Provider, ScriptedReply, serve_in_thread

pytestmark = [pytest.mark.slow, pytest.mark.browser]

TUTORIAL = (Path(__file__).parents[2] / "docs" / "tutorial.md").read_text("utf-8")
TOKENS = [f"{number} 東京 naïve " for number in range(600)]
STORY = "".join(TOKENS)
TIMEOUT = 60_000


@pytest.fixture
def provider() -> Iterator[Provider]:
    with serve_in_thread(pace=5) as provider:
        yield provider


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "chat.py").write_text(saved_file(TUTORIAL, "chat.py", "python"), "utf-8")
    (tmp_path / "chat.html").write_text(saved_file(TUTORIAL, "chat.html", "html"), "utf-8")
    return tmp_path


def environment(provider: Provider) -> dict[str, str]:
    """What the page has its reader export, with the port of this provider."""
    exports = only_block(TUTORIAL, "sh", containing="OPENAI_BASE_URL")
    assert exports.startswith("export ")
    values = dict(pair.split("=", 1) for pair in exports.split()[1:])
    assert set(values) == {"OPENAI_BASE_URL", "OPENAI_API_KEY"}
    return values | {"OPENAI_BASE_URL": provider.base_url}


def options(command: str) -> list[str]:
    """The options of uvicorn in a command of the page."""
    assert f"{command}\n" in code_blocks(TUTORIAL, "sh")
    return command.split()[1:]


class Tab:
    """One tab with the page."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def ask(self, question: str) -> None:
        self.page.get_by_label("Your question").fill(question)
        self.page.get_by_role("button", name="Send").click()

    def article(self, question: str) -> Locator:
        return self.page.locator("article", has=self.page.get_by_role("heading", name=question))

    def answer(self, question: str) -> Shown:
        """The answer, watched from now on: its text may only grow."""
        answer = Shown(self.article(question).locator("p"))
        answer.watch()
        return answer

    def see(self, question: str, state: str) -> None:
        """Wait until the answer has this state."""
        expect(self.article(question).locator("small")).to_have_text(state, timeout=TIMEOUT)

    def see_beginning(self, question: str, text: str = TOKENS[0]) -> None:
        """Wait until the answer begins with `text`."""
        expect(self.article(question).locator("p")).to_contain_text(text, timeout=TIMEOUT)


def test_reload_second_tab_and_stop(
    provider: Provider, folder: Path, open_page: Callable[[str], Page], reserved_port: int
) -> None:
    reply = ScriptedReply(text=TOKENS)
    provider.script(reply, reply, "Short.", "Short.")
    server = UvicornCommand(
        options("uvicorn chat:app"), folder, environment(provider), reserved_port
    )
    server.start()
    try:
        first = Tab(open_page(server.url))
        first.ask("Tell me a story")
        first.see_beginning("Tell me a story")
        first.answer("Tell me a story").see_more()
        first.page.reload()
        first.see_beginning("Tell me a story")
        first.see("Tell me a story", "streaming")
        second = Tab(open_page(server.url))
        answers = [tab.answer("Tell me a story") for tab in (first, second)]
        second.see("Tell me a story", "streaming")
        provider.pace = 0
        for tab, answer in zip((first, second), answers, strict=True):
            tab.see("Tell me a story", "complete")
            answer.see_text(STORY)

        provider.pace = 5
        second.ask("Another one")
        for tab in (first, second):
            tab.see_beginning("Another one")
        first.article("Another one").get_by_role("button", name="Stop").click()
        for tab in (first, second):
            tab.see("Another one", "cancelled")
        assert provider.records[-1].wait() == "closed_early"

        second.ask("And a short one")
        first.see("And a short one", "complete")
        other = Tab(open_page(f"{server.url}#holiday"))
        other.ask("Elsewhere")
        other.see("Elsewhere", "complete")
        expect(first.page.locator("article")).to_have_count(3)
    finally:
        server.interrupt()


# `python FILE`, which also shows what each of its tasks waits for, once it gets SIGUSR1.
SHOWING_TASKS = """
import asyncio, runpy, signal, sys

def show(*_):
    for task in asyncio.all_tasks():
        print(task, file=sys.stderr)
        task.print_stack()

signal.signal(signal.SIGUSR1, show)
runpy.run_path(sys.argv[1], run_name="__main__")
"""


class Agent:
    """`python chat.py`, the agent's process."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        assert "python chat.py\n" in code_blocks(TUTORIAL, "sh")
        self._folder = folder
        self._environment = {**os.environ, **environment}
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", "-c", SHOWING_TASKS, "chat.py"],
            cwd=self._folder,
            env=self._environment,
        )

    def interrupt(self) -> None:
        """Press Ctrl-C in its terminal; where it does not end, it shows where it hangs."""
        self._process.send_signal(signal.SIGINT)
        try:
            assert self._process.wait(120) == 0
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGUSR1)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(2)  # while it writes
            self._process.send_signal(signal.SIGABRT)
            raise

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(60)


def test_two_workers_and_a_restart_in_the_middle_of_an_answer(
    provider: Provider, folder: Path, open_page: Callable[[str], Page], reserved_port: int
) -> None:
    reply = ScriptedReply(text=TOKENS)
    provider.script(reply, reply, "You are back.", reply)
    code = apply_diff((folder / "chat.py").read_text("utf-8"), *code_blocks(TUTORIAL, "diff"))
    code += "\n\n" + only_block(TUTORIAL, "python", containing="asyncio.run(agent())")
    (folder / "chat.py").write_text(code, "utf-8")
    export = only_block(TUTORIAL, "sh", containing="TOKENWIRE_URL")
    name, url = export.split()[1].split("=", 1)
    variables = environment(provider) | {name: url}
    server = UvicornCommand(
        options("uvicorn chat:app --workers 2"), folder, variables, reserved_port
    )
    agent = Agent(folder, variables)
    try:
        server.start()
        tabs = [Tab(open_page(server.url)) for _ in range(3)]
        tabs[0].ask("Tell me a story")
        for tab in tabs:
            tab.see_beginning("Tell me a story")
        answers = [tab.answer("Tell me a story") for tab in tabs]
        server.interrupt()
        seen = [answer.text for answer in answers]
        server.start()
        for answer, text in zip(answers, seen, strict=True):
            expect(answer.place).not_to_have_text(text, timeout=TIMEOUT, use_inner_text=False)
        tabs[2].see("Tell me a story", "streaming")
        provider.pace = 0
        for tab, answer in zip(tabs, answers, strict=True):
            tab.see("Tell me a story", "complete")
            answer.see_text(STORY)

        provider.pace = 5
        tabs[1].ask("Another one")
        tabs[0].see_beginning("Another one")
        agent.interrupt()
        tabs[0].see("Another one", "cancelled: its consumer stopped reading")
        tabs[1].ask("Anybody there?")
        agent.start()
        tabs[2].see("Anybody there?", "complete")
        tabs[2].see_beginning("Anybody there?", "You are back.")
        for tab in tabs:
            expect(tab.page.locator("article")).to_have_count(3, timeout=TIMEOUT)

        tabs[2].ask("One more")
        tabs[0].see_beginning("One more")
        agent.kill()
        expect(tabs[0].article("One more").locator("small")).to_contain_text(
            "abandoned", timeout=TIMEOUT
        )
    finally:
        server.interrupt()
        agent.kill()
