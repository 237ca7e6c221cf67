"""The models that the tests call, and every way to call one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anthropic.types
import pytest
from llama_index.core.llms import ChatMessage
from llama_index.llms.anthropic import Anthropic
from llama_index.llms.openai import OpenAI, OpenAIResponses

from tests.support.recordings import Api
from tests.support.replay import Replay

HI = [ChatMessage(content="hi")]


def model(api: Api, replay: Replay, **options: Any) -> Any:
    """A model of the provider whose API `replay` speaks."""
    common: dict[str, Any] = {"max_retries": 0, "timeout": 60, "api_key": "unused", **options}
    if api == "anthropic":
        if not isinstance(anthropic.types.MessageParam, type):
            pytest.skip("llama-index-llms-anthropic cannot make a message of this SDK")
        return Anthropic(model="claude-sonnet-4-5", base_url=replay.root_url, **common)
    kind = OpenAI if api == "chat" else OpenAIResponses
    return kind(model="gpt-4o", api_base=replay.base_url, **common)


def stream_chat(model: Any) -> None:
    for _ in model.stream_chat(HI):
        pass


async def astream_chat(model: Any) -> None:
    async for _ in await model.astream_chat(HI):
        pass


def stream_complete(model: Any) -> None:
    for _ in model.stream_complete("hi"):
        pass


async def astream_complete(model: Any) -> None:
    async for _ in await model.astream_complete("hi"):
        pass


WAYS: list[Callable[[Any], Awaitable[None] | None]] = [
    stream_chat,
    astream_chat,
    stream_complete,
    astream_complete,
]


async def run(way: Callable[[Any], Awaitable[None] | None], model: Any) -> None:
    """Call `model` in one of the ways."""
    try:
        done = way(model)
        if done is not None:
            await done
    finally:
        # LlamaIndex leaves it to the garbage collector, which may come when the loop has ended.
        client = getattr(model, "_aclient", None)
        if client is not None:
            await client.close()
