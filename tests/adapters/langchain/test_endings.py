"""The ways a stream can end, through LangChain: each ends the response, rightly and promptly."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import RunnableLambda

import tokenwire
from tests.support import recordings
from tests.support.endings import check_exit
from tests.support.frameworks import await_until, wait_until
from tests.support.replay import Gate, Replay, Reply

from . import models

pytestmark = pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")

Responses = Callable[[], list[tokenwire.Response]]
TEXT = recordings.named("chat-text")
SOME = 6  # events
BEGUN = "Café naïve: nai"  # the text in them


class Oops(Exception):
    """What a consumer raises."""


def exhausted(model: Any, config: Any) -> None:
    assert list(model.stream("hi", config=config))


def broken_off(model: Any, config: Any) -> None:
    for chunk in model.stream("hi", config=config):
        if chunk.content:
            break


def closed(model: Any, config: Any) -> None:
    stream = model.stream("hi", config=config)
    next(stream)
    stream.close()


def left_with(model: Any, config: Any) -> None:
    with contextlib.closing(model.stream("hi", config=config)) as stream:
        next(stream)


def raised(model: Any, config: Any) -> None:
    with pytest.raises(Oops):
        for _ in model.stream("hi", config=config):
            raise Oops


def collected(model: Any, config: Any) -> None:
    stream = model.stream("hi", config=config)
    next(stream)
    cycle: list[Any] = [stream]
    cycle.append(cycle)
    del stream, cycle
    gc.collect()


def v3_dropped(model: Any, config: Any) -> None:
    events = iter(model.stream_events("hi", config=config, version="v3"))
    next(events)
    del events


SYNC = [
    (exhausted, "complete"),
    (broken_off, "cancelled"),
    (closed, "cancelled"),
    (left_with, "cancelled"),
    (raised, "cancelled"),
    (collected, "cancelled"),
    *([(v3_dropped, "cancelled")] if models.V3 else ()),
]


async def aexhausted(model: Any, config: Any) -> None:
    assert [chunk async for chunk in model.astream("hi", config=config)]


async def abroken_off(model: Any, config: Any) -> None:
    async for chunk in model.astream("hi", config=config):
        if chunk.content:
            break


async def aclosed(model: Any, config: Any) -> None:
    stream = model.astream("hi", config=config)
    await anext(stream)
    await stream.aclose()


async def aleft_with(model: Any, config: Any) -> None:
    async with contextlib.aclosing(model.astream("hi", config=config)) as stream:
        await anext(stream)


async def araised(model: Any, config: Any) -> None:
    with pytest.raises(Oops):
        async for _ in model.astream("hi", config=config):
            raise Oops


async def acollected(model: Any, config: Any) -> None:
    stream = model.astream("hi", config=config)
    await anext(stream)
    cycle: list[Any] = [stream]
    cycle.append(cycle)
    del stream, cycle
    gc.collect()


async def _blocked(config: Any) -> None:
    """Wait until all that was sent is read."""
    sink = config["callbacks"][0]._sink
    await models.read_on(lambda: any(each.text == BEGUN for each in sink.history("c").items))


async def _cancelled(call: Any, config: Any) -> None:
    task = asyncio.create_task(call)
    await _blocked(config)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def acancelled(model: Any, config: Any) -> None:
    await _cancelled(aexhausted(model, config), config)


async def acancelled_ainvoke(model: Any, config: Any) -> None:
    call = model.ainvoke("hi", config=config, stream=True)
    await _cancelled(call, config)


async def acancelled_chain(model: Any, config: Any) -> None:
    async def call(text: str) -> Any:
        return await model.ainvoke(text, stream=True)

    chain = RunnableLambda(call) | StrOutputParser()
    await _cancelled(chain.ainvoke("hi", config), config)


async def atimed_out(model: Any, config: Any) -> None:
    async def expire(timeout: asyncio.Timeout) -> None:
        await _blocked(config)
        timeout.reschedule(0)

    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(None) as timeout:
            expiring = asyncio.create_task(expire(timeout))
            await model.ainvoke("hi", config=config, stream=True)
    await expiring


async def av3_closed(model: Any, config: Any) -> None:
    stream = await model.astream_events("hi", config=config, version="v3")
    async for event in stream:
        if event["event"] == "content-block-delta":
            break
    await _blocked(config)
    await stream.aclose()


async def aevents_broken_off(model: Any, config: Any) -> None:
    events = model.astream_events("hi", config=config, version="v2")
    async for event in events:
        if event["event"] == "on_chat_model_stream" and event["data"]["chunk"].content:
            break
    await _blocked(config)
    await events.aclose()


ASYNC = [
    (aexhausted, "complete"),
    (abroken_off, "cancelled"),
    (aclosed, "cancelled"),
    (aleft_with, "cancelled"),
    (araised, "cancelled"),
    (acollected, "cancelled"),
    (acancelled, "cancelled"),
    (acancelled_ainvoke, "cancelled"),
    (acancelled_chain, "cancelled"),
    (atimed_out, "cancelled"),
    *([(av3_closed, "cancelled")] if models.V3 else ()),
    (aevents_broken_off, "cancelled"),
]


def _gate(state: str) -> Gate | None:
    return None if state == "complete" else Gate(SOME)


@pytest.mark.parametrize(("way", "state"), SYNC, ids=[way.__name__ for way, _ in SYNC])
def test_sync(way: Any, state: str, config: Any, responses: Responses) -> None:
    with Replay(Reply(TEXT.body, gate=_gate(state))) as replay:
        way(models.model("chat", replay), config)
        (response,) = wait_until(lambda: [each for each in responses() if each.ended])
        if state != "complete":
            replay.wait_closed_early()
    assert response.state == state
    assert TEXT.expected.text.startswith(response.text)


@pytest.mark.parametrize(("way", "state"), ASYNC, ids=[way.__name__ for way, _ in ASYNC])
async def test_async(way: Any, state: str, config: Any, responses: Responses) -> None:
    async with Replay(Reply(TEXT.body, gate=_gate(state))) as replay:
        await way(models.model("chat", replay), config)
        (response,) = await await_until(lambda: [each for each in responses() if each.ended])
        if state != "complete":
            await replay.wait_closed_early_async()
    assert response.state == state
    assert TEXT.expected.text.startswith(response.text)


@pytest.mark.parametrize("way", models.WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize(
    "reply",
    [
        Reply(recordings.named("chat-error").body),
        Reply(TEXT.body, drop_after=SOME),
        Reply(b'{"error": {"message": "no such model"}}', status=404),
    ],
    ids=["provider error", "dropped connection", "refused"],
)
async def test_failures(reply: Reply, way: Any, config: Any, responses: Responses) -> None:
    with Replay(reply) as replay:
        model = models.model("chat", replay)
        with pytest.raises(Exception) as without:
            await models.run(way, model, {})
        with pytest.raises(Exception) as with_:
            await models.run(way, model, config)
    assert type(with_.value) is type(without.value)
    (response,) = await await_until(lambda: [each for each in responses() if each.ended])
    assert response.state == "failed"
    assert response.error
    assert "tokenwire" not in response.error


def test_a_sync_chain_closed_early_is_told_as_it_is(config: Any, responses: Responses) -> None:
    """LangChain goes on draining the model; the channel carries what the model goes on to say."""
    with Replay(TEXT.body) as replay:
        chain = models.model("chat", replay) | StrOutputParser()
        stream = chain.stream("hi", config=config)
        next(stream)
        stream.close()
        del stream
        (response,) = wait_until(lambda: [each for each in responses() if each.ended])
    assert response.state in ("complete", "cancelled")
    assert TEXT.expected.text.startswith(response.text)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["raise SystemExit", "sys.exit()", "pass"])
def test_process_exit(how: str) -> None:
    program = f"""
        from langchain_openai import ChatOpenAI
        from tokenwire_adapters.langchain import TokenwireCallbackHandler
        handler = TokenwireCallbackHandler(sink, channel="c")
        model = ChatOpenAI(model="m", base_url=sys.argv[1], api_key="k")
        stream = model.stream("hi", config={{"callbacks": [handler]}})
        for chunk in stream:
            if chunk.content:
                break
        {how}
    """
    with Replay(Reply(TEXT.body, gate=Gate(SOME))) as replay:
        response = check_exit(program, replay)
    assert response.state in ("cancelled", "abandoned")
    assert response.text
    assert TEXT.expected.text.startswith(response.text)
