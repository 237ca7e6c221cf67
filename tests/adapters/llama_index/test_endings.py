"""The ways a stream can end, through LlamaIndex: each ends the response, rightly and promptly."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
from collections.abc import Callable
from typing import Any

import pytest
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.chat_engine import SimpleChatEngine

import tokenwire
from tests.support import endings, recordings
from tests.support.frameworks import ended
from tests.support.replay import PATIENCE, Gate, Replay, Reply
from tokenwire._writing.ending import Ending
from tokenwire_adapters import llama_index as adapter

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


class Oops(Exception):
    """What a consumer raises."""


def exhausted(model: Any) -> None:
    assert list(model.stream_chat(models.HI))


def broken_off(model: Any) -> None:
    for response in model.stream_chat(models.HI):
        if response.delta:
            break


def closed(model: Any) -> None:
    stream = model.stream_chat(models.HI)
    next(stream)
    stream.close()


def left_with(model: Any) -> None:
    with contextlib.closing(model.stream_chat(models.HI)) as stream:
        next(stream)


def raised(model: Any) -> None:
    with pytest.raises(Oops):
        for _ in model.stream_chat(models.HI):
            raise Oops


def collected(model: Any) -> None:
    stream = model.stream_chat(models.HI)
    next(stream)
    cycle: list[Any] = [stream]
    cycle.append(cycle)
    del stream, cycle
    gc.collect()


async def aexhausted(model: Any) -> None:
    assert [each async for each in await model.astream_chat(models.HI)]


async def abroken_off(model: Any) -> None:
    async for response in await model.astream_chat(models.HI):
        if response.delta:
            break


async def aclosed(model: Any) -> None:
    stream = await model.astream_chat(models.HI)
    await anext(stream)
    await stream.aclose()


async def aleft_with(model: Any) -> None:
    async with contextlib.aclosing(await model.astream_chat(models.HI)) as stream:
        await anext(stream)


async def araised(model: Any) -> None:
    with pytest.raises(Oops):
        async for _ in await model.astream_chat(models.HI):
            raise Oops


async def acollected(model: Any) -> None:
    stream = await model.astream_chat(models.HI)
    await anext(stream)
    cycle: list[Any] = [stream]
    cycle.append(cycle)
    del stream, cycle
    gc.collect()


async def acancelled(model: Any) -> None:
    read = asyncio.Event()

    async def consume() -> None:
        async for response in await model.astream_chat(models.HI):
            if response.delta:
                read.set()

    task = asyncio.create_task(consume())
    await read.wait()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def atimed_out(model: Any) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(None) as timeout:
            async for response in await model.astream_chat(models.HI):
                if response.delta and timeout.when() is None:  # before, nothing may have been sent
                    timeout.reschedule(asyncio.get_running_loop().time() + 0.1)


def engine_exhausted(model: Any) -> None:
    engine = SimpleChatEngine.from_defaults(llm=model)
    reported = "".join(engine.stream_chat("hi").response_gen)
    assert reported == TEXT.expected.text


async def aengine_exhausted(model: Any) -> None:
    engine = SimpleChatEngine.from_defaults(llm=model)
    reported = [each async for each in (await engine.astream_chat("hi")).async_response_gen()]
    assert "".join(reported) == TEXT.expected.text


def get_weather(city: str) -> str:
    """Look the weather up."""
    return f"sunny in {city}"


async def aagent_exhausted(model: Any) -> None:
    await FunctionAgent(tools=[get_weather], llm=model).run("hi")


async def aagent_cancelled(model: Any) -> None:
    run = FunctionAgent(tools=[get_weather], llm=model).run("hi")
    await asyncio.sleep(0)
    async for event in run.stream_events():
        if getattr(event, "delta", ""):
            break
    await run.cancel_run()
    with contextlib.suppress(BaseException):
        await run


COMPLETE = [exhausted, aexhausted, engine_exhausted, aengine_exhausted, aagent_exhausted]
CANCELLED = [
    broken_off,
    closed,
    left_with,
    raised,
    collected,
    abroken_off,
    aclosed,
    aleft_with,
    araised,
    acollected,
    acancelled,
    atimed_out,
    aagent_cancelled,
]


async def end(way: Any, replay: Replay) -> None:
    done = way(models.model("chat", replay))
    if done is not None:
        await done


@pytest.mark.usefixtures("handler")
@pytest.mark.parametrize("way", COMPLETE, ids=lambda way: way.__name__)
async def test_read_to_the_end(way: Any, sink: tokenwire.Sink, responses: Responses) -> None:
    async with Replay(TEXT.body) as replay:
        await end(way, replay)
        await ended(sink)
    (response,) = responses()
    assert (response.state, response.text) == ("complete", TEXT.expected.text)
    assert response.finish_reason == TEXT.expected.finish


@pytest.mark.usefixtures("handler")
@pytest.mark.parametrize("way", CANCELLED, ids=lambda way: way.__name__)
async def test_left_early(
    way: Any, stop_provider: bool, sink: tokenwire.Sink, responses: Responses
) -> None:
    async with Replay(Reply(TEXT.body, gate=Gate(SOME))) as replay:
        await end(way, replay)
        await ended(sink)
        if not stop_provider:
            await _collect_until_closed(replay)
        await replay.wait_closed_early_async()
    (response,) = responses()
    assert response.state == "cancelled"
    assert TEXT.expected.text.startswith(response.text)


async def _collect_until_closed(replay: Replay) -> None:
    """Collect garbage until the provider's connection goes.

    The SDK's stream is a cycle of references that LlamaIndex drops without closing it, the async
    one once the loop has come by.
    """
    async with asyncio.timeout(PATIENCE):
        while not replay.exchanges[0].closed_early:
            gc.collect()
            with contextlib.suppress(TimeoutError):
                await replay.wait_async(lambda: replay.exchanges[0].closed_early, 0.05)


@pytest.mark.usefixtures("handler")
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
async def test_failures(reply: Reply, way: Any, responses: Responses) -> None:
    with Replay(reply) as replay, pytest.raises(Exception):  # noqa: B017
        await models.run(way, models.model("chat", replay))
    (response,) = responses()
    assert response.state == "failed"
    assert response.error


@pytest.mark.usefixtures("handler")
async def test_never_read(responses: Responses) -> None:
    """No request is made, and nothing is left behind."""
    with Replay(TEXT.body) as replay:
        stream = models.model("chat", replay).stream_chat(models.HI)
        astream = await models.model("chat", replay).astream_chat(models.HI)
        assert len(adapter._calls.by_span) == 2
        del stream, astream
        gc.collect()
        assert not adapter._calls.by_span
        assert replay.exchanges == []
    assert responses() == []


@pytest.mark.usefixtures("handler")
def test_collected_anywhere(responses: Responses, monkeypatch: pytest.MonkeyPatch) -> None:
    """The collector comes by anywhere, also in the middle of the sink's work: it ends nothing."""
    ending: list[threading.Thread] = []
    original = Ending.end

    def end(*args: Any, **kwargs: Any) -> bool:
        ending.append(threading.current_thread())
        return original(*args, **kwargs)

    monkeypatch.setattr(Ending, "end", end)
    with Replay(Reply(TEXT.body, gate=Gate(SOME))) as replay:
        stream = models.model("chat", replay).stream_chat(models.HI)
        for response in stream:
            if response.delta:
                break
        cycle: list[Any] = [stream, response]
        cycle.append(cycle)
        gc.disable()
        del stream, response, cycle
        gc.collect()
        gc.enable()
        (response,) = responses()
        assert response.state == "cancelled"
    assert ending
    assert threading.current_thread() not in ending


@pytest.mark.slow
@pytest.mark.parametrize(("stop", "how"), [(True, "sys.exit()"), (False, "pass")])
def test_process_exit(stop: bool, how: str) -> None:
    program = f"""
        from llama_index.core.instrumentation import get_dispatcher
        from llama_index.core.llms import ChatMessage
        from llama_index.llms.openai import OpenAI
        from tokenwire_adapters.llama_index import TokenwireEventHandler
        handler = TokenwireEventHandler(sink, channel="c", stop_provider={stop})
        get_dispatcher().add_event_handler(handler)
        model = OpenAI(model="gpt-4o", api_base=sys.argv[1], api_key="k")
        stream = model.stream_chat([ChatMessage(content="hi")])
        for response in stream:
            if response.delta:
                break
        {how}
    """
    with Replay(Reply(TEXT.body, gate=Gate(SOME))) as replay:
        response = endings.check_exit(program, replay)
        replay.wait_closed_early()
    assert response.state in ("cancelled", "abandoned")
    assert response.text
    assert TEXT.expected.text.startswith(response.text)
