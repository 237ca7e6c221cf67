"""Real LangChain models against recorded replies, with the handler watching."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import tokenwire
from tokenwire_adapters import langchain as adapter
from tokenwire_adapters.langchain import TokenwireCallbackHandler

_names = itertools.count()


@pytest.fixture
def sink() -> Iterator[tokenwire.Sink]:
    """A strict sink: what goes wrong in it fails the test."""
    with tokenwire.open_sink(f"memory://langchain-{next(_names)}", strict=True) as sink:
        yield sink


@pytest.fixture
def handler(sink: tokenwire.Sink) -> Iterator[TokenwireCallbackHandler]:
    yield TokenwireCallbackHandler(sink, channel="c")
    # Whatever a test did: nothing is left behind.
    assert not adapter._runs.calls
    assert not adapter._runs.nodes
    assert not adapter._runs.tools
    assert tokenwire.context.current_claim() is None


@pytest.fixture
def config(handler: TokenwireCallbackHandler) -> Any:
    return {"callbacks": [handler]}


@pytest.fixture
def responses(sink: tokenwire.Sink) -> Callable[[], list[tokenwire.Response]]:
    """The responses of the channel, oldest first."""

    def read() -> list[tokenwire.Response]:
        assert sink.flush(30)
        return list(reversed(sink.history("c").items))

    return read


@pytest.fixture
def only(responses: Callable[[], list[tokenwire.Response]]) -> Callable[[], tokenwire.Response]:
    """The one response of the channel."""

    def read() -> tokenwire.Response:
        (response,) = responses()
        return response

    return read
