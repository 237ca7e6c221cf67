"""A real server, and clients that speak to it as browsers do."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import queue
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import httpx
import uvicorn
import websockets
from httpx_sse import ServerSentEvent, aconnect_sse

from tests.support.needs import needs
from tokenwire.events import decode_json
from tokenwire.response import Transcript

PATIENCE = 60.0
PROTOCOLS = {
    "asgi": {"auto": "auto", "h11": "h11", "httptools": "httptools"},
    "handed over": {
        "auto": "tokenwire_adapters.uvicorn:HttpProtocol",
        "h11": "tokenwire_adapters.uvicorn:H11Protocol",
        "httptools": "tokenwire_adapters.uvicorn:HttpToolsProtocol",
    },
}
"""How event streams leave a server, and what uvicorn's protocols are then, by their names."""

_WRITES_ITSELF = "tokenwire_adapters.uvicorn:WebSocketProtocol"
SOCKETS = {
    "asgi": {"auto": "auto"},
    "handed over": {"auto": _WRITES_ITSELF, "websockets-sansio": _WRITES_ITSELF},
}
"""Likewise for WebSockets."""

way = "asgi"  # set by the fixture of that name
SECRET = "a secret of the tests that is long enough"


class Clock:
    """The time for tokens, which goes on as a test says: however slow it is, none expires sooner.

    :ivar now: seconds since the epoch.
    """

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


class _Uvicorn(uvicorn.Server):
    """uvicorn that stops at once where `Server.stop` says so: by itself it naps for 0.2 seconds."""

    stopping: asyncio.Event | None = None

    async def main_loop(self) -> None:
        self.stopping = asyncio.Event()
        for counter in itertools.count():
            if await self.on_tick(counter):
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.stopping.wait(), 0.1)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self.stopping is None or not self.stopping.is_set():
            await super().shutdown(sockets)
            return
        for listening in (*self.servers, *(sockets or ())):
            listening.close()
        state = self.server_state
        while state.connections or state.tasks:
            await asyncio.sleep(0.002)
        for server in self.servers:
            await server.wait_closed()
        await self.lifespan.shutdown()


class Server:
    """uvicorn on a free port of loopback, in a thread."""

    def __init__(self, app: Any, **options: Any) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.ws_url = f"ws://127.0.0.1:{self.port}"
        options = {"log_level": "warning", "lifespan": "off", **options}
        options["http"] = PROTOCOLS[way].get(options.get("http", "auto"), options.get("http"))
        options["ws"] = SOCKETS[way].get(options.get("ws", "auto"), options.get("ws"))
        self.server = _Uvicorn(uvicorn.Config(app, **options))
        self._thread = threading.Thread(target=self.server.run, args=([self._socket],), daemon=True)
        self._thread.start()
        until = time.monotonic() + PATIENCE
        while not self.server.started:
            assert time.monotonic() < until, "the server did not start"
            time.sleep(0.002)

    def stop(self) -> None:
        """End every connection and stop, without leaving a socket to the garbage collector."""
        loop = self.server.servers[0].get_loop()
        asyncio.run_coroutine_threadsafe(self._hang_up(), loop)
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()

    async def _hang_up(self) -> None:
        # Streams never end by themselves, and from Python 3.12 on uvicorn waits for them, even
        # when forced to exit.
        for listening in self.server.servers:
            listening.close()
        # What was accepted just before becomes a connection within a few turns of the loop: later,
        # uvicorn would not see it, and nobody would close it.
        for _ in range(10):
            await asyncio.sleep(0)
        self.server.should_exit = True
        assert self.server.stopping is not None
        self.server.stopping.set()
        while True:  # ended with the loop: what was in the backlog may arrive yet
            for connection in list(self.server.server_state.connections):
                connection.transport.close()
            await asyncio.sleep(0.002)


@contextlib.contextmanager
def serving(app: Any, **options: Any) -> Iterator[Server]:
    server = Server(app, **options)
    try:
        yield server
    finally:
        server.stop()


