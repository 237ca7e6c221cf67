"""Responses, channels and connections in the reactive state of pages' libraries."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.support.needs import needs

needs("starlette")
needs("uvicorn")

import tokenwire
from tests.adapters.gateway.support import serving
from tests.adapters.javascript.conftest import MODULE
from tests.support.nodejs import node_with
from tokenwire_adapters.asgi import Gateway

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parent


def test_pages_may_hold_them_in_reactive_state() -> None:
    node = node_with(FOLDER / "package.json")
    with (
        tokenwire.open_sink(tokenwire.MemoryBackend(), strict=True) as sink,
        serving(Gateway(sink)) as server,
    ):
        with sink.respond("ref") as response:
            response.write("a text")
        command = [
            node.executable,
            node.script(FOLDER / "reactive.mjs"),
            MODULE.as_uri(),
            server.url,
        ]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    text = ["hi", "", False, 0]
    assert json.loads(result.stdout) == {
        "ref": [*text, 1, "live", "string", "sse", True],
        "reactive": [*text, 0, "live", "string", "sse", True],
        "observable": [*text, 0, "live", "string", "sse", True],
        "proxy": text,
    }
