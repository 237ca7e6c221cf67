"""The chat models that the tests call, and every way to call one."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from langchain_anthropic import ChatAnthropic
from langchain_core.language_models import BaseChatModel
from langchain_openai import ChatOpenAI
from langchain_openai.chat_models import base as _openai_base

from tests.support.frameworks import await_until
from tests.support.recordings import Api
from tests.support.replay import Replay
from tokenwire_adapters import langchain as adapter

V3 = hasattr(BaseChatModel, "stream_events")
"""Whether this langchain-core has events of version 3."""

REPORTS_FAILED = "response.failed" in inspect.getsource(_openai_base)
"""Whether this langchain-openai raises for a response that failed; 1.1 says nothing."""


def model(api: Api, replay: Replay, **options: Any) -> Any:
    """A model of the provider whose API `replay` speaks."""
    common = {"max_retries": 0, "timeout": 60, "api_key": "unused", **options}
    if api == "anthropic":
        common = {"model": "claude-own-1", "base_url": replay.root_url, **common}
        return ChatAnthropic(**common)
    return ChatOpenAI(
        **{
            "model": "gpt-4o",
            "base_url": replay.base_url,
            "use_responses_api": api == "responses",
            **common,
        }
    )


def stream(model: Any, config: Any) -> None:
    for _ in model.stream("hi", config=config):
        pass


async def astream(model: Any, config: Any) -> None:
    async for _ in model.astream("hi", config=config):
        pass


def invoke(model: Any, config: Any) -> None:
    model.invoke("hi", config=config, stream=True)


async def ainvoke(model: Any, config: Any) -> None:
    await model.ainvoke("hi", config=config, stream=True)


async def astream_events_v2(model: Any, config: Any) -> None:
    async for _ in model.astream_events("hi", config=config, version="v2"):
        pass


def stream_events_v3(model: Any, config: Any) -> None:
    for _ in model.stream_events("hi", config=config, version="v3"):
        pass


async def astream_events_v3(model: Any, config: Any) -> None:
    async for _ in await model.astream_events("hi", config=config, version="v3"):
        pass
    await await_until(lambda: not adapter._runs.calls)  # the stream's own task tells of the end


def chain_stream(model: Any, config: Any) -> None:
    from langchain_core.output_parsers import StrOutputParser

    for _ in (model | StrOutputParser()).stream("hi", config=config):
        pass


async def chain_astream(model: Any, config: Any) -> None:
    from langchain_core.output_parsers import StrOutputParser

    async for _ in (model | StrOutputParser()).astream("hi", config=config):
        pass


WAYS: list[Callable[[Any, Any], Awaitable[None] | None]] = [
    stream,
    astream,
    invoke,
    ainvoke,
    astream_events_v2,
    *([stream_events_v3, astream_events_v3] if V3 else ()),
    chain_stream,
    chain_astream,
]


async def read_on(holds: Callable[[], Any]) -> None:
    """Wait until the sink has what `holds` asks for, and LangChain reads again: a task is cancelled
    only then.

    langchain-openai reads with `asyncio.wait_for`, which in Python 3.11 forgets a cancel that comes
    together with a result. The sink has the text before that: it is taken within the task that
    `wait_for` waits for.
    """
    await await_until(holds)
    for _ in range(10):
        await asyncio.sleep(0)


async def run(way: Callable[[Any, Any], Awaitable[None] | None], model: Any, config: Any) -> None:
    """Call `model` in one of the ways."""
    done = way(model, config)
    if done is not None:
        await done
