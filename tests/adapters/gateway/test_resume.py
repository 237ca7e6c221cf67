"""Whatever breaks in between, what a watcher has in the end is what was written."""

from __future__ import annotations

import asyncio
import contextlib
import random

import anyio
import httpx
import pytest
import websockets

import tokenwire
from tests.adapters.gateway.support import PATIENCE, Server, chatting, native, serving, watching
from tokenwire.response import Transcript
from tokenwire_adapters.asgi import Gateway, Limits

pytestmark = pytest.mark.in_turn("way")
BREAKS = 3
PIECES = [" the", " cat", "\n", "  ", "é", "😀", "x" * 300, "\u2028", "data: ", "\r\n"]


async def produce(
    sink: tokenwire.Sink, rng: random.Random, count: int, breaks: list[str]
) -> dict[str, str]:
    """Write `count` responses, two at a time, at an uneven pace.

    The last one goes on until readers were broken off `BREAKS` times, however slow these are.
    """
    texts: dict[str, list[str]] = {}
    open_: list[tokenwire.ResponseWriter] = []
    begun = 0
    while begun < count or open_:
        if begun < count and len(open_) < 2:
            open_.append(sink.respond("c", response_id=f"r{begun}"))
            texts[f"r{begun}"] = []
            begun += 1
        response = rng.choice(open_)
        for _ in range(rng.randint(1, 4)):
            piece = rng.choice(PIECES)
            response.write(piece)
            texts[response.id].append(piece)
        is_last = begun == count and len(open_) == 1
        if rng.random() < 0.03 and (not is_last or len(breaks) >= BREAKS):
            response.finish()
            open_.remove(response)
        await asyncio.sleep(rng.choice((0, 0, 0, 0.001, 0.004)))
    return {name: "".join(pieces) for name, pieces in texts.items()}


def complete(transcript: Transcript, count: int) -> bool:
    return len(transcript) == count and all(response.ended for response in transcript)


@pytest.fixture(params=["large ring", "small ring"])
def server_of_ring(request: pytest.FixtureRequest, sink: tokenwire.Sink):
    events = 2048 if request.param == "large ring" else 8
    with (
        tokenwire.Sink(sink.backend, ring_events=events) as reading,
        serving(Gateway(reading, limits=Limits(request_burst=2000))) as server,
    ):
        yield server


async def read_stream(
    url: str, rng: random.Random, transcript: Transcript, count: int, breaks: list[str]
) -> None:
    """Read event streams, leaving each after a while, and resuming like a browser."""
    last = ""
    async with httpx.AsyncClient(base_url=url, timeout=PATIENCE) as client:
        while not complete(transcript, count):
            headers = {"last-event-id": last} if last else {}
            query = "" if last else "?rewind=all"
            with contextlib.suppress(httpx.TransportError):
                async with watching(
                    client, f"/channels/c/events{query}", headers=headers
                ) as stream:
                    for _ in range(rng.randint(1, 20)):
                        event = await stream.next()
                        for one in native([event]):
                            transcript.apply(one)
                        last = event.id or last
                        if complete(transcript, count):
                            return
            breaks.append(last)


async def read_socket(
    url: str, rng: random.Random, transcript: Transcript, count: int, breaks: list[str]
) -> None:
    cursor = None
    while not complete(transcript, count):
        with contextlib.suppress(websockets.ConnectionClosed):
            async with chatting(url) as chat:
                chat.transcript = transcript
                await chat.ask("subscribe", after=cursor, rewind="all")
                for _ in range(rng.randint(1, 20)):
                    await chat.receive()
                    cursor = chat.cursors.get("c", cursor)
                    if complete(transcript, count):
                        break
                if rng.random() < 0.5:
                    chat.socket.transport.abort()
        if not complete(transcript, count):
            breaks.append(cursor or "")


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("reader", [read_stream, read_socket])
async def test_text_is_exact_over_random_disconnects(
    server_of_ring: Server, sink: tokenwire.Sink, reader, seed: int
) -> None:
    rng = random.Random(seed)
    url = server_of_ring.url if reader is read_stream else server_of_ring.ws_url
    breaks: list[str] = []
    transcripts = [Transcript() for _ in range(3)]
    with anyio.fail_after(2 * PATIENCE):
        async with asyncio.TaskGroup() as tasks:
            written = tasks.create_task(produce(sink, rng, 12, breaks))
            for n, transcript in enumerate(transcripts):
                chance = random.Random(100 * seed + n)
                tasks.create_task(reader(url, chance, transcript, 12, breaks))
    for transcript in transcripts:
        assert {response.id: response.text for response in transcript} == written.result()


async def test_a_replay_broken_off_midway_leaves_no_hole(
    server: Server, sink: tokenwire.Sink
) -> None:
    """Two responses stream; a reader that got the snapshot of only one comes back."""
    first, second = sink.respond("c", response_id="r1"), sink.respond("c", response_id="r2")
    first.write("one")
    second.write("two")
    transcript = Transcript()
    async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client:
        async with watching(client, "/channels/c/events") as stream:
            event = await stream.next()
            transcript.apply(native([event])[0])
            last = event.id
        first.write(" and more")
        second.write(" and more")
        headers = {"last-event-id": last} if last else {}
        async with watching(client, "/channels/c/events", headers=headers) as stream:
            first.finish()
            second.finish()
            while not complete(transcript, 2):
                for one in native([await stream.next()]):
                    transcript.apply(one)
    assert {response.text for response in transcript} == {"one and more", "two and more"}


async def test_watchers_resume_at_another_gateway(sink: tokenwire.Sink) -> None:
    """Two processes would share a Redis; two gateways here share a store."""
    with (
        tokenwire.Sink(sink.backend) as one,
        tokenwire.Sink(sink.backend) as two,
        serving(Gateway(one)) as first,
        serving(Gateway(two)) as second,
    ):
        response = sink.respond("c", response_id="r1")
        response.write("one ")
        transcript, cursor = Transcript(), None
        for n in range(6):
            url = (first, second)[n % 2].ws_url
            async with chatting(url) as chat:
                chat.transcript = transcript
                await chat.ask("subscribe", after=cursor)
                response.write(f"{n} ")
                while not transcript["r1"].text.endswith(f"{n} ") if "r1" in transcript else True:
                    await chat.receive()
                cursor = chat.cursors["c"]
        response.finish()
    assert transcript["r1"].text == "one 0 1 2 3 4 5 "
