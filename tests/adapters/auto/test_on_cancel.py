"""What a watcher's cancel does to the code that reads: for every SDK, sync and async."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import tokenwire
from tests.adapters.anthropic.clients import aclient as anthropic_aclient
from tests.adapters.anthropic.clients import client as anthropic_client
from tests.adapters.openai.clients import aclient as openai_aclient
from tests.adapters.openai.clients import client as openai_client
from tests.support.recordings import named
from tests.support.replay import Gate, Replay, Reply
from tests.support.sdk import responses
from tokenwire import Sink
from tokenwire_adapters import auto

ASK: dict[str, Any] = {"model": "m", "messages": [], "stream": True}
APIS: dict[str, tuple[str, Any, Any, Any]] = {
    "chat": (
        "chat-text",
        openai_client,
        openai_aclient,
        lambda on: on.chat.completions.create(**ASK),
    ),
    "messages": (
        "anthropic-text",
        anthropic_client,
        anthropic_aclient,
        lambda on: on.messages.create(max_tokens=9, **ASK),
    ),
}


def _cancel(sink: Sink) -> None:
    (response,) = responses(sink, "c")
    assert sink.cancel("c", response.id).state == "cancelled"


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("on_cancel", [None, "end", "raise"])
def test_a_sync_stream_ends_as_asked(sink: Sink, api: str, on_cancel: Any) -> None:
    auto.install(sink, channel="c", on_cancel=on_cancel)
    recording, client, _, create = APIS[api]
    gate = Gate(3)
    with Replay(Reply(named(recording).body, gate=gate)) as replay, client(replay) as on:
        stream = create(on)
        next(stream)
        _cancel(sink)
        gate.open()
        if on_cancel == "raise":
            with pytest.raises(tokenwire.ResponseCancelled):
                list(stream)
        else:
            list(stream)


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("on_cancel", [None, "end", "raise"])
async def test_an_async_stream_ends_as_asked(sink: Sink, api: str, on_cancel: Any) -> None:
    auto.install(sink, channel="c", on_cancel=on_cancel)
    recording, _, client, create = APIS[api]
    gate = Gate(3)
    with Replay(Reply(named(recording).body, gate=gate)) as replay:
        async with client(replay) as on:
            stream = await create(on)
            await anext(stream)
            await asyncio.to_thread(_cancel, sink)
            gate.open()
            if on_cancel == "raise":
                with pytest.raises(tokenwire.ResponseCancelled):
                    [item async for item in stream]
            else:
                [item async for item in stream]
