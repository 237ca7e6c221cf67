"""Workarounds for ably-python: seen with version 3.1.4.

Upstream: https://github.com/ably/ably-python, ``ably/realtime/connectionmanager.py``.
"""

from __future__ import annotations

import asyncio
import traceback
from pathlib import Path
from typing import Any

import ably
from ably import AblyException, AblyRest

__all__ = ["close_realtime", "ignore_sdk_tasks"]

_SDK = str(Path(ably.__file__).parent)


async def close_realtime(client: Any) -> None:
    """Close a realtime client in any state.

    In state "failed" its own `close` waits for an answer on a transport that it no longer has.
    """
    if client.connection.state == "failed":
        await AblyRest.close(client)
    else:
        await client.close()


def ignore_sdk_tasks() -> None:
    """Make the running loop ignore failures of background tasks that ably-python does not await.

    A dropped connection leaves some behind, for instance a CLOSE that finds no socket. pytest would
    count them as failures of the test. Failures of any other task still count.
    """
    loop = asyncio.get_running_loop()
    previous = loop.get_exception_handler()
    if getattr(previous, "ignores_sdk_tasks", False):
        return

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error: BaseException | None = context.get("exception")
        if error is not None and (isinstance(error, AblyException) or _passes_sdk(error)):
            return
        if previous is None:
            loop.default_exception_handler(context)
        else:
            previous(loop, context)

    handle.ignores_sdk_tasks = True  # type: ignore[attr-defined]
    loop.set_exception_handler(handle)


def _passes_sdk(error: BaseException) -> bool:
    frames = traceback.extract_tb(error.__traceback__)
    return any(frame.filename.startswith(_SDK) for frame in frames)
