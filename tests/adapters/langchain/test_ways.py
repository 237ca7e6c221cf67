"""Every way to call a model: each token once, one response, the right run and metadata."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import openai
import pytest
from langchain_core.language_models.fake import FakeListLLM
from langchain_core.language_models.fake_chat_models import (
    FakeListChatModel,
    FakeMessagesListChatModel,
    GenericFakeChatModel,
)
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import RunnableLambda

import tokenwire
from tests.support import recordings
from tests.support.frameworks import await_until
from tests.support.replay import Gate, Replay, Reply
from tokenwire.instrument import Options
from tokenwire_adapters.langchain import TokenwireCallbackHandler, instrumentor

from . import models

pytestmark = pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")

Responses = Callable[[], list[tokenwire.Response]]
Only = Callable[[], tokenwire.Response]


@pytest.mark.parametrize("way", models.WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize(
    "name", ["chat-text", "chat-tool-calls", "responses-reasoning-summary", "anthropic-tool-use"]
)
async def test_each_token_once(name: str, way: Any, config: Any, only: Only) -> None:
    recording = recordings.named(name)
    with Replay(recording.body) as replay:
        model = models.model(recording.api, replay)
        if name == "anthropic-tool-use":
            model = model.bind_tools([{"name": "t", "description": "", "input_schema": {}}])
        await models.run(way, model, config)
    response = only()
    assert response.state == "complete"
    assert response.text == recording.expected.text
    assert response.reasoning == recording.expected.reasoning
    assert [part.text for part in response.tool_calls] == recording.expected.tool_arguments
    assert all(part.call_id and part.name for part in response.tool_calls)
    assert response.finish_reason == recording.expected.finish


@pytest.mark.parametrize("way", models.WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize(
    "make",
    [
        lambda: FakeListChatModel(responses=["Hel lo"]),  # does stream
        lambda: FakeMessagesListChatModel(responses=[AIMessage("Hel lo")]),  # does not
        lambda: GenericFakeChatModel(messages=iter([AIMessage("Hel lo")])),
        lambda: FakeListLLM(responses=["Hel lo"]),
    ],
    ids=["list", "messages", "generic", "llm"],
)
async def test_models_that_speak_no_http(make: Any, way: Any, config: Any, only: Only) -> None:
    model = make()
    if "v3" in way.__name__ and isinstance(model, FakeListLLM):
        pytest.skip("v3 events are for chat models")
    if "v3" in way.__name__ and isinstance(model, FakeMessagesListChatModel):
        pytest.skip("v3 events need a model that streams")
    await models.run(way, model, config)
    response = only()
    assert (response.state, response.text) == ("complete", "Hel lo")


def test_a_call_that_does_not_stream_is_one_delta(
    config: Any, sink: tokenwire.Sink, only: Only
) -> None:
    FakeMessagesListChatModel(responses=[AIMessage("Hello")]).invoke("hi", config=config)
    events = list(sink.watch("c", response_id=only().id))
    deltas = [event for event in events if isinstance(event, tokenwire.DeltaEvent)]
    snapshots = [event for event in events if isinstance(event, tokenwire.SnapshotEvent)]
    assert [event.text for event in deltas] == ["Hello"] or snapshots[0].response.text == "Hello"


class _Several(FakeMessagesListChatModel):
    """Gives two replies to one request, with tools and thoughts."""

    def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
        one = AIMessage(
            "A",
            tool_calls=[{"id": "c1", "name": "look", "args": {"at": "ö"}}],
            additional_kwargs={"reasoning_content": "hm"},
            usage_metadata={"input_tokens": 1, "output_tokens": 2, "total_tokens": 3},
            response_metadata={"finish_reason": "tool_calls"},
        )
        two = AIMessage([{"type": "text", "text": "B"}, "C"])
        return ChatResult(generations=[ChatGeneration(message=one), ChatGeneration(message=two)])


def test_whole_messages_and_further_choices(config: Any, responses: Responses) -> None:
    _Several(responses=[]).invoke("hi", config=config)
    first, second = responses()
    assert (first.text, first.reasoning, first.finish_reason) == ("A", "hm", "tool_calls")
    assert first.usage == {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}
    (call,) = first.tool_calls
    assert (call.name, call.call_id, call.text) == ("look", "c1", '{"at": "ö"}')
    assert (second.id, second.text, second.run) == (f"{first.id}-1", "BC", first.run)


def test_batch(config: Any, responses: Responses) -> None:
    model = FakeListChatModel(responses=["one", "two", "three"])
    model.batch(["a", "b", "c"], config=config)
    assert sorted(each.text for each in responses()) == ["one", "three", "two"]


async def test_abatch(config: Any, responses: Responses) -> None:
    await FakeListChatModel(responses=["one", "two"]).abatch(["a", "b"], config=config)
    assert sorted(each.text for each in responses()) == ["one", "two"]


@pytest.mark.parametrize("tapped", [False, True])
@pytest.mark.parametrize("is_async", [False, True])
async def test_generate_with_several_prompts(
    tapped: bool, is_async: bool, handler: TokenwireCallbackHandler, responses: Responses
) -> None:
    from tokenwire_adapters import openai

    one, two = recordings.named("chat-text"), recordings.named("chat-escapes")
    if tapped:
        openai.instrumentor.start(Options())
    try:
        with Replay(one.body, two.body) as replay:
            model = models.model("chat", replay, streaming=True)
            prompts = [[HumanMessage("a")], [HumanMessage("b")]]
            if is_async:
                await model.agenerate(prompts, callbacks=[handler])
            else:
                model.generate(prompts, callbacks=[handler])
    finally:
        openai.instrumentor.stop()
    assert {each.text for each in responses()} == {one.expected.text, two.expected.text}
    assert {each.state for each in responses()} == {"complete"}


def test_nostream_is_not_shown(handler: TokenwireCallbackHandler, responses: Responses) -> None:
    from tokenwire_adapters import openai

    openai.instrumentor.start(Options(channel="c"))  # the layer below keeps quiet, too
    try:
        with Replay(recordings.named("chat-text").body) as replay:
            model = models.model("chat", replay)
            models.stream(model, {"callbacks": [handler], "tags": ["nostream"]})
    finally:
        openai.instrumentor.stop()
    assert responses() == []


def test_the_channel_comes_from_the_config(sink: tokenwire.Sink) -> None:
    model = FakeListChatModel(responses=["x"])
    config: Any = {"callbacks": [TokenwireCallbackHandler(sink)]}
    model.invoke("hi", {**config, "metadata": {"thread_id": "t1"}})
    model.invoke("hi", {**config, "metadata": {"session_id": "s1"}})
    with tokenwire.channel("named"):
        model.invoke("hi", {**config, "metadata": {"thread_id": "t1"}})
    for name in ("t1", "s1", "named"):
        assert [each.text for each in sink.history(name).items] == ["x"]


def test_metadata(sink: tokenwire.Sink, responses: Responses) -> None:
    secret = {"api_key": "sk-secretsecret", "user": "ann"}
    handler = TokenwireCallbackHandler(
        sink, channel="c", metadata=lambda reported: {"user": reported["user"]}
    )
    with Replay(recordings.named("chat-escapes").body) as replay:
        model = models.model("chat", replay)
        model.invoke("hi", {"callbacks": [handler], "metadata": secret}, stream=True)
    (response,) = responses()
    assert response.metadata == {
        "framework": "langchain",
        "provider": "openai",
        "api": "chat.completions",
        "model": "gpt-4o",
        "user": "ann",
    }


def test_another_client_in_the_middle_of_a_stream_is_not_heard(
    config: Any, responses: Responses
) -> None:
    text = recordings.named("chat-text")
    with Replay(text.body) as replay, openai.OpenAI(base_url=replay.base_url, api_key="x") as bare:
        reported: dict[str, Any] = {"model": "m", "messages": [], "stream": True}
        for number, _ in enumerate(models.model("chat", replay).stream("hi", config)):
            if number == 0:
                assert list(bare.chat.completions.create(**reported))
                with bare.chat.completions.with_raw_response.create(**reported).parse() as stream:
                    assert list(stream)
    (response,) = responses()
    assert response.text == text.expected.text


def test_a_run_is_everything_under_one_root(
    config: Any, handler: TokenwireCallbackHandler, responses: Responses
) -> None:
    model = FakeListChatModel(responses=["x"])
    inner = RunnableLambda(lambda text: model.invoke(text).content) | model
    root = uuid4()
    inner.invoke("hi", {"callbacks": [handler], "run_id": root})
    model.invoke("hi", config)
    one, two, three = responses()
    assert one.run == two.run == str(root)
    assert three.run == three.id
    with tokenwire.run("mine"):
        model.invoke("hi", config)
    assert responses()[-1].run == "mine"


def test_two_handlers_are_one(
    sink: tokenwire.Sink, handler: TokenwireCallbackHandler, only: Only
) -> None:
    other = TokenwireCallbackHandler(sink, channel="c")
    model = FakeListChatModel(responses=["x"])
    (model | RunnableLambda(lambda message: message)).invoke("hi", {"callbacks": [handler, other]})
    assert only().text == "x"


def test_a_handler_for_everything(
    sink: tokenwire.Sink, handler: TokenwireCallbackHandler, only: Only
) -> None:
    model = FakeListChatModel(responses=["x"])
    instrumentor.start(Options(sink, channel="every"))
    try:
        model.invoke("hi")
        chain = RunnableLambda(lambda text: model.invoke(text, {"callbacks": [handler]}))
        chain.invoke("hi")  # the call's own handler comes first
    finally:
        instrumentor.stop()
    model.invoke("hi")
    assert only().text == "x"
    assert len(sink.history("every").items) == 1


async def test_two_streams_side_by_side(config: Any, responses: Responses) -> None:
    one, two = recordings.named("chat-text"), recordings.named("chat-escapes")
    with Replay(one.body) as first, Replay(two.body) as second:
        a = models.model("chat", first).astream("hi", config=config)
        b = models.model("chat", second).astream("hi", config=config)
        left = [a, b]
        while left:
            left = [stream for stream in left if await anext(stream, None) is not None]
    assert {each.text for each in responses()} == {one.expected.text, two.expected.text}


async def test_a_call_that_nothing_more_is_heard_of(config: Any, responses: Responses) -> None:
    """A cancelled `ainvoke` without a chain around it tells of no end at all."""
    recording = recordings.named("chat-text")
    gate = Gate(3)
    with Replay(Reply(recording.body, gate=gate)) as replay:
        model = models.model("chat", replay, streaming=True)
        task = asyncio.create_task(model.ainvoke("hi", config=config))
        await models.read_on(lambda: [each for each in responses() if each.text.endswith("ve")])
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        del task
        await await_until(lambda: responses()[0].ended)
    assert responses()[0].state == "cancelled"
    assert recording.expected.text.startswith(responses()[0].text)


async def test_no_claim_outlives_its_call(config: Any, responses: Responses) -> None:
    """A later call of the SDK, in the same context, is not taken for the model's."""
    from openai import AsyncOpenAI

    from tokenwire_adapters.openai import wrap

    recording = recordings.named("chat-text")
    sink = config["callbacks"][0]._sink
    with Replay(recording.body) as replay:
        client = wrap(AsyncOpenAI(base_url=replay.base_url, api_key="x"), sink, channel="c")
        model = models.model("chat", replay)
        async for _ in model.astream("hi", config=config):
            pass
        messages: Any = [{"role": "user", "content": "hi"}]
        async for _ in await client.chat.completions.create(
            model="m", messages=messages, stream=True
        ):
            pass
        await client.close()
    first, *_, last = responses()
    assert first.text == last.text == recording.expected.text
    assert first.run != last.run
    assert "framework" not in last.metadata