class Stream:
    """One open event stream."""

    def __init__(self, events: AsyncIterator[ServerSentEvent], response: httpx.Response) -> None:
        self._events = events
        self.response = response

    async def next(self) -> ServerSentEvent:
        """The next message, comments and hints aside."""
        with anyio.fail_after(PATIENCE):
            async for event in self._events:
                if event.data:
                    return event
        raise EOFError

    async def until(self, kind: str) -> list[ServerSentEvent]:
        """Messages up to the one of this type (or name), which is the last."""
        found = []
        while True:
            event = await self.next()
            found.append(event)
            if kind in (event.event, json.loads(event.data).get("type")):
                return found

    async def fold(self, transcript: Transcript, response_id: str) -> None:
        """Fold what comes until the response has ended, which a snapshot can tell, too."""
        while response_id not in transcript or not transcript[response_id].ended:
            for event in native([await self.next()]):
                transcript.apply(event)

    async def rest(self) -> list[ServerSentEvent]:
        """All messages until the server ends the stream."""
        with anyio.fail_after(PATIENCE):
            return [event async for event in self._events if event.data]


@contextlib.asynccontextmanager
async def watching(client: httpx.AsyncClient, path: str, **options: Any) -> AsyncIterator[Stream]:
    async with aconnect_sse(client, "GET", path, timeout=PATIENCE, **options) as source:
        assert source.response.status_code == 200, await source.response.aread()
        iterator = source.aiter_sse()
        try:
            yield Stream(iterator, source.response)
        finally:
            with contextlib.suppress(Exception):
                await iterator.aclose()


class Chat:
    """A socket that speaks the gateway's protocol."""

    def __init__(self, socket: websockets.ClientConnection) -> None:
        self.socket = socket
        self.cursors: dict[str, str] = {}
        self.transcript = Transcript()
        self._last = 0

    async def receive(self) -> dict[str, Any]:
        with anyio.fail_after(PATIENCE):
            while True:
                message: dict[str, Any] = json.loads(await self.socket.recv())
                if message["op"] == "events":
                    for event in message["events"]:
                        self.transcript.apply(decode_json(json.dumps(event)))
                    if "cursor" in message:
                        self.cursors[message["channel"]] = message["cursor"]
                if message != {"op": "ping"}:
                    return message

    async def send(self, op: str, **fields: Any) -> int:
        self._last += 1
        await self.socket.send(json.dumps({"op": op, "id": self._last, **fields}))
        return self._last

    async def ask(self, op: str, **fields: Any) -> dict[str, Any]:
        """Send a request and return its reply or error; what comes in between is taken."""
        return await self.receive_of(await self.send(op, **fields))

    async def receive_of(self, request: int) -> dict[str, Any]:
        while True:
            message = await self.receive()
            if message.get("id") == request:
                return message

    async def until(self, op: str) -> dict[str, Any]:
        while True:
            message = await self.receive()
            if message["op"] == op:
                return message

    async def closed(self) -> tuple[int | None, str]:
        """Read until the server closes; its code and reason."""
        with anyio.fail_after(PATIENCE):
            with contextlib.suppress(websockets.ConnectionClosed):
                while True:
                    await self.socket.recv()
        return self.socket.close_code, self.socket.close_reason or ""


@contextlib.asynccontextmanager
async def chatting(url: str, channel: str = "c", **options: Any) -> AsyncIterator[Chat]:
    options = {
        "subprotocols": ["tokenwire.v1"],
        "proxy": None,
        "open_timeout": PATIENCE,
        "close_timeout": 0.5,
        **options,
    }
    async with websockets.connect(f"{url}/channels/{channel}/ws", **options) as connection:
        yield Chat(connection)


def native(events: list[ServerSentEvent]) -> list[Any]:
    """The events of the vocabulary among messages."""
    return [decode_json(event.data) for event in events if event.event == "message"]


def finished_spans() -> queue.SimpleQueue[Any]:
    """The spans that end in this process from now on."""
    sdk = needs("opentelemetry.sdk.trace")
    from opentelemetry import trace

    finished: queue.SimpleQueue[Any] = queue.SimpleQueue()

    class Processor(sdk.SpanProcessor):  # type: ignore[misc, name-defined]
        def on_end(self, span: Any) -> None:
            finished.put(span)

    provider: Any = trace.get_tracer_provider()
    if not isinstance(provider, sdk.TracerProvider):  # it can be set once in a process
        provider = sdk.TracerProvider()
        trace.set_tracer_provider(provider)
    provider.add_span_processor(Processor())
    return finished
