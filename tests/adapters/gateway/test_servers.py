"""What ASGI servers do on SIGTERM while an event stream and a socket are open (docs/deploy.md)."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import NamedTuple

import anyio
import anyio.abc
import httpx
import pytest
import websockets

from tests.adapters.gateway.support import PATIENCE, chatting, watching
from tests.support.needs import needs
from tests.support.ports import ReservedPort

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="signals"),
]

DEPLOY = Path(__file__).parents[3] / "docs" / "deploy.md"
APP = """
from fastapi import FastAPI, WebSocket
from tokenwire_adapters.asgi import Gateway

alone = Gateway("memory://", authorize=lambda connection, channel, action: True)  # in a thread
mounted = FastAPI()

@mounted.websocket("/left-open")
async def left_open(socket: WebSocket):
    await socket.accept()

mounted.mount("/", alone)
"""
IN_A_THREAD = """
import signal, sys, threading, time
import uvicorn

server = uvicorn.Server(uvicorn.Config(sys.argv[1], port=int(sys.argv[2]), log_level="info"))
thread = threading.Thread(target=server.run)
thread.start()
terminated = []  # no Event: its lock may be held by this thread when the handler interrupts it
signal.signal(signal.SIGTERM, lambda *_: terminated.append(True))
while not terminated:
    time.sleep(0.05)
server.should_exit = True
thread.join()
"""
EMBEDDED = """
import asyncio, importlib, signal, sys
from granian.constants import Interfaces
from granian.server.embed import Server

module, _, name = sys.argv[1].partition(":")
app = getattr(importlib.import_module(module), name)

async def main():
    server = Server(app, port=int(sys.argv[2]), interface=Interfaces.ASGI)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, server.stop)
    await server.serve()

