"""Keys over TLS, tokens from wherever they come, and tokens that expire while text flows."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

import pytest
from ably import AblyRest

import tokenwire
from tests.adapters.ably.places import sink
from tokenwire import Sink, background
from tokenwire.errors import BackendMisconfigured
from tokenwire.testing import read_until
from tokenwire_adapters.ably import AblyBackend
from tokenwire_adapters.testing.ably import ServerThread, make_certificate

PATIENCE = 60


def streamed(created: Sink, between: Callable[[], None] = lambda: None, steps: int = 3) -> None:
    """Stream a reply in a few steps, and check that a watcher, live and late, has all of it."""
    watch = created.watch("ai:chat").open()
    expected = ""
    with created.respond("ai:chat", response_id="r") as response:
        for step in range(steps):
            text = f"step {step}, "
            response.write(text)
            expected += text
            assert created.flush(PATIENCE)
            between()
    assert response.wait(PATIENCE).status in ("delivered", "recovered")
    events = read_until(watch, lambda event: event.type == "end")
    watch.close()
    live = tokenwire.Transcript()
    for event in events:
        live.apply(event)
    assert live["r"].text == expected
    assert created.history("ai:chat").items[0].text == expected


# -- keys


@pytest.fixture
def secure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServerThread]:
    """A server with TLS, which this process trusts."""
    context, certificate = make_certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with ServerThread(ssl_context=context) as thread:
        yield thread


def test_a_key_over_tls(secure: ServerThread) -> None:
    server = secure.server
    url = f"ably://{server.key.full}?endpoint=127.0.0.1&port={server.port}&client_id=agent"
    with tokenwire.open_sink(url) as created:
        streamed(created)
        report = background.run(created, created.backend.check())
        assert report["account"].startswith("app.key at")
        # The connections brought the key itself, and REST had it as basic authentication.
        connections = [session.params for session in server.sessions]
        assert {params.get("key") for params in connections} == {server.key.full}
        assert {params.get("clientId") for params in connections} == {"agent"}


def test_a_wrong_key_is_reported_and_its_secret_is_not(
    secure: ServerThread, caplog: pytest.LogCaptureFixture
) -> None:
    server = secure.server
    url = f"ably://app.key:wr0ng?endpoint=127.0.0.1&port={server.port}"
    with tokenwire.open_sink(url, close_timeout=0.1) as created:
        with created.respond("ai:chat") as response:
            response.write("anybody there?")  # the agent goes on
        with pytest.raises(BackendMisconfigured, match="key or token is not valid") as raised:
            background.run(created, created.backend.check())
        assert "wr0ng" not in str(raised.value)
    messages = [record.getMessage() for record in caplog.records if record.name == "tokenwire"]
    assert any("not valid" in message for message in messages)
    assert not any("wr0ng" in message for message in messages)


def test_a_key_without_tls_is_not_sent() -> None:
    with ServerThread() as thread:
        with pytest.raises(ValueError, match="over TLS only"):
            tokenwire.open_sink(
                f"ably://{thread.server.key.full}?tls=false",
                endpoint="127.0.0.1",
                port=thread.server.port,
            )
        assert not thread.server.stats["connects"]


# -- auth_url


class Giver:
    """An HTTP server that gives tokens, as an application's own would.

    :ivar asked: method, path with query, headers and form of each request.
    """

    def __init__(self, answer: Callable[[dict[str, str]], tuple[int, str, str]]) -> None:
        self.asked: list[tuple[str, str, dict[str, str], dict[str, str]]] = []
        giver = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                size = int(self.headers.get("content-length", 0))
                form = dict(parse_qsl(self.rfile.read(size).decode()))
                query = dict(parse_qsl(urlsplit(self.path).query))
                headers = {name.lower(): value for name, value in self.headers.items()}
                giver.asked.append((self.command, self.path, headers, form))
                status, kind, body = answer({**query, **form})
                self.send_response(status)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body.encode())

            do_POST = do_GET  # noqa: N815

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/token"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def details(thread: ServerThread, asked: dict[str, str]) -> tuple[int, str, str]:
    issued = thread.call(thread.server.auth.issue, client_id=asked.get("clientId"))
    return 200, "application/json", json.dumps(issued)


def plain(thread: ServerThread, asked: dict[str, str]) -> tuple[int, str, str]:
    return 200, "text/plain; charset=utf-8", json.loads(details(thread, asked)[2])["token"]


def signed(thread: ServerThread, asked: dict[str, str]) -> tuple[int, str, str]:
    """A token request, which the client takes to Ably itself (RSA9)."""

    async def make() -> str:
        signer = AblyRest(key=thread.server.key.full, client_id=asked.get("clientId"))
        try:
            request = await signer.auth.create_token_request()
        finally:
            await signer.close()
        return json.dumps(request.to_dict())

    return 200, "application/json", asyncio.run(make())


@pytest.mark.parametrize("kind", [details, plain, signed])
def test_tokens_from_a_url(kind: Callable[..., tuple[int, str, str]]) -> None:
    with ServerThread() as thread:
        with Giver(lambda asked: kind(thread, asked)) as giver:
            with sink(thread, token=None, auth_url=giver.url, client_id="agent") as created:
                streamed(created)
                clients = {session.state.principal.client_id for session in thread.server.sessions}
            assert giver.asked
            assert clients == {"agent"}


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_a_url_is_asked_with(method: str) -> None:
    """RSA8c: parameters go to the query of a GET and to the form of a POST; headers to both."""
    with ServerThread() as thread:
        with Giver(lambda asked: details(thread, asked)) as giver:
            with sink(
                thread,
                token=None,
                auth_url=f"{giver.url}?tenant=7",
                auth_method=method,
                auth_headers={"Authorization": "Bearer of the application"},
                auth_params={"user": "u 1&2"},
                client_id="agent",
            ) as created:
                streamed(created)
            for used, path, headers, form in giver.asked:
                assert used == method
                assert headers["authorization"] == "Bearer of the application"
                query = dict(parse_qsl(urlsplit(path).query))
                assert query["tenant"] == "7"
                assert (query if method == "GET" else form)["user"] == "u 1&2"
                if method == "POST":
                    assert "user" not in query


def test_a_url_that_refuses_is_reported() -> None:
    with ServerThread() as thread:
        with Giver(lambda asked: (403, "application/json", "{}")) as giver:
            with sink(thread, token=None, auth_url=giver.url, close_timeout=0.1) as created:
                with created.respond("ai:chat") as response:
                    response.write("x")
                with pytest.raises(BackendMisconfigured, match="auth_url"):
                    background.run(created, created.backend.check())


def test_a_url_that_fails_for_a_while() -> None:
    with ServerThread() as thread:
        broken = threading.Event()
        broken.set()

        def answer(asked: dict[str, str]) -> tuple[int, str, str]:
            if broken.is_set():
                return 500, "application/json", "{}"
            return details(thread, asked)

        with Giver(answer) as giver:
            with sink(thread, token=None, auth_url=giver.url, retry=0.05) as created:
                response = created.respond("ai:chat", response_id="r")
                response.write("late, but whole")
                assert not created.flush(1)
                broken.clear()
                response.finish()
                assert response.wait(PATIENCE).status in ("delivered", "recovered")
                assert created.history("ai:chat").items[0].text == "late, but whole"


# -- auth_callback


@contextmanager
def called(thread: ServerThread, kind: str, ttl: float | None = None) -> Iterator[dict[str, Any]]:
    """A callback of some kind, and where it was called."""
    known: dict[str, Any] = {"threads": [], "asked_for": []}

    def give(params: Any) -> Any:
        known["threads"].append(threading.current_thread().name)
        known["asked_for"].append(params.get("client_id"))
        issued = thread.server.auth.issue(
            client_id="agent", ttl_ms=None if ttl is None else int(ttl * 1000)
        )
        return issued if kind.endswith("details") else issued["token"]

    async def coroutine(params: Any) -> Any:
        return give(params)

    class Object:
        async def __call__(self, params: Any) -> Any:
            return give(params)

    known["callback"] = {
        "coroutine": coroutine,
        "coroutine details": coroutine,
        "object": Object(),
        "plain": lambda params: give(params),
        "plain details": lambda params: give(params),
        "gives a coroutine": lambda params: coroutine(params),
    }[kind]
    yield known


@pytest.mark.parametrize(
    "kind",
    ["coroutine", "coroutine details", "object", "plain", "plain details", "gives a coroutine"],
)
def test_callbacks(kind: str) -> None:
    with ServerThread() as thread, called(thread, kind) as known:
        callback = known["callback"]
        with sink(thread, token=None, auth_callback=callback, client_id="agent") as created:
            streamed(created)
        assert set(known["asked_for"]) == {"agent"}
        # What may block does so beside the I/O thread.
        inside = [name.startswith("tokenwire-io") for name in known["threads"]]
        assert inside
        assert not any(inside) if kind.startswith("plain") else all(inside)


_BLOCKED = """
import sys, threading, tokenwire
called = threading.Event()
def callback(params):
    called.set()
    threading.Event().wait()
