"""Real LangChain models against recorded replies, with the handler watching."""

from __future__ import annotations

import gc
import itertools
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import tokenwire
from tests.support.needs import needs

needs("langchain_openai", "langchain_anthropic")

import langchain_anthropic._client_utils as of_anthropic
import langchain_openai.chat_models._client_utils as of_openai

from tokenwire_adapters import langchain as adapter
from tokenwire_adapters.langchain import TokenwireCallbackHandler

_names = itertools.count()


@pytest.fixture(autouse=True, scope="session")
def no_closing_in_other_loops() -> Iterator[None]:
    """A client that a graph held for longer than its test closes nothing when it is collected.

    Its destructor would close its connections in whatever loop runs by then (langchain-openai 1.1
    to 1.4), and fail the test that runs there.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(of_openai._AsyncHttpxClientWrapper, "__del__", lambda client: None)
        yield


@pytest.fixture(autouse=True)
def clients() -> Iterator[None]:
    """LangChain keeps its HTTP clients for ever, and with them connections of ended event loops.

    Dropped here, between two loops, they are closed; collected later, in the loop of another
    test, they would fail that test.
    """
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are LangChain's, and not closed by anybody
        for cached in (
            of_openai._cached_sync_httpx_client,
            of_openai._cached_async_httpx_client,
            of_anthropic._get_default_httpx_client,
            of_anthropic._get_default_async_httpx_client,
        ):
            cached.cache_clear()
        gc.collect()


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
    assert not adapter._tool_runs.running
    assert tokenwire.context.current_claim() is None


@pytest.fixture
def config(
    request: pytest.FixtureRequest, sink: tokenwire.Sink, handler: TokenwireCallbackHandler
) -> Any:
    """The handler's; where a test says that no SDK is `tapped`, of one that has callbacks alone."""
    if "tapped" in request.fixturenames and not request.getfixturevalue("tapped"):
        handler = TokenwireCallbackHandler(sink, channel="c", stop_provider=False)
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
