"""A script that uses tokenwire.js, in Node, driven a line at a time."""

from __future__ import annotations

import json
import queue
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from tests.support.needs import missing

MODULE = Path(str(files("tokenwire_adapters") / "_static" / "tokenwire.js"))
PATIENCE = 60.0


class Script:
    """One process of Node.

    :ivar told: everything it has told so far.
    """

    def __init__(self, node: str) -> None:
        driver = Path(__file__).with_name("driver.mjs")
        self._process = subprocess.Popen(
            [node, "--experimental-websocket", "--no-warnings", str(driver), MODULE.as_uri()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        self._lines: queue.Queue[str] = queue.Queue()
        self._calls = 0
        self.reported: list[dict[str, Any]] = []
        self._looked = 0
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)

    def begin(self, command: str, **fields: Any) -> int:
        """Tell it to do something; do not wait."""
        assert self._process.stdin is not None
        self._calls += 1
        line = json.dumps({"call": self._calls, "command": command, **fields})
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._calls

    def do(self, command: str, **fields: Any) -> Any:
        """Tell it to do something; return what came of it."""
        return self.outcome(self.begin(command, **fields))

    def outcome(self, call: int) -> Any:
        """What came of a call: its value, or ``{"failed": code}``."""
        found = self._find(lambda one: call in (one.get("done"), one.get("failed")), 0)
        return found["value"] if "done" in found else {"failed": found["code"]}

    def wait(self, **wanted: Any) -> dict[str, Any]:
        """Wait for a message with these fields, after the one that was waited for last."""

        def fits(reported: dict[str, Any]) -> bool:
            return all(reported.get(name) == value for name, value in wanted.items())

        found = self._find(fits, self._looked)
        self._looked = self.reported.index(found, self._looked) + 1
        return found

    def seen(self, **wanted: Any) -> None:
        """Wait until there was such a message, at any time."""
        self._find(lambda reported: wanted.items() <= reported.items(), 0)

    def texts(self, key: str, response_id: str) -> list[str]:
        """Every text that a response has had on a channel, in order."""
        return [
            one["text"]
            for one in self.reported
            if one.get("on") == "response" and (one["key"], one["id"]) == (key, response_id)
        ]

    def _find(self, fits: Callable[[dict[str, Any]], bool], at: int) -> dict[str, Any]:
        while True:
            for reported in self.reported[at:]:
                if fits(reported):
                    return reported
            at = len(self.reported)
            try:
                self.reported.append(json.loads(self._lines.get(timeout=PATIENCE)))
            except queue.Empty:
                raise AssertionError(f"not told in time; told so far: {self.told}") from None

    def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        assert self._process.stdout is not None
        self._process.stdout.close()


def node_path() -> str:
    """Node 20 or newer; without it the test is skipped, and fails where CI is set."""
    found = shutil.which("node")
    if found is None:
        missing("no Node here")
        raise AssertionError
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=True)
    match = re.match(r"v(\d+)", version.stdout)
    if match is None or int(match[1]) < 20:
        pytest.skip(f"Node {version.stdout.strip()} is older than 20")
    return found


@pytest.fixture
def script() -> Iterator[Script]:
    script = Script(node_path())
    yield script
    script.stop()
