"""docs/troubleshooting.md quotes messages: each is brought about, and compared."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import tokenwire
from tests.support.frameworks import wait_until
from tests.support.needs import needs
from tests.support.ports import ReservedPort

needs("starlette")
needs("openai")
needs("uvicorn")
needs("redis")

import httpx
from openai import OpenAI
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from tokenwire_adapters.asgi import Gateway
from tokenwire_adapters.openai import wrap
from tokenwire_adapters.testing.provider import ScriptedReply, serve_in_thread

PAGE = (Path(__file__).parents[2] / "docs" / "troubleshooting.md").read_text("utf-8")
# A span of code in the first column that has a space is a message.
MESSAGES = [
    message
    for line in PAGE.splitlines()
    if line.startswith("| ")
    for message in re.findall(r"`([^`]+)`", line.split(" | ")[0])
    if " " in message and not message.startswith("tokenwire ")
]


def error_of(action: Callable[[], object]) -> str:
    with pytest.raises(Exception) as raised:
        action()
    return str(raised.value)


def command(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tokenwire_adapters.cli", *words],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.stdout + done.stderr


def denied() -> str:
    app = Starlette(routes=[Mount("/stream", Gateway(tokenwire.Sink(tokenwire.MemoryBackend())))])
    client = TestClient(app, base_url="http://example.com")
    return str(client.get("/stream/channels/c/responses").json()["detail"])


def no_channel() -> str:
    with tokenwire.Sink(tokenwire.MemoryBackend()) as sink:
        sink.respond(None).finish()
    return ""


def no_redis(caplog: pytest.LogCaptureFixture) -> str:
    with ReservedPort() as port:
        sink = tokenwire.open_sink(f"redis://127.0.0.1:{port}")
        response = sink.respond("c")
        response.write("Hello")
        response.finish()
        wait_until(lambda: "lost the live connection" in caplog.text)
        sink.close(1)
    return ""


def another_python(tmp_path: Path) -> str:
    """`tokenwire run` of a Python that has no tokenwire."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path], check=True)
    python = tmp_path / "bin" / "python"
    return command("run", "--to", f"sqlite:///{tmp_path}/x.db", "--", str(python), "-c", "pass")


def missing_extra() -> str:
    program = "import sys; sys.modules['redis'] = None\nimport tokenwire\n"
    done = subprocess.run(
        [sys.executable, "-c", f"{program}tokenwire.open_sink('redis://localhost')"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.stderr


def left_stream() -> str:
    with (
        tokenwire.Sink(tokenwire.MemoryBackend()) as sink,
        serve_in_thread(pace=0) as provider,
        OpenAI(base_url=provider.base_url, api_key="unused") as client,
    ):
        provider.script(ScriptedReply(text=["a", "b"], stall_after=1))
        stream = wrap(client, sink, channel="c").chat.completions.create(
            model="any", messages=[{"role": "user", "content": "Hi"}], stream=True
        )
        next(stream)
        stream.close()
        (response,) = sink.history("c").items
        assert response.state == "cancelled"
        return str(response.error)


def cut_off() -> str:
    sse = b'data: {"id":"1","object":"chat.completion.chunk","created":1,"model":"m","choices":'
    sse += b'[{"index":0,"delta":{"content":"Hi"},"finish_reason":null}]}\n\n'
    transport = httpx.MockTransport(
        lambda _: httpx.Response(200, content=sse, headers={"content-type": "text/event-stream"})
    )
    with (
        tokenwire.Sink(tokenwire.MemoryBackend()) as sink,
        OpenAI(
            base_url="http://localhost/v1",
            api_key="unused",
            http_client=httpx.Client(transport=transport),
        ) as client,
    ):
        for _ in wrap(client, sink, channel="c").chat.completions.create(
            model="any", messages=[{"role": "user", "content": "Hi"}], stream=True
        ):
            pass
        (response,) = sink.history("c").items
        assert response.state == "failed"
        return str(response.error)


def taken_id() -> str:
    with tokenwire.Sink(tokenwire.MemoryBackend()) as sink:
        for _ in range(2):
            response = sink.respond("c", response_id="r1")
            response.finish()
        assert response.wait(60).status == "refused"
    return ""


def bad_cursor() -> str:
    with tokenwire.Sink(tokenwire.MemoryBackend()) as sink:
        return error_of(lambda: list(sink.watch("c", after="nonsense")))


def bad_name() -> str:
    with tokenwire.Sink(tokenwire.MemoryBackend(), strict=True) as sink:
        return error_of(lambda: sink.respond("a\nb"))


# By how the message begins.
CAUSES: dict[str, Callable[..., str]] = {
    "this gateway has no authorize=": denied,
    "no channel named": no_channel,
    "no backend for postgres://": lambda: error_of(
        lambda: tokenwire.open_sink("postgres://localhost")
    ),
    "no backend for a URL without a scheme": lambda: error_of(
        lambda: tokenwire.open_sink("redis//localhost")
    ),
    "SQLite in memory": lambda: error_of(lambda: tokenwire.open_sink("sqlite:///:memory:")),
    "lost the live connection": no_redis,
    "redis:// needs a package": missing_extra,
    "its consumer stopped reading": left_stream,
    "the stream ended before": cut_off,
    "response 'r1' belongs": taken_id,
    "closed with 1 responses": no_redis,
    "memory:// lives in one process": lambda: command("serve", "memory://", "--workers", "2"),
    "0.0.0.0 can be reached": lambda: command("serve", "redis://localhost", "--host", "0.0.0.0"),
    "not a cursor": bad_cursor,
    "channel must not have": bad_name,
}


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message(
    message: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.delenv("TOKENWIRE_CHANNEL", raising=False)
    monkeypatch.delenv("TOKENWIRE_KEY", raising=False)
    monkeypatch.setattr("tokenwire.context._warned", False)  # it is logged once in a process
    if message.startswith("nothing is published"):
        shown = another_python(tmp_path)
    else:
        (cause,) = (cause for begins, cause in CAUSES.items() if message.startswith(begins))
        with caplog.at_level(logging.WARNING, logger="tokenwire"):
            shown = cause(caplog) if cause is no_redis else cause()
    pattern = ".*".join(map(re.escape, message.split("…")))
    assert re.search(pattern, f"{shown}\n{caplog.text}"), shown
