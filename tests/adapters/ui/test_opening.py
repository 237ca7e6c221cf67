"""A client that comes to a run under way is told of it from its beginning."""

from __future__ import annotations

import asyncio

import anyio
import pytest

import tokenwire
from tests.adapters.ui.pages import PATIENCE
from tests.adapters.ui.vercel_checker import VercelMessage
from tokenwire.backend import Replay, ReplayFrom
from tokenwire.watch import ChannelReader
from tokenwire_adapters._web.ui.runs import find_run
from tokenwire_adapters.vercel import VercelEncoder

GRANULARITIES = ["response", "token"]


@pytest.fixture(params=GRANULARITIES)
def sink(request):
    backend = tokenwire.MemoryBackend(granularity=request.param)
    with tokenwire.open_sink(backend, strict=True) as sink:
        yield sink


def work(sink: tokenwire.Sink, run: str) -> tokenwire.ResponseWriter:
    """A run between two of its responses."""
    envelope = sink.respond("c", response_id=run, run=run, metadata={"tokenwire.run": True})
    with sink.respond("c", run=run) as response:
        response.write("hm", kind="reasoning")
        response.write("Let me see. ")
        response.tool_call("look", f"call-{run}", '{"at": "it"}')
    sink.send_event("c", "note", {"n": 1}, run=run)
    envelope.tool_result(f"call-{run}", "a cat")
    return envelope


async def tell(
    sink: tokenwire.Sink, encoder: VercelEncoder, reader: ChannelReader
) -> VercelMessage:
    message = VercelMessage().read([*encoder.begin()])
    while not encoder.finished:
        for item in await reader.abatch():
            message.read([*encoder.encode(item.event)])
    reader.close()
    return message


async def test_joining_between_two_responses(sink):
    work(sink, "run-0").finish()
    envelope = work(sink, "run-1")
    encoder = VercelEncoder()
    watch = await encoder.join(sink, "c", wait=False)
    assert watch is not None
    with sink.respond("c", run="run-1") as response:
        response.write("A cat.")
    envelope.finish()
    message = await tell(sink, encoder, watch)
    assert message.id == "run-1"
    assert [part["type"] for part in message.parts] == [
        "step-start",
        "reasoning",
        "text",
        "tool-look",
        "data-note",
        "step-start",
        "text",
    ]
    assert message.parts[3]["output"] == "a cat"
    assert message.parts[3]["input"] == {"at": "it"}
    assert message.parts[-1]["text"] == "A cat."


async def test_a_run_that_is_named_may_be_over(sink):
    work(sink, "run-0").finish()
    work(sink, "run-1").finish()
    encoder = VercelEncoder()
    watch = await encoder.join(sink, "c", run="run-0")
    assert watch is not None
    message = await tell(sink, encoder, watch)
    assert (message.id, message.over) == ("run-0", "finish")
    assert await VercelEncoder().join(sink, "c", run="run-2") is None
    assert await VercelEncoder().join(sink, "c", wait=False) is None


async def test_waiting_for_the_next_run(sink):
    work(sink, "run-0").finish()
    encoder = VercelEncoder()
    watch = await encoder.join(sink, "c")
    assert watch is not None
    work(sink, "run-1").cancel()
    message = await tell(sink, encoder, watch)
    assert (message.id, message.over) == ("run-1", "abort")


@pytest.mark.parametrize("over", [False, True])
@pytest.mark.parametrize("earlier", [False, True])
async def test_a_run_that_begins_while_the_channel_is_opened(earlier, over):
    begun: list[tokenwire.ResponseWriter] = []

    def begin() -> None:
        begun.append(work(sink, "run-1"))
        if over:
            begun[0].finish()
        sink.flush()

    class Between(tokenwire.MemoryBackend):
        """A run begins after it was asked what is under way."""

        async def replay(self, channel: str, start: ReplayFrom) -> Replay:
            replay = await super().replay(channel, start)
            if not begun:
                await asyncio.to_thread(begin)
            return replay

    with tokenwire.open_sink(Between(), strict=True) as sink:
        if earlier:
            work(sink, "run-0").finish()
        encoder = VercelEncoder()
        with anyio.fail_after(PATIENCE):
            watch = await encoder.join(sink, "c")
            assert watch is not None
            begun[0].finish()
            message = await tell(sink, encoder, watch)
    assert (message.id, message.over) == ("run-1", "finish")


async def test_a_run_of_many_responses_is_found_whole(sink):
    envelope = work(sink, "run-1")
    for index in range(70):
        with sink.respond("c", run="run-1") as response:
            response.write(f"{index} ")
    found = await find_run(sink, "c")
    assert found is not None
    assert len(found.responses) == 72
    assert found.responses[0].id == "run-1"
    envelope.finish()
    assert not (await find_run(sink, "c", "run-1")).streaming
