"""Recorded streams through LangChain's models: the channel carries what the provider sent."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import tokenwire
from tests.support import recordings
from tests.support.recordings import Recording
from tests.support.replay import Replay, Reply
from tests.support.sdk import streamed_arguments

from . import models

pytestmark = pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")


@pytest.fixture
def tapped(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Whether the SDKs under LangChain are listened to, as well."""
    if request.param != "handler and tap":
        yield request.param == "handler"
        return
    from tokenwire.instrument import Options
    from tokenwire_adapters import anthropic, openai

    openai.instrumentor.start(Options())
    anthropic.instrumentor.start(Options())
    yield True
    openai.instrumentor.stop()
    anthropic.instrumentor.stop()


@pytest.mark.parametrize(
    ("recording", "way", "tapped"),
    recordings.combined(
        recordings.parameters(),
        [models.stream, models.astream],
        ["callbacks", "handler", "handler and tap"],
        # Without a tap, what a recording holds is read from LangChain's own messages.
        each=lambda _, tapped: tapped == "callbacks",
    ),
    indirect=["tapped"],
)
async def test_the_channel_carries_what_the_provider_sent(
    recording: Recording,
    way: Any,
    tapped: bool,
    config: Any,
    responses: Callable[[], list[tokenwire.Response]],
) -> None:
    expected = recording.expected
    if recording.api == "responses" and expected.error and not (tapped or models.REPORTS_FAILED):
        pytest.skip("this langchain-openai does not say that a response has failed")
    options: dict[str, Any] = {}
    if recording.api == "anthropic" and expected.reasoning:
        options["thinking"] = {"type": "enabled", "budget_tokens": 1024}
        options["max_tokens"] = 2048
    with Replay(Reply(recording.body, cuts=7)) as replay:
        model = models.model(recording.api, replay, **options)
        if recording.api == "anthropic" and expected.tool_arguments:
            model = model.bind_tools([{"name": "t", "description": "", "input_schema": {}}])
        if expected.error:
            with contextlib.suppress(Exception):
                await models.run(way, model, config)
        else:
            await models.run(way, model, config)

    if recording.name == "chat-two-choices":
        if not tapped:
            return  # LangChain takes every choice of a stream for the first
        assert [each.text for each in responses()] == expected.texts
        return
    (response,) = responses()
    assert response.text == expected.text
    if tapped or recording.api != "chat":  # ChatOpenAI drops both from the streams of this API
        assert response.reasoning == expected.reasoning
        assert response.refusal == expected.refusal
    assert streamed_arguments(response) == expected.tool_arguments
    if expected.error:
        assert response.state == "failed"
        assert expected.error in (response.error or "")
        if tapped:
            assert response.error == expected.error
            assert (response.finish_reason, response.usage) == (expected.finish, expected.usage)
        return
    assert response.state == "complete"
    assert response.finish_reason == expected.finish
    if expected.usage:
        reported = expected.usage
        for ours, theirs in (("input", "prompt"), ("output", "completion")):
            if ours == "input" and recording.api == "anthropic" and not tapped:
                continue  # ChatAnthropic counts what the last event tells, and it may tell none
            counts = response.usage or {}
            count = counts.get(f"{ours}_tokens", counts.get(f"{theirs}_tokens"))
            assert count == reported.get(f"{ours}_tokens", reported.get(f"{theirs}_tokens"))
