"""Chat engines, query engines, agents: each token once, in the right run, with tool results."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.chat_engine import SimpleChatEngine
from llama_index.core.instrumentation.dispatcher import instrument_tags
from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import CustomQueryEngine
from llama_index.core.response_synthesizers import ResponseMode, get_response_synthesizer
from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.llms.openai import OpenAI

import tokenwire
from tests.support import recordings
from tests.support.frameworks import ended
from tests.support.replay import Replay
from tokenwire.instrument import Options
from tokenwire_adapters._agents.llama_index import spans
from tokenwire_adapters.llama_index import TokenwireEventHandler, instrumentor
from tokenwire_adapters.testing.provider import Provider, serve_in_thread

from . import models

pytestmark = [
    # LlamaIndex leaves clients of loops that have ended unclosed.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

Responses = Callable[[], list[tokenwire.Response]]
TEXT = recordings.named("chat-text")
SOME = 6


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with serve_in_thread(pace=0) as provider:
        yield provider


def llm(provider: Provider) -> OpenAI:
    return OpenAI(model="gpt-4o", api_base=provider.base_url, api_key="k", max_retries=0)


def get_weather(city: str) -> str:
    """Look the weather up."""
    if city == "Atlantis":
        raise ValueError("no such city")
    return f"sunny in {city}"


def _agent(provider: Provider, **options: Any) -> FunctionAgent:
    return FunctionAgent(tools=[get_weather], llm=llm(provider), **options)


@pytest.mark.usefixtures("handler")
@pytest.mark.parametrize("streaming", [True, False])
async def test_function_agent(provider: Provider, streaming: bool, responses: Responses) -> None:
    await _agent(provider, streaming=streaming).run("What is the weather in Paris?")
    asks, answers = responses()
    assert asks.run == answers.run
    assert asks.run.startswith("FunctionAgent.run-")
    (call,) = asks.tool_calls
    (result,) = asks.tool_results
    assert (call.name, call.text) == ("get_weather", '{"city":"Paris"}')
    assert (result.call_id, result.output) == (call.call_id, "sunny in Paris")
    assert "sunny in Paris" in answers.text
    assert (asks.finish_reason, answers.finish_reason) == ("tool_calls", "stop")


@pytest.mark.usefixtures("handler")
async def test_a_tool_that_fails(provider: Provider, responses: Responses) -> None:
    await _agent(provider).run("What is the weather in Atlantis?")
    (result,) = responses()[0].tool_results
    assert "no such city" in (result.error or "")


@pytest.mark.usefixtures("handler")
def test_chat_engine(provider: Provider, sink: tokenwire.Sink, responses: Responses) -> None:
    engine = SimpleChatEngine.from_defaults(llm=llm(provider))
    reported = "".join(engine.stream_chat("hi").response_gen)
    asyncio.run(ended(sink))
    (response,) = responses()
    assert (response.state, response.text) == ("complete", reported)
    assert (response.run or "").startswith("SimpleChatEngine.stream_chat-")
    assert engine.chat("again").response == responses()[1].text


@pytest.mark.usefixtures("handler")
async def test_async_chat_engine(
    provider: Provider, sink: tokenwire.Sink, responses: Responses
) -> None:
    engine = SimpleChatEngine.from_defaults(llm=llm(provider))
    reported = [token async for token in (await engine.astream_chat("hi")).async_response_gen()]
    await ended(sink)
    (response,) = responses()
    assert (response.state, response.text) == ("complete", "".join(reported))


@pytest.mark.usefixtures("handler")
def test_query_engine(provider: Provider, responses: Responses) -> None:
    synthesizer = get_response_synthesizer(
        llm=llm(provider), streaming=True, response_mode=ResponseMode.COMPACT
    )

    class Engine(CustomQueryEngine):
        def custom_query(self, query_str: str) -> Any:
            return synthesizer.synthesize(query_str, [NodeWithScore(node=TextNode(text="a fact"))])

    # The model is first asked when the query's span is over: LlamaIndex no longer knows of it.
    reported = "".join(Engine().query("why?").response_gen)  # type: ignore[union-attr]
    with tokenwire.run("query-7"):
        again = "".join(Engine().query("why?").response_gen)  # type: ignore[union-attr]
    one, two = responses()
    assert [(each.state, each.text) for each in (one, two)] == [
        ("complete", reported),
        ("complete", again),
    ]
    assert (one.run or "").startswith("OpenAI.stream-")
    assert two.run == "query-7"

    synthesizer._streaming = False
    assert str(Engine().query("why?")) == responses()[-1].text
    assert (responses()[-1].run or "").startswith("Engine.query-")


@pytest.mark.usefixtures("handler")
def test_models_that_do_not_stream(responses: Responses) -> None:
    model = MockLLM()
    model.complete("Hel lo")
    model.chat(models.HI)
    models.stream_complete(model)
    models.stream_chat(model)
    one, two, three, four = responses()
    assert one.text == "Hel lo"
    assert two.text
    assert three.text == "hi"
    assert four.text == two.text
    assert {each.state for each in responses()} == {"complete"}


@pytest.mark.usefixtures("handler")
def test_tags(provider: Provider, sink: tokenwire.Sink, responses: Responses) -> None:
    with instrument_tags({"nostream": True}):
        models.stream_chat(llm(provider))
    assert responses() == []
    handler = next(
        each
        for each in spans.root_dispatcher().event_handlers
        if isinstance(each, TokenwireEventHandler)
    )
    handler._channel = None
    with instrument_tags({"thread_id": "t-7"}):
        models.stream_chat(llm(provider))
    assert len(sink.history("t-7").items) == 1


def test_a_handler_for_everything(
    handler: TokenwireEventHandler, provider: Provider, sink: tokenwire.Sink, responses: Responses
) -> None:
    instrumentor.start(Options(sink, channel="every"))
    try:
        models.stream_chat(llm(provider))
    finally:
        instrumentor.stop()
    assert len(responses()) == 1
    assert sink.history("every").items == ()


@pytest.mark.usefixtures("handler")
def test_two_streams_side_by_side(responses: Responses) -> None:
    """LlamaIndex opens a stream when it is read: by then another call has set its claim."""
    one, two = recordings.named("chat-text"), recordings.named("chat-escapes")
    with Replay(one.body) as first, Replay(two.body) as second:
        a = models.model("chat", first).stream_chat(models.HI)
        b = models.model("chat", second).stream_chat(models.HI)
        left = [iter(a), iter(b)]
        while left:
            left = [stream for stream in left if next(stream, None) is not None]
    assert {each.text for each in responses()} == {one.expected.text, two.expected.text}
    assert len(responses()) == 2


# -- nothing of ours breaks the agent


class _Raising:
    strict = False

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"no {name} today")


@pytest.mark.parametrize("stop_provider", [True, False])
async def test_a_sink_that_raises(
    provider: Provider, stop_provider: bool, caplog: pytest.LogCaptureFixture
) -> None:
    from tests.support.claimed_sdks import stop_claimed_sdks
    from tokenwire_adapters import llama_index as adapter

    adapter._reporter._log._logged_at.clear()
    sink: Any = _Raising()
    handler = TokenwireEventHandler(sink, channel="c", stop_provider=stop_provider)
    root = spans.root_dispatcher()
    root.add_event_handler(handler)
    try:
        with caplog.at_level(logging.WARNING, "tokenwire"):
            reported = await _agent(provider).run("What is the weather in Paris?")
    finally:
        root.event_handlers = [each for each in root.event_handlers if each is not handler]
        stop_claimed_sdks()
        adapter._calls.by_span.clear()
    assert "sunny in Paris" in str(reported)
    assert "tokenwire" in caplog.text
