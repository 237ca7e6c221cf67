"""Real LlamaIndex models against recorded replies, with the handler watching."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Callable, Iterator

import pytest

import tokenwire
from tests.support.claimed_sdks import stop_claimed_sdks
from tests.support.needs import needs

needs("llama_index.llms.openai", "llama_index.llms.anthropic")

from tokenwire_adapters import llama_index as adapter
from tokenwire_adapters._agents.llama_index import spans
from tokenwire_adapters.llama_index import TokenwireEventHandler

_names = itertools.count()


@pytest.fixture
def sink() -> Iterator[tokenwire.Sink]:
    """A sink that raises what goes wrong in it (LlamaIndex swallows it; the response lacks it)."""
    with tokenwire.open_sink(f"memory://llama-index-{next(_names)}", strict=True) as sink:
        yield sink


@pytest.fixture(autouse=True)
def _no_strays() -> Iterator[None]:
    """Collect the clients that LlamaIndex leaves unclosed before another test's loop runs."""
    yield
    gc.collect()


@pytest.fixture(params=["events and tap", "events"])
def stop_provider(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "events and tap")


@pytest.fixture
def handler(sink: tokenwire.Sink, stop_provider: bool) -> Iterator[TokenwireEventHandler]:
    handler = TokenwireEventHandler(sink, channel="c", stop_provider=stop_provider)
    root = spans.root_dispatcher()
    root.add_event_handler(handler)
    yield handler
    root.event_handlers = [each for each in root.event_handlers if each is not handler]
    stop_claimed_sdks()
    # Whatever a test did: nothing is left behind.
    assert not adapter._calls.by_span
    assert not adapter._calls.streams._entries
    assert tokenwire.context.current_claim() is None


@pytest.fixture
def responses(sink: tokenwire.Sink) -> Callable[[], list[tokenwire.Response]]:
    """The responses of the channel, oldest first."""

    def read() -> list[tokenwire.Response]:
        assert sink.flush(30)
        return list(reversed(sink.history("c").items))

    return read
