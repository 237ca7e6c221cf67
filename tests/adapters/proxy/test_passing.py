"""What the proxy passes on: every byte, but what belongs to one connection."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from typing import Any

import httpx
import pytest

from tests.adapters.proxy.support import RawServer, raw_request, running
from tests.support.recordings import named
from tests.support.replay import Gate, Replay, Reply, split_events
from tests.support.sdk import ended, responses
from tokenwire import Sink

CHAT = named("chat-text")
BODY = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}
GET = b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


def test_a_request_is_passed_on_byte_for_byte(sink: Sink) -> None:
    body = b'{"model": "m",  "messages": [], "\\u00e9": "\xc3\xa9"}\n'
    with RawServer(OK) as upstream, running({"up": upstream.url}, sink) as origin:
        raw_request(
            origin,
            b"POST /up/v1/chat%%2Fx/completions;a=b//c%%20d?q=%%41&key=secret&&e= HTTP/1.1\r\n"
            b"Host: 127.0.0.1\r\nX-One: 1\r\nAuthorization: Bearer secret\r\nX-One: 2\r\n"
            b"Connection: close, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nTE: trailers\r\n"
            b"X-Tokenwire-Channel: c\r\nX-Tokenwire-Anything: c\r\nAccept-Encoding: x, br\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (len(body), body),
        )
    (request,) = upstream.requests
    assert request == (
        b"POST /v1/chat%%2Fx/completions;a=b//c%%20d?q=%%41&key=secret&&e= HTTP/1.1\r\n"
        b"host: %s\r\nx-one: 1\r\nauthorization: Bearer secret\r\nx-one: 2\r\n"
        b"accept-encoding: x, br\r\ncontent-length: %d\r\n\r\n%s"
        % (upstream.url.partition("//")[2].encode(), len(body), body)
    )


def test_nothing_is_added_to_a_request_without_a_body(sink: Sink) -> None:
    with RawServer(OK) as upstream, running({"up": upstream.url}, sink) as origin:
        raw_request(
            origin, b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
        )
    host = upstream.url.partition("//")[2].encode()
    assert upstream.requests == [b"GET /v1/models HTTP/1.1\r\nhost: %s\r\n\r\n" % host]


def test_a_body_that_comes_in_pieces_is_passed_on_in_pieces(sink: Sink) -> None:
    pieces = [b"a" * 70_000, b"b", b"c" * 5]
    with RawServer(OK) as upstream, running({"up": upstream.url}, sink) as origin:
        reply = httpx.post(f"{origin}/v1/files", content=iter(pieces), timeout=60)
    assert reply.text == "ok"
    head, _, chunked = upstream.requests[0].partition(b"\r\n\r\n")
    assert b"transfer-encoding: chunked" in head
    assert b"content-length" not in head
    assert re.sub(rb"(?:^|\r\n)[0-9a-f]+\r\n", b"", chunked).strip() == b"".join(pieces)


def test_a_reply_is_passed_on_byte_for_byte(sink: Sink) -> None:
    body = gzip.compress(b'{"data": []}')
    reply = (
        b"HTTP/1.1 529 Overloaded\r\nContent-Type: application/json\r\nSet-Cookie: a=1\r\n"
        b"Set-Cookie: b=2\r\nDate: yesterday\r\nServer: theirs\r\nContent-Encoding: gzip\r\n"
        b"Connection: close, X-Hop\r\nX-Hop: 1\r\nContent-Length: %d\r\n\r\n" % len(body)
    ) + body
    with RawServer(reply) as upstream, running({"up": upstream.url}, sink) as origin:
        got = raw_request(origin, GET)
        again = httpx.get(f"{origin}/v1/models", timeout=60)
    head, _, rest = got.partition(b"\r\n\r\n")
    assert rest == body
    assert (
        head.split(b"\r\n")[1:]
        == [
            b"content-type: application/json",
            b"set-cookie: a=1",
            b"set-cookie: b=2",
            b"date: yesterday",
            b"server: theirs",
            b"content-encoding: gzip",
            b"content-length: %d" % len(body),
            b"Connection: close",
        ]
        or head.lower().count(b"connection: close") == 1
    )
    assert again.status_code == 529
    assert b"cookie" not in upstream.requests[1]  # that of one client is no other's


@pytest.mark.parametrize("status", [204, 304])
def test_replies_without_a_body(sink: Sink, status: int) -> None:
    reply = b"HTTP/1.1 %d X\r\netag: 1\r\n\r\n" % status
    with RawServer(reply) as upstream, running({"up": upstream.url}, sink) as origin:
        got = httpx.get(f"{origin}/v1/models", timeout=60)
    assert (got.status_code, got.content, got.headers["etag"]) == (status, b"", "1")


def test_head(sink: Sink) -> None:
    reply = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"
    with RawServer(reply) as upstream, running({"up": upstream.url}, sink) as origin:
        got = httpx.head(f"{origin}/", timeout=60)
    assert (got.status_code, got.headers["content-length"]) == (200, "5")
    assert upstream.requests[0].startswith(b"HEAD / HTTP/1.1")


def test_a_stream_is_passed_on_as_it_comes(sink: Sink) -> None:
    gate = Gate()
    events = split_events(CHAT.body)
    with (
        Replay(Reply(CHAT.body, gate=gate)) as upstream,
        running({"openai": upstream.base_url}, sink, channel="c") as origin,
        httpx.stream(
            "POST", f"{origin}/openai/v1/chat/completions", json=BODY, timeout=60
        ) as reply,
    ):
        pieces = reply.iter_raw()
        for event in events[:5]:
            gate.release()
            got = b""
            while len(got) < len(event):  # the next one leaves only after this one has come
                got += next(pieces)
            assert got == event
        gate.open()
        assert b"".join(pieces) == b"".join(events[5:])
    assert ended(sink, "c").text == CHAT.expected.text


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
def test_a_compressed_stream_is_passed_on_as_it_is_and_read(sink: Sink, encoding: str) -> None:
    body = _compressed(CHAT.body, encoding)
    upstream_reply = Reply(body, headers={"content-encoding": encoding}, cuts=7)
    with (
        Replay(upstream_reply) as upstream,
        running({"openai": upstream.base_url}, sink, channel="c") as origin,
        httpx.stream(
            "POST", f"{origin}/openai/v1/chat/completions", json=BODY, timeout=60
        ) as reply,
    ):
        assert b"".join(reply.iter_raw()) == body
        assert reply.headers["content-encoding"] == encoding
    response = ended(sink, "c")
    assert (response.text, response.state) == (CHAT.expected.text, "complete")


def _compressed(body: bytes, encoding: str) -> bytes:
    if encoding == "gzip":
        return gzip.compress(body)
    if encoding == "deflate":
        return zlib.compress(body)
    if encoding == "br":
        return pytest.importorskip("brotli").compress(body)
    return pytest.importorskip("zstandard").compress(body)


def test_a_compressed_request_is_passed_on_as_it_is_and_read(sink: Sink) -> None:
    body = gzip.compress(json.dumps(BODY).encode())
    with (
        Replay(CHAT.body) as upstream,
        running({"openai": upstream.base_url}, sink, channel="c") as origin,
    ):
        httpx.post(
            f"{origin}/openai/v1/chat/completions",
            content=body,
            headers={"content-encoding": "gzip"},
            timeout=60,
        )
        assert upstream.exchanges[0].body == body
    assert ended(sink, "c").metadata["model"] == "m"


@pytest.mark.parametrize(
    ("url", "path", "there"),
    [
        ("/v1", "/up/chat/completions", "/v1/chat/completions"),
        ("/v1", "/up/v1/chat/completions", "/v1/chat/completions"),
        ("/v1", "/up/v1/v1/chat/completions", "/v1/chat/completions"),
        ("/v1", "/chat/completions", "/v1/chat/completions"),  # there is only one upstream
        ("/v1", "/up/v1beta/x", "/v1/v1beta/x"),
        ("/v1", "/up/v1x", "/v1/v1x"),
        ("/v1/", "/up", "/"),
        ("/v1", "/up/", "/"),
        ("/tenant/v1", "/up/v1/models", "/tenant/v1/models"),
        ("", "/up/v1/v1/models", "/v1/v1/models"),
        ("/api", "/up/v1/models", "/api/v1/models"),
        ("", "/upper/models", "/upper/models"),
        ("", "/", "/"),
    ],
)
def test_where_paths_lead(sink: Sink, url: str, path: str, there: str) -> None:
    with RawServer(OK) as upstream, running({"up": upstream.url + url}, sink) as origin:
        httpx.get(origin + path, timeout=60)
    assert upstream.requests[0].split(b" ")[1].decode() == there


def test_channel_and_run_of_a_request(sink: Sink) -> None:
    with (
        Replay(CHAT.body) as upstream,
        running({"openai": upstream.base_url}, sink, channel="c", metadata={"k": 1}) as origin,
    ):
        url = f"{origin}/openai/v1/chat/completions"
        httpx.post(url, json=BODY, timeout=60)
        headers = {"X-Tokenwire-Channel": "other", "X-Tokenwire-Run": "run-1"}
        httpx.post(url, json=BODY, headers=headers, timeout=60)
        for exchange in upstream.exchanges:
            assert not [name for name in exchange.headers if "tokenwire" in name]
    (first,) = responses(sink, "c")
    (second,) = responses(sink, "other")
    assert second.run == "run-1"
    assert first.metadata == second.metadata
    assert first.metadata == {
        "provider": "openai",
        "api": "chat.completions",
        "model": "m",
        "upstream": "openai",
        "k": 1,
    }


def test_what_is_no_model_call_is_not_published(sink: Sink) -> None:
    body: dict[str, Any] = {"model": "m", "input": "x"}
    with RawServer(OK) as upstream, running({"up": upstream.url}, sink, channel="c") as origin:
        httpx.post(f"{origin}/v1/embeddings", json=body, timeout=60)
        httpx.post(f"{origin}/v1/chat/completions", json={"unknown": 1}, timeout=60)
        httpx.post(f"{origin}/v1/chat/completions", content=b"no JSON", timeout=60)
    assert len(upstream.requests) == 3
    assert responses(sink, "c") == []
