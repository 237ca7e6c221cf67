"""Pages of a browser, played by Node with the unmodified packages."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
from collections.abc import AsyncIterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import anyio

from tests.support.nodejs import node_with

PATIENCE = 60.0
_FOLDER = Path(__file__).parent / "js"
_STATIC = Path(str(files("tokenwire_adapters") / "_static"))
_MODULES = {"TOKENWIRE_AI_SDK": str(_STATIC / "ai-sdk.js")}


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
            env={**os.environ, **_MODULES, "SUPPRESS_TRANSFORMATION_WARNINGS": "1", **environment},
        )

    def do(self, command: str, **fields: Any) -> dict[str, Any]:
        """Send a command and return its answer."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps({"command": command, **fields}).encode() + b"\n")
        stdin.flush()
        line = stdout.readline()
        assert line, f"Node has ended: {self._process.wait(PATIENCE)}"
        answer = json.loads(line)
        assert "ok" in answer, answer.get("failed")
        found: dict[str, Any] = answer["ok"]
        return found

    def read(self, streams: list[str], **fields: Any) -> list[dict[str, Any]]:
        """What the client makes of streams."""
        results: list[dict[str, Any]] = self.do("read", streams=streams, **fields)["results"]
        return results

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


class SharedPages:
    """A Node process that several tests use, one after the other; it is asked from a thread."""

    def __init__(self, script: str, **environment: str) -> None:
        self._script = script
        self._environment = environment
        self._reader: Reader | None = None

    async def do(self, command: str, **fields: Any) -> dict[str, Any]:
        """Send a command and return its answer."""
        assert self._reader is not None
        with anyio.fail_after(PATIENCE):
            return await asyncio.to_thread(self._reader.do, command, **fields)

    @contextlib.asynccontextmanager
    async def used(self) -> AsyncIterator[SharedPages]:
        """Use it for a test; what fails or never answers is replaced by another process."""
        if self._reader is None:
            self._reader = await asyncio.to_thread(Reader, self._script, **self._environment)
        try:
            yield self
            await self.do("reset")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None


@contextlib.asynccontextmanager
async def pages(script: str, **environment: str) -> AsyncIterator[Pages]:
    node = await asyncio.to_thread(node_with, _FOLDER / "package.json")
    process = await asyncio.create_subprocess_exec(
        node.executable,
        str(node.script(_FOLDER / script)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=64 * 2**20,
        env={**os.environ, **_MODULES, "SUPPRESS_TRANSFORMATION_WARNINGS": "1", **environment},
    )
    try:
        yield Pages(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def text_of(message: dict[str, Any]) -> str:
    """The text of a message of the AI SDK."""
    return "".join(part["text"] for part in message["parts"] if part["type"] == "text")
