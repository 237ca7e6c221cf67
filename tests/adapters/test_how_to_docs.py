"""The code of docs/how-to, run as it is printed there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

import tokenwire
from tests.support.needs import needs
from tests.support.pages import code_blocks, only_block

needs("starlette")
needs("fastapi")

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to"


def page(name: str) -> str:
    return (HOW_TO / name).read_text("utf-8")


def run(code: str, **names: Any) -> dict[str, Any]:
    exec(compile(code, "docs/how-to", "exec"), names)
    return names


@pytest.fixture
def sink() -> Iterator[tokenwire.Sink]:
    with tokenwire.Sink(tokenwire.MemoryBackend(), strict=True) as sink:
        yield sink


def test_hydrate(sink: tokenwire.Sink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = run(only_block(page("hydrate.md"), "python", containing="CREATE TABLE"))
    with sink.respond("c", response_id="r1", metadata={"question": "Why?"}) as response:
        response.write("Because.")
    with sink.respond("c", response_id="r2") as streaming:
        streaming.write("More")
        for _ in range(2):
            names["save"](sink, "c")
        assert names["saved"]("c") == [{"id": "r1", "question": "Why?", "text": "Because."}]
        known = [answer["id"] for answer in names["saved"]("c")]
        with sink.watch("c", rewind="all", known=known) as watch:
            assert next(watch).response.id == "r2"
    names["database"].close()


def test_captions(sink: tokenwire.Sink) -> None:
    text = page("captions.md")
    names = run(only_block(text, "python", containing="def caption"))
    names["caption"](sink, [("Ann", "Good"), ("Ann", "evening."), ("Bob", "Welcome.")])
    said = [
        (response.metadata["speaker"], response.text) for response in sink.history("captions").items
    ]
    assert said == [("Bob", "Welcome. "), ("Ann", "Good evening. ")]
    watch_only = run(only_block(text, "python", containing="def watch_only"))["watch_only"]
    assert watch_only(None, "captions", "subscribe")
    assert not watch_only(None, "captions", "cancel")
    assert not watch_only(None, "chat-42", "subscribe")
    run(only_block(text, "python", containing="set_retention"), sink=sink, tokenwire=tokenwire)
    retention = sink.retention("captions")
    assert retention is not None
    assert retention.age == 120


def visitor(session: str | None) -> Any:
    return SimpleNamespace(cookies={} if session is None else {"session": session})


def test_access(sink: tokenwire.Sink) -> None:
    text = page("access.md")
    users = {"s1": "ada"}
    names = run(only_block(text, "python", containing="def may"), sink=sink, user_of=users.get)
    may = names["may"]
    assert may(visitor("s1"), "chat:ada:1", "cancel") == "ada"
    assert may(visitor("s1"), "chat:alan:1", "cancel") is False
    with pytest.raises(names["AccessDenied"]):
        may(visitor(None), "chat:ada:1", "subscribe")

    roles = {"s1": "moderator", "s2": "viewer"}
    moderated = run(only_block(text, "python", containing="def moderated"), role_of=roles.get)
    allows = moderated["moderated"]
    assert allows(visitor("s1"), "room", "cancel")
    assert allows(visitor("s2"), "room", "subscribe")
    assert not allows(visitor("s2"), "room", "cancel")
    assert not allows(visitor(None), "room", "subscribe")

    owned = only_block(text, "python", containing='owner="user"')
    run(
        owned.replace("...", 'sink.respond(None, response_id="r1").finish()'),
        sink=sink,
        Gateway=names["Gateway"],
        tokenwire=tokenwire,
        may_enter=lambda *_: True,
    )
    assert sink.history("room-1").items[0].metadata == {"user": "u1"}


def commands() -> list[str]:
    rows = page("workers.md").split("| | command |")[1]
    return [line.split("`")[1] for line in rows.splitlines() if line.count("`") > 1][:3]


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("server", ["uvicorn", "gunicorn", "tokenwire"])
def test_workers(server: str, tmp_path: Path, reserved_port: int) -> None:
    needs({"tokenwire": "uvicorn", "gunicorn": "uvicorn_worker"}.get(server, server))
    (command,) = (command for command in commands() if command.startswith(server))
    code = code_blocks(page("workers.md"), "python")[0]
    (tmp_path / "app.py").write_text(code)
    url = f"sqlite:///{tmp_path}/chat.db"
    words = command.replace("$TOKENWIRE_URL", url).split()[1:]
    port = ["--bind", f"127.0.0.1:{reserved_port}"] if server == "gunicorn" else []
    module = "tokenwire_adapters.cli" if server == "tokenwire" else server
    prefix = "" if server == "tokenwire" else "/stream"
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", module, *words),
            *(port or ["--port", str(reserved_port)]),
        ],
        cwd=tmp_path,
        env={**os.environ, "TOKENWIRE_URL": url},
        start_new_session=True,
    )
    try:
        with tokenwire.open_sink(url) as sink:
            with sink.respond("c") as response:
                response.write("Hello")
            address = f"http://127.0.0.1:{reserved_port}{prefix}/channels/c/responses"
            while True:
                assert process.poll() is None
                try:
                    reply = httpx.get(address, timeout=60)
                    break
                except httpx.TransportError:
                    pass  # it is starting
                try:
                    process.wait(0.1)
                except subprocess.TimeoutExpired:
                    continue
            assert [item["text"] for item in reply.json()["items"]] == ["Hello"]
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
