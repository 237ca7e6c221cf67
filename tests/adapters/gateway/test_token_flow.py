"""The files that a token of an SDK enters until a browser has it are in docs/architecture.md."""

from __future__ import annotations

import json
import time

import httpx
import pytest

from tests.adapters.gateway.support import PATIENCE, serving
from tests.adapters.openai.clients import client
from tests.support.frameworks import wait_until
from tests.support.replay import Gate, Replay, Reply
from tests.support.traced import TRIES, Trace, documented
from tokenwire import MemoryBackend, Sink
from tokenwire._instrument.last_chunk import LAST_CHUNKS
from tokenwire._writing.outbox import MIN_INTERVAL
from tokenwire_adapters.asgi import Gateway
from tokenwire_adapters.openai import wrap


def _chunk(text: str) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "gpt"}
    return f"data: {json.dumps({**chunk, 'choices': [choice]})}\n\n".encode()


def test_from_the_openai_sdk_to_an_event_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LAST_CHUNKS, "enabled", False)  # tests of frameworks enable it for good
    expected = documented("from the `openai` SDK to an event stream of the gateway")
    gate = Gate(1)
    body = b"".join(_chunk(f"<{n}>") for n in range(TRIES)) + b"data: [DONE]\n\n"
    with (
        Trace() as trace,
        Sink(MemoryBackend()) as sink,
        serving(Gateway(sink)) as server,
        httpx.stream("GET", f"{server.url}/channels/c/events", timeout=PATIENCE) as page,
        Replay(Reply(body, gate=gate)) as replay,
        wrap(client(replay), sink=sink, channel="c") as openai,
    ):
        lines = page.iter_lines()
        wait_until(lambda: sink.stats().watchers)
        messages = [{"role": "user", "content": "Hi"}]
        stream = openai.chat.completions.create(model="gpt", messages=messages, stream=True)
        for n in range(TRIES):
            time.sleep(2 * MIN_INTERVAL)  # tokens come as slowly from a model
            with trace.recording():
                if n:
                    gate.release()
                next(stream)
                trace.pause_here()
                while f"<{n}>" not in next(lines):
                    pass
                time.sleep(MIN_INTERVAL)
            if n and sorted(trace.files) == sorted(expected):
                break
        gate.open()
        for _ in stream:
            pass
    assert sorted(trace.files) == sorted(expected), set(trace.files) ^ set(expected)
