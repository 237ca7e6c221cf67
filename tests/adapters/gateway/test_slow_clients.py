"""Clients that do not read are dropped: their connection is reset, and its memory given back."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Mount

import tokenwire
from tests.adapters.gateway.support import PATIENCE, serving
from tests.support.needs import needs
from tokenwire_adapters.asgi import Gateway, Limits

pytestmark = pytest.mark.in_turn("way")
EVENTS = b"GET %s/channels/c/events?rewind=all HTTP/1.1\r\nhost: localhost\r\n\r\n"
SOCKET = (
    b"GET %s/channels/c/ws HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\n"
    b"connection: upgrade\r\nsec-websocket-version: 13\r\n"
    b"sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


@contextlib.contextmanager
def hypercorn(app: Any) -> Iterator[int]:
    """hypercorn in a thread; gives its port."""
    needs("hypercorn")
    from hypercorn.asyncio import serve
    from hypercorn.config import Config

    listener = socket.create_server(("127.0.0.1", 0))
    config, stop = Config(), asyncio.Event()
    config.bind = [f"fd://{listener.fileno()}"]
    config.graceful_timeout = 0.1
    loop = asyncio.new_event_loop()
    serving = serve(app, config, shutdown_trigger=stop.wait)
    thread = threading.Thread(target=loop.run_until_complete, args=(serving,))
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(PATIENCE)
        loop.close()
        with contextlib.suppress(OSError):
            listener.close()


def uvicorn(**options: str) -> Callable[[Any], AbstractContextManager[int]]:
    @contextlib.contextmanager
    def server(app: Any) -> Iterator[int]:
        for option in options.values():
            if option in ("httptools", "wsproto", "uvloop"):
                needs(option)
        with serving(app, **options) as running:
            yield running.port

    return server


def mounted(gateway: Gateway) -> Starlette:
    """The gateway in an app whose middlewares each wrap `send` in their way."""

    async def passed_on(request: Any, call_next: Any) -> Any:
        return await call_next(request)

    middleware = [
        Middleware(CORSMiddleware, allow_origins=["*"]),
        Middleware(BaseHTTPMiddleware, dispatch=passed_on),
    ]
    return Starlette(routes=[Mount("/in", gateway)], middleware=middleware)


STARLETTE = tuple(map(int, importlib.metadata.version("starlette").split(".")[:2]))
SERVERS = {
    "h11": uvicorn(http="h11"),
    "httptools": uvicorn(http="httptools"),
    "uvloop": uvicorn(http="httptools", loop="uvloop"),
    "wsproto": uvicorn(ws="wsproto"),
    "sansio": uvicorn(ws="websockets-sansio"),
    "hypercorn": hypercorn,
}


@contextlib.asynccontextmanager
async def unread(port: int, request: bytes, then: bytes = b"") -> AsyncIterator[socket.socket]:
    """A client that sends and does not read, but the handshake before what it sends then."""
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(client, ("127.0.0.1", port))
        await loop.sock_sendall(client, request)
        if then:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += await loop.sock_recv(client, 1)
            await loop.sock_sendall(client, then)
        yield client


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(PATIENCE):
        while not condition():
            await anyio.sleep(0.005)


async def opened(gateway: Gateway) -> None:
    """Wait until a connection was opened; it may have been dropped since."""
    counts = gateway._service.traffic.connections.opened
    await until(lambda: sum(counts.values()) == 1)


async def is_reset(client: socket.socket) -> bool:
    """Whether reading ends in a reset rather than in what was sent before."""
    try:
        with anyio.fail_after(PATIENCE):
            while await asyncio.get_running_loop().sock_recv(client, 2**20):
                pass
    except ConnectionResetError:
        return True
    return False


@pytest.mark.parametrize("inside", ["alone", "mounted"])
@pytest.mark.parametrize("kind", ["sse", "ws"])
@pytest.mark.parametrize("server", SERVERS)
async def test_a_client_that_does_not_read_is_reset(
    sink: tokenwire.Sink, server: str, kind: str, inside: str
) -> None:
    if (server, kind, inside) == ("hypercorn", "sse", "mounted") and STARLETTE < (1, 8):
        pytest.skip("this Starlette hides hypercorn's connection behind BaseHTTPMiddleware")
    gateway = Gateway(sink, limits=Limits(send_timeout=0.3, keep_alive=0.2))
    app = gateway if inside == "alone" else mounted(gateway)
    path = b"" if inside == "alone" else b"/in"
    with sink.respond("c") as response:
        response.write("x" * 16_000_000)
    subscribe = b'{"op":"subscribe","id":1,"rewind":"all"}'
    frame = bytes((0x81, 0x80 | len(subscribe), 0, 0, 0, 0)) + subscribe
    with SERVERS[server](app) as port:
        request, then = (EVENTS, b"") if kind == "sse" else (SOCKET, frame)
        async with unread(port, request % path, then) as client:
            await opened(gateway)
            await until(lambda: gateway.connections == 0)
            assert await is_reset(client)
    dropped = gateway._service.traffic.connections.dropped
    assert dropped == {"slow": 1}


async def test_a_server_holds_no_more_than_a_piece_for_a_slow_client(
    sink: tokenwire.Sink,
) -> None:
    gateway = Gateway(sink)
    with sink.respond("c") as response:
        response.write("x" * 16_000_000)
    with serving(gateway, http="h11") as server:
        async with unread(server.port, EVENTS % b""):
            await until(lambda: gateway.connections == 1)
            (stream,) = gateway._service.traffic.connections
            await until(lambda: stream.sending_since is not None)
            (connection,) = server.server.server_state.connections
            held: list[int] = []
            for _ in range(50):
                held.append(connection.transport.get_write_buffer_size())
                await anyio.sleep(0.001)
            assert 0 < max(held) < 1_000_000


async def test_what_is_open_is_counted_until_the_client_has_it(sink: tokenwire.Sink) -> None:
    """A stream whose end waits for its client to read is open, and ends by itself in time."""
    gateway = Gateway(sink, limits=Limits(send_timeout=0.3, keep_alive=0.2))
    with sink.respond("c", response_id="r") as response:
        response.write("x" * 16_000_000)
    request = EVENTS.replace(b"?rewind=all", b"?response=r") % b""
    with serving(gateway) as server:
        async with unread(server.port, request) as client:
            await opened(gateway)
            await until(lambda: gateway.connections == 0)
            assert await is_reset(client)


async def test_a_page_of_history_that_is_not_read_is_given_up(sink: tokenwire.Sink) -> None:
    gateway = Gateway(sink, limits=Limits(send_timeout=0.3))
    with sink.respond("c", response_id="r") as response:
        response.write("x" * 16_000_000)
    with serving(gateway) as server:
        async with unread(server.port, EVENTS.replace(b"events?rewind=all", b"responses") % b""):
            await until(lambda: server.server.server_state.total_requests == 1)
            await until(lambda: not server.server.server_state.connections)
