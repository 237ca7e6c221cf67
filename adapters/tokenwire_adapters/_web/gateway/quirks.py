"""Workarounds for ASGI servers, with their versions and upstream issues."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import signal
import socket
import struct
import sys
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any, Protocol, cast, runtime_checkable

__all__ = ["Transport", "reset", "stop_checks", "transport_of"]

# The attributes that lead from an ASGI server's `send` to its transport: uvicorn 0.54
# (`RequestResponseCycle.transport`, the WebSocket protocols' `transport`), hypercorn 0.18
# (`HTTPStream.send`, `H11Protocol.send`, `TCPServer.writer`); and through requests and responses
# of Starlette 1.0, where a middleware has wrapped it.
_STEPS = ("transport", "writer", "send", "_send", "receive", "_receive")
_MOST_STEPS = 64
_GOODBYES = 1.0  # seconds in which clients are sent theirs
_FLAGS = {  # of servers, which are the `self` of a coroutine
    ("uvicorn.server", "Server"): "should_exit",
    ("granian.server.embed", "Server"): "interrupt_signal",
}
_HYPERCORN = ("hypercorn.asyncio.run", "worker_serve")


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


def stop_checks() -> list[Callable[[], bool]]:
    """For each ASGI server of this loop, a function that says whether it has begun to stop.

    Servers wait for open responses before they send ``lifespan.shutdown``, so streams, which never
    end, must learn of it in another way (https://github.com/Kludex/uvicorn/issues/451).

    - uvicorn 0.54: `Server.serve` is a coroutine of this loop, whoever started it and handles
      signals; its frames have the server, whose `should_exit` is public.
    - hypercorn 0.18: `worker_serve` has the `WorkerContext`, whose `terminated` is set first.
    - granian 2.8: see `_granian_check`. The frame that runs the loop has the worker's signal. Its
      embedded `Server.serve` is a coroutine.
    - daphne 4.2: see `_twisted_check`.
    """
    checks: dict[int, Callable[[], bool]] = {}
    for task in asyncio.all_tasks():
        step: Any = task.get_coro()
        while step is not None:
            frame = getattr(step, "cr_frame", None)
            if frame is not None:
                _add_check(checks, frame)
            step = getattr(step, "cr_await", None)
    stack = inspect.currentframe() if "granian" in sys.modules else None
    while stack is not None:
        worker_signal = stack.f_locals.get("shutdown_event")
        if worker_signal is not None and stack.f_globals.get("__name__") == "granian.server.mp":
            checks[id(worker_signal)] = _granian_check(worker_signal)
        stack = stack.f_back
    reactor: Any = sys.modules.get("twisted.internet.reactor")
    if getattr(reactor, "_asyncioEventloop", None) is asyncio.get_running_loop():
        checks[id(reactor)] = _twisted_check(reactor)
    return list(checks.values())


def _add_check(checks: dict[int, Callable[[], bool]], frame: types.FrameType) -> None:
    """Add the check of the server that a coroutine's frame belongs to, if any."""
    owner: Any = frame.f_locals.get("self")
    for base in type(owner).__mro__:
        flag = _FLAGS.get((base.__module__, base.__name__))
        if flag is not None:
            checks[id(owner)] = functools.partial(getattr, owner, flag)
    if (frame.f_globals.get("__name__"), frame.f_code.co_name) == _HYPERCORN:
        context = frame.f_locals.get("context")
        if context is not None:
            checks[id(context)] = context.terminated.is_set


@functools.cache
def _granian_check(worker_signal: Any) -> Callable[[], bool]:
    """Whether a granian worker was told to stop, from now on.

    Its signal handlers set the worker's signal, which cannot be read; then granian cuts sockets and
    waits for event streams, for ever. The handlers put in their place leave time for goodbyes.
    """
    stopping = threading.Event()
    loop: Any = asyncio.get_running_loop()

    def stop() -> None:
        stopping.set()
        loop.call_later(_GOODBYES, worker_signal.set)

    handlers = getattr(loop, "_signal_handlers", None)  # asyncio's, where one can look
    for number in (signal.SIGINT, signal.SIGTERM):
        callback = None if handlers is None else getattr(handlers.get(number), "_callback", None)
        own = getattr(callback, "__module__", None) == "granian._signals"
        if handlers is None or own:  # those of the app stay
            with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
                loop.add_signal_handler(number, stop)
    return stopping.is_set


@functools.cache
def _twisted_check(reactor: Any) -> Callable[[], bool]:
    """Whether a Twisted reactor, which daphne runs, has begun to stop, from now on.

    daphne cancels its applications, but, after a KeyError in `kill_all_applications`, not those
    that come after a connection whose application has ended.
    """
    from twisted.internet.defer import Deferred

    stopping = threading.Event()

    def stop() -> Any:
        stopping.set()
        said = Deferred[None]()
        reactor.callLater(_GOODBYES, said.callback, None)
        return said

    reactor.addSystemEventTrigger("before", "shutdown", stop)
    return stopping.is_set
