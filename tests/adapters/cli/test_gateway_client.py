"""What `tokenwire watch` and `doctor` make of what a gateway answers, over a real socket."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

import pytest

pytest.importorskip("uvicorn")

from tokenwire.events import DeltaEvent, Event, encode_json
from tokenwire_adapters._tools.cli import gateway_client
from tokenwire_adapters._tools.cli.errors import Failure

STREAM = {"content-type": "text/event-stream"}


class Answer(NamedTuple):
    """One answer of the gateway; `None` in place of a body: the connection is cut."""

    body: str | None = ""
    status: int = 200
    headers: dict[str, str] = STREAM


class Gateway:
    """Gives prepared answers, in order; keeps what it was asked."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.url = ""


@contextmanager
def gateway(*answers: Answer) -> Iterator[Gateway]:
    state = Gateway(*answers)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            state.requests.append((self.path, headers))
            answer = state.answers.pop(0)
            if answer.body is None:
                return
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.body.encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        state.url = f"http://127.0.0.1:{server.server_port}/stream/"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield state
        finally:
            server.shutdown()
            thread.join()


def delta(text: str, offset: int = 0) -> Event:
    return DeltaEvent(response_id="r1", part=0, kind="text", offset=offset, text=text)


def block(event: Event, cursor: str) -> str:
    return f"id: {cursor}\ndata: {encode_json(event).decode()}\n\n"


def test_reconnects_at_the_last_cursor() -> None:
    first, second = delta("Hel\u2028\x85"), delta("lo", 5)
    accented = "c\u00e91"
    with gateway(
        Answer(f"retry: 1\n\n: comment\n\n{block(first, accented)}: idle\n\nid: half"),
        Answer(None),
        Answer(status=503, headers={"retry-after": "0"}),
        Answer(block(second, "c2") + 'event: bye\ndata: {"retry": 0}\n\n'),
        Answer(status=204, headers={}),
    ) as server:
        watched = gateway_client.events(server.url, "a/b c", token="secret", rewind="all")
        assert list(watched) == [first, second]
    paths = {path for path, _ in server.requests}
    assert paths == {"/stream/channels/a%2Fb%20c/events?rewind=all"}
    assert {headers["authorization"] for _, headers in server.requests} == {"Bearer secret"}
    cursors = [headers.get("last-event-id") for _, headers in server.requests]
    utf_8 = accented.encode().decode("latin-1")
    assert cursors == [None, utf_8, utf_8, utf_8, "c2"]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Answer('{"detail": "no such channel"}', 404), "refused: no such channel"),
        (Answer("oops", 418), "refused: HTTP 418"),
        (Answer("", 302, {"location": "/elsewhere"}), "refused: HTTP 302"),
        (Answer("<html>", 200, {"content-type": "text/html"}), "text/event-stream"),
        (
            Answer('event: error\ndata: {"status": 403, "detail": "expired"}\n\n'),
            "ended the stream: expired",
        ),
        (Answer(None), "cannot reach"),
    ],
)
def test_gives_up(answer: Answer, message: str) -> None:
    with gateway(answer) as server, pytest.raises(Failure, match=message):
        list(gateway_client.events(server.url, "c"))


def test_lines_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_client, "_MAX_LINE", 200_000)
    with gateway(
        Answer("data: " + "x" * 1_000_000), Answer(block(delta("y" * 150_000), "c"))
    ) as server:
        with pytest.raises(Failure, match="a line of more than 200000 bytes"):
            list(gateway_client.events(server.url, "c"))
        (event,) = gateway_client.events(server.url, "c", response="r1")
    assert event == delta("y" * 150_000)


def test_get_json(reserved_port: int) -> None:
    with gateway(
        Answer('{"status": "ok"}', headers={}), Answer("[]", 503, {}), Answer("<html>", 200, {})
    ) as server:
        assert gateway_client.get_json(server.url, "/healthz") == (200, {"status": "ok"})
        assert gateway_client.get_json(server.url, "/readyz") == (503, {})
        with pytest.raises(Failure, match="not a tokenwire gateway"):
            gateway_client.get_json(server.url, "/healthz")
    with pytest.raises(Failure, match="cannot reach"):
        gateway_client.get_json(f"http://127.0.0.1:{reserved_port}/stream/", "/healthz")
    for url in ("http://", "http:///stream"):
        with pytest.raises(Failure, match="names no host"):
            gateway_client.get_json(url, "/healthz")
