"""How exchanges end: cancelled, left, broken off, refused."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from typing import Any

import httpx
import pytest

from tests.adapters.proxy.support import RawServer, running
from tests.support.recordings import named
from tests.support.replay import Gate, Replay, Reply, split_events
from tests.support.sdk import ended, responses
from tokenwire import Sink
from tokenwire_adapters.proxy import Proxy

CHAT = named("chat-text")
BODY = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}


def post(origin: str, **options: Any) -> Any:
    return httpx.stream(
        "POST", f"{origin}/up/v1/chat/completions", json=BODY, timeout=60, **options
    )


@pytest.mark.parametrize("on_cancel", ["end", "raise"])
def test_a_watchers_cancel_closes_the_upstream(sink: Sink, on_cancel: Any) -> None:
    gate = Gate(4)
    with (
        Replay(Reply(CHAT.body, gate=gate)) as upstream,
        running({"up": upstream.base_url}, sink, channel="c", on_cancel=on_cancel) as origin,
        post(origin) as reply,
    ):
        pieces = reply.iter_raw()
        next(pieces)
        upstream.wait_sent(4)
        assert sink.cancel("c", responses(sink, "c")[0].id).state == "cancelled"
        assert upstream.wait_closed_early().events_sent == 4
        if on_cancel == "end":
            list(pieces)
        else:
            with pytest.raises(httpx.RemoteProtocolError):
                list(pieces)
    assert ended(sink, "c").state == "cancelled"


def test_a_cancel_before_the_reply_has_begun(sink: Sink) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        running({"up": f"http://127.0.0.1:{silent.getsockname()[1]}"}, sink, channel="c") as origin,
    ):
        replies: list[httpx.Response] = []
        client = threading.Thread(
            target=lambda: replies.append(
                httpx.post(f"{origin}/chat/completions", json=BODY, timeout=60)
            )
        )
        client.start()
        connection, _ = silent.accept()
        with connection:
            connection.settimeout(60)
            assert connection.recv(65536)
            sink.cancel("c", responses(sink, "c")[0].id)
            while connection.recv(65536):
                pass  # until the proxy closes
        client.join(60)
    assert replies[0].status_code == 499
    assert replies[0].json()["error"]["code"] == "cancelled"


def test_a_client_that_hangs_up_closes_the_upstream(sink: Sink) -> None:
    gate = Gate(4)
    with (
        Replay(Reply(CHAT.body, gate=gate)) as upstream,
        running({"up": upstream.base_url}, sink, channel="c") as origin,
    ):
        with post(origin) as reply:
            pieces = reply.iter_raw()  # kept: a generator that is collected closes the connection
            next(pieces)
            upstream.wait_sent(4)
        upstream.wait_closed_early()  # no further event is sent that it could meet
        response = ended(sink, "c")
    assert (response.state, response.error) == ("cancelled", "its consumer stopped reading")
    assert CHAT.expected.text.startswith(response.text)


def test_an_upstream_that_breaks_off(sink: Sink) -> None:
    events = split_events(CHAT.body)
    with (
        Replay(Reply(CHAT.body, drop_after=5)) as upstream,
        running({"up": upstream.base_url}, sink, channel="c") as origin,
        post(origin) as reply,
    ):
        got: list[bytes] = []
        with pytest.raises(httpx.RemoteProtocolError):
            got.extend(reply.iter_raw())
    response = ended(sink, "c")
    assert response.state == "failed"
    assert response.error
    assert b"".join(events[:5]).startswith(b"".join(got))


def test_an_error_of_the_provider(sink: Sink) -> None:
    body = b'{"error": {"message": "slow down", "type": "rate_limit"}}'
    with (
        Replay(Reply(body, status=429, headers={"retry-after": "1"})) as upstream,
        running({"up": upstream.base_url}, sink, channel="c") as origin,
    ):
        reply = httpx.post(f"{origin}/up/v1/chat/completions", json=BODY, timeout=60)
    assert (reply.status_code, reply.content, reply.headers["retry-after"]) == (429, body, "1")
    response = ended(sink, "c")
    assert (response.state, response.error) == ("failed", "slow down")


def test_an_error_of_the_provider_that_breaks_off_is_in_its_words(sink: Sink) -> None:
    body = b'{"error": {"message": "slow down, please"}}'
    head = b"HTTP/1.1 429 Too Many Requests\r\ncontent-type: application/json\r\n"
    reply = head + b"content-length: 1000\r\n\r\n" + body
    with (
        RawServer(reply) as upstream,
        running({"up": upstream.url}, sink, channel="c") as origin,
        pytest.raises(httpx.RemoteProtocolError),
        post(origin) as answer,
    ):
        answer.read()
    response = ended(sink, "c")
    assert response.state == "failed"
    assert "slow down, please" in str(response.error)


def test_an_upstream_that_is_not_there(sink: Sink, reserved_port: int) -> None:
    upstream = f"http://127.0.0.1:{reserved_port}"
    with running({"up": upstream}, sink, channel="c") as origin:
        reply = httpx.post(f"{origin}/up/chat/completions", json=BODY, timeout=60)
    assert reply.status_code == 502
    error = reply.json()["error"]
    assert error["code"] == "upstream_unreachable"
    assert upstream in error["message"]
    assert ended(sink, "c").state == "failed"


REFUSALS: list[tuple[str, str, dict[str, Any], int, str]] = [
    ("GET", "/nobody/v1", {}, 404, "unknown_upstream"),
    ("GET", "/", {}, 404, "unknown_upstream"),
    ("GET", "/up/%2e%2E/x", {}, 400, "bad_path"),
    ("POST", "/up/chat/completions", {"content": b"x" * 1001}, 413, "request_too_large"),
    ("POST", "/up/files", {"content": iter([b"x" * 600] * 2)}, 413, "request_too_large"),
    ("GET", "/up/x", {"headers": {"x-large": "x" * 66_000}}, 431, "headers_too_large"),
    ("GET", "/up/x", {"headers": {"host": "evil.example:80"}}, 403, "forbidden"),
]


@pytest.mark.parametrize(
    ("method", "path", "options", "status", "code"), REFUSALS, ids=[row[4] for row in REFUSALS]
)
def test_refusals(
    sink: Sink, method: str, path: str, options: dict[str, Any], status: int, code: str
) -> None:
    with RawServer(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n") as upstream:
        upstreams = {"up": upstream.url, "other": upstream.url}
        with (
            running(upstreams, sink, max_body=1000) as origin,
            httpx.Client(base_url=origin, timeout=60) as client,
        ):
            request = client.build_request(method, "/", **options)
            request.extensions["target"] = path.encode()
            reply = client.send(request)
    assert reply.status_code == status
    assert reply.json()["error"]["code"] == code
    assert len([request for request in upstream.requests if b"/up" in request]) == 0


def test_authorize(sink: Sink) -> None:
    asked: list[Any] = []

    def authorize(connection: Any, upstream: str, channel: str | None) -> Any:
        asked.append((connection.headers["x-tokenwire-key"], upstream, channel))
        if connection.headers["x-tokenwire-key"] == "breaks":
            raise RuntimeError("secret")
        return connection.headers["x-tokenwire-key"] == "good" or None

    async def authorize_async(*args: Any) -> Any:
        return authorize(*args)

    with RawServer(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n") as upstream:
        for function in (authorize, authorize_async):
            with running({"up": upstream.url}, sink, authorize=function) as origin:
                statuses = [
                    httpx.get(
                        f"{origin}/x",
                        headers={"x-tokenwire-key": key, "host": "proxy.example"},
                        timeout=60,
                    ).status_code
                    for key in ("good", "bad", "breaks")
                ]
                assert statuses == [200, 403, 500]
    assert asked[:3] == [("good", "up", None), ("bad", "up", None), ("breaks", "up", None)]
    assert b"good" not in b"".join(upstream.requests)


def test_keys_are_never_logged(
    sink: Sink, caplog: pytest.LogCaptureFixture, reserved_port: int
) -> None:
    caplog.set_level(logging.DEBUG, "tokenwire")
    caplog.set_level(logging.DEBUG, "uvicorn")
    headers = {"authorization": "Bearer secret-1", "x-api-key": "secret-2", "cookie": "secret-3"}
    replies: list[str] = []
    with (
        Replay(Reply(CHAT.body, drop_after=2)) as upstream,
        running(
            {"up": upstream.base_url, "gone": f"http://127.0.0.1:{reserved_port}"}, sink
        ) as origin,
    ):
        for path in ("/up/chat/completions", "/gone/chat/completions", "/nobody", "/up/../x"):
            url = f"{origin}{path}?key=secret-4"
            with contextlib.suppress(httpx.RemoteProtocolError):
                replies.append(httpx.post(url, json=BODY, headers=headers, timeout=60).text)
    # The client of this test logs its own addresses, where another test made httpx log.
    ours = [each for each in caplog.records if not each.name.startswith(("httpx", "httpcore"))]
    assert ours
    assert "secret" not in "\n".join(map(logging.Formatter().format, ours))
    assert "secret" not in "".join(replies)
    assert not [each for each in sink.history("default").items if "secret" in repr(each)]


@pytest.mark.parametrize(
    "upstreams",
    [
        {},
        {"up": "ftp://x"},
        {"up": "https://user:secret@x"},
        {"up": "https://x/?key=secret"},
        {"up": "https://x:port"},
        {"up": "https://"},
        {"v1": "https://x"},
        {"Up": "https://x"},
        {"a/b": "https://x"},
    ],
)
def test_upstreams_that_cannot_be(sink: Sink, upstreams: dict[str, str]) -> None:
    with pytest.raises(ValueError) as raised:
        Proxy(upstreams, sink)
    assert "secret" not in str(raised.value)
