"""Two processes on one Redis: a watcher, and its stop, go to the one where the agent is not."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.adapters.cli.support import Running
from tests.e2e.screens import Screen
from tests.redis_support import FaultyProxy, RedisServer, find_binaries
from tests.support.needs import missing

pytestmark = [pytest.mark.slow, pytest.mark.browser, pytest.mark.redis]


@pytest.fixture
def ports() -> Iterator[tuple[int, int]]:
    """Where two demos listen, each a process of its own."""
    if not find_binaries():
        missing("no redis-server here")
    options = ("--no-browser", "--port", "0", "--pace", "60")
    with (
        RedisServer() as redis,
        Running("demo", *options, "--to", redis.url) as one,
        Running("demo", *options, "--to", redis.url) as other,
    ):
        first, second = (each.line(r"http://127.0.0.1:(\d+)/") for each in (one, other))
        yield int(first[1]), int(second[1])


def test_watch_and_stop_through_the_other_process(
    ports: tuple[int, int], open_screen: Callable[..., Screen]
) -> None:
    with FaultyProxy(("127.0.0.1", ports[0])) as proxy:
        screen = open_screen(f"http://127.0.0.1:{proxy.port}/")
        screen.ask("a long and detailed essay")  # which goes on while the screen comes back
        screen.look()
        screen.see_more()
        proxy.target = ("127.0.0.1", ports[1])
        proxy.cut(reset=True)
        screen.see_more()
        screen.see_more()
        screen.page.get_by_role("button", name="Stop").last.click()
        screen.see("cancelled")
        completion = _completion(ports[0], screen)
        assert completion["outcome"] == "closed_early"
        assert completion["sent"] < completion["planned"]
        assert completion["text"].startswith(screen.text)
        screen.check_growth()

        screen.ask("brief tea")
        screen.see("complete")
        proxy.target = ("127.0.0.1", ports[0])
        proxy.cut()
        screen.page.reload()  # history is the same everywhere
        screen = Screen(screen.page)
        screen.look()
        screen.see("complete")
        screen.see_text(_completion(ports[1], screen)["text"])
        screen.page.close()


def _completion(port: int, screen: Screen) -> dict[str, Any]:
    """What the provider of one process sent for the answer on the screen, once it has ended.

    It may hear that it is to stop after the screen has seen the end of the answer.
    """
    run = screen.answer.get_attribute("data-run")
    while True:  # pytest-timeout ends it
        found = httpx.get(f"http://127.0.0.1:{port}/runs/{run}", trust_env=False, timeout=60).json()
        (completion,) = found["completions"]
        if completion["outcome"] != "running":
            return dict(completion)
        time.sleep(0.02)
