"""Every recording, over HTTP, through the real SDK in every way it streams, wrapped."""

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import Any

import anthropic
import pytest

from tests.adapters.anthropic.clients import aclient, client
from tests.support.recordings import Recording, combined, named, parameters
from tests.support.replay import Replay, Reply
from tests.support.sdk import check, responses
from tokenwire import Sink
from tokenwire_adapters.anthropic import wrap

Way = Callable[[Any], Any]
ARGUMENTS: dict[str, Any] = {"model": "m", "max_tokens": 100, "messages": []}


def create(on: Any) -> None:
    for _ in on.messages.create(**ARGUMENTS, stream=True):
        pass


def beta(on: Any) -> None:
    for _ in on.beta.messages.create(**ARGUMENTS, stream=True):
        pass


def nexts(on: Any) -> None:
    stream = on.messages.create(**ARGUMENTS, stream=True)
    while True:
        try:
            next(stream)
        except StopIteration:
            return


def in_with(on: Any) -> None:
    with on.messages.create(**ARGUMENTS, stream=True) as stream:
        for _ in stream:
            pass


def helper(on: Any) -> None:
    with on.messages.stream(**ARGUMENTS) as stream:
        for _ in stream:
            pass


def text(on: Any) -> None:
    with on.messages.stream(**ARGUMENTS) as stream:
        for _ in stream.text_stream:
            pass


def beta_helper(on: Any) -> None:
    with on.beta.messages.stream(**ARGUMENTS) as stream:
        stream.until_done()


def raw(on: Any) -> None:
    for _ in on.messages.with_raw_response.create(**ARGUMENTS, stream=True).parse():
        pass


def streaming(on: Any) -> None:
    with on.messages.with_streaming_response.create(**ARGUMENTS, stream=True) as got:
        for _ in got.parse():
            pass


def copied(on: Any) -> None:
    create(on.with_options(timeout=30))


async def acreate(on: Any) -> None:
    async for _ in await on.messages.create(**ARGUMENTS, stream=True):
        pass


async def anexts(on: Any) -> None:
    stream = await on.messages.create(**ARGUMENTS, stream=True)
    while True:
        try:
            await stream.__anext__()
        except StopAsyncIteration:
            return


async def ahelper(on: Any) -> None:
    async with on.messages.stream(**ARGUMENTS) as stream:
        async for _ in stream:
            pass


async def abeta_helper(on: Any) -> None:
    async with on.beta.messages.stream(**ARGUMENTS) as stream:
        async for _ in stream.text_stream:
            pass


async def astreaming(on: Any) -> None:
    async with on.messages.with_streaming_response.create(**ARGUMENTS, stream=True) as got:
        async for _ in await got.parse():
            pass


WAYS: list[Way] = [
    create,
    beta,
    nexts,
    in_with,
    helper,
    text,
    beta_helper,
    raw,
    streaming,
    copied,
    acreate,
    anexts,
    ahelper,
    abeta_helper,
    astreaming,
]


def _failing(recording: Recording) -> contextlib.AbstractContextManager[object]:
    """An error that the provider reports, and no other, may come out of the SDK."""
    return contextlib.suppress(*([anthropic.APIError] if recording.expected.error else []))


@pytest.mark.parametrize(("recording", "way"), combined(parameters("anthropic"), WAYS))
def test_recording(recording: Recording, way: Way, sink: Sink) -> None:
    with Replay(Reply(recording.body, cuts=7)) as replay:
        with _failing(recording):
            _read(way, replay, sink)
    (found,) = responses(sink, "c")
    check(found, recording.expected)


def _read(way: Way, replay: Replay, sink: Sink) -> None:
    if asyncio.iscoroutinefunction(way):

        async def run() -> None:
            async with aclient(replay) as on:
                assert wrap(on, sink, channel="c") is on
                await way(on)

        asyncio.run(run())
        return
    with client(replay) as on:
        assert wrap(on, sink, channel="c") is on
        way(on)


@pytest.mark.parametrize("recording", parameters("anthropic"))
def test_one_stream_wrapped(recording: Recording, sink: Sink) -> None:
    with Replay(recording.body) as replay, client(replay) as on:
        stream = on.messages.create(**ARGUMENTS, stream=True)
        assert wrap(stream, sink, channel="c") is stream
        with _failing(recording):
            for _ in stream:
                pass
    check(responses(sink, "c")[0], recording.expected)


def test_two_ways_at_once_publish_once(sink: Sink) -> None:
    recording = named("anthropic-thinking")
    with Replay(recording.body) as replay, client(replay) as on:
        wrap(wrap(on, sink, channel="c"), sink, channel="c")
        with wrap(on.messages.stream(**ARGUMENTS), sink) as stream:
            wrap(stream, sink, channel="other")
            for _ in stream:
                pass
    (found,) = responses(sink, "c")
    check(found, recording.expected)
    assert responses(sink, "other") == []


def test_signatures_and_encrypted_data_are_not_published(sink: Sink) -> None:
    for recording in parameters("anthropic"):
        if recording.values[0] is None:
            continue
        with Replay(recording.values[0].body) as replay, client(replay) as on:
            wrap(on, sink, channel="c")
            with _failing(recording.values[0]):
                create(on)
    for response in responses(sink, "c"):
        assert "encrypted" not in repr(response)
        assert "signature" not in repr(response)


def _body(*events: dict[str, Any]) -> bytes:
    message: dict[str, Any] = {
        "id": "m",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 5, "output_tokens": 1},
    }
    all_events: list[dict[str, Any]] = [{"type": "message_start", "message": message}, *events]
    return b"".join(
        b"event: %s\ndata: %s\n\n" % (event["type"].encode(), json.dumps(event).encode())
        for event in all_events
    )


def test_usage_that_comes_in_two_halves(sink: Sink) -> None:
    body = _body(
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"input_tokens": None, "output_tokens": 3},
        },
        {"type": "message_stop"},
    )
    with Replay(body) as replay, client(replay) as on:
        create(wrap(on, sink, channel="c"))
    assert responses(sink, "c")[0].usage == {"input_tokens": 5, "output_tokens": 3}
