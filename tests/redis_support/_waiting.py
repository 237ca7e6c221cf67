"""Waiting, bounded, for what another process does."""

from __future__ import annotations

import asyncio
import random
import socket
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


# Not the shared generator: hypothesis seeds that, and every worker would draw the same ports.
_chance = random.SystemRandom()
_given: set[int] = set()


def free_port(*, bus: bool = False) -> int:
    """A free loopback port below the ephemeral range, never given twice by this process.

    Below that range, because a server that is down for a while must find its port free again: no
    outgoing connection may take it. With `bus`, port + 10000 is free too (the Cluster bus).
    """
    for _ in range(1000):
        port = _chance.randrange(10_240, 22_000)
        wanted = {port, port + 10_000} if bus else {port}
        if not wanted & _given and all(map(_is_free, wanted)):
            _given.update(wanted)
            return port
    raise RuntimeError("found no free loopback port")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
