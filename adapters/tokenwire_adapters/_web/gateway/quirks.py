"""Workarounds for ASGI servers, with their versions and upstream issues."""

from __future__ import annotations

import contextlib
import functools
import signal
import socket
import struct
import types
from collections.abc import Iterator
from typing import Any, Protocol, cast, runtime_checkable

__all__ = ["Transport", "reset", "transport_of", "uvicorn_is_stopping"]

# The attributes that lead from an ASGI server's `send` to its transport: uvicorn 0.54
# (`RequestResponseCycle.transport`, the WebSocket protocols' `transport`), hypercorn 0.18
# (`HTTPStream.send`, `H11Protocol.send`, `TCPServer.writer`); and through requests and responses
# of Starlette 1.0, where a middleware has wrapped it.
_STEPS = ("transport", "writer", "send", "_send", "receive", "_receive")
_MOST_STEPS = 64


@runtime_checkable
class Transport(Protocol):
    """What asyncio's transports have in common with uvloop's, which are not of its classes."""

    def abort(self) -> None:
        """Close now; what was not sent is dropped."""

    def get_write_buffer_size(self) -> int:
        """How many bytes wait to be sent."""
        ...

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """A socket, for example."""
        ...


def transport_of(*callables: Any) -> Transport | None:
    """Find the transport behind an ASGI `receive` or `send`; None where there is none.

    ASGI has no message that aborts a connection, and servers close one only when the client has
    read what was sent, which a client that does not read never has.
    """
    waiting, seen = list(callables), set[int]()
    while waiting and len(seen) < _MOST_STEPS:
        step = waiting.pop(0)
        if id(step) in seen:
            continue
        seen.add(id(step))
        if isinstance(step, Transport):
            return step
        waiting += _behind(step)
    return None


def reset(transport: Transport) -> None:
    """Close a connection now, without a trace.

    `abort` alone leaves the kernel with what it has not sent: to a client whose window is closed,
    it goes on to offer that for minutes. Without lingering, it sends a reset and forgets.
    """
    connection = transport.get_extra_info("socket")
    with contextlib.suppress(AttributeError, OSError, TypeError):  # none, or none of TCP
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def _behind(step: Any) -> Iterator[Any]:
    """What a callable calls, as far as one can tell."""
    if isinstance(step, types.MethodType):
        yield step.__self__
    elif isinstance(step, functools.partial):
        partial = cast("functools.partial[Any]", step)
        yield from (partial.func, *partial.args, *partial.keywords.values())
    elif isinstance(step, types.FunctionType):
        for cell in step.__closure__ or ():
            try:
                yield cell.cell_contents
            except ValueError:  # not assigned yet
                continue
    else:
        for name in _STEPS:
            value = getattr(step, name, None)
            if value is not None:
                yield value


def uvicorn_is_stopping() -> bool:
    """Whether a uvicorn server that runs in this process's main thread has begun to shut down.

    uvicorn (0.54 and older) waits for open responses before it sends ``lifespan.shutdown``, so
    streams, which never end, must learn of the shutdown in another way
    (https://github.com/Kludex/uvicorn/issues/451). Its handler of SIGTERM is a bound method of the
    server, whose `should_exit` is public.
    """
    try:
        handler = signal.getsignal(signal.SIGTERM)
    except ValueError:
        return False
    return bool(getattr(getattr(handler, "__self__", None), "should_exit", False))
