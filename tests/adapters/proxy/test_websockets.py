"""WebSockets pass through unread; those that the proxy reads over HTTP are refused."""

from __future__ import annotations

import http
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from websockets.sync.server import ServerConnection, serve

from tests.adapters.proxy.support import running
from tokenwire import Sink


@contextmanager
def upstream(requests: list[Any]) -> Iterator[str]:
    """An upstream that sends each message back, and closes as the word of a message says."""

    def handle(connection: ServerConnection) -> None:
        requests.append(connection.request)
        for message in connection:
            if message == "close":
                connection.close(4001, "as asked")
                return
            connection.send(message)

    def check(connection: ServerConnection, request: Any) -> Any:
        if request.headers.get("authorization") != "Bearer key":
            return connection.respond(http.HTTPStatus.UNAUTHORIZED, "no key\n")
        return None

    with serve(
        handle, "127.0.0.1", 0, process_request=check, subprotocols=["realtime"], compression=None
    ) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.socket.getsockname()[1]}/v1"
        server.shutdown()
        thread.join(60)


def url(origin: str, path: str) -> str:
    return origin.replace("http", "ws") + path


def test_messages_pass_in_both_directions(sink: Sink) -> None:
    requests: list[Any] = []
    with (
        upstream(requests) as there,
        running({"up": there}, sink) as origin,
        connect(
            url(origin, "/up/v1/realtime?model=m"),
            additional_headers={"authorization": "Bearer key", "x-tokenwire-channel": "c"},
            subprotocols=["realtime"],
            open_timeout=60,
        ) as client,
    ):
        assert client.subprotocol == "realtime"
        for message in ("text 茶", b"\x00\xff", "x" * 300_000):
            client.send(message)
            assert client.recv(60) == message
        client.send("close")
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(60)
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4001, "as asked")
    assert requests[0].path == "/v1/realtime?model=m"
    assert "x-tokenwire-channel" not in requests[0].headers
    assert sink.history("c").items == ()


def test_a_client_that_closes_closes_the_upstream(sink: Sink) -> None:
    requests: list[Any] = []
    options: Any = {
        "additional_headers": {"authorization": "Bearer key"},
        "subprotocols": ["realtime"],
        "open_timeout": 60,
    }
    with upstream(requests) as there:
        with running({"up": there}, sink) as origin:
            with connect(url(origin, "/up/realtime"), **options) as client:
                client.send("x")
                assert client.recv(60) == "x"
    # `upstream` ends only once its connections have.


def test_a_handshake_that_the_upstream_refuses(sink: Sink) -> None:
    with upstream([]) as there, running({"up": there}, sink) as origin:
        with pytest.raises(InvalidStatus) as refused:
            connect(url(origin, "/up/v1/realtime"), open_timeout=60)
    assert refused.value.response.status_code == 401
    assert refused.value.response.body == b"no key\n"


@pytest.mark.parametrize(
    ("path", "options", "status"),
    [
        ("/up/v1/responses", {}, 426),  # clients that have both go on over HTTP
        ("/up/v1/realtime", {}, 502),
        ("/nobody/v1/realtime", {}, 404),
        ("/up/v1/realtime", {"authorize": lambda *_: False}, 403),
    ],
)
def test_refusals(sink: Sink, path: str, options: dict[str, Any], status: int) -> None:
    upstreams = {"up": "http://127.0.0.1:9", "other": "http://127.0.0.1:9"}
    with running(upstreams, sink, **options) as origin:
        with pytest.raises(InvalidStatus) as refused:
            connect(url(origin, path), open_timeout=60)
    assert refused.value.response.status_code == status
