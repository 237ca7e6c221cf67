"""The WebSocket protocol of docs/gateway.md."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import threading

import anyio
import pytest
import websockets

import tokenwire
from tests.adapters.gateway.support import PATIENCE, Server, chatting, serving
from tokenwire.events import decode_json
from tokenwire_adapters.asgi import Gateway, Limits


async def test_hello_tells_what_a_client_must_know(server: Server) -> None:
    async with chatting(server.ws_url) as chat:
        hello = await chat.receive()
        assert chat.socket.subprotocol == "tokenwire.v1"
    assert hello["op"] == "hello"
    assert (hello["protocol"], hello["auth"], hello["expires"]) == (1, "none", None)
    assert set(hello["limits"]) == {"message_bytes", "input_bytes", "channels", "pending"}


async def test_events_come_after_the_reply_and_end_exact(
    server: Server, sink: tokenwire.Sink
) -> None:
    async with chatting(server.ws_url) as chat:
        reply = await chat.ask("subscribe")
        assert reply["result"] == {"channel": "c", "user": "anyone"}
        first = await chat.receive()
        assert first["events"] == []
        assert first["cursor"]
        with sink.respond("c", response_id="r1") as response:
            for piece in (" one", " two", "\n", "é😀"):
                response.write(piece)
        while "r1" not in chat.transcript or not chat.transcript["r1"].ended:
            await chat.receive()
    assert chat.transcript["r1"].text == " one two\né😀"


async def test_many_channels_on_one_socket(server: Server, sink: tokenwire.Sink) -> None:
    names = ["c", "a/b", "ü ?", "d"]
    async with chatting(server.ws_url) as chat:
        for name in names:
            assert "result" in await chat.ask("subscribe", channel=name)
        for name in names:
            with sink.respond(name, response_id=f"of {name}") as response:
                response.write(name)
        while sum(response.ended for response in chat.transcript) < len(names):
            await chat.receive()
        assert {response.text for response in chat.transcript} == set(names)
        assert set(chat.cursors) == set(names)


async def test_resume_from_the_last_cursor(server: Server, sink: tokenwire.Sink) -> None:
    with sink.respond("c", response_id="r1") as response:
        response.write("one ")
        async with chatting(server.ws_url) as chat:
            await chat.ask("subscribe", rewind="all")
            await chat.until("events")
        response.write("two")
        async with chatting(server.ws_url) as again:
            again.transcript = chat.transcript
            await again.ask("subscribe", after=chat.cursors["c"], rewind="all")
            await again.until("events")
            response.finish()
            while not again.transcript["r1"].ended:
                await again.receive()
    assert again.transcript["r1"].text == "one two"


async def test_a_large_replay_comes_in_messages_of_which_only_the_last_has_a_cursor(
    server: Server, sink: tokenwire.Sink
) -> None:
    for n in range(8):
        with sink.respond("c", response_id=f"r{n}") as response:
            response.write("x" * 100_000)
    async with chatting(server.ws_url, max_size=2**22) as chat:
        await chat.ask("subscribe", rewind="all")
        messages = [await chat.until("events")]
        while "cursor" not in messages[-1]:
            messages.append(await chat.until("events"))
    assert len(messages) > 1
    assert len(chat.transcript) == 8
    assert max(len(json.dumps(message)) for message in messages) < 400_000


@pytest.mark.parametrize("named", [False, True])
async def test_much_that_gathered_comes_in_messages_that_clients_take(
    server: Server, sink: tokenwire.Sink, named: bool
) -> None:
    text = "".join(f"{number} " + "é" * 9_000 for number in range(150))
    names = {"sub": "s"} if named else {}
    usual = {"max_size": 2**20}  # the default of this client and of others
    async with chatting(server.ws_url, **usual) as chat, chatting(server.ws_url, **usual) as again:
        await chat.ask("subscribe", **names)
        await chat.until("events")
        written = threading.Event()
        loop = server.server.servers[0].get_loop()
        loop.call_soon_threadsafe(written.wait, PATIENCE)
        response = sink.respond("c", response_id="r")
        for begin in range(0, len(text), 9_000):
            response.write(text[begin : begin + 9_000])
            await sink.aflush()  # each by itself
        written.set()
        response.finish()
        first = await chat.until("events")
        for event in first["events"]:
            again.transcript.apply(decode_json(json.dumps(event)))
        await again.ask("subscribe", after=first["cursor"])
        for watcher in (chat, again):
            while not watcher.transcript["r"].ended:
                await watcher.until("events")
            assert watcher.transcript["r"].text == text
    assert sink.stats().reading.conflations == 0


async def test_one_channel_twice_under_two_names(server: Server, sink: tokenwire.Sink) -> None:
    async with chatting(server.ws_url) as chat:
        assert (await chat.ask("subscribe", sub="a"))["result"] == {
            "channel": "c",
            "sub": "a",
            "user": "anyone",
        }
        assert "result" in await chat.ask("subscribe", sub="b", response="r1")
        assert (await chat.ask("subscribe", sub="a"))["error"]["code"] == "bad_request"
        with sink.respond("c", response_id="r1") as response:
            response.write("text")
        end = await chat.until("end")
        assert end == {"op": "end", "channel": "c", "sub": "b"}
        assert "result" in await chat.ask("subscribe", sub="b")


async def test_nothing_comes_after_the_reply_to_unsubscribe(
    server: Server, sink: tokenwire.Sink
) -> None:
    async with chatting(server.ws_url) as chat:
        await chat.ask("subscribe")
        with sink.respond("c") as response:
            for _ in range(100):
                response.write("x")
            assert (await chat.ask("unsubscribe"))["result"] == {}
            response.write("y")
            ping = await chat.send("ping")
            assert (await chat.receive())["id"] == ping
        assert (await chat.ask("unsubscribe"))["error"]["code"] == "bad_request"


async def test_history_cancel_and_input(server: Server, sink: tokenwire.Sink) -> None:
    inputs = sink.watch("c", types={"input"}).open()
    async with chatting(server.ws_url) as chat:
        with sink.respond("c", response_id="r1") as response:
            response.write("text")
            outcome = await chat.ask("cancel", response="r1", reason="enough")
            assert not response.write("more")
        assert outcome["result"] == {
            "response_id": "r1",
            "state": "cancelled",
            "acknowledged": True,
        }
        assert (await chat.ask("cancel", response="r9"))["result"]["state"] == "pending"
        page = (await chat.ask("history", limit=1))["result"]
        assert [item["id"] for item in page["items"]] == ["r1"]
        assert page["next"] is None
        sent = await chat.ask("input", name="message", data={"text": "hi"}, input_id="i1")
        assert sent["result"]["id"] == "i1"
        await chat.ask("input", name="message", data={"text": "hi"}, input_id="i1")
        await chat.ask("input", name="last")
    seen = [next(inputs), next(inputs)]
    inputs.close()
    assert [(event.name, event.data) for event in seen] == [
        ("message", {"text": "hi"}),
        ("last", None),
    ]


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ({"op": "nonsense"}, "bad_request"),
        ({"op": "subscribe", "channel": ""}, "bad_name"),
        ({"op": "subscribe", "channel": 7}, "bad_name"),
        ({"op": "subscribe", "channel": "x" * 257}, "bad_name"),
        ({"op": "subscribe", "channel": "a\nb"}, "bad_name"),
        ({"op": "subscribe", "after": "nonsense"}, "bad_cursor"),
        ({"op": "subscribe", "after": 7}, "bad_request"),
        ({"op": "subscribe", "rewind": "soon"}, "bad_request"),
        ({"op": "subscribe", "rewind": True}, "bad_request"),
        ({"op": "subscribe", "rewind": []}, "bad_request"),
        ({"op": "subscribe", "gather": 0}, "bad_request"),
        ({"op": "subscribe", "sub": ""}, "bad_name"),
        ({"op": "history", "limit": 0}, "bad_request"),
        ({"op": "history", "limit": 101}, "bad_request"),
        ({"op": "history", "limit": "1"}, "bad_request"),
        ({"op": "history", "before": "nonsense"}, "bad_cursor"),
        ({"op": "cancel"}, "bad_name"),
        ({"op": "cancel", "response": "r1", "reason": 7}, "invalid"),
        ({"op": "input"}, "invalid"),
        ({"op": "input", "name": ""}, "bad_name"),
        ({"op": "auth", "token": "x"}, "bad_request"),
        ({"op": "auth"}, "bad_request"),
    ],
)
async def test_wrong_requests_are_refused_and_the_socket_lives_on(
    server: Server, request_: dict[str, object], code: str
) -> None:
    async with chatting(server.ws_url) as chat:
        answer = await chat.ask(**request_)
        assert answer["op"] == "error"
        assert answer["error"]["code"] == code
        assert answer["error"]["message"]
        assert "ts" in (await chat.ask("ping"))["result"]


@pytest.mark.parametrize(
    "message",
    [b"\x00binary", "not json", "[]", "7", "{}", '{"op": 7}', '{"op":"ping","id":[]}', "[" * 5000],
)
async def test_what_is_no_message_ends_the_socket(server: Server, message: str | bytes) -> None:
    async with chatting(server.ws_url) as chat:
        await chat.socket.send(message)
        assert (await chat.closed())[0] == 4400


async def test_a_message_that_is_too_large_ends_the_socket(server: Server) -> None:
    async with chatting(server.ws_url) as chat:
        await chat.socket.send(json.dumps({"op": "input", "name": "x", "data": "x" * 70_000}))
        assert (await chat.closed())[0] == 1009


async def test_limits_of_one_socket(sink: tokenwire.Sink) -> None:
    with serving(Gateway(sink, limits=Limits(channels_per_socket=2))) as server:
        async with chatting(server.ws_url) as chat:
            await chat.ask("subscribe", channel="1")
            await chat.ask("subscribe", channel="2")
            assert (await chat.ask("subscribe", channel="3"))["error"]["code"] == "rate_limited"
            await chat.ask("unsubscribe", channel="1")
            assert "result" in await chat.ask("subscribe", channel="3")


async def test_a_flood_of_messages_is_answered_then_ended(sink: tokenwire.Sink) -> None:
    limits = Limits(request_rate=0.01, request_burst=5)
    with serving(Gateway(sink, limits=limits)) as server:
        async with chatting(server.ws_url) as chat:
            for n in range(200):
                await chat.socket.send(json.dumps({"op": "ping", "id": n}))
            refused = await chat.until("error")
            assert refused["error"]["code"] == "rate_limited"
            assert refused["error"]["retry_after"] > 0
            assert (await chat.closed())[0] == 4429


async def test_idle_sockets_are_ended_and_others_are_not(sink: tokenwire.Sink) -> None:
    gateway = Gateway(sink, limits=Limits(keep_alive=0.2))
    with serving(gateway) as server:
        async with chatting(server.ws_url) as busy, chatting(server.ws_url) as idle:
            await busy.ask("subscribe")
            # Only now, when the one has something to wait for, however long that took.
            gateway._service.limits = Limits(idle_timeout=0.5, keep_alive=0.2)
            assert (await idle.closed())[0] == 4408
            assert json.loads(await busy.socket.recv())["op"] in ("events", "ping")
            assert "result" in await busy.ask("ping")


async def test_a_quiet_socket_is_kept_alive(sink: tokenwire.Sink) -> None:
    with serving(Gateway(sink, limits=Limits(keep_alive=0.1))) as server:
        async with chatting(server.ws_url) as chat:
            await chat.ask("subscribe")
            with anyio.fail_after(PATIENCE):
                while json.loads(await chat.socket.recv()) != {"op": "ping"}:
                    pass


async def test_a_cursor_that_is_no_longer_there_resets(
    server: Server, sink: tokenwire.Sink
) -> None:
    with tokenwire.open_sink(tokenwire.MemoryBackend()) as other:
        cursor = await other.ainput("c", "message", "of another log")
    async with chatting(server.ws_url) as chat:
        await chat.ask("subscribe", channel="empty", after=cursor)
        assert (await chat.until("events"))["reset"] is True
    with sink.respond("c", response_id="new") as response:
        response.write("new")
    async with chatting(server.ws_url) as chat:
        await chat.ask("subscribe", after=cursor)
        first = await chat.until("events")
        assert (first["reset"], len(first["events"])) == (True, 1)
        await chat.ask("subscribe", after=first["cursor"], sub="again")
        assert "reset" not in await chat.until("events")


async def test_shutdown_tells_sockets_to_come_back(server: Server, gateway: Gateway) -> None:
    async with chatting(server.ws_url) as chat:
        await chat.ask("subscribe")
        assert await gateway.shutdown(PATIENCE)
        assert (await chat.until("bye"))["retry"] > 0
        assert (await chat.closed())[0] == 1012
    with pytest.raises(websockets.InvalidStatus) as refused:
        async with chatting(server.ws_url):
            pass
    assert refused.value.response.status_code == 503


async def test_a_slow_socket_is_conflated_and_ends_up_exact(sink: tokenwire.Sink) -> None:
    text = "0123456789" * 100
    with (
        tokenwire.Sink(sink.backend, ring_events=16, ring_bytes=65536) as small,
        serving(Gateway(small), ws_per_message_deflate=False) as server,
    ):
        async with chatting(server.ws_url, max_size=None, max_queue=1) as chat:
            await chat.ask("subscribe")
            with sink.respond("c", response_id="r1") as response:
                for _ in range(8000):
                    response.part("text", text=text)  # published at once
                    await asyncio.sleep(0)
            while "r1" not in chat.transcript or not chat.transcript["r1"].ended:
                await chat.receive()
        assert small.stats().reading.conflations > 0
    assert chat.transcript["r1"].text == text * 8000


@pytest.mark.slow
async def test_a_socket_that_never_reads_is_dropped(sink: tokenwire.Sink) -> None:
    gateway = Gateway(sink, limits=Limits(send_timeout=0.5))
    with serving(gateway, ws_per_message_deflate=False, ws_ping_interval=None) as server:
        async with chatting(server.ws_url, max_queue=1, max_size=None, ping_interval=None) as chat:
            await chat.ask("subscribe")
            with anyio.fail_after(PATIENCE), sink.respond("c") as response:
                while gateway.connections:
                    response.write("x" * 20_000)
                    await anyio.sleep(0.001)
                response.finish()
            chat.socket.transport.abort()


async def test_watches_are_let_go_with_their_socket(
    server: Server, gateway: Gateway, sink: tokenwire.Sink
) -> None:
    async with chatting(server.ws_url) as chat:
        for n in range(5):
            await chat.ask("subscribe", channel=str(n))
        assert sink.stats().watchers == 5
        chat.socket.transport.abort()
    with anyio.fail_after(PATIENCE):
        while gateway.connections or sink.stats().watchers:
            await anyio.sleep(0.01)


async def unanswering_peer(
    port: int,
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
    """A client that watches, and answers no ping; None where it was dropped before it watched."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        f"GET /channels/c/ws HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n"
        "upgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\n"
        "sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
    )
    assert b" 101 " in await reader.readline()
    subscribe = b'{"op":"subscribe","id":1}'
    writer.write(bytes((0x81, 0x80 | len(subscribe), 0, 0, 0, 0)) + subscribe)
    try:
        await reader.readuntil(b'"events":[')
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()
        return None
    return reader, writer


@pytest.mark.slow
async def test_a_peer_that_answers_no_ping_is_dropped_quietly(
    sink: tokenwire.Sink, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = Gateway(sink)
    with serving(gateway, ws_ping_interval=0.2, ws_ping_timeout=0.2) as server:
        with anyio.fail_after(PATIENCE):
            while (peer := await unanswering_peer(server.port)) is None:
                pass
        with anyio.fail_after(PATIENCE), sink.respond("c") as response:
            while gateway.connections:
                response.write("x")
                await anyio.sleep(0.001)
        peer[1].close()
    gc.collect()
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
