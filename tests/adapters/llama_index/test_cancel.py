"""A watcher cancels: the provider is stopped at once, and what LlamaIndex runs ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.chat_engine import SimpleChatEngine

import tokenwire
from tests.support import recordings
from tests.support.frameworks import begun
from tests.support.replay import Exchange, Gate, Replay, Reply

from . import models

pytestmark = [
    pytest.mark.usefixtures("handler"),
    # LlamaIndex leaves clients of loops that have ended unclosed.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

tapped = pytest.mark.parametrize("stop_provider", ["events and tap"], indirect=True)
events = pytest.mark.parametrize("stop_provider", ["events"], indirect=True)

Responses = Callable[[], list[tokenwire.Response]]
TEXT = recordings.named("chat-text")
SOME = 6


@pytest.fixture
def gate() -> Gate:
    return Gate(SOME)


@pytest.fixture
def replay(gate: Gate) -> Iterator[Replay]:
    """A provider that sends some tokens, and the others as `gate` is released."""
    with Replay(Reply(TEXT.body, gate=gate)) as replay:
        yield replay


def begin(way: Callable[[Any], Awaitable[None] | None], model: Any) -> asyncio.Task[None]:
    """Call `model` on a task, in a thread if it blocks."""
    if asyncio.iscoroutinefunction(way):
        return asyncio.create_task(models.run(way, model))
    return asyncio.create_task(asyncio.to_thread(way, model))  # type: ignore[arg-type]


async def cancel(sink: tokenwire.Sink, replay: Replay) -> Exchange:
    """Cancel when all that comes has been sent, and wait until the provider knows."""
    await asyncio.to_thread(replay.wait_sent, SOME)
    outcome = await sink.acancel("c", await begun(sink), reason="enough")
    assert outcome.state == "cancelled"
    return await replay.wait_closed_early_async()


def check(responses: list[tokenwire.Response]) -> None:
    (response,) = responses
    assert (response.state, response.error) == ("cancelled", "enough")
    assert TEXT.expected.text.startswith(response.text)
    assert response.text


@tapped
@pytest.mark.parametrize("way", models.WAYS, ids=lambda way: way.__name__)
async def test_while_no_token_comes(
    way: Any, sink: tokenwire.Sink, replay: Replay, responses: Responses
) -> None:
    calling = begin(way, models.model("chat", replay))
    exchange = await cancel(sink, replay)
    with pytest.raises(tokenwire.ResponseCancelled, match="enough"):
        await calling
    assert exchange.events_sent == SOME
    check(responses())


@tapped
@pytest.mark.parametrize("way", models.WAYS, ids=lambda way: way.__name__)
async def test_while_tokens_come(
    way: Any, sink: tokenwire.Sink, replay: Replay, gate: Gate, responses: Responses
) -> None:
    calling = begin(way, models.model("chat", replay))
    outcome = await sink.acancel("c", await begun(sink), reason="enough")
    assert outcome.state == "cancelled"
    gate.release()
    exchange = await replay.wait_closed_early_async()
    with pytest.raises(tokenwire.ResponseCancelled, match="enough"):
        await calling
    assert exchange.events_sent <= SOME + 1
    check(responses())


def cancelled_midway(sink: tokenwire.Sink, replay: Replay, responses: Responses) -> Any:
    """A sync stream of which some was read before a watcher cancelled it."""
    stream = models.model("chat", replay).stream_chat(models.HI)
    for response in stream:
        if response.delta:
            break
    assert sink.cancel("c", responses()[0].id, reason="enough").state == "cancelled"
    return stream


@tapped
def test_while_the_consumer_is_elsewhere(
    sink: tokenwire.Sink, replay: Replay, responses: Responses
) -> None:
    stream = cancelled_midway(sink, replay, responses)
    exchange = replay.wait_closed_early()
    assert exchange.events_sent <= SOME
    with pytest.raises(tokenwire.ResponseCancelled, match="enough"):
        list(stream)
    check(responses())


@tapped
# The engine's own thread ends with the error, too.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_chat_engine(sink: tokenwire.Sink, replay: Replay, responses: Responses) -> None:
    engine = SimpleChatEngine.from_defaults(llm=models.model("chat", replay))

    def consume(_: Any) -> None:
        list(engine.stream_chat("hi").response_gen)

    calling = begin(consume, None)
    exchange = await cancel(sink, replay)
    with pytest.raises(tokenwire.ResponseCancelled):
        await calling
    assert exchange.events_sent == SOME
    check(responses())
    assert len(engine.chat_history) == 1  # the question: what was cut off is no answer


@tapped
async def test_an_async_chat_engine(
    sink: tokenwire.Sink, replay: Replay, responses: Responses
) -> None:
    model = models.model("chat", replay)
    engine = SimpleChatEngine.from_defaults(llm=model)

    async def consume(_: Any) -> None:
        async for _ in (await engine.astream_chat("hi")).async_response_gen():
            pass

    calling = begin(consume, model)
    exchange = await cancel(sink, replay)
    with pytest.raises(tokenwire.ResponseCancelled):
        await calling
    assert exchange.events_sent == SOME
    check(responses())


def get_weather(city: str) -> str:
    """Look the weather up."""
    return f"sunny in {city}"


@tapped
async def test_an_agent(sink: tokenwire.Sink, replay: Replay, responses: Responses) -> None:
    run = FunctionAgent(tools=[get_weather], llm=models.model("chat", replay)).run("hi")
    exchange = await cancel(sink, replay)
    with pytest.raises(tokenwire.ResponseCancelled, match="enough"):
        await run
    assert exchange.events_sent == SOME
    assert len(replay.exchanges) == 1  # nobody tried again
    check(responses())


@events
def test_without_the_tap_the_model_goes_on_unseen(
    sink: tokenwire.Sink, replay: Replay, gate: Gate, responses: Responses
) -> None:
    stream = cancelled_midway(sink, replay, responses)
    gate.open()
    assert list(stream)[-1].message.content == TEXT.expected.text
    check(responses())
    assert len(responses()[0].text) < len(TEXT.expected.text)