where = {"endpoint": "127.0.0.1", "port": int(sys.argv[1]), "tls": False}
sink = tokenwire.open_sink("ably://", auth_callback=callback, **where)
with sink.respond("ai:chat") as response:
    response.write("x")
assert called.wait(60)
sink.close(0.2)
print("closed")
"""


@pytest.mark.slow
def test_a_callback_that_never_returns_holds_nobody() -> None:
    with ServerThread() as thread:
        done = subprocess.run(
            [sys.executable, "-c", _BLOCKED, str(thread.server.port)],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert (done.stdout, done.returncode) == ("closed\n", 0), done.stderr


@pytest.mark.slow
def test_a_callback_that_raises_is_reported() -> None:
    def callback(params: Any) -> str:
        raise LookupError("s3cret")

    with ServerThread() as thread:
        with sink(thread, token=None, auth_callback=callback, close_timeout=0.1) as created:
            with pytest.raises(BackendMisconfigured, match="auth_callback failed") as raised:
                background.run(created, created.backend.check())
            assert "s3cret" not in str(raised.value)


def test_a_token_expires_again_and_again_while_text_flows() -> None:
    with ServerThread() as thread, called(thread, "coroutine") as known:
        with sink(thread, token=None, auth_callback=known["callback"], retry=0.05) as created:
            streamed(created, lambda: thread.fault("expire_tokens"), steps=5)
        assert len(known["threads"]) >= 10  # for each of five times, publishing and watching


@pytest.mark.slow
def test_tokens_of_a_short_life() -> None:
    """By itself ably-python 3.1.4 renews a token once, and then tries the old one for ever."""
    with ServerThread() as thread, called(thread, "coroutine details", ttl=1.5) as known:
        with sink(thread, token=None, auth_callback=known["callback"], retry=0.05) as created:
            streamed(created, lambda: threading.Event().wait(1.0), steps=6)


def test_ably_asks_for_a_new_token() -> None:
    """RTN22: the connection goes on with it, and nothing is lost or sent again."""
    with ServerThread() as thread, called(thread, "coroutine") as known:
        with sink(thread, token=None, auth_callback=known["callback"]) as created:
            before: list[int] = []
            streamed(created, lambda: [thread.fault("ask_reauth"), before.append(1)][0], steps=3)
            assert thread.server.stats["resumes"] == 0
        assert len(known["threads"]) >= 2 + 3


def test_a_token_that_cannot_be_renewed_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    with ServerThread() as thread:
        with sink(thread, close_timeout=0.1, retry=0.05) as created:
            response = created.respond("ai:chat")
            response.write("x")
            assert created.flush(PATIENCE)
            thread.fault("expire_tokens")
            response.write("y")
            with pytest.raises(BackendMisconfigured, match="auth_callback="):
                background.run(created, created.backend.check())
            assert not created.flush(1)


# -- hosts


@pytest.mark.slow
@pytest.mark.parametrize("first", ["refuses", "is silent"])
def test_fallback_hosts(first: str) -> None:
    with ServerThread() as thread:
        settings: dict[str, Any] = {
            "endpoint": "127.0.0.2",
            "port": thread.server.port,
            "fallback_hosts": ["127.0.0.1"],
            "tls": False,
            "token": thread.server.token("agent"),
            "connect_timeout": 4.0,
            "timeout": 5.0,
            "retry": 0.05,
        }
        with socket.socket() as silent:
            if first == "is silent":
                silent.bind(("127.0.0.2", thread.server.port))
                silent.listen(100)
            with tokenwire.open_sink("ably://", **settings) as created:
                streamed(created)
                # The host that served is kept to, after a lost connection as well.
                streamed_again = created.respond("ai:chat", response_id="again")
                thread.fault("disconnect")
                streamed_again.write("x")
                streamed_again.finish()
                assert streamed_again.wait(PATIENCE).status in ("delivered", "recovered")


def test_fallback_hosts_in_a_url() -> None:
    created = AblyBackend(
        "ably://app.key:secret?endpoint=a.example&fallback_hosts=b.example,c.example"
    )
    assert created.settings.fallback_hosts == ["b.example", "c.example"]
