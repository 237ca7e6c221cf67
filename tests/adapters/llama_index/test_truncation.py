"""A reply that was cut off in good order, read by LlamaIndex's models."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest

import tokenwire
from tests.support import recordings
from tests.support.replay import Replay, Reply

from . import models

pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

EVENTS = {"chat": ("chat-text", 8), "responses": ("responses-text", 12)}


def cut(api: Any) -> tuple[bytes, str]:
    """The first events of a recording, and the text of the whole."""
    name, events = EVENTS[api]
    recording = recordings.named(name)
    blocks = recording.body.split(b"\n\n")
    return b"\n\n".join(blocks[:events]) + b"\n\n", recording.expected.text


@pytest.mark.parametrize("api", list(EVENTS))
@pytest.mark.parametrize("way", [models.stream_chat, models.astream_chat])
async def test_a_reply_that_was_cut_off(
    api: Any,
    way: Any,
    handler: Any,
    stop_provider: bool,
    responses: Callable[[], list[tokenwire.Response]],
) -> None:
    served, text = cut(api)
    with Replay(Reply(served)) as replay, contextlib.suppress(Exception):
        await models.run(way, models.model(api, replay))
    (got,) = responses()
    assert got.text
    assert text.startswith(got.text)
    assert got.text != text
    if stop_provider:
        assert got.error == "the stream ended before the reply was complete"
        assert got.state == "failed"
    else:  # LlamaIndex does not tell it from a server that gives no reason
        assert (got.state, got.finish_reason) == ("complete", "unknown")
