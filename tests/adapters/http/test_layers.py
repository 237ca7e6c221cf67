"""Each token once, although a framework, an SDK and two HTTP clients may all see it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

import tokenwire
from tests.adapters.anthropic.clients import aclient as async_anthropic
from tests.adapters.anthropic.clients import client as anthropic_client
from tests.adapters.http.clients import CHAT, listening
from tests.adapters.openai.clients import aclient as async_openai
from tests.adapters.openai.clients import client as openai_client
from tests.support.claimed_sdks import stop_claimed_sdks
from tests.support.recordings import named
from tests.support.replay import Gate, Replay, Reply
from tests.support.sdk import check, responses
from tokenwire import Sink
from tokenwire.claims import Claim, claiming
from tokenwire.instrument import record_claimed_calls
from tokenwire_adapters import anthropic as anthropic_adapter
from tokenwire_adapters import auto, http
from tokenwire_adapters import openai as openai_adapter

CHAT_TEXT = named("chat-text")
MESSAGE = named("anthropic-text")
HTTP = ("httpx", "httpx2")


@pytest.fixture(autouse=True)
def _uninstalled() -> Iterator[None]:
    stop_claimed_sdks()  # as other tests have left it
    yield
    auto.uninstall()
    stop_claimed_sdks()


def chat(client: Any) -> None:
    list(client.chat.completions.create(model="m", messages=[], stream=True))


def message(client: Any) -> None:
    list(client.messages.create(model="m", max_tokens=9, messages=[], stream=True))


SDKS = [
    pytest.param(CHAT_TEXT, openai_client, chat, openai_adapter, id="openai"),
    pytest.param(MESSAGE, anthropic_client, message, anthropic_adapter, id="anthropic"),
]
each_sdk = pytest.mark.parametrize(("recording", "client", "ask", "adapter"), SDKS)


@each_sdk
def test_a_wrapped_client_over_the_listener(
    recording: Any, client: Any, ask: Any, adapter: Any, sink: Sink
) -> None:
    with Replay(recording.body) as replay, listening(sink, *HTTP, channel="http"):
        with client(replay) as on:
            ask(adapter.wrap(on, sink, channel="sdk"))
    assert responses(sink, "http") == []
    (response,) = responses(sink, "sdk")
    check(response, recording.expected)


@each_sdk
def test_an_sdk_that_is_not_recorded(
    recording: Any, client: Any, ask: Any, adapter: Any, sink: Sink
) -> None:
    with Replay(recording.body) as replay, listening(sink, *HTTP), client(replay) as on:
        ask(on)
    (response,) = responses(sink, "c")
    check(response, recording.expected)


@each_sdk
def test_everything_installed(
    recording: Any, client: Any, ask: Any, adapter: Any, sink: Sink
) -> None:
    auto.install(sink, channel="c")
    with Replay(recording.body) as replay, client(replay) as on:
        ask(on)
    (response,) = responses(sink, "c")
    check(response, recording.expected)


@each_sdk
@pytest.mark.parametrize("sdk_too", [True, False])
def test_a_claim_is_taken_by_the_lowest_layer_that_may(
    recording: Any, client: Any, ask: Any, adapter: Any, sdk_too: bool, sink: Sink
) -> None:
    for instrumentor in (http.httpx, http.httpx2):
        instrumentor.record_claimed_calls()
    if sdk_too:
        adapter.instrumentor.record_claimed_calls()
    claim = Claim(channel="claimed", sink=sink, response_id="r-of-the-framework")
    with Replay(recording.body) as replay, client(replay) as on:
        with claiming(claim):
            ask(on)
        ask(on)  # no call of the framework's: nobody asked to record it
    (response,) = responses(sink, "claimed")
    check(response, recording.expected)
    assert response.id == "r-of-the-framework"
    assert claim.taken


def test_a_suppressed_claim(sink: Sink) -> None:
    claim = Claim()
    claim.suppress(object())
    with Replay(CHAT_TEXT.body) as replay, listening(sink, *HTTP), openai_client(replay) as on:
        with claiming(claim):
            chat(on)
    assert responses(sink, "c") == []


@pytest.mark.parametrize("wrapped", [True, False])
async def test_async_sdks(wrapped: bool, sink: Sink) -> None:
    with listening(sink, *HTTP):
        async with Replay(CHAT_TEXT.body) as replay, async_openai(replay) as on:
            if wrapped:
                openai_adapter.wrap(on, sink, channel="c")
            stream = await on.chat.completions.create(model="m", messages=[], stream=True)
            async for _ in stream:
                pass
        async with Replay(MESSAGE.body) as replay, async_anthropic(replay) as on:
            if wrapped:
                anthropic_adapter.wrap(on, sink, channel="c")
            events = await on.messages.create(model="m", max_tokens=9, messages=[], stream=True)
            async for _ in events:
                pass
    one, other = responses(sink, "c")
    check(one, CHAT_TEXT.expected)
    check(other, MESSAGE.expected)


@each_sdk
@pytest.mark.parametrize("wrapped", [True, False])
def test_what_the_sdk_tries_again_is_one_response(
    recording: Any, client: Any, ask: Any, adapter: Any, wrapped: bool, sink: Sink
) -> None:
    busy = Reply(b'{"error": {"message": "busy"}}', status=429, headers={"retry-after-ms": "1"})
    with Replay(busy, busy, recording.body) as replay, listening(sink, *HTTP):
        with client(replay, max_retries=2) as on:
            ask(adapter.wrap(on, sink, channel="c") if wrapped else on)
    (response,) = responses(sink, "c")
    check(response, recording.expected)


def test_a_whole_reply_and_a_raw_one(sink: Sink) -> None:
    with Replay(CHAT_TEXT.body) as replay, listening(sink, *HTTP), openai_client(replay) as on:
        raw = on.chat.completions.with_raw_response.create(model="m", messages=[], stream=True)
        list(raw.parse())
        with on.chat.completions.with_streaming_response.create(
            model="m", messages=[], stream=True
        ) as streaming:
            list(streaming.iter_lines())
    one, other = responses(sink, "c")
    check(one, CHAT_TEXT.expected)
    check(other, CHAT_TEXT.expected)


def test_a_call_of_a_framework_without_an_sdk_is_cancelled_at_the_provider(sink: Sink) -> None:
    """The listener takes the claim: so a cancel closes the connection that it knows."""
    record_claimed_calls()
    gate = Gate(3)
    claim = Claim(channel="c", sink=sink, on_cancel="raise")
    met: list[BaseException] = []

    def consume(url: str) -> None:
        try:
            with claiming(claim), httpx.Client(timeout=60) as client:
                with client.stream("POST", url, json=CHAT) as response:
                    list(response.iter_bytes())
        except BaseException as error:
            met.append(error)

    with Replay(Reply(CHAT_TEXT.body, gate=gate)) as replay, sink.watch("c") as watch:
        url = f"{replay.base_url}/chat/completions"
        thread = threading.Thread(target=consume, args=(url,))
        thread.start()
        replay.wait_sent(3)
        assert sink.cancel("c", next(watch).response_id or "").state == "cancelled"
        replay.wait_closed_early()
        thread.join()
    assert isinstance(met[0], tokenwire.ResponseCancelled)
