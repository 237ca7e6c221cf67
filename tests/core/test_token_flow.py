"""The files that a token enters are those that docs/architecture.md names."""

from __future__ import annotations

import asyncio
import time

from msgspec.structs import replace

from tests.support.traced import TRIES, Trace, documented
from tokenwire import MemoryBackend, Sink
from tokenwire._writing.outbox import MIN_INTERVAL
from tokenwire.events import DeltaEvent

_PATIENCE = 30.0


class _Background(MemoryBackend):
    """A backend that the I/O thread publishes to."""

    capabilities = replace(MemoryBackend.capabilities, inline=False)


def _rest(sink: Sink) -> None:
    """Have nothing under way, and the next text due: tokens come as slowly from a model."""
    sink.flush()
    time.sleep(2 * MIN_INTERVAL)


def test_published_by_the_thread_that_writes() -> None:
    expected = documented("published by the thread that writes (memory)")
    with Trace() as trace, Sink(MemoryBackend()) as sink:
        response = sink.respond("c")
        response.write("first")
        for _ in range(TRIES):
            _rest(sink)
            with trace.recording():
                response.write(" token")
            if trace.files == expected:
                break
        assert sink.stats().waiting == 0
        response.finish()
    assert trace.files == expected


def test_published_by_the_io_thread() -> None:
    expected = documented("published by the I/O thread")
    with Trace() as trace, Sink(_Background()) as sink:
        response = sink.respond("c")
        response.write("first")
        for _ in range(TRIES):
            _rest(sink)
            until = time.monotonic() + _PATIENCE
            with trace.recording():
                response.write(" token")
                trace.pause_here()
                while sink.stats().waiting:
                    assert time.monotonic() < until
                    time.sleep(MIN_INTERVAL)
            if sorted(trace.files) == sorted(expected):
                break
        response.finish()
    assert sorted(trace.files) == sorted(expected), set(trace.files) ^ set(expected)


async def test_read_by_a_watcher() -> None:
    expected = documented(
        "published by the thread that writes, and read by a watcher in the same process"
    )
    with Trace() as trace:
        async with Sink(MemoryBackend()) as sink, sink.watch("c") as watch:
            response = sink.respond("c")
            response.write("first")
            async with asyncio.timeout(_PATIENCE):
                while not isinstance(await anext(watch), DeltaEvent):
                    pass
            for _ in range(TRIES):
                await sink.aflush()
                await asyncio.sleep(2 * MIN_INTERVAL)
                reading = asyncio.ensure_future(anext(watch))
                await asyncio.sleep(0)  # it waits
                with trace.recording():
                    response.write(" token")
                    async with asyncio.timeout(_PATIENCE):
                        await reading
                if sorted(trace.files) == sorted(expected):
                    break
            response.finish()
    assert sorted(trace.files) == sorted(expected), set(trace.files) ^ set(expected)
