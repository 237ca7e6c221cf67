"""Event streams over transports that the server has handed over: watchers that are level share."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import anyio.lowlevel
import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.routing import Mount

import tokenwire
from tests.adapters.gateway import support
from tests.adapters.gateway.support import PATIENCE, Server, serving, watching
from tests.adapters.gateway.test_slow_clients import EVENTS, is_reset, unread, until
from tokenwire.events import decode_json
from tokenwire.response import Transcript
from tokenwire_adapters._web.gateway.member import Member
from tokenwire_adapters._web.gateway.socket_writer import text_frame
from tokenwire_adapters._web.gateway.websocket import Socket
from tokenwire_adapters.asgi import Gateway, Limits


@pytest.fixture(autouse=True)
def handed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(support, "way", "handed over")


def members(gateway: Gateway) -> list[Member]:
    return [each for each in gateway._service.traffic.connections if isinstance(each, Member)]


def groups(gateway: Gateway) -> int:
    return len(gateway._service.fanout)


async def test_a_server_that_stops_by_itself_has_each_watcher_say_goodbye(
    client: httpx.AsyncClient, server: Server, gateway: Gateway
) -> None:
    """uvicorn asks each of its connections for it, though nobody has told the gateway."""
    async with watching(client, "/channels/c/events") as stream:
        await stream.until("ready")
        await until(lambda: len(members(gateway)) == 1)
        loop = server.server.servers[0].get_loop()
        for connection in list(server.server.server_state.connections):
            loop.call_soon_threadsafe(connection.shutdown)
        assert (await stream.rest())[-1].event == "bye"


async def test_level_watchers_share_a_group_and_need_no_task(
    client: httpx.AsyncClient, server: Server, gateway: Gateway, sink: tokenwire.Sink
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        streams = [
            await stack.enter_async_context(watching(client, "/channels/c/events"))
            for _ in range(5)
        ]
        for stream in streams:
            await stream.until("ready")
        await until(lambda: len(members(gateway)) == 5)
        await until(lambda: not server.server.server_state.tasks)
        assert groups(gateway) == 1
        with sink.respond("c", response_id="r") as response:
            response.write("one, ")
            response.write("two")
        for stream in streams:
            transcript = Transcript()
            await stream.fold(transcript, "r")
            assert transcript["r"].text == "one, two"
        assert len(members(gateway)) == 5
    await until(lambda: gateway.connections == 0)
    assert groups(gateway) == 0
    assert gateway._service.traffic.connections.dropped == {"gone": 5}
    await until(lambda: sink.stats().watchers == 0)


async def test_watchers_that_come_while_tokens_do_miss_nothing(
    client: httpx.AsyncClient, gateway: Gateway, sink: tokenwire.Sink
) -> None:
    chance = random.Random(7)
    response = sink.respond("c", response_id="r")
    response.write("begin ")
    written = ["begin "]

    async def watch(turns: int) -> str:
        for _ in range(turns):
            await anyio.lowlevel.checkpoint()
        async with watching(client, "/channels/c/events") as stream:
            transcript = Transcript()
            await stream.fold(transcript, "r")
            return transcript["r"].text

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(watch(chance.randrange(2000))) for _ in range(40)]
        for number in range(400):
            token = f"{number} "
            response.write(token)
            written.append(token)
            for _ in range(chance.randrange(20)):
                await anyio.lowlevel.checkpoint()
        await until(lambda: len(members(gateway)) == 40)
        response.write("last")
        response.finish()
    text = "".join(written) + "last"
    assert all(task.result() == text for task in tasks)


async def test_a_watcher_that_falls_behind_leaves_the_group_and_comes_back(
    client: httpx.AsyncClient, server: Server, gateway: Gateway, sink: tokenwire.Sink
) -> None:
    async with watching(client, "/channels/c/events") as quick:
        await quick.until("ready")
        async with reading_late(server.port) as (slow, read):
            await until(lambda: len(members(gateway)) == 2)
            (behind,) = [m for m in members(gateway) if port_of(m) == slow.getsockname()[1]]
            assert behind.transport is not None
            connection = behind.transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            response = sink.respond("c", response_id="r")
            transcript, size = Transcript(), 0
            while behind.sending_since is None:
                response.write("x" * 50_000)
                size += 50_000
                await has_read(quick, transcript, size)
            await until(lambda: behind._group is None)
            for _ in range(3):
                response.write("y")
            response.finish()
            await quick.fold(transcript, "r")
            assert transcript["r"].text == "x" * size + "yyy"
            reading = asyncio.ensure_future(read(b'"response_id":"r2","state":"complete"'))
            await until(lambda: behind._group is not None)
            assert groups(gateway) == 1
            with sink.respond("c", response_id="r2"):
                pass
            late = transcript_of(await reading)
            assert late["r"].text == transcript["r"].text
            assert [response.id for response in late] == ["r", "r2"]
            assert behind.reader.conflated == 0
    assert "slow" not in gateway._service.traffic.connections.dropped


async def test_a_watcher_that_never_reads_is_reset_and_others_are_not(
    sink: tokenwire.Sink,
) -> None:
    gateway = Gateway(sink, limits=Limits(send_timeout=0.3, keep_alive=0.2))
    with serving(gateway) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client:
            async with watching(client, "/channels/c/events") as quick:
                await quick.until("ready")
                async with unread(server.port, EVENTS.replace(b"?rewind=all", b"") % b"") as slow:
                    await until(lambda: len(members(gateway)) == 2)
                    port = slow.getsockname()[1]
                    (member,) = [m for m in members(gateway) if port_of(m) == port]
                    assert member.transport is not None
                    connection = member.transport.get_extra_info("socket")
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
                    response = sink.respond("c", response_id="r")
                    transcript, size = Transcript(), 0
                    while member.sending_since is None:
                        response.write("x" * 10_000)
                        size += 10_000
                        await has_read(quick, transcript, size)
                    response.finish()
                    await until(lambda: member.reason == "slow")
                    assert await is_reset(slow)
                await quick.fold(transcript, "r")
                assert transcript["r"].state == "complete"


async def test_starlettes_own_middleware_does_not_stand_in_the_way(sink: tokenwire.Sink) -> None:
    gateway = Gateway(sink)
    with serving(Starlette(routes=[Mount("/in", gateway)])) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client:
            async with watching(client, "/in/channels/c/events") as stream:
                await stream.until("ready")
                await until(lambda: len(members(gateway)) == 1)
                with sink.respond("c", response_id="r"):
                    pass
                await stream.until("end")


async def test_a_middleware_that_wraps_send_sees_the_whole_response(sink: tokenwire.Sink) -> None:
    async def passed_on(request: Any, call_next: Any) -> Any:
        return await call_next(request)

    gateway = Gateway(sink)
    app = Starlette(
        routes=[Mount("/in", gateway)],
        middleware=[Middleware(BaseHTTPMiddleware, dispatch=passed_on)],
    )
    with serving(app) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client:
            async with watching(client, "/in/channels/c/events") as stream:
                await stream.until("ready")
                assert "connection" not in stream.response.headers
                with sink.respond("c", response_id="r"):
                    pass
                await stream.until("end")
                assert gateway.connections == 1
                assert not members(gateway)


async def test_the_transport_of_an_http_1_0_client_is_left_to_the_server(
    sink: tokenwire.Sink,
) -> None:
    """Its response is one without chunks."""
    request = b"GET /channels/c/events HTTP/1.0\r\nhost: localhost\r\n\r\n"
    gateway = Gateway(sink, authorize=lambda *_: True)
    with serving(gateway, http="h11") as server:
        async with reading_late(server.port, request) as (_, read):
            with sink.respond("c"):
                pass
            await read(b'"type":"ready"')
            assert gateway.connections == 1
            assert not members(gateway)


async def test_a_stream_of_one_response_ends_with_it(
    client: httpx.AsyncClient, gateway: Gateway, sink: tokenwire.Sink
) -> None:
    response = sink.respond("c", response_id="r")
    async with (
        watching(client, "/channels/c/events?response=r") as one,
        watching(client, "/channels/c/events?response=r") as two,
    ):
        await until(lambda: len(members(gateway)) == 2)
        response.write("text")
        response.finish()
        for stream in (one, two):
            assert '"end"' in (await stream.rest())[-1].data
    await until(lambda: gateway.connections == 0)
    assert gateway._service.traffic.connections.dropped == {}


async def test_what_a_client_sends_behind_its_request_does_no_harm(
    server: Server, gateway: Gateway, sink: tokenwire.Sink
) -> None:
    async with reading_late(server.port) as (client, read):
        await until(lambda: len(members(gateway)) == 1)
        await asyncio.get_running_loop().sock_sendall(client, b"GET / HTTP/1.1\r\n\r\n" * 1000)
        with sink.respond("c", response_id="r"):
            pass
        assert b"404" not in await read(b'"type":"end"')


async def has_read(stream: support.Stream, transcript: Transcript, size: int) -> None:
    """Read until the text of response ``r`` is this long.

    A test that writes on while the server's thread waits for a processor writes more than is kept
    of the channel, and more than a client that should not fall behind can be sent at once.
    """
    while "r" not in transcript or len(transcript["r"].text) < size:
        for event in support.native([await stream.next()]):
            transcript.apply(event)


def transcript_of(data: bytes) -> Transcript:
    """What is said, once, by an event stream in chunks, whose head comes first."""
    at, body = data.index(b"\r\n\r\n") + 4, bytearray()
    while at < len(data):
        line = data.index(b"\r\n", at)
        size = int(data[at:line], 16)
        body += data[line + 2 : line + 2 + size]
        at = line + 4 + size
    transcript, ids = Transcript(), set[bytes]()
    for block in bytes(body).split(b"\n\n")[:-1]:
        lines = block.split(b"\n")
        if b"event: ready" not in lines:
            assert lines[-2] not in ids
            ids.add(lines[-2])
            transcript.apply(decode_json(lines[-1].removeprefix(b"data: ")))
    return transcript


def port_of(member: Member) -> int:
    assert member.transport is not None
    return int(member.transport.get_extra_info("peername")[1])


@contextlib.asynccontextmanager
async def reading_late(
    port: int, request: bytes = EVENTS.replace(b"?rewind=all", b"") % b""
) -> AsyncIterator[tuple[socket.socket, Callable[[bytes], Any]]]:
    """A client with little room for what it does not read, and a function that reads on."""

    async def read(end: bytes) -> bytes:
        data = bytearray()
        with anyio.fail_after(PATIENCE):
            while end not in data[-(2**17) :]:
                more = await asyncio.get_running_loop().sock_recv(client, 2**16)
                assert more, f"the server closed after {data[-500:]!r}"
                data += more
        return bytes(data)

    async with unread(port, request) as client:
        yield client, read


async def test_a_group_that_falls_behind_the_log_is_brought_up_to_date_together(
    client: httpx.AsyncClient, server: Server, gateway: Gateway, sink: tokenwire.Sink
) -> None:
    async with (
        watching(client, "/channels/c/events") as one,
        watching(client, "/channels/c/events") as two,
    ):
        for stream in (one, two):
            await stream.until("ready")
        await until(lambda: len(members(gateway)) == 2)
        written = threading.Event()
        loop = server.server.servers[0].get_loop()
        loop.call_soon_threadsafe(written.wait, PATIENCE)
        response = sink.respond("c", response_id="r")
        text = ""
        for number in range(60):
            piece = f"{number} " + "x" * 100_000
            response.write(piece)
            text += piece
            await sink.aflush()
        written.set()
        response.finish()
        for stream in (one, two):
            transcript = Transcript()
            await stream.fold(transcript, "r")
            assert transcript["r"].text == text
        assert sink.stats().reading.conflations > 0
        assert len(members(gateway)) == 2
        with sink.respond("c", response_id="r2"):
            pass
        for stream in (one, two):
            await stream.until("end")


async def subscribed(chat: support.Chat, **fields: Any) -> None:
    """Subscribe, and wait until all that had happened has come."""
    assert "result" in await chat.ask("subscribe", **fields)
    while "cursor" not in await chat.until("events"):
        pass


@pytest.mark.parametrize("compression", ["deflate", None])
async def test_level_sockets_share_a_group(
    server: Server, gateway: Gateway, sink: tokenwire.Sink, compression: str | None
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        chats = []
        for _ in range(5):
            chatting = support.chatting(server.ws_url, compression=compression)
            chats.append(await stack.enter_async_context(chatting))
        for chat in chats:
            await subscribed(chat)
        await until(lambda: groups(gateway) == 1)
        text = "one, " * 100
        with sink.respond("c", response_id="r") as response:
            response.write(text)
            response.write("two")
        for chat in chats:
            while "r" not in chat.transcript or not chat.transcript["r"].ended:
                await chat.until("events")
            assert chat.transcript["r"].text == text + "two"
            assert "ts" in (await chat.ask("ping"))["result"]  # replies between the events
        assert groups(gateway) == 1
        assert await chats[0].ask("unsubscribe")
        with sink.respond("c", response_id="r2"):
            pass
        while "r2" not in chats[1].transcript:
            await chats[1].until("events")
        await chats[0].ask("ping")
        assert "r2" not in chats[0].transcript
    await until(lambda: gateway.connections == 0)
    assert groups(gateway) == 0
    await until(lambda: sink.stats().watchers == 0)


async def test_sockets_that_compress_and_such_that_do_not_are_apart(
    server: Server, gateway: Gateway, sink: tokenwire.Sink
) -> None:
    async with (
        support.chatting(server.ws_url) as one,
        support.chatting(server.ws_url, compression=None) as two,
        support.chatting(server.ws_url) as named,
    ):
        await subscribed(one)
        await subscribed(two)
        await subscribed(named, sub="s")
        await until(lambda: groups(gateway) == 3)
        with sink.respond("c", response_id="r") as response:
            response.write("word " * 1000)
        for chat in (one, two, named):
            while "r" not in chat.transcript or not chat.transcript["r"].ended:
                await chat.until("events")
            assert chat.transcript["r"].text == "word " * 1000


async def test_a_subscription_of_one_response_ends_with_it_on_every_socket(
    server: Server, gateway: Gateway, sink: tokenwire.Sink
) -> None:
    response = sink.respond("c", response_id="r")
    async with (
        support.chatting(server.ws_url) as one,
        support.chatting(server.ws_url) as two,
    ):
        for chat in (one, two):
            await subscribed(chat, response="r")
        await until(lambda: groups(gateway) == 1)
        response.write("text")
        response.finish()
        for chat in (one, two):
            assert (await chat.until("end"))["channel"] == "c"
            assert chat.transcript["r"].text == "text"
        await until(lambda: groups(gateway) == 0)


async def test_a_socket_that_falls_behind_leaves_the_group_and_comes_back(
    server: Server, gateway: Gateway, sink: tokenwire.Sink
) -> None:
    async with (
        support.chatting(server.ws_url, max_size=None) as quick,
        support.chatting(
            server.ws_url, compression=None, max_queue=1, max_size=None, ping_interval=None
        ) as slow,
    ):
        await subscribed(quick)
        await subscribed(slow)
        sockets = [c for c in gateway._service.traffic.connections if isinstance(c, Socket)]
        (behind,) = [s for s in sockets if s._writer is not None and s._writer.window_bits is None]
        (subscription,) = behind._subscriptions.values()
        assert subscription is not None
        await until(lambda: subscription._group is not None)
        assert behind._writer is not None
        assert behind._writer._taken is not None
        connection = behind._writer._taken.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        response = sink.respond("c", response_id="r")
        size = 0
        while not subscription.paused:
            response.write("x" * 50_000)
            size += 50_000
            # So that no more is written than the server has to send (see `has_read`).
            while "r" not in quick.transcript or len(quick.transcript["r"].text) < size:
                await quick.until("events")
        await until(lambda: subscription._group is None)
        for _ in range(3):
            response.write("y")
        response.finish()
        for chat in (quick, slow):
            while "r" not in chat.transcript or not chat.transcript["r"].ended:
                await chat.until("events")
            assert chat.transcript["r"].text == "x" * size + "yyy"
        await until(lambda: subscription._group is not None)
    assert "slow" not in gateway._service.traffic.connections.dropped


@pytest.mark.parametrize("size", [0, 1, 125, 126, 2**16 - 1, 2**16])
def test_a_frame_has_the_size_that_its_message_has(size: int) -> None:
    frame = text_frame(b"x" * size)
    assert frame[0] == 0x81
    head = {126: 4, 127: 10}.get(frame[1], 2)
    assert len(frame) == head + size
    assert int.from_bytes(frame[2:head], "big") == (size if head > 2 else 0)
