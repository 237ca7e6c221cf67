"""Every recording, as bytes cut anywhere, gives the response that it gives through the SDK."""

import contextlib
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings

from tests.adapters.wires.reading import cuts, read
from tests.support.needs import needs
from tests.support.profile import scaled
from tests.support.recordings import Recording, parameters
from tests.support.sdk import check, fresh_sink, responses
from tokenwire import Response, Sink

needs("openai", "anthropic")

import anthropic
import openai

from tests.support.offline import anthropic_client, openai_client
from tokenwire_adapters import anthropic as anthropic_adapter
from tokenwire_adapters import openai as openai_adapter

PATHS = {
    "chat": "/v1/chat/completions",
    "responses": "/v1/responses",
    "anthropic": "/v1/messages",
}


def _from_bytes(recording: Recording, sizes: Iterable[int]) -> list[Response]:
    request: dict[str, Any] = {"model": recording.model, "stream": True}
    request |= {"input": "x"} if recording.api == "responses" else {"messages": []}
    if recording.expected.texts:
        request["n"] = len(recording.expected.texts)
    return read(PATHS[recording.api], request, recording.body, sizes=sizes)


@pytest.mark.parametrize("recording", parameters())
@settings(max_examples=scaled(20))
@given(sizes=cuts())
def test_recording(recording: Recording, sizes: list[int]) -> None:
    read_responses = _from_bytes(recording, sizes)
    check(read_responses[0], recording.expected)
    texts = recording.expected.texts
    if texts:
        assert [response.text for response in read_responses] == texts
        assert [
            response.finish_reason for response in read_responses
        ] == recording.expected.finishes


def _read_with_the_sdk(recording: Recording, sink: Sink) -> None:
    count = len(recording.expected.texts)
    choices: dict[str, Any] = {"n": count} if count else {}
    if recording.api == "anthropic":
        with anthropic_client(recording.body) as client:
            messages = anthropic_adapter.wrap(client, sink, channel="c").messages
            list(messages.create(model="m", max_tokens=9, messages=[], stream=True))
        return
    with openai_client(recording.body) as client:
        openai_adapter.wrap(client, sink, channel="c")
        if recording.api == "chat":
            list(client.chat.completions.create(model="m", messages=[], stream=True, **choices))
        else:
            list(client.responses.create(model="m", input="x", stream=True))


@pytest.mark.parametrize("recording", parameters())
def test_every_part_is_that_of_the_sdk(recording: Recording) -> None:
    def content(response: Response) -> tuple[Any, ...]:
        ends = (response.state, response.finish_reason, response.usage, response.error)
        return response.parts, response.tool_results, ends

    with fresh_sink() as sink:
        with contextlib.suppress(openai.APIError, anthropic.APIError):
            _read_with_the_sdk(recording, sink)
        through_the_sdk = [content(response) for response in responses(sink, "c")]
    assert through_the_sdk
    assert [content(response) for response in _from_bytes(recording, (7,))] == through_the_sdk
