"""Patches what OpenAI's SDK opens WebSockets with, so that its client says what is recorded."""

from __future__ import annotations

import functools
import inspect
from typing import Any

from tokenwire.instrument import SdkInstrumentor
from tokenwire_adapters._agents.websockets.listener import instrumentor as listener
from tokenwire_adapters._agents.websockets.quirks import CONNECT, client_of, socket_of

__all__ = ["patch_managers", "release_managers"]


def patch_managers(owner: SdkInstrumentor, managers: tuple[type, ...]) -> None:
    """Record what an SDK's connections receive, as the instrumentor says for their client.

    :param managers: what ``.connect()`` returns: the classes, sync and async.
    """
    for manager in managers:
        for name in (CONNECT, "__enter__", "__aenter__", "enter"):
            owner.patches.replace(manager, name, functools.partial(_adopting, owner))


def release_managers(owner: SdkInstrumentor) -> None:
    """Undo `patch_managers`, after the patches themselves are undone."""
    listener.release(str(owner.module))


def _adopting(owner: SdkInstrumentor, original: Any) -> Any:
    if inspect.iscoroutinefunction(original):

        async def aconnect(manager: Any, *args: Any, **kwargs: Any) -> Any:
            listener.use(owner.module)
            return _adopt(owner, manager, await original(manager, *args, **kwargs))

        return aconnect

    def connect(manager: Any, *args: Any, **kwargs: Any) -> Any:
        listener.use(owner.module)
        return _adopt(owner, manager, original(manager, *args, **kwargs))

    return connect


def _adopt(owner: SdkInstrumentor, manager: Any, result: Any) -> Any:
    socket = socket_of(result) if hasattr(result, "_connection") else result
    listener.adopt(socket, functools.partial(owner.options_for, client_of(manager)))
    return result