asyncio.run(main())
"""


class Server(NamedTuple):
    """How a server is started: a module with arguments, and the packages that it needs."""

    arguments: list[str]
    packages: tuple[str, ...]


SERVERS = {
    "uvicorn": Server(["uvicorn", "{app}", "--port", "{port}"], ("uvicorn",)),
    "uvicorn in a thread": Server(["-c", IN_A_THREAD, "{app}", "{port}"], ("uvicorn",)),
    "gunicorn with uvicorn workers": Server(
        ["gunicorn", "{app}", "-k", "uvicorn_worker.UvicornWorker", "-b", "127.0.0.1:{port}"],
        ("gunicorn", "uvicorn_worker"),
    ),
    "hypercorn": Server(["hypercorn", "{app}", "-b", "127.0.0.1:{port}"], ("hypercorn",)),
    "granian": Server(
        ["granian", "{app}", "--interface", "asgi", "--port", "{port}"], ("granian",)
    ),
    "granian embedded": Server(["-c", EMBEDDED, "{app}", "{port}"], ("granian",)),
    "granian --task-impl rust": Server(
        [
            "granian",
            "{app}",
            "--interface",
            "asgi",
            "--port",
            "{port}",
            "--task-impl",
            "rust",
            "--workers-kill-timeout",
            "3",
        ],
        ("granian",),
    ),
    "daphne": Server(["daphne", "{app}", "-p", "{port}"], ("daphne",)),
}


class Row(NamedTuple):
    """A row of the table in docs/deploy.md."""

    stream: str
    sockets: str
    ends: str


def documented() -> dict[str, Row]:
    rows: dict[str, Row] = {}
    section = DEPLOY.read_text().partition("### Stopping")[2].partition("\n#")[0]
    for line in re.findall(r"(?m)^\| (.+) \|$", section):
        cells = [cell.replace("`", "").strip() for cell in line.split(" | ")]
        rows[cells[0]] = Row(*cells[1:4])
    return rows


@contextlib.asynccontextmanager
async def running(
    server: Server, app: str, folder: Path
) -> AsyncGenerator[tuple[anyio.abc.Process, int]]:
    """A server in a process group of its own; gives it and its port."""
    needs("fastapi", *server.packages)
    (folder / "served.py").write_text(APP)
    reserved = ReservedPort()
    port = reserved.number
    arguments = [word.format(app=f"served:{app}", port=port) for word in server.arguments]
    command = [sys.executable, *([] if arguments[0] == "-c" else ["-m"]), *arguments]
    log = folder / "log"
    with log.open("wb") as output:
        process = await anyio.open_process(
            command, cwd=folder, stdout=output, stderr=output, start_new_session=True
        )
    try:
        with anyio.fail_after(PATIENCE):
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
                while True:
                    with contextlib.suppress(httpx.TransportError):
                        await client.get("/healthz")
                        break
                    assert process.returncode is None, log.read_text()
                    await anyio.sleep(0.05)
        yield process, port
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.aclose()
        reserved.release()


def test_the_table_has_a_row_for_each_server() -> None:
    assert list(documented())[2:] == list(SERVERS)


@pytest.mark.in_turn("app")
@pytest.mark.parametrize("app", ["alone", "mounted"])
@pytest.mark.parametrize("name", SERVERS)
async def test_a_server_that_stops_does_what_its_row_says(
    name: str, app: str, tmp_path: Path
) -> None:
    """A mounted gateway has no lifespan, and this app does not call `shutdown`."""
    if "rust" in name and sys.version_info >= (3, 12):
        pytest.skip("granian has its own tasks before Python 3.12 only")
    row = documented()[name]
    async with running(SERVERS[name], app, tmp_path) as (process, port):
        url = f"http://127.0.0.1:{port}"
        async with (
            httpx.AsyncClient(base_url=url, timeout=PATIENCE) as client,
            watching(client, "/channels/c/events") as stream,
            chatting(f"ws://127.0.0.1:{port}") as chat,
        ):
            assert (await stream.next()).event == "ready"
            await chat.ask("subscribe")
            process.send_signal(signal.SIGTERM)
            try:
                last = (await stream.rest())[-1].event
            except httpx.RemoteProtocolError:
                last = "cut"
            code, _ = await chat.closed()
        with anyio.fail_after(PATIENCE):
            await process.wait()
    assert last == row.stream
    assert ("cut" if code in (None, 1006) else str(code)) == row.sockets
    option = "--workers-kill-timeout"  # where it is set, the server would not have ended
    assert row.ends == (f"with {option}" if option in SERVERS[name].arguments else "yes")


async def test_daphne_closes_a_socket_with_a_code_that_it_takes_and_then_stops(
    tmp_path: Path,
) -> None:
    """It raised for 1009 and left the socket open; then, told to stop, it waited for a thread."""
    async with running(SERVERS["daphne"], "alone", tmp_path) as (process, port):
        async with (
            chatting(f"ws://127.0.0.1:{port}") as chat,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE) as client,
            watching(client, "/channels/c/events") as stream,
        ):
            assert (await stream.next()).event == "ready"
            await chat.socket.send("x" * 100_000)
            assert (await chat.closed())[0] == 4009
            process.send_signal(signal.SIGTERM)
            assert (await stream.rest())[-1].event == "bye"
        with anyio.fail_after(PATIENCE):
            await process.wait()


async def test_daphne_stops_beside_a_connection_that_it_stumbles_over(tmp_path: Path) -> None:
    """It cancels nothing then, and waited for the idle thread of a synchronous `authorize`."""
    async with running(SERVERS["daphne"], "mounted", tmp_path) as (process, port):
        url = f"127.0.0.1:{port}"
        async with (
            websockets.connect(
                f"ws://{url}/left-open", proxy=None, open_timeout=PATIENCE, close_timeout=0.5
            ),
            httpx.AsyncClient(base_url=f"http://{url}", timeout=PATIENCE) as client,
            watching(client, "/channels/c/events") as stream,
        ):
            assert (await stream.next()).event == "ready"
            await anyio.sleep(2.5)  # daphne looks for applications that have ended once a second
            process.send_signal(signal.SIGTERM)
            assert (await stream.rest())[-1].event == "bye"
        with anyio.fail_after(PATIENCE):
            await process.wait()


LEFT = """
import asyncio
from tokenwire_adapters.asgi import Gateway

gateway = Gateway("memory://", authorize=lambda connection, channel, action: True)
path = "/channels/c/events"
scope = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode(),
         "query_string": b"", "headers": [], "client": ("127.0.0.1", 1)}

async def receive():
    await asyncio.Event().wait()

async def send(message):
    if b"ready" in message.get("body", b""):
        loop.stop()

loop = asyncio.new_event_loop()
task = loop.create_task(gateway(scope, receive, send))
loop.run_forever()
"""


def test_a_process_ends_where_a_server_leaves_its_loop_with_a_stream_open() -> None:
    subprocess.run([sys.executable, "-c", LEFT], timeout=PATIENCE, check=True)


async def test_sockets_get_a_code_where_shutdown_is_called_first(tmp_path: Path) -> None:
    """An embedded granian cuts them as soon as it is told to stop."""
    code = EMBEDDED.replace(
        "server.stop)\n    await server.serve()",
        "lambda: tasks.append(asyncio.ensure_future(stop())))\n    await server.serve()",
    ).replace(
        "    asyncio.get_running",
        """    tasks = []

    async def stop():
        assert await app.shutdown()
        server.stop()

    asyncio.get_running""",
    )
    server = Server(["-c", code, "{app}", "{port}"], ("granian",))
    async with running(server, "alone", tmp_path) as (process, port):
        async with chatting(f"ws://127.0.0.1:{port}") as chat:
            await chat.ask("subscribe")
            process.send_signal(signal.SIGTERM)
            assert (await chat.closed())[0] == 1012
        with anyio.fail_after(PATIENCE):
            assert await process.wait() == 0
