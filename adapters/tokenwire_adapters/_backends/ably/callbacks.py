"""Callbacks that give tokens, as ably-python wants them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import copy_context
from inspect import isawaitable, iscoroutinefunction
from typing import Any, cast

__all__ = ["awaitable"]


def awaitable(callback: Any) -> Callable[[Any], Awaitable[Any]]:
    """A callback as a coroutine function. A plain one may block, and then blocks nobody but itself.

    It runs on a daemon thread of its own, not in a pool, whose threads the interpreter waits for
    when it exits.
    """
    if iscoroutinefunction(callback) or iscoroutinefunction(getattr(callback, "__call__", None)):  # noqa: B004
        return cast("Callable[[Any], Awaitable[Any]]", callback)

    async def call(params: Any) -> Any:
        given = await _beside(callback, params)
        return await given if isawaitable(given) else given

    return call


def _beside(callback: Callable[[Any], Any], params: Any) -> asyncio.Future[Any]:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()
    context = copy_context()

    def tell(settle: Callable[[Any], None], value: Any) -> None:
        if not future.done():
            settle(value)

    def run() -> None:
        try:
            told = (future.set_result, context.run(callback, params))
        except BaseException as error:
            told = (future.set_exception, RuntimeError(f"{type(error).__name__} in auth_callback"))
            told[1].__cause__ = error
        with suppress(RuntimeError):  # the loop may be closed by now
            loop.call_soon_threadsafe(tell, *told)

    threading.Thread(target=run, name="tokenwire-auth", daemon=True).start()
    return future
