"""A stop reaches an agent also where its framework forgets a cancel."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import openai
import pytest

import tokenwire
from tests.adapters.ui.agents import tell_slowly
from tests.adapters.ui.pages import PATIENCE
from tests.support.frameworks import begun
from tests.support.needs import needs
from tokenwire_adapters._web.ui import tasks as module
from tokenwire_adapters.openai import wrap
from tokenwire_adapters.testing.provider import Provider
from tokenwire_adapters.ui import AgentTasks

RUN = "r1"


class Forgetful:
    """Reads a model, and forgets the first cancel, as `asyncio.wait_for` of Python 3.11 may."""

    def __init__(self, read: Callable[[Any], Awaitable[None]]) -> None:
        self._read = read
        self.cancels = 0

    async def __call__(self, response: tokenwire.ResponseWriter) -> None:
        reading = asyncio.create_task(self._read(response))
        while not reading.done():
            try:
                await asyncio.wait({reading})
            except asyncio.CancelledError:
                self.cancels += 1
                if self.cancels > 1:
                    reading.cancel()
        await reading


async def _read_model(provider: Provider, sink: tokenwire.Sink, writer: Any = None) -> None:
    async with openai.AsyncOpenAI(
        base_url=provider.base_url, api_key="unused", max_retries=0
    ) as client:
        wrapped = client if writer is not None else wrap(client, sink)
        stream = await wrapped.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "hm?"}], stream=True
        )
        async for chunk in stream:
            if writer is not None:
                writer.write(chunk.choices[0].delta.content or "-")


def _begin(tasks: AgentTasks) -> asyncio.Task[None]:
    tasks.begin("c", RUN, {}, lambda response: response)
    (task,) = tasks._tasks
    return task


async def _closed_early(provider: Provider) -> None:
    assert await provider.records[-1].wait_async(PATIENCE) == "closed_early"


@pytest.mark.parametrize("by", ["a response of the model's own", "the run's response"])
async def test_an_agent_that_forgets_a_cancel_is_stopped(
    by: str, provider: Provider, sink: tokenwire.Sink, caplog: pytest.LogCaptureFixture
) -> None:
    tell_slowly(provider)

    async def read(writer: Any) -> None:
        await _read_model(provider, sink, writer if by == "the run's response" else None)

    agent = Forgetful(read)
    task = _begin(AgentTasks(sink, agent))
    await begun(sink)
    with caplog.at_level(logging.WARNING, "tokenwire"):
        await sink.acancel("c", RUN)
        await asyncio.wait_for(asyncio.shield(task), PATIENCE)
    # By a second cancel, or as the response of the model was cancelled, too.
    assert agent.cancels
    assert all(each.state == "cancelled" for each in (await sink.ahistory("c")).items)
    assert not [record for record in caplog.records if record.name.startswith("tokenwire")]
    await _closed_early(provider)


async def test_closing_ends_an_agent_that_forgets_a_cancel(
    provider: Provider, sink: tokenwire.Sink
) -> None:
    tell_slowly(provider)

    async def read(writer: Any) -> None:
        await _read_model(provider, sink)

    agent = Forgetful(read)
    tasks = AgentTasks(sink, agent)
    task = _begin(tasks)
    await begun(sink)
    await asyncio.wait_for(tasks.aclose(), PATIENCE)
    assert task.done()
    assert all(each.state == "cancelled" for each in (await sink.ahistory("c")).items)


async def test_an_agent_that_looks_after_what_it_leaves_is_not_disturbed(
    sink: tokenwire.Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_INSIST", (0.001, 0.002))
    looks = asyncio.Semaphore(0)
    saved = asyncio.Event()
    cancels = 0

    class Tasks(AgentTasks):
        async def _written(self, response: Any) -> dict[str, int]:
            looks.release()
            return await super()._written(response)

    async def agent(response: tokenwire.ResponseWriter) -> None:
        nonlocal cancels
        notes = sink.respond("c", response_id="notes", run=response.run)
        notes.write("some")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancels += 1
            try:
                response.write(" (stopped)")
                await saved.wait()
            except asyncio.CancelledError:
                cancels += 1
            raise
        finally:
            notes.finish()

    task = _begin(Tasks(sink, agent))
    await begun(sink)
    await sink.acancel("c", RUN)
    for _ in range(10):
        await looks.acquire()
    saved.set()
    await asyncio.wait_for(task, PATIENCE)
    assert cancels == 1
    states = {each.id: each.state for each in (await sink.ahistory("c")).items}
    assert states == {RUN: "cancelled", "notes": "complete"}


async def test_every_stop_reaches_langchain(
    provider: Provider, sink: tokenwire.Sink, caplog: pytest.LogCaptureFixture
) -> None:
    """langchain-openai reads each chunk with `wait_for`: on Python 3.11, it forgets some."""
    needs("langchain_openai")
    from langchain_openai import ChatOpenAI

    from tokenwire_adapters.langchain import TokenwireCallbackHandler

    provider.pace = 2000
    model = ChatOpenAI(
        model="m", base_url=provider.base_url, api_key=lambda: "unused", max_retries=0
    )
    config: Any = {"callbacks": [TokenwireCallbackHandler(sink)]}

    async def agent(response: tokenwire.ResponseWriter) -> None:
        async for _ in model.astream("hm?", config=config):
            pass

    tasks = AgentTasks(sink, agent)
    for number in range(8):
        provider.script(" ".join(str(word) for word in range(20_000)))
        channel, run = f"c{number}", tasks.new_run()
        tasks.begin(channel, run, {}, lambda response: response)
        (task,) = tasks._tasks
        while not any(each.text for each in (await sink.ahistory(channel)).items):
            await asyncio.sleep(0)
        await sink.acancel(channel, run)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait_for(task, PATIENCE)
        await _closed_early(provider)
    assert not [record for record in caplog.records if record.name.startswith("tokenwire")]
