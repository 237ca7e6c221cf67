"""What the tests of the SDKs' adapters share: sinks, and what a response must hold."""

from __future__ import annotations

import itertools
import json
import ssl
from typing import Any

import tokenwire
from tests.support.recordings import Expected
from tokenwire import Response, Sink

TLS = ssl.create_default_context()
"""For every client: loading the certificates takes longer than most tests."""

_numbers = itertools.count()


def fresh_sink(**options: Any) -> Sink:
    """A strict sink on a store of its own."""
    options.setdefault("strict", True)
    return tokenwire.open_sink(f"memory://test-{next(_numbers)}", **options)


def responses(sink: Sink, channel: str) -> list[Response]:
    """The responses of a channel, oldest first."""
    return list(sink.history(channel).items)[::-1]


def ended(sink: Sink, channel: str, index: int = -1) -> Response:
    """Wait until a response of the channel has ended, and return it."""
    response = responses(sink, channel)[index]
    with sink.watch(channel, response_id=response.id) as watch:
        for _ in watch:
            pass
    return responses(sink, channel)[index]


def streamed_arguments(response: Response) -> list[str]:
    """The arguments of tool calls that streamed: items of OpenAI's hosted tools come whole."""
    streamed: list[str] = []
    for call in response.tool_calls:
        if (call.call_id or "").startswith(("ws_", "fs_", "ig_")):
            assert call.provider_executed
            assert isinstance(json.loads(call.arguments), dict)
            assert call.call_id in {result.call_id for result in response.tool_results}
        else:
            streamed.append(call.arguments)
    return streamed


def check(response: Response, expected: Expected) -> None:
    """Hold a response against what its recording carries."""
    assert response.text == expected.text
    assert response.reasoning == expected.reasoning
    assert response.refusal == expected.refusal
    assert streamed_arguments(response) == expected.tool_arguments
    assert all(call.name and call.call_id for call in response.tool_calls)
    assert response.finish_reason == expected.finish
    assert response.usage == expected.usage
    assert response.error == expected.error
    assert response.state == ("failed" if expected.error else "complete")
    if expected.reasoning_parts:
        parts = [part.text for part in response.parts if part.kind == "reasoning"]
        assert parts == expected.reasoning_parts
    if expected.citations:
        sources = [part.data["cited_text"] for part in response.parts if part.kind == "source"]
        assert sources == expected.citations
