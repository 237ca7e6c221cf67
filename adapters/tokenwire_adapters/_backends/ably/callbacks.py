"""Adapts token callbacks of users to what ably-python accepts."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import copy_context
from inspect import isawaitable, iscoroutinefunction
from typing import Any, cast

__all__ = ["as_coroutine_function"]


def as_coroutine_function(callback: Any) -> Callable[[Any], Awaitable[Any]]:
    """Wrap a callback as a coroutine function; a plain function runs on a thread of its own.

    It is a daemon thread rather than one of a pool, because the interpreter waits for the threads
    of pools when it exits, and a callback may block.
    """
    if iscoroutinefunction(callback) or iscoroutinefunction(getattr(callback, "__call__", None)):  # noqa: B004
        return cast("Callable[[Any], Awaitable[Any]]", callback)

    async def call(params: Any) -> Any:
        result = await _run_in_thread(callback, params)
        return await result if isawaitable(result) else result

    return call


def _run_in_thread(callback: Callable[[Any], Any], params: Any) -> asyncio.Future[Any]:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()
    context = copy_context()

    def settle(setter: Callable[[Any], None], value: Any) -> None:
        if not future.done():
            setter(value)

    def run() -> None:
        try:
            outcome = (future.set_result, context.run(callback, params))
        except BaseException as error:
            wrapped = RuntimeError(f"{type(error).__name__} in auth_callback")
            wrapped.__cause__ = error
            outcome = (future.set_exception, wrapped)
        with suppress(RuntimeError):  # the loop may be closed by now
            loop.call_soon_threadsafe(settle, *outcome)

    threading.Thread(target=run, name="tokenwire-auth", daemon=True).start()
    return future
