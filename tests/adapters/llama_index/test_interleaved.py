"""Many streams at once, made here and read there: each token once, in its own call's response."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest
from llama_index.core.instrumentation.dispatcher import instrument_tags
from llama_index.core.llms import CustomLLM, LLMMetadata
from llama_index.core.llms.callbacks import llm_chat_callback

import tokenwire
from tests.support import recordings
from tests.support.replay import Gate, Replay, Reply
from tokenwire_adapters.llama_index import TokenwireEventHandler

from . import models

pytestmark = [
    # LlamaIndex leaves clients of loops that have ended unclosed.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

NAMES = ("chat-text", "chat-escapes", "chat-reasoning", "chat-refusal")
TEXTS = [recordings.named(name) for name in NAMES]
STREAMS = 8
SOME = 6
tapped = pytest.mark.parametrize("stop_provider", ["events and tap"], indirect=True)

In = Callable[[Callable[[], Any]], Any]


@pytest.fixture
def handler(handler: TokenwireEventHandler) -> TokenwireEventHandler:
    """Let the context of each call say where it goes."""
    handler._channel = None
    return handler


@pytest.fixture(scope="module")
def replays() -> Iterator[list[Replay]]:
    """A provider for each text: so a stream is known by its model."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(Replay(each.body)) for each in TEXTS]


