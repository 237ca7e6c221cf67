"""Background Responses: several requests bring one response, which ends when it is over."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI

import tokenwire
from tests.adapters.openai.clients import client as replay_client
from tests.support.replay import Replay, Reply
from tests.support.sdk import ended, responses
from tests.support.sse import body
from tokenwire import Sink
from tokenwire_adapters import auto
from tokenwire_adapters._agents.openai import background
from tokenwire_adapters.openai import wrap
from tokenwire_adapters.testing.provider import Provider, ScriptedReply, serve_in_thread

ASK: Any = {"model": "m", "input": "Hello", "background": True}
WORDS = ["It ", "has ", "rained ", "in ", "Oslo ", "today."]
TEXT = "".join(WORDS)


@pytest.fixture
def provider() -> Iterator[Provider]:
    with serve_in_thread(pace=0) as provider:
        provider.script(ScriptedReply(text=WORDS, reasoning="Hm"))
        yield provider


@pytest.fixture
def client(provider: Provider, sink: Sink) -> Iterator[OpenAI]:
    with OpenAI(base_url=provider.base_url, api_key="x", max_retries=0) as client:
        yield wrap(client, sink, channel="c")


def test_polls_grow_one_response(client: OpenAI, sink: Sink) -> None:
    reply = client.responses.create(**ASK)
    (response,) = responses(sink, "c")
    assert (response.state, response.text) == ("streaming", "")
    grown: list[str] = []
    while reply.status in ("queued", "in_progress"):
        reply = client.responses.retrieve(reply.id)
        sink.flush()  # a poll that follows at once is gathered
        (response,) = responses(sink, "c")
        assert response.text == reply.output_text
        grown.append(response.text)
    assert reply.status == "completed"
    assert len(set(grown)) > 2
    assert (response.state, response.text) == ("complete", TEXT)
    assert response.reasoning == "Hm"
    assert response.finish_reason == "completed"
    assert response.usage is not None
    assert response.metadata["model"] == "m"
    client.responses.retrieve(reply.id)
    list(client.responses.retrieve(reply.id, stream=True))
    assert responses(sink, "c") == [response]


async def test_polls_grow_one_response_async(provider: Provider, sink: Sink) -> None:
    async with AsyncOpenAI(base_url=provider.base_url, api_key="x", max_retries=0) as client:
        wrap(client, sink, channel="c")
        reply = await client.responses.create(**ASK)
        while reply.status in ("queued", "in_progress"):
            polls = [client.responses.retrieve(reply.id) for _ in range(2)]
            reply = (await asyncio.gather(*polls))[-1]
    (response,) = responses(sink, "c")
    assert (response.state, response.text, response.reasoning) == ("complete", TEXT, "Hm")


def test_auto_follows_the_polls(provider: Provider, sink: Sink) -> None:
    undo = auto.install(sink, channel="c")
    try:
        with OpenAI(base_url=provider.base_url, api_key="x", max_retries=0) as client:
            reply = client.responses.create(**ASK)
            while reply.status in ("queued", "in_progress"):
                reply = client.responses.retrieve(reply.id)
    finally:
        undo()
    (response,) = responses(sink, "c")
    assert (response.state, response.text) == ("complete", TEXT)


def test_raw_polls_are_read_when_they_are_parsed(client: OpenAI, sink: Sink) -> None:
    reply = client.responses.with_raw_response.create(**ASK).parse()
    while reply.status in ("queued", "in_progress"):
        reply = client.responses.with_raw_response.retrieve(reply.id).parse()
    (response,) = responses(sink, "c")
    assert (response.state, response.text) == ("complete", TEXT)


def test_a_tool_call_grows_with_the_polls(provider: Provider, client: OpenAI, sink: Sink) -> None:
    client.responses.create(model="m", input="uses up the script")
    arguments = {"city": "Oslo", "days": [1, 2, 3, 4]}
    provider.script(ScriptedReply(text="See.", tool_calls=[("weather", arguments)]))
    reply = client.responses.create(**ASK)
    while reply.status in ("queued", "in_progress"):
        reply = client.responses.retrieve(reply.id)
    response = responses(sink, "c")[-1]
    (call,) = response.tool_calls
    assert (response.text, call.name) == ("See.", "weather")
    assert call.arguments == reply.output[-1].arguments  # type: ignore[union-attr]


def test_the_provider_cancels_it(client: OpenAI, sink: Sink) -> None:
    reply = client.responses.create(**ASK)
    client.responses.retrieve(reply.id)
    assert client.responses.cancel(reply.id).status == "cancelled"
    (response,) = responses(sink, "c")
    assert response.state == "cancelled"
    assert TEXT.startswith(response.text)


BROKEN = "peer closed|Connection error"
"""What httpx says, and openai 3.57 in its place."""


def read_until_it_breaks(client: OpenAI) -> tuple[str, int]:
    response_id, number = "", -1
    stream = client.responses.create(**ASK, stream=True)
    with pytest.raises(Exception, match=BROKEN):
        for event in stream:
            response_id = response_id or event.response.id  # type: ignore[union-attr]
            number = event.sequence_number
    return response_id, number


@pytest.fixture
def breaking(provider: Provider, client: OpenAI) -> OpenAI:
    """A client whose next stream breaks after three tokens."""
    client.with_options().responses.create(model="m", input="uses up the script")
    provider.script(ScriptedReply(text=WORDS, disconnect_after=3))
    return client


def test_a_broken_stream_is_resumed(breaking: OpenAI, sink: Sink) -> None:
    response_id, number = read_until_it_breaks(breaking)
    response = responses(sink, "c")[-1]
    assert response.state == "streaming"
    assert TEXT.startswith(response.text)  # the last words may be lost with the connection
    list(breaking.responses.retrieve(response_id, stream=True, starting_after=number))
    _, response = responses(sink, "c")
    assert (response.state, response.text, len(response.parts)) == ("complete", TEXT, 1)


@pytest.mark.parametrize("after", [None, 0, 5, 40])
def test_a_stream_resumed_from_elsewhere_repeats_nothing(
    breaking: OpenAI, sink: Sink, after: int | None
) -> None:
    """Without, from an event that came before, and from one that never came."""
    response_id, number = read_until_it_breaks(breaking)
    more: Any = {} if after is None else {"starting_after": min(after, number + 2)}
    list(breaking.responses.retrieve(response_id, stream=True, **more))
    _, response = responses(sink, "c")
    assert (response.state, response.text, len(response.parts)) == ("complete", TEXT, 1)


async def test_a_stream_that_was_left_is_resumed_async(provider: Provider, sink: Sink) -> None:
    async with AsyncOpenAI(base_url=provider.base_url, api_key="x", max_retries=0) as client:
        wrap(client, sink, channel="c")
        response_id = ""
        number = -1
        stream = await client.responses.create(**ASK, stream=True)
        async for event in stream:
            response_id = response_id or event.response.id  # type: ignore[union-attr]
            number = event.sequence_number
            if event.type == "response.output_text.delta":
                break
        resumed = await client.responses.retrieve(response_id, stream=True, starting_after=number)
        async for _ in resumed:
            pass
    (response,) = responses(sink, "c")
    assert (response.state, response.text) == ("complete", TEXT)


def test_a_stream_that_broke_is_polled_to_its_end(breaking: OpenAI, sink: Sink) -> None:
    response_id, _ = read_until_it_breaks(breaking)
    while breaking.responses.retrieve(response_id).status != "completed":
        pass
    _, response = responses(sink, "c")
    assert (response.state, response.text, len(response.parts)) == ("complete", TEXT, 1)


@pytest.mark.parametrize("after", [None, 3])
def test_a_polled_response_is_streamed_to_its_end(
    client: OpenAI, sink: Sink, after: int | None
) -> None:
    reply = client.responses.create(**ASK)
    client.responses.retrieve(reply.id)
    client.responses.retrieve(reply.id)
    more: Any = {} if after is None else {"starting_after": after}
    list(client.responses.retrieve(reply.id, stream=True, **more))
    (response,) = responses(sink, "c")
    assert (response.state, response.text, response.reasoning) == ("complete", TEXT, "Hm")


def test_a_response_of_another_process_is_followed(
    provider: Provider, client: OpenAI, sink: Sink
) -> None:
    other = OpenAI(base_url=provider.base_url, api_key="x")
    one = other.responses.create(**ASK).id
    two = other.responses.create(**ASK).id
    while client.responses.retrieve(one).status != "completed":
        pass
    (response,) = responses(sink, "c")
    assert response.state == "complete"
    assert response.text == client.responses.retrieve(one).output_text
    while other.responses.retrieve(two).status != "completed":
        pass
    client.responses.retrieve(two)  # over before it was seen
    assert len(responses(sink, "c")) == 1
    other.close()


def test_a_poll_that_fails_ends_nothing(provider: Provider, client: OpenAI, sink: Sink) -> None:
    reply = client.responses.create(**ASK)
    away = client.with_options(base_url=provider.base_url + "/nowhere")
    with pytest.raises(openai.NotFoundError):
        away.responses.retrieve(reply.id)
    (response,) = responses(sink, "c")
    assert response.state == "streaming"
    while client.responses.retrieve(reply.id).status != "completed":
        pass
    assert responses(sink, "c")[0].text == TEXT


def test_a_request_that_fails_ends_it(client: OpenAI, sink: Sink) -> None:
    with pytest.raises(openai.BadRequestError):
        client.responses.create(model="m", input=[], background=True)
    (response,) = responses(sink, "c")
    assert response.state == "failed"


def test_nobody_asks_again(client: OpenAI, sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "PATIENCE", 0.0)
    client.responses.create(**ASK)
    response = ended(sink, "c")
    assert response.state == "cancelled"
    assert response.text == ""


def test_a_broken_stream_that_nobody_resumes_has_failed(
    breaking: OpenAI, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "PATIENCE", 0.0)
    read_until_it_breaks(breaking)
    response = ended(sink, "c")
    assert response.state == "failed"
    assert re.search(BROKEN, response.error or "")


@pytest.mark.parametrize("on_cancel", ["end", "raise"])
def test_a_watcher_cancels_it(
    provider: Provider, client: OpenAI, sink: Sink, on_cancel: Any
) -> None:
    wrap(client, sink, channel="c", on_cancel=on_cancel)
    reply = client.responses.create(**ASK)
    (response,) = responses(sink, "c")
    assert sink.cancel("c", response.id).state == "cancelled"
    if on_cancel == "raise":
        with pytest.raises(tokenwire.ResponseCancelled):
            client.responses.retrieve(reply.id)
    else:
        assert client.responses.retrieve(reply.id).status == "in_progress"
        list(client.responses.retrieve(reply.id, stream=True))
    (response,) = responses(sink, "c")
    assert (response.state, response.text) == ("cancelled", "")


def test_the_table_is_bounded(client: OpenAI, sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    table = background.BackgroundResponses(limit=2)
    monkeypatch.setattr(background, "BACKGROUND", table)
    for _ in range(4):
        client.responses.create(**ASK)
    assert len(table) == 2
    states = [response.state for response in responses(sink, "c")]
    assert states == ["cancelled", "cancelled", "streaming", "streaming"]


def test_an_id_at_two_servers_is_two_responses(sink: Sink) -> None:
    def reply(status: str, text: str) -> Reply:
        content = [{"type": "output_text", "text": text, "annotations": []}]
        output = [{"type": "message", "id": "m", "role": "assistant", "content": content}]
        response = {"id": "resp_1", "object": "response", "status": status, "output": output}
        return Reply(json.dumps(response).encode(), headers={"content-type": "application/json"})

    with (
        Replay(reply("queued", ""), reply("completed", "one")) as one,
        Replay(reply("queued", ""), reply("completed", "two")) as two,
        replay_client(one) as first,
        replay_client(two) as second,
    ):
        wrap(first, sink, channel="one").responses.create(**ASK)
        wrap(second, sink, channel="two").responses.create(**ASK)
        first.responses.retrieve("resp_1")
        second.responses.retrieve("resp_1")
    assert [response.text for response in responses(sink, "one")] == ["one"]
    assert [response.text for response in responses(sink, "two")] == ["two"]


def test_events_whose_numbers_say_nothing_are_all_read(sink: Sink) -> None:
    """Some servers number every event 0."""
    response = {"id": "resp_0", "object": "response", "status": "in_progress", "output": []}
    delta = {"type": "response.output_text.delta", "item_id": "m", "output_index": 0}
    events = [
        {"type": "response.created", "response": response},
        *({**delta, "content_index": 0, "delta": word} for word in WORDS),
        {"type": "response.completed", "response": {**response, "status": "completed"}},
    ]
    stream = body(*({**event, "sequence_number": 0} for event in events))
    with Replay(stream) as replay, replay_client(replay) as client:
        list(wrap(client, sink, channel="c").responses.create(**ASK, stream=True))
    (one,) = responses(sink, "c")
    assert (one.state, one.text) == ("complete", TEXT)


def count_input_tokens(client: OpenAI) -> object:
    if not hasattr(client.responses, "input_tokens"):  # as in openai 2.0
        return client.post("/responses/input_tokens", body={"model": "m"}, cast_to=object)
    return client.responses.input_tokens.count(model="m", input="x")


def test_other_calls_about_responses_pass_by(
    client: OpenAI, sink: Sink, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="tokenwire"):
        for call in (
            lambda: client.responses.input_items.list("resp_1"),
            lambda: client.responses.delete("resp_1"),
            lambda: count_input_tokens(client),
        ):
            with pytest.raises(openai.APIStatusError):
                call()
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert not responses(sink, "c")
