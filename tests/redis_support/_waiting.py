"""Waiting, bounded, for what another process does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
PATIENCE = 60.0  # seconds; what takes milliseconds here may take long on a busy machine


def eventually(
    probe: Callable[[], T], what: str, *, timeout: float = PATIENCE, pause: float = 0.01
) -> T:
    """Call `probe` until it returns something true, and return that.

    :raises TimeoutError: naming `what` was awaited, after `timeout` seconds.
    """
    end = time.monotonic() + timeout
    while not (value := probe()):
        if time.monotonic() > end:
            raise TimeoutError(f"waited {timeout:g} s for {what}")
        time.sleep(pause)
    return value


async def eventually_async(
    probe: Callable[[], T], what: str, *, timeout: float = PATIENCE, pause: float = 0.01
) -> T:
    """Like `eventually`, while the event loop goes on."""
    end = time.monotonic() + timeout
    while not (value := probe()):
        if time.monotonic() > end:
            raise TimeoutError(f"waited {timeout:g} s for {what}")
        await asyncio.sleep(pause)
    return value
