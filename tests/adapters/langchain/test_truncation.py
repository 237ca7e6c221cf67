"""A reply that was cut off in good order, read by LangChain's models."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest

import tokenwire
from tests.support import recordings
from tests.support.replay import Replay, Reply
from tokenwire_adapters.langchain import TokenwireCallbackHandler

from . import models

EVENTS = {
    "chat": ("chat-text", 8),
    "responses": ("responses-text", 12),
    "anthropic": ("anthropic-text", 12),
}


def cut(api: Any) -> tuple[bytes, str]:
    """The first events of a recording, and the text of the whole."""
    name, events = EVENTS[api]
    recording = recordings.named(name)
    blocks = recording.body.split(b"\n\n")
    return b"\n\n".join(blocks[:events]) + b"\n\n", recording.expected.text


@pytest.mark.parametrize("api", list(EVENTS))
@pytest.mark.parametrize("way", [models.stream, models.astream])
async def test_a_reply_that_was_cut_off(
    api: Any, way: Any, config: Any, only: Callable[[], tokenwire.Response]
) -> None:
    served, text = cut(api)
    with Replay(Reply(served)) as replay:
        # LangChain may raise for want of an outcome.
        with contextlib.suppress(Exception):
            waiting = way(models.model(api, replay), config)
            if waiting is not None:
                await waiting
    got = only()
    assert got.text
    assert text.startswith(got.text)
    assert got.text != text
    assert (got.state, got.error) == ("failed", "the stream ended before the reply was complete")


async def test_a_server_that_sends_no_finish_reason(
    config: Any, only: Callable[[], tokenwire.Response]
) -> None:
    served, _ = cut("chat")
    with Replay(Reply(served + b"data: [DONE]\n\n")) as replay:
        models.stream(models.model("chat", replay), config)
    assert only().state == "complete"


async def test_a_reply_that_was_cut_off_by_callbacks_alone(
    sink: tokenwire.Sink, only: Callable[[], tokenwire.Response]
) -> None:
    """LangChain does not tell it from a server that gives no reason."""
    handler = TokenwireCallbackHandler(sink, channel="c", stop_provider=False)
    served, _ = cut("chat")
    with Replay(Reply(served)) as replay:
        models.stream(models.model("chat", replay), {"callbacks": [handler]})
    assert (only().state, only().finish_reason) == ("complete", "unknown")
