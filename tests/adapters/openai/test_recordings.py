"""Every recording, over HTTP, through the real SDK in every way it streams, wrapped."""

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import Any

import openai
import pytest

from tests.adapters.openai.clients import aclient, client
from tests.support.recordings import Recording, combined, named, parameters
from tests.support.replay import Replay, Reply
from tests.support.sdk import check, responses
from tokenwire import Sink
from tokenwire_adapters.openai import wrap

Way = Callable[[Any, dict[str, Any]], Any]


def _arguments(recording: Recording) -> dict[str, Any]:
    if recording.api == "responses":
        return {"model": "m", "input": "x"}
    arguments: dict[str, Any] = {"model": "m", "messages": []}
    if len(recording.expected.texts) > 1:
        arguments["n"] = len(recording.expected.texts)
    return arguments


def _api(on: Any, arguments: dict[str, Any]) -> Any:
    return on.responses if "input" in arguments else on.chat.completions


def create(on: Any, arguments: dict[str, Any]) -> None:
    for _ in _api(on, arguments).create(**arguments, stream=True):
        pass


def nexts(on: Any, arguments: dict[str, Any]) -> None:
    stream = _api(on, arguments).create(**arguments, stream=True)
    while True:
        try:
            next(stream)
        except StopIteration:
            return


def in_with(on: Any, arguments: dict[str, Any]) -> None:
    with _api(on, arguments).create(**arguments, stream=True) as stream:
        for _ in stream:
            pass


def helper(on: Any, arguments: dict[str, Any]) -> None:
    with _api(on, arguments).stream(**arguments) as stream:
        for _ in stream:
            pass


def until_done(on: Any, arguments: dict[str, Any]) -> None:
    with _api(on, arguments).stream(**arguments) as stream:
        stream.until_done()


def raw(on: Any, arguments: dict[str, Any]) -> None:
    got = _api(on, arguments).with_raw_response.create(**arguments, stream=True)
    for _ in got.parse():
        pass


def streaming(on: Any, arguments: dict[str, Any]) -> None:
    with _api(on, arguments).with_streaming_response.create(**arguments, stream=True) as got:
        for _ in got.parse():
            pass


def copied(on: Any, arguments: dict[str, Any]) -> None:
    create(on.with_options(timeout=30), arguments)


async def acreate(on: Any, arguments: dict[str, Any]) -> None:
    async for _ in await _api(on, arguments).create(**arguments, stream=True):
        pass


async def anexts(on: Any, arguments: dict[str, Any]) -> None:
    stream = await _api(on, arguments).create(**arguments, stream=True)
    while True:
        try:
            await stream.__anext__()
        except StopAsyncIteration:
            return


async def ahelper(on: Any, arguments: dict[str, Any]) -> None:
    async with _api(on, arguments).stream(**arguments) as stream:
        async for _ in stream:
            pass


async def araw(on: Any, arguments: dict[str, Any]) -> None:
    got = await _api(on, arguments).with_raw_response.create(**arguments, stream=True)
    async for _ in got.parse():
        pass


async def astreaming(on: Any, arguments: dict[str, Any]) -> None:
    asked = _api(on, arguments).with_streaming_response.create(**arguments, stream=True)
    async with asked as got:
        async for _ in await got.parse():
            pass


WAYS: list[Way] = [
    create,
    nexts,
    in_with,
    helper,
    until_done,
    raw,
    streaming,
    copied,
    acreate,
    anexts,
    ahelper,
    araw,
    astreaming,
]


def _failing(recording: Recording) -> contextlib.AbstractContextManager[object]:
    """An error that the provider reports, and no other, may come out of the SDK."""
    return contextlib.suppress(*([openai.APIError] if recording.expected.error else []))


@pytest.mark.parametrize(
    ("recording", "way"), combined(parameters("chat") + parameters("responses"), WAYS)
)
def test_recording(recording: Recording, way: Way, sink: Sink) -> None:
    # Cut at any byte, since servers do; the same bytes whichever way is taken.
    with Replay(Reply(recording.body, cuts=7)) as replay:
        with _failing(recording):
            _read(way, replay, sink, _arguments(recording))
    found = responses(sink, "c")
    check(found[0], recording.expected)
    texts = recording.expected.texts
    if texts:
        assert [response.text for response in found] == texts
        assert [response.finish_reason for response in found] == recording.expected.finishes
        assert len({response.run for response in found}) == 1
        assert len({response.id for response in found}) == len(texts)
    else:
        assert len(found) == 1


def _read(way: Way, replay: Replay, sink: Sink, arguments: dict[str, Any]) -> None:
    if asyncio.iscoroutinefunction(way):

        async def run() -> None:
            async with aclient(replay) as on:
                assert wrap(on, sink, channel="c") is on
                await way(on, arguments)

        asyncio.run(run())
        return
    with client(replay) as on:
        assert wrap(on, sink, channel="c") is on
        way(on, arguments)


@pytest.mark.parametrize("recording", parameters("chat") + parameters("responses"))
def test_one_stream_wrapped(recording: Recording, sink: Sink) -> None:
    arguments = _arguments(recording)
    with Replay(recording.body) as replay, client(replay) as on:
        stream = _api(on, arguments).create(**arguments, stream=True)
        assert wrap(stream, sink, channel="c") is stream
        with _failing(recording):
            for _ in stream:
                pass
    check(responses(sink, "c")[0], recording.expected)


def test_two_ways_at_once_publish_once(sink: Sink) -> None:
    """The client, its helper and the stream, all wrapped: each token once."""
    recording = named("chat-text")
    with Replay(recording.body) as replay, client(replay) as on:
        wrap(wrap(on, sink, channel="c"), sink, channel="c")
        with wrap(on.chat.completions.stream(model="m", messages=[]), sink) as stream:
            wrap(stream, sink, channel="c")
            wrap(stream, sink, channel="other")
            for _ in stream:
                pass
    assert len(responses(sink, "c")) == 1
    check(responses(sink, "c")[0], recording.expected)
    assert responses(sink, "other") == []


def test_a_custom_tool_call(sink: Sink) -> None:
    """The SDK has no class for one in a chunk, so it comes as a dict."""
    deltas: list[dict[str, Any]] = [
        {"id": "a", "type": "custom", "custom": {"name": "sql", "input": "sel"}},
        {"custom": {"input": "ect"}},
    ]
    choices: list[dict[str, Any]] = [
        {"index": 0, "delta": {"tool_calls": [{"index": 0, **delta}]}} for delta in deltas
    ]
    choices.append({"index": 0, "delta": {}, "finish_reason": "tool_calls"})
    body = b"".join(
        b"data: %s\n\n" % json.dumps({**_CHUNK, "choices": [choice]}).encode() for choice in choices
    )
    with Replay(body + b"data: [DONE]\n\n") as replay, client(replay) as on:
        create(wrap(on, sink, channel="c"), {"model": "m", "messages": []})
    (call,) = responses(sink, "c")[0].tool_calls
    assert (call.name, call.call_id, call.arguments) == ("sql", "a", "select")


_CHUNK = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
