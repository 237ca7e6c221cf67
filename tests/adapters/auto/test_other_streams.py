"""Streams of the SDKs that are no replies of a model in text pass by: no response, no word."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from openai import AsyncOpenAI, OpenAI

from tests.adapters.openai.clients import aclient, client
from tests.support.replay import Replay
from tests.support.sdk import responses
from tests.support.sse import body
from tokenwire import Sink
from tokenwire_adapters import auto

Call = Callable[[Any], Any]

TRANSCRIPT = body(
    {"type": "transcript.text.delta", "delta": "Hel"},
    {"type": "transcript.text.done", "text": "Hello"},
    done=True,
)
IMAGES = body(
    {"type": "image_generation.partial_image", "b64_json": "AA", "partial_image_index": 0},
    {"type": "image_generation.completed", "b64_json": "AA"},
)
SPEECH = body({"type": "speech.audio.delta", "audio": "AA"}, {"type": "speech.audio.done"})
THREAD = b"".join(
    b"event: thread.message.delta\ndata: " + json.dumps({"id": "m", "delta": {}}).encode() + b"\n\n"
    for _ in range(2)
)
CALLS: dict[str, tuple[bytes, Call]] = {
    "transcriptions": (
        TRANSCRIPT,
        lambda on: on.audio.transcriptions.create(model="m", file=("a.wav", b"x"), stream=True),
    ),
    "images": (IMAGES, lambda on: on.images.generate(model="m", prompt="x", stream=True)),
    "edited images": (
        IMAGES,
        lambda on: on.images.edit(model="m", image=("a.png", b"x"), prompt="x", stream=True),
    ),
    "speech": (SPEECH, lambda on: on.audio.speech.create(model="m", voice="alloy", input="x")),
    "threads": (
        THREAD,
        lambda on: on.beta.threads.create_and_run(assistant_id="a", stream=True),
    ),
}

pytestmark = pytest.mark.filterwarnings("ignore:The Assistants API:DeprecationWarning")


def _items(reply: Any) -> Iterable[Any]:
    return reply if hasattr(reply, "__next__") else reply.iter_bytes()


@pytest.mark.parametrize("name", CALLS)
def test_a_stream_passes_by(sink: Sink, caplog: pytest.LogCaptureFixture, name: str) -> None:
    auto.install(sink, channel="c")
    data, call = CALLS[name]
    on: OpenAI
    with caplog.at_level(logging.WARNING), Replay(data) as replay, client(replay) as on:
        assert list(_items(call(on)))
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert not responses(sink, "c")


@pytest.mark.parametrize("name", [name for name in CALLS if name != "speech"])
async def test_a_stream_passes_by_async(
    sink: Sink, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    auto.install(sink, channel="c")
    data, call = CALLS[name]
    on: AsyncOpenAI
    with caplog.at_level(logging.WARNING), Replay(data) as replay:
        async with aclient(replay) as on:
            assert [item async for item in await call(on)]
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert not responses(sink, "c")
