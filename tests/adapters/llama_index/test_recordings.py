"""Recorded streams through LlamaIndex's models: the channel carries what the provider sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import tokenwire
from tests.support import recordings
from tests.support.recordings import Recording
from tests.support.replay import Replay, Reply
from tests.support.sdk import streamed_arguments

from . import models

pytestmark = [
    pytest.mark.usefixtures("handler"),
    # LlamaIndex leaves clients of loops that have ended unclosed.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.mark.parametrize(
    ("recording", "way", "stop_provider"),
    recordings.combined(
        recordings.parameters(),
        [models.stream_chat, models.astream_chat],
        ["events and tap", "events"],
        # Without a tap, what a recording holds is read from LlamaIndex's own events.
        each=lambda _, stop_provider: stop_provider,
    ),
    indirect=["stop_provider"],
)
async def test_the_channel_carries_what_the_provider_sent(
    recording: Recording,
    way: Any,
    stop_provider: bool,
    responses: Callable[[], list[tokenwire.Response]],
) -> None:
    expected = recording.expected
    if recording.name == "chat-two-choices" and not stop_provider:
        pytest.skip("LlamaIndex takes every choice of a stream for the first")
    failed = False
    with Replay(Reply(recording.body, cuts=7)) as replay:
        model = models.model(recording.api, replay)
        try:
            await models.run(way, model)
        except Exception:
            failed = True
            assert expected.error

    if expected.texts:
        assert [each.text for each in responses()] == expected.texts
        return
    (response,) = responses()
    assert response.text == expected.text
    if stop_provider:
        assert response.reasoning == expected.reasoning
        assert response.refusal == expected.refusal
        assert streamed_arguments(response) == expected.tool_arguments
    if expected.error:
        # LlamaIndex overhears the Responses API's errors
        assert response.state == ("failed" if stop_provider or failed else "complete")
        return
    assert response.state == "complete"
    if stop_provider:
        assert response.finish_reason == expected.finish
        if expected.usage:
            reported = expected.usage
            for ours, theirs in (("input", "prompt"), ("output", "completion")):
                counts = response.usage or {}
                count = counts.get(f"{ours}_tokens", counts.get(f"{theirs}_tokens"))
                assert count == reported.get(f"{ours}_tokens", reported.get(f"{theirs}_tokens"))


@pytest.mark.parametrize("way", models.WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("name", ["chat-text", "anthropic-text", "responses-text"])
async def test_every_way_once(
    name: str, way: Any, responses: Callable[[], list[tokenwire.Response]]
) -> None:
    recording = recordings.named(name)
    with Replay(recording.body) as replay:
        await models.run(way, models.model(recording.api, replay))
    (response,) = responses()
    assert (response.state, response.text) == ("complete", recording.expected.text)
    assert response.finish_reason == recording.expected.finish
    assert response.metadata["framework"] == "llama_index"


def test_tool_calls_and_thoughts_from_the_events(
    responses: Callable[[], list[tokenwire.Response]],
) -> None:
    for name in ("chat-tool-calls", "responses-function-call", "chat-reasoning"):
        recording = recordings.named(name)
        with Replay(recording.body) as replay:
            models.stream_chat(models.model(recording.api, replay))
        response = responses()[-1]
        expected = recording.expected
        assert streamed_arguments(response) == expected.tool_arguments
        assert all(part.name and part.call_id for part in response.tool_calls)
        assert (response.text, response.reasoning) == (expected.text, expected.reasoning)