class Layered(CustomLLM):
    """A model of LlamaIndex that asks another one, when its stream is read."""

    inner: Any

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata()

    def complete(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError

    def stream_complete(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError

    @llm_chat_callback()
    def stream_chat(self, messages: Any, **kwargs: Any) -> Any:
        def generate() -> Any:
            yield from self.inner.stream_chat(messages, **kwargs)

        return generate()


def layered(model: Any) -> Any:
    return Layered(inner=model).stream_chat(models.HI)


def stream_chat(model: Any) -> Any:
    return model.stream_chat(models.HI)


def stream_complete(model: Any) -> Any:
    return model.stream_complete("hi")


async def astream_chat(model: Any) -> Any:
    return await model.astream_chat(models.HI)


async def astream_complete(model: Any) -> Any:
    return await model.astream_complete("hi")


WAYS: list[Any] = [layered, stream_chat, stream_complete, astream_chat, astream_complete]


# -- where a stream is made, and where each item of it is read


def here(step: Callable[[], Any]) -> Any:
    return step()


def in_a_copied_context(step: Callable[[], Any]) -> Any:
    return contextvars.copy_context().run(step)


def in_another_context(step: Callable[[], Any]) -> Any:
    return contextvars.Context().run(step)


def in_a_thread(step: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(step).result()


PLACES: list[In] = [here, in_a_copied_context, in_another_context, in_a_thread]


async def in_a_task(step: Callable[[], Any], chance: random.Random) -> Any:
    """Await what `step` gives: here, or in a task, of this context or of another."""

    async def run() -> Any:
        return await step()

    place = chance.randrange(3)
    if place == 0:
        return await run()
    context = contextvars.copy_context() if place == 1 else contextvars.Context()
    return await asyncio.create_task(run(), context=context)


async def make(way: Any, model: Any, channel: str, chance: random.Random) -> Any:
    def begin() -> Any:
        with tokenwire.channel(channel):
            return way(model)

    async def abegin() -> Any:
        with tokenwire.channel(channel):
            return await way(model)

    if asyncio.iscoroutinefunction(way):
        return await in_a_task(abegin, chance)
    return chance.choice(PLACES)(begin)


async def read(stream: Any, chance: random.Random) -> bool:
    """Read one item, somewhere; False at the end."""
    if hasattr(stream, "__anext__"):
        return await in_a_task(lambda: anext(stream, None), chance) is not None
    return chance.choice(PLACES)(lambda: next(stream, None)) is not None


async def close(stream: Any) -> None:
    if hasattr(stream, "aclose"):
        await stream.aclose()
    else:
        stream.close()


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.usefixtures("handler")
async def test_any_order_anywhere(
    seed: int, stop_provider: bool, sink: tokenwire.Sink, replays: list[Replay]
) -> None:
    chance = random.Random(seed)
    tasks = [
        (f"s{number}", chance.randrange(len(TEXTS)), chance.choice(WAYS))
        for number in range(STREAMS)
    ]
    # How many items of each are read: all of them, some, or none.
    limits = {name: chance.choice([10**6, 10**6, 10**6, 8, 0]) for name, _, _ in tasks}
    waiting = list(tasks)
    streams: dict[str, Any] = {}
    items = dict.fromkeys(limits, 0)
    created: list[Any] = []
    while waiting or streams:
        if waiting and (not streams or chance.random() < 0.3):
            name, text, way = waiting.pop()
            model = models.model("chat", replays[text])
            created.append(model)
            streams[name] = await make(way, model, name, chance)
            continue
        name = chance.choice(list(streams))
        if items[name] >= limits[name]:
            await close(streams.pop(name))
        elif await read(streams[name], chance):
            items[name] += 1
        else:
            del streams[name]
    gc.collect()
    assert await sink.aflush(60)
    for name, text, way in tasks:
        expected = TEXTS[text].expected
        reported = sink.history(name).items
        if items[name] == 0:
            assert reported == (), name
            continue
        (response,) = reported
        assert response.run, name
        assert ("provider" in response.metadata) is stop_provider, name  # the tap found its call
        if limits[name] < 10**6:
            assert response.state == "cancelled", name
            assert expected.text.startswith(response.text), name
        else:
            assert (response.state, response.text) == ("complete", expected.text), name
            assert response.reasoning == expected.reasoning, name
            assert response.id.startswith("Layered." if way is layered else "OpenAI."), name
            assert response.metadata["llm"] == ("custom_llm" if way is layered else "openai_llm")
    assert sink.history("default").items == ()
    for model in created:
        await model._get_aclient().close()


@pytest.mark.usefixtures("handler", "stop_provider")  # pytest 8.4.0 does not see the second itself
def test_threads_that_share_the_streams(sink: tokenwire.Sink, replays: list[Replay]) -> None:
    """Threads take the next item of whichever stream is free."""
    model = models.model("chat", replays[0])
    streams = []
    for number in range(STREAMS):
        with tokenwire.channel(f"s{number}"):
            streams.append((model.stream_chat(models.HI), threading.Lock()))

    def take(seed: int) -> None:
        chance = random.Random(seed)
        left = list(streams)
        while left:
            stream, lock = each = chance.choice(left)
            with lock:
                if next(stream, None) is None:
                    left.remove(each)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(take, range(4)))
    assert sink.flush(60)
    for number in range(STREAMS):
        (response,) = sink.history(f"s{number}").items
        assert (response.state, response.text) == ("complete", TEXTS[0].expected.text)


@tapped
@pytest.mark.usefixtures("handler", "stop_provider")  # pytest 8.4.0 does not see the second itself
def test_a_cancel_stops_the_stream_that_was_made_first(sink: tokenwire.Sink) -> None:
    gate = Gate(SOME)
    with Replay(Reply(TEXTS[0].body, gate=gate)) as one, Replay(TEXTS[1].body) as two:
        with tokenwire.channel("one"):
            first = models.model("chat", one).stream_chat(models.HI)
        with tokenwire.channel("two"):
            second = models.model("chat", two).stream_chat(models.HI)
        assert list(second)
        for response in first:
            if response.delta:
                break
        assert sink.flush(60)
        (reported,) = sink.history("one").items
        assert sink.cancel("one", reported.id).state == "cancelled"
        one.wait_closed_early()
        with pytest.raises(tokenwire.ResponseCancelled):
            list(first)
        assert sink.history("two").items[0].state == "complete"


@pytest.mark.usefixtures("handler", "stop_provider")  # pytest 8.4.0 does not see the second itself
@pytest.mark.parametrize("way", [stream_chat, layered], ids=lambda way: way.__name__)
def test_a_stream_that_nobody_is_to_see(
    way: Any, sink: tokenwire.Sink, replays: list[Replay]
) -> None:
    """It may be read where the tag is no longer set."""
    with tokenwire.channel("one"):
        with instrument_tags({"nostream": True}):
            hidden = way(models.model("chat", replays[0]))
        shown = way(models.model("chat", replays[1]))
        left = [iter(hidden), iter(shown)]
        while left:
            left = [stream for stream in left if next(stream, None) is not None]
    assert sink.flush(60)
    (reported,) = sink.history("one").items
    assert reported.text == TEXTS[1].expected.text
    assert sink.history("default").items == ()


@tapped
@pytest.mark.usefixtures("handler", "stop_provider")  # pytest 8.4.0 does not see the second itself
def test_a_call_of_the_programs_own_in_between(sink: tokenwire.Sink, replays: list[Replay]) -> None:
    """Only LlamaIndex's calls are heard, whatever waits to be read."""
    with tokenwire.channel("one"):
        stream = models.model("chat", replays[0]).stream_chat(models.HI)
        with openai.OpenAI(base_url=replays[1].base_url, api_key="k") as client:
            create: Any = client.chat.completions.create
            assert list(create(model="m", messages=[], stream=True))
            next(stream)
            assert list(create(model="m", messages=[], stream=True))
        assert list(stream)
    assert sink.flush(60)
    (reported,) = sink.history("one").items
    assert (reported.state, reported.text) == ("complete", TEXTS[0].expected.text)
