"""The examples of UI protocols run as they are."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.adapters.ui.pages import PATIENCE
from tests.support.nodejs import node_with

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[3] / "examples"


@contextmanager
def running(example: str) -> Iterator[str]:
    """A server on a free port, which it tells itself."""
    plain = {key: value for key, value in os.environ.items() if not key.startswith("OPENAI_")}
    process = subprocess.Popen(
        [sys.executable, str(EXAMPLES / example)],
        env={**plain, "PORT": "0", "PACE": "200", "PYTHONUNBUFFERED": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        for line in process.stderr:
            found = re.search(r"http://127\.0\.0\.1:\d+", line)
            if found is not None:
                yield found[0]
                break
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE)


def test_the_page_is_served_and_answered():
    with running("vercel_chat.py") as url, httpx.Client(base_url=url, timeout=PATIENCE) as client:
        assert "DefaultChatTransport" in client.get("/").text
        assert client.get("/api/chat/c1/messages").json() == []
        text = {"type": "text", "text": "What is the weather in Lisbon?"}
        message = {"id": "u1", "role": "user", "parts": [text]}
        answer = client.post("/api/chat", json={"id": "c1", "messages": [message]})
        lines = answer.text.splitlines()
        chunks = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
        kinds = [chunk["type"] for chunk in chunks]
        assert kinds.index("tool-output-available") < kinds.index("text-delta")
        assert kinds[-1] == "finish"
        assert lines[-2] == "data: [DONE]"


def test_the_client_of_ag_ui_joins_again():
    node = node_with(Path(__file__).parent / "js" / "package.json")
    with running("ag_ui_chat.py") as url:
        script = str(node.script(EXAMPLES / "ag_ui_client.mjs"))
        reported = subprocess.run(
            [node.executable, script, "tell me a story"],
            env={**os.environ, "AGENT_URL": f"{url}/agent"},
            capture_output=True,
            text=True,
            check=True,
            timeout=PATIENCE,
        ).stdout
    had, has = reported.split("has: ")
    assert had.startswith("had: ")
    part = had.removeprefix("had: ").strip()
    assert has.startswith(part)
    assert 0 < len(part) < len(has)
