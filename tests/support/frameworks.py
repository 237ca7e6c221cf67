"""What the tests of frameworks' adapters share."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable
from typing import Any

import tokenwire
from tests.support.replay import PATIENCE


async def begun(sink: tokenwire.Sink, channel: str = "c", timeout: float = PATIENCE) -> str:
    """Wait until a response of the channel has text. Returns its id."""
    return await _first(sink, channel, "delta", timeout)


async def ended(sink: tokenwire.Sink, channel: str = "c", timeout: float = PATIENCE) -> str:
    """Wait until a response of the channel has ended. Returns its id."""
    return await _first(sink, channel, "end", timeout)


async def _first(sink: tokenwire.Sink, channel: str, event: str, timeout: float) -> str:
    async with asyncio.timeout(timeout):
        async for each in sink.watch(channel, rewind="all"):
            reported: Any = each
            if each.type == event:
                return str(reported.response_id)
            if each.type == "snapshot":
                response: tokenwire.Response = reported.response
                if response.ended if event == "end" else response.text:
                    return response.id
    raise RuntimeError("the sink was closed")


def _collect() -> float:
    """Collect garbage. Returns for how many seconds to let other threads run after that.

    With LlamaIndex loaded, it takes half a second in which no other thread runs.
    """
    began = time.monotonic()
    gc.collect()
    return max(0.005, 3 * (time.monotonic() - began))


def wait_until(holds: Callable[[], Any], timeout: float = PATIENCE) -> Any:
    """Wait until `holds` gives something true, and return it. Garbage is collected meanwhile."""
    deadline = time.monotonic() + timeout
    while not (value := holds()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"it never came to hold: {holds}")
        time.sleep(_collect())
    return value


async def await_until(holds: Callable[[], Any], timeout: float = PATIENCE) -> Any:
    """Do what `wait_until` does, without blocking the loop."""
    deadline = time.monotonic() + timeout
    while not (value := holds()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"it never came to hold: {holds}")
        await asyncio.sleep(_collect())
    return value
