"""tokenwire.js folds as Python does: the same logs, compared after every event."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from tests.adapters.javascript.conftest import MODULE, node_path
from tests.adapters.javascript.logs import as_json, folded, logs
from tests.support.profile import scaled

pytestmark = pytest.mark.slow

DRIVER = Path(__file__).with_name("fold.mjs")


@pytest.fixture(scope="module")
def node() -> Iterator[Callable[[str], Any]]:
    process = subprocess.Popen(
        [node_path(), str(DRIVER), MODULE.as_uri()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    assert process.stdin is not None
    assert process.stdout is not None

    def fold(log: str) -> Any:
        process.stdin.write(log + "\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())

    yield fold
    process.stdin.close()
    assert process.wait(30) == 0
    process.stdout.close()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Callable[[str], Any]]:
    from tests.support.browser import launched

    with launched() as browser:
        page = browser.new_page()
        page.route("http://module.test/**", lambda route: route.fulfill(
            body=MODULE.read_text() if route.request.url.endswith(".js") else "<!doctype html>",
            content_type="text/javascript" if route.request.url.endswith(".js") else "text/html",
        ))  # fmt: skip
        page.goto("http://module.test/")
        page.evaluate(
            "import('/tokenwire.js').then((module) => { globalThis.tokenwire = module; })"
        )
        driver = DRIVER.read_text()
        body = driver[driver.index("export function foldAll") : driver.index("for await")]
        page.evaluate(
            "() => {const {Transcript, GapError} = tokenwire;"
            + body.removeprefix("export ")
            + "globalThis.foldAll = foldAll;}"
        )
        yield lambda log: page.evaluate("(log) => foldAll(JSON.parse(log))", log)


def _normal(value: Any) -> Any:
    return json.loads(json.dumps(value))


@given(log=logs())
def test_node_folds_as_python_does(node: Callable[[str], Any], log: list[Any]) -> None:
    assert node(as_json(log)) == _normal(folded(log))


@pytest.mark.browser
@settings(max_examples=scaled(20))
@given(log=logs())
def test_chromium_folds_as_python_does(chromium: Callable[[str], Any], log: list[Any]) -> None:
    assert chromium(as_json(log)) == _normal(folded(log))
