"""`tokenwire serve` on a file, with one process and with two: another process writes to it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import httpx
import pytest
from httpx_sse import aconnect_sse

from tests.adapters.cli.support import Running
from tests.support.producing import Producer
from tokenwire.events import decode_json
from tokenwire.response import Transcript

pytestmark = pytest.mark.slow

PATIENCE = 60.0
WATCHERS = 8  # enough for both workers to have some


@pytest.fixture(params=[1, 2])
def gateway(request: pytest.FixtureRequest, url: str) -> Iterator[str]:
    workers = request.param
    options = ("--port", "0", "--workers", str(workers), "--no-access-log")
    with Running("serve", url, *options) as running:
        yield running.line(r"gateway: (http://[^ ]+) " + (r".*2 workers" if workers > 1 else ""))[1]
    assert running.status == 0


async def follow(gateway: str, ready: asyncio.Event) -> Transcript:
    """Watch, from the beginning, until response r has ended."""
    transcript = Transcript()
    address = f"{gateway}/channels/c/events?rewind=all"
    async with (
        httpx.AsyncClient(timeout=PATIENCE) as client,
        aconnect_sse(client, "GET", address) as source,
    ):
        async for message in source.aiter_sse():
            if message.event == "message":
                transcript.apply(decode_json(message.data))
            if "r" in transcript:
                ready.set()
                if transcript["r"].ended:
                    break
    return transcript


async def test_a_channel_that_another_process_writes(gateway: str, url: str) -> None:
    ready = [asyncio.Event() for _ in range(WATCHERS)]
    with Producer(url, "c", "r") as producer:
        await asyncio.to_thread(producer.write, "Before anybody watched. ")
        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
            watchers = [group.create_task(follow(gateway, event)) for event in ready]
            for event in ready:
                await event.wait()
            for number in range(20):
                await asyncio.to_thread(producer.write, f"{number} naïve 東京 ")
            receipt = await asyncio.to_thread(producer.finish)
    assert receipt == ("delivered", "complete")
    for watcher in watchers:
        (response,) = watcher.result()
        assert (response.text, response.state) == (producer.text, "complete")
    async with httpx.AsyncClient() as client:
        history = (await client.get(f"{gateway}/channels/c/responses")).json()
    (item,) = history["items"]
    assert [part["text"] for part in item["parts"]] == [producer.text]


async def test_a_stop_reaches_the_process_that_writes(gateway: str, url: str) -> None:
    with Producer(url, "c", "r") as producer:
        await asyncio.to_thread(producer.write, "An answer that nobody wants. ")
        async with httpx.AsyncClient() as client:
            answer = await client.post(f"{gateway}/channels/c/responses/r/cancel")
        assert answer.status_code == 200, answer.text
        assert answer.json()["acknowledged"], answer.text
        assert (await asyncio.to_thread(producer.finish))[1] == "cancelled"
