"""The package's entries outside browsers: on Node 20, on Node 22 and on Deno."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import HTTPConnection
from starlette.routing import Mount

import tokenwire
from tests.adapters.gateway.support import serving
from tests.npm.package import run, with_package
from tests.support.nodejs import RUNTIMES, runtime
from tokenwire.events import InputEvent
from tokenwire_adapters.asgi import Gateway
from tokenwire_adapters.vercel import ChatRoutes, ChatTurn

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parent
TEXT = "Grüße 🙂 an alle"


async def chat_agent(turn: ChatTurn) -> None:
    """Answer; without end, if asked to."""
    turn.response.write(TEXT)
    if turn.text == "endless":
        await asyncio.Event().wait()


def channel_agent(sink: tokenwire.Sink) -> None:
    """Answer what is sent to a channel, in a response of that name, until the sink is closed."""
    paused: tokenwire.ResponseWriter | None = None
    for event in sink.watch("c", rewind="all"):  # whenever the thread gets there
        if not isinstance(event, InputEvent):
            continue
        if event.name == "go on":
            assert paused is not None
            paused.write(TEXT)
            paused.finish()
            continue
        response = sink.respond("c", response_id=str(event.data))
        response.write(TEXT)
        if event.data == "whole":
            response.finish()
        elif event.data == "paused":
            paused = response


def authorize(connection: HTTPConnection, channel: str, action: str) -> bool:
    return channel != "not allowed"


@pytest.fixture
def base() -> Iterator[str]:
    """Serve a gateway and a chat, and yield where."""
    with tokenwire.open_sink(tokenwire.MemoryBackend(), strict=True) as sink:
        agent = threading.Thread(target=channel_agent, args=[sink])
        agent.start()
        gateway = Mount("/stream", Gateway(sink, authorize=authorize))
        app = Starlette(routes=[*ChatRoutes(sink, chat_agent).routes, gateway])
        with serving(app) as server:
            yield server.url
    agent.join()


def command(name: str) -> list[str]:
    executable = runtime(name)
    if name == "deno":
        return [
            executable,
            "run",
            "--quiet",
            "--allow-all",
            "--no-lock",
            "--node-modules-dir=manual",
        ]
    return [executable]


@pytest.mark.parametrize("name", RUNTIMES)
def test_each_entry(name: str, base: str) -> None:
    program = with_package().script(FOLDER / "runtimes" / "program.mjs")
    result: dict[str, Any] = json.loads(run(*command(name), program, base, cwd=program.parent))
    assert result.pop("runtime") == name.replace("-", " ")
    assert result.pop("html").startswith("<div aria-live")
    assert result == {
        "whole": TEXT,
        # Node 20 has no WebSocket of its own.
        "transport": "sse" if name == "node-20" else "websocket",
        "paused": TEXT * 2,
        "again": ["input ", "delta paused", "end paused"],
        "outcome": {"response_id": "stopped", "state": "cancelled", "acknowledged": True},
        "stopped": "cancelled",
        "history": [
            ["stopped", "cancelled", TEXT],
            ["paused", "complete", TEXT * 2],
            ["whole", "complete", TEXT],
        ],
        "refused": [True, "forbidden"],
        "answer": TEXT,
        "stop": result["stop"] | {"success": True, "state": "cancelled"},
    }


def test_deno_finds_the_types() -> None:
    node = with_package()
    program = node.write("core.ts", (FOLDER / "consumer" / "core.ts").read_bytes())
    run(
        *(runtime("deno"), "check", "--quiet", "--no-lock", "--node-modules-dir=manual", program),
        cwd=node.folder,
    )
