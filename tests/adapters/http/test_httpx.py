"""httpx and httpx2: what a model sends is published, and nothing is changed for the program."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
from typing import Any

import httpx
import pytest

import tokenwire
from tests.adapters.http.clients import (
    CHAT,
    WAYS,
    WHOLE,
    Async,
    Sync,
    cancel_while_it_reads,
    listening,
    name_of,
)
from tests.support.recordings import Recording, named, parameters
from tests.support.replay import Gate, Replay, Reply
from tests.support.sdk import check, ended, responses
from tokenwire import Sink
from tokenwire_adapters._agents.http.retries import RETRIES

TEXT = named("chat-text")
REQUESTS = {
    "chat": ("/v1/chat/completions", CHAT),
    "responses": ("/v1/responses", {"model": "m", "input": "x", "stream": True}),
    "anthropic": ("/v1/messages", {**CHAT, "max_tokens": 9}),
}
REPLY = {
    "id": "1",
    "object": "chat.completion",
    "model": "m",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "whole"}, "finish_reason": "stop"}
    ],
    "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
}
each_way = pytest.mark.parametrize("way", WAYS, ids=name_of)


def modules(way: Sync) -> str:
    return str(way.module.__name__)


@each_way
@pytest.mark.parametrize("recording", parameters())
def test_every_recording(way: Sync, recording: Recording, sink: Sink) -> None:
    if len(recording.expected.texts) > 1:
        pytest.skip("several choices are compared in the tests of the wire")
    path, body = REQUESTS[recording.api]
    with Replay(Reply(recording.body, cuts=1)) as replay, listening(sink, modules(way)):
        pieces = way.stream(replay.root_url + path, body)
    assert b"".join(pieces) == recording.body
    (response,) = responses(sink, "c")
    check(response, recording.expected)
    assert response.metadata["model"] == "m"


@each_way
@pytest.mark.parametrize("read", ["iter_bytes", "iter_text", "iter_lines"])
def test_decoded_reads_of_a_compressed_body(way: Sync, read: str, sink: Sink) -> None:
    body = Reply(gzip.compress(TEXT.body), headers={"content-encoding": "gzip"}, cuts=3)
    with Replay(body) as replay, listening(sink, modules(way)):
        pieces: list[Any] = way.stream(f"{replay.base_url}/chat/completions", CHAT, read=read)
    if read == "iter_lines":
        assert pieces == TEXT.body.decode().splitlines()
    else:
        joined = (b"" if read == "iter_bytes" else "").join(pieces)
        assert joined == (TEXT.body if read == "iter_bytes" else TEXT.body.decode())
    check(responses(sink, "c")[0], TEXT.expected)


@each_way
@pytest.mark.parametrize("wholly", [True, False])
def test_a_reply_that_is_read_whole(way: Sync, wholly: bool, sink: Sink) -> None:
    """A whole reply; and a stream of events that the program reads in one piece."""
    sent = json.dumps(REPLY).encode() if wholly else TEXT.body
    headers = {"content-type": "application/json"} if wholly else {}
    with Replay(Reply(sent, headers=headers)) as replay, listening(sink, modules(way)):
        got = way.post(f"{replay.base_url}/chat/completions", json=WHOLE if wholly else CHAT)
    assert got.content == sent
    assert got.is_closed
    (response,) = responses(sink, "c")
    assert response.text == ("whole" if wholly else TEXT.expected.text)
    assert response.state == "complete"


@each_way
def test_other_requests_are_left_alone(way: Sync, sink: Sink) -> None:
    with Replay(Reply(b"{}", headers={"content-type": "application/json"})) as replay:
        with listening(sink, modules(way)):
            way.post(f"{replay.base_url}/embeddings", json={"input": "x"})
            way.post(f"{replay.base_url}/messages", json={"text": "of another service"})
            way.post(f"{replay.base_url}/messages", content=b"\x00\x01")
        way.post(f"{replay.base_url}/chat/completions", json=WHOLE)  # it listens no longer
    assert responses(sink, "c") == []


@each_way
def test_the_response_begins_with_the_request(way: Sync, sink: Sink) -> None:
    gate = Gate()
    with Replay(Reply(TEXT.body, gate=gate)) as replay, listening(sink, modules(way)):
        url = f"{replay.base_url}/chat/completions"
        thread = threading.Thread(target=way.stream, args=(url, CHAT))
        with sink.watch("c") as watch:
            thread.start()
            assert isinstance(next(watch), tokenwire.StartEvent)
            gate.open()
        thread.join()
    check(responses(sink, "c")[0], TEXT.expected)


@each_way
def test_a_stream_that_is_left_early(way: Sync, sink: Sink) -> None:
    gate = Gate(2)
    with Replay(Reply(TEXT.body, gate=gate)) as replay, listening(sink, modules(way)):
        way.stream(f"{replay.base_url}/chat/completions", CHAT, limit=2)
        replay.wait_closed_early()
        assert ended(sink, "c").state == "cancelled"


@each_way
def test_a_stream_that_is_never_read(way: Sync, sink: Sink) -> None:
    gate = Gate(2)

    async def leave(url: str) -> None:
        async with way.client() as client:
            request = client.build_request("POST", url, json=CHAT)
            await (await client.send(request, stream=True)).aclose()

    with Replay(Reply(TEXT.body, gate=gate)) as replay, listening(sink, modules(way)):
        url = f"{replay.base_url}/chat/completions"
        if way.is_async:
            asyncio.run(leave(url))
        else:
            with way.client() as client:
                request = client.build_request("POST", url, json=CHAT)
                client.send(request, stream=True).close()
        assert ended(sink, "c").state == "cancelled"


@each_way
def test_a_connection_that_breaks(way: Sync, sink: Sink) -> None:
    with Replay(Reply(TEXT.body, drop_after=3)) as replay, listening(sink, modules(way)):
        with pytest.raises(way.module.RemoteProtocolError):
            way.stream(f"{replay.base_url}/chat/completions", CHAT)
    (response,) = responses(sink, "c")
    assert response.state == "failed"
    assert "peer closed connection" in (response.error or "")


@each_way
@pytest.mark.parametrize("on_cancel", [None, "end", "raise"])
def test_a_cancel_closes_the_connection(way: Sync, on_cancel: Any, sink: Sink) -> None:
    cancel_while_it_reads(
        lambda url: way.stream(url, CHAT), modules(way), on_cancel, TEXT.body, sink
    )


@each_way
def test_a_whole_reply_survives_a_cancel(way: Sync, sink: Sink) -> None:
    """As with a wrapped SDK: half of its JSON would be of no use to the program."""
    body = json.dumps(REPLY).encode()
    gate = Gate()
    got: list[Any] = []
    with (
        Replay(Reply(body, headers={"content-type": "application/json"}, gate=gate)) as replay,
        listening(sink, modules(way)),
        sink.watch("c") as watch,
    ):
        url = f"{replay.base_url}/chat/completions"
        thread = threading.Thread(target=lambda: got.append(way.post(url, json=WHOLE)))
        thread.start()
        assert sink.cancel("c", next(watch).response_id or "").state == "cancelled"
        gate.open()
        thread.join()
    assert got[0].content == body


ERROR = json.dumps({"error": {"message": "slow down", "type": "rate_limit"}}).encode()


@each_way
def test_an_error_is_told_in_the_providers_words(way: Sync, sink: Sink) -> None:
    with Replay(Reply(ERROR, status=400)) as replay, listening(sink, modules(way)):
        assert way.post(f"{replay.base_url}/chat/completions", json=CHAT).status_code == 400
    (response,) = responses(sink, "c")
    assert (response.state, response.error) == ("failed", "slow down")


@each_way
def test_a_request_that_is_sent_again_is_one_response(way: Sync, sink: Sink) -> None:
    failed = [Reply(ERROR, status=429), Reply(ERROR, status=500)]
    with Replay(*failed, TEXT.body) as replay, listening(sink, modules(way)):
        url = f"{replay.base_url}/chat/completions"
        asked_again(way, url)
    (response,) = responses(sink, "c")
    check(response, TEXT.expected)


def asked_again(way: Sync, url: str) -> None:
    """Send a request three times, from one thread or one task, as an SDK that retries does."""

    async def main() -> None:
        async with way.client() as client:
            for _ in range(3):
                await client.post(url, json=CHAT)

    if way.is_async:
        asyncio.run(main())
    else:
        for _ in range(3):
            way.post(url, json=CHAT)


def test_a_task_that_ends_sends_nothing_again(sink: Sink) -> None:
    with Replay(Reply(ERROR, status=429)) as replay, listening(sink, "httpx"):
        Async("httpx").post(f"{replay.base_url}/chat/completions", json=CHAT)
    assert responses(sink, "c")[0].error == "slow down"


def test_a_failed_request_that_is_not_sent_again(sink: Sink) -> None:
    """Another request of the same caller shows that the first one is over."""
    way = WAYS[0]
    other = {**CHAT, "model": "other"}
    with Replay(Reply(ERROR, status=429), TEXT.body) as replay, listening(sink, "httpx"):
        url = f"{replay.base_url}/chat/completions"
        way.post(url, json=CHAT)
        way.post(url, json=other)
    first, second = responses(sink, "c")
    assert (first.state, first.error) == ("failed", "slow down")
    check(second, TEXT.expected)


def test_the_same_request_of_another_channel_is_no_retry(sink: Sink) -> None:
    way = WAYS[0]
    with (
        Replay(Reply(ERROR, status=429), TEXT.body) as replay,
        listening(sink, "httpx", channel=None),
    ):
        url = f"{replay.base_url}/chat/completions"
        with tokenwire.channel("a"):
            way.post(url, json=CHAT)
        with tokenwire.channel("b"):
            way.post(url, json=CHAT)
    assert responses(sink, "a")[0].error == "slow down"
    check(responses(sink, "b")[0], TEXT.expected)


@each_way
def test_no_server(way: Sync, sink: Sink, reserved_port: int) -> None:
    url = f"http://127.0.0.1:{reserved_port}/v1/chat/completions"
    with listening(sink, modules(way)):
        with pytest.raises(way.module.ConnectError):
            way.post(url, json=CHAT)
        RETRIES.give_up_all()
    assert responses(sink, "c")[0].state == "failed"


def test_transports_of_the_users_own(sink: Sink) -> None:
    """A mocked reply is there at once; one over ASGI has no socket."""

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=REPLY)

    with listening(sink, "httpx"), httpx.Client(transport=httpx.MockTransport(answer)) as client:
        got = client.post("http://model/v1/chat/completions", json=WHOLE)
        assert got.json() == REPLY
    (response,) = responses(sink, "c")
    assert (response.text, response.state) == ("whole", "complete")


def test_an_asgi_transport(sink: Sink) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": TEXT.body})

    async def main() -> bytes:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://model/v1") as client:
            return (await client.post("/chat/completions", json=CHAT)).content

    with listening(sink, "httpx"):
        assert asyncio.run(main()) == TEXT.body
    check(responses(sink, "c")[0], TEXT.expected)


def test_a_body_that_is_a_stream_is_not_consumed(sink: Sink) -> None:
    """Nothing is known of the request: the reply says that it is a model's."""
    data = json.dumps(CHAT).encode()

    def pieces() -> Any:
        yield data[:5]
        yield data[5:]

    headers = {"content-length": str(len(data))}
    with Replay(TEXT.body) as replay, listening(sink, "httpx"), httpx.Client(timeout=60) as client:
        url = f"{replay.base_url}/chat/completions"
        client.post(url, content=pieces(), headers=headers)
        assert replay.exchanges[0].body == data
    check(responses(sink, "c")[0], TEXT.expected)


