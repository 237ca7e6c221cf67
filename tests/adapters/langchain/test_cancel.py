"""A watcher cancels: the provider is stopped, and the agent ends with `ResponseCancelled`."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.language_models.fake_chat_models import (
    FakeListChatModel,
    FakeMessagesListChatModel,
)
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import StrOutputParser

import tokenwire
from tests.support import recordings
from tests.support.frameworks import await_until
from tests.support.replay import Gate, Replay, Reply
from tokenwire_adapters.langchain import TokenwireCallbackHandler

from . import models

pytestmark = pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")

Responses = Callable[[], list[tokenwire.Response]]
TEXT = recordings.named("chat-text")
SOME = 6


@pytest.fixture(params=["callbacks", "handler", "handler and tap"])
def tapped(request: pytest.FixtureRequest) -> Any:
    from tokenwire.instrument import Options
    from tokenwire_adapters import openai

    if request.param == "handler and tap":
        openai.instrumentor.start(Options())
    yield request.param != "callbacks"
    openai.instrumentor.stop()


async def _cancel(sink: tokenwire.Sink) -> None:
    (response,) = await await_until(lambda: [e for e in sink.history("c").items if e.text])
    outcome = await sink.acancel("c", response.id, reason="enough")
    assert outcome.state == "cancelled"


async def _in_thread(way: Any, model: Any, config: Any, replay: Replay) -> None:
    """Run a way without blocking this loop, sync or async."""

    async def call() -> None:
        try:
            await models.run(way, model, config)
        finally:
            # A coroutine's stream closes on its loop, a moment later; this one would end now.
            await replay.wait_async(lambda: replay.exchanges[0].outcome != "running")

    await asyncio.to_thread(lambda: asyncio.run(call()))


@pytest.mark.parametrize("way", models.WAYS, ids=lambda way: way.__name__)
async def test_the_provider_is_stopped(
    way: Any, tapped: bool, config: Any, sink: tokenwire.Sink, responses: Responses
) -> None:
    gate = Gate(SOME)
    async with Replay(Reply(TEXT.body, gate=gate)) as replay:
        call = asyncio.create_task(_in_thread(way, models.model("chat", replay), config, replay))
        await _cancel(sink)
        if not tapped:  # LangChain alone cannot leave a stream that brings nothing
            gate.release()
        with pytest.raises(tokenwire.ResponseCancelled, match="enough"):
            await call
        exchange = await replay.wait_closed_early_async()
        assert exchange.events_sent <= SOME + 1
    (response,) = responses()
    assert (response.state, response.error) == ("cancelled", "enough")
    assert TEXT.expected.text.startswith(response.text)


async def test_a_retry_or_a_fallback_does_not_go_on(
    config: Any, sink: tokenwire.Sink, responses: Responses
) -> None:
    gate = Gate(SOME)
    async with Replay(Reply(TEXT.body, gate=gate)) as replay:
        model = models.model("chat", replay)
        chain = model.with_retry(stop_after_attempt=3, wait_exponential_jitter=False)
        chain = chain.with_fallbacks([model]) | StrOutputParser()
        call = asyncio.create_task(chain.ainvoke("hi", config, stream=True))
        await _cancel(sink)
        gate.release()
        with pytest.raises(tokenwire.ResponseCancelled):
            await call
        assert len(replay.exchanges) == 1
    assert len(responses()) == 1


@pytest.mark.parametrize("options", [{"on_cancel": "end"}, {"raise_on_cancel": False}])
async def test_the_agent_may_go_on(sink: tokenwire.Sink, options: dict[str, Any]) -> None:
    handler = TokenwireCallbackHandler(sink, channel="c", **options)
    gate = Gate(SOME)
    async with Replay(Reply(TEXT.body, gate=gate)) as replay:
        model = models.model("chat", replay)
        call = asyncio.create_task(model.ainvoke("hi", {"callbacks": [handler]}, stream=True))
        await _cancel(sink)
        gate.open()
        assert (await call).content == TEXT.expected.text
    (response,) = sink.history("c").items
    assert response.state == "cancelled"
    assert len(response.text) < len(TEXT.expected.text)


class _Slow(FakeMessagesListChatModel):
    """Answers at once when told to, and does not stream."""

    def _generate(self, *args: Any, **kwargs: Any) -> Any:
        _asked.set()
        assert _answer.wait(60)
        return super()._generate(*args, **kwargs)


_asked, _answer = threading.Event(), threading.Event()


async def test_a_model_that_does_not_stream(
    config: Any, sink: tokenwire.Sink, responses: Responses
) -> None:
    """Its response does not exist before its answer: the cancel waits for it."""
    _asked.clear()
    _answer.clear()
    model = _Slow(responses=[AIMessage("Hello")])
    from uuid import uuid4

    run_id = uuid4()
    call = asyncio.create_task(asyncio.to_thread(model.invoke, "hi", {**config, "run_id": run_id}))
    await asyncio.to_thread(_asked.wait, 60)
    assert (await sink.acancel("c", str(run_id))).state == "pending"
    _answer.set()
    message = await asyncio.gather(call, return_exceptions=True)
    assert isinstance(message[0], tokenwire.ResponseCancelled | AIMessage)
    (response,) = await await_until(lambda: [each for each in responses() if each.ended])
    assert response.state in ("cancelled", "complete")


def test_cancelling_what_has_ended(config: Any, sink: tokenwire.Sink, responses: Responses) -> None:
    model = FakeListChatModel(responses=["x"])
    model.invoke("hi", config)
    assert sink.cancel("c", responses()[0].id).state == "complete"
    model.invoke("hi", config)
    assert [each.state for each in responses()] == ["complete", "complete"]
