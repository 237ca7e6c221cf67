"""Pages of a browser, played by Node with the unmodified packages."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio

from tests.support.nodejs import node_with

PATIENCE = 60.0
_FOLDER = Path(__file__).parent / "js"


class Pages:
    """A Node process that takes commands."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._lock = asyncio.Lock()

    async def do(self, command: str, **fields: Any) -> dict[str, Any]:
        """Send a command and return its answer."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        async with self._lock:
            with anyio.fail_after(PATIENCE):
                stdin.write(json.dumps({"command": command, **fields}).encode() + b"\n")
                await stdin.drain()
                line = await stdout.readline()
        answer = json.loads(line)
        assert "ok" in answer, answer.get("failed")
        found: dict[str, Any] = answer["ok"]
        return found


class Reader:
    """The same without a loop, for tests that draw many examples."""

    def __init__(self, script: str, **environment: str) -> None:
        node = node_with(_FOLDER / "package.json")
        self._process = subprocess.Popen(
            [node.executable, str(node.script(_FOLDER / script))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **environment},
        )

    def read(self, streams: list[str], **fields: Any) -> list[dict[str, Any]]:
        """What the client makes of streams."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        told = {"command": "read", "streams": streams, **fields}
        stdin.write(json.dumps(told).encode() + b"\n")
        stdin.flush()
        answer = json.loads(stdout.readline())
        assert "ok" in answer, answer.get("failed")
        results: list[dict[str, Any]] = answer["ok"]["results"]
        return results

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


@contextlib.asynccontextmanager
async def pages(script: str, **environment: str) -> AsyncIterator[Pages]:
    node = await asyncio.to_thread(node_with, _FOLDER / "package.json")
    process = await asyncio.create_subprocess_exec(
        node.executable,
        str(node.script(_FOLDER / script)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=64 * 2**20,
        env={**os.environ, "SUPPRESS_TRANSFORMATION_WARNINGS": "1", **environment},
    )
    try:
        yield Pages(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