@each_way
def test_a_redirect_is_followed_within_one_response(way: Sync, sink: Sink) -> None:
    moved = Reply(b"", status=307, headers={"location": "/elsewhere/chat/completions"})

    async def main(url: str) -> bytes:
        async with way.client(follow_redirects=True) as client:
            return (await client.post(url, json=CHAT)).content

    with Replay(moved, TEXT.body) as replay, listening(sink, modules(way)):
        url = f"{replay.base_url}/chat/completions"
        if way.is_async:
            got = asyncio.run(main(url))
        else:
            with way.client(follow_redirects=True) as client:
                got = client.post(url, json=CHAT).content
    assert got == TEXT.body
    (response,) = responses(sink, "c")
    check(response, TEXT.expected)


def test_a_redirect_that_is_not_followed_fails(sink: Sink) -> None:
    moved = Reply(b"", status=307, headers={"location": "/elsewhere"})
    with Replay(moved) as replay, listening(sink, "httpx"):
        assert WAYS[0].post(f"{replay.base_url}/chat/completions", json=CHAT).status_code == 307
        RETRIES.give_up_all()
    assert "HTTP status 307" in (responses(sink, "c")[0].error or "")


def test_hooks_may_read_the_reply_first(sink: Sink) -> None:
    hooks = {"response": [lambda response: response.read()]}
    with Replay(TEXT.body) as replay, listening(sink, "httpx"):
        with httpx.Client(event_hooks=hooks, timeout=60) as client:
            got = client.post(f"{replay.base_url}/chat/completions", json=CHAT)
    assert got.content == TEXT.body
    check(responses(sink, "c")[0], TEXT.expected)


def test_our_own_proxy_publishes_itself(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    with Replay(TEXT.body) as replay, listening(sink, "httpx"):
        monkeypatch.setenv("TOKENWIRE_PROXY", replay.root_url)
        WAYS[0].stream(f"{replay.base_url}/chat/completions", CHAT)
        assert responses(sink, "c") == []
        monkeypatch.setenv("TOKENWIRE_PROXY", "http://127.0.0.1:1")
        WAYS[0].stream(f"{replay.base_url}/chat/completions", CHAT)
    assert len(responses(sink, "c")) == 1


def test_requests_of_our_own_are_not_recorded(sink: Sink) -> None:
    """What a backend sends, on the I/O thread, is no call of the program."""
    with Replay(TEXT.body) as replay, listening(sink, "httpx"):
        url = f"{replay.base_url}/chat/completions"

        async def send() -> None:
            async with httpx.AsyncClient(timeout=60) as client:
                await client.post(url, json=CHAT)

        tokenwire.background.run(sink, send())
    assert responses(sink, "c") == []
