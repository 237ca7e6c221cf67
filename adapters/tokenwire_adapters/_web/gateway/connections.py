"""Open lines: event streams and sockets, and the one task that looks after all of them."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeAlias

from tokenwire._clock import jitter
from tokenwire_adapters._web.gateway.asgi import Message, Send
from tokenwire_adapters._web.gateway.auth import Caller, Guard
from tokenwire_adapters._web.gateway.limits import Counts, Limits
from tokenwire_adapters._web.gateway.problems import Problem

__all__ = ["Gone", "Line", "Lines", "Reason"]

logger = logging.getLogger("tokenwire.gateway")

Reason: TypeAlias = Literal["gone", "slow", "expired", "bye", "idle", "unauthorized", "flood"]
"""Why a line was dropped."""


class Gone(Exception):
    """The client has left; there is nobody to send to."""


class Line:
    """One open event stream or socket. Made and run by the task that serves it.

    :ivar reason: why it was dropped; None while it was not.
    """

    def __init__(self, caller: Caller, send: Send, kind: str) -> None:
        self.caller = caller
        self.kind = kind
        self.reason: Reason | None = None
        self.loop = asyncio.get_running_loop()
        self.opened_at = self.sent_at = self.loop.time()
        self.sending_since: float | None = None
        self._send = send
        self._lock = asyncio.Lock()
        self._task = asyncio.current_task()
        self._over = False

    async def send(self, message: Message) -> None:
        """Send, one message at a time, whoever calls. :raises Gone: when the client has left."""
        async with self._lock:
            self.sending_since = self.loop.time()
            try:
                await self._send(message)
            except (OSError, RuntimeError) as error:
                # ASGI servers raise an OSError once the client has left; uvicorn a RuntimeError
                # where it has closed a socket itself, whose peer answered no ping.
                if isinstance(error, RuntimeError) and self.kind != "ws":
                    raise
                if asyncio.current_task() is self._task:
                    self.reason = self.reason or "gone"
                else:
                    self.drop("gone")
                raise Gone from error
            finally:
                self.sending_since = None
                self.sent_at = self.loop.time()

    def drop(self, reason: Reason) -> None:
        """End the line: interrupt the task that serves it. The first reason counts."""
        if self.reason is None and not self._over and self._task is not None:
            self.reason = reason
            self._task.cancel()

    @contextmanager
    def serving(self) -> Generator[None, None, None]:
        """Run the body until it ends, or until `drop` ends it (and only it)."""
        try:
            yield
        except Gone:
            pass
        except asyncio.CancelledError:
            if self.reason is None or self._task is None:
                raise
            self._task.uncancel()
        finally:
            self._over = True

    def check(self, now: float) -> None:
        """Look after what is special to this kind of line. Called about once a second."""

    def keep_alive(self) -> Message | None:
        """What to send when nothing was sent for a while."""
        return None


class Lines:
    """All open lines of a gateway.

    :ivar closing: no more lines are taken, since the server shuts down.
    """

    def __init__(self, limits: Limits, guard: Guard) -> None:
        self._limits = limits
        self._guard = guard
        self._lines: set[Line] = set()
        self._clients = Counts()
        self._principals = Counts()
        self._keeper: asyncio.Task[None] | None = None
        self._sends: set[asyncio.Task[None]] = set()
        self._server: Any = None
        self.closing = False
        self.total: dict[str, int] = {"sse": 0, "ws": 0}
        self.dropped: dict[str, int] = {}

    def __iter__(self) -> Iterator[Line]:
        return iter(list(self._lines))

    def __len__(self) -> int:
        return len(self._lines)

    def open(self, kind: str) -> int:
        """How many lines of a kind are open."""
        return sum(1 for line in self._lines if line.kind == kind)

    @contextmanager
    def admitted(self, caller: Caller) -> Generator[None, None, None]:
        """Count a line, from before it is opened until it is closed.

        :raises Problem: ``unavailable`` or ``rate_limited`` when there are too many.
        """
        if self.closing:
            raise Problem("unavailable", "the server is shutting down", retry_after=2)
        limits = self._limits
        if not self._clients.add("all", limits.connections):
            raise Problem("unavailable", "the gateway has all the connections it takes")
        try:
            if not self._clients.add(f"c:{caller.client}", limits.connections_per_client):
                raise Problem("rate_limited", "too many connections from this address")
            try:
                with self.principal_admitted(caller):
                    yield
            finally:
                self._clients.remove(f"c:{caller.client}")
        finally:
            self._clients.remove("all")

    @contextmanager
    def principal_admitted(self, caller: Caller) -> Generator[None, None, None]:
        """Count a line of a principal, where the caller has one by now."""
        principal = caller.principal
        if principal is None:
            yield
            return
        if not self._principals.add(principal, self._limits.connections_per_principal):
            raise Problem("rate_limited", "too many connections of this principal")
        try:
            yield
        finally:
            self._principals.remove(principal)

    @contextmanager
    def listed(self, line: Line) -> Generator[None, None, None]:
        """Look after `line` while the body runs."""
        self._lines.add(line)
        self.total[line.kind] = self.total.get(line.kind, 0) + 1
        if self._keeper is None or self._keeper.done() or self._keeper.get_loop() != line.loop:
            self._server = _server_of_signals()
            self._keeper = asyncio.create_task(self._keep(), name="tokenwire-gateway-keeper")
        try:
            yield
        finally:
            self._lines.discard(line)
            if line.reason is not None:
                self.dropped[line.reason] = self.dropped.get(line.reason, 0) + 1

    async def _keep(self) -> None:
        """Every second, while there are lines: keep alive, expire, drop the slow and the idle."""
        while self._lines:
            await asyncio.sleep(
                min(0.5, self._limits.keep_alive / 2, self._limits.send_timeout / 2)
            )
            if self._server is not None and getattr(self._server, "should_exit", False):
                self.close()
            try:
                for line in list(self._lines):
                    self._look_after(line)
            except Exception:
                logger.exception("tokenwire gateway: looking after lines failed")

    def _look_after(self, line: Line) -> None:
        now = line.loop.time()
        since = line.sending_since
        if since is not None and now - since > self._limits.send_timeout:
            line.drop("slow")
        elif self._guard.expired(line.caller):
            line.drop("expired")
        else:
            if since is None and now - line.sent_at >= self._limits.keep_alive:
                message = line.keep_alive()
                if message is not None:
                    task = asyncio.create_task(_send_quietly(line, message))
                    self._sends.add(task)
                    task.add_done_callback(self._sends.discard)
            line.check(now)

    def close(self) -> None:
        """Take no more lines, and have those that are open say goodbye."""
        self.closing = True
        for line in list(self._lines):
            line.drop("bye")

    async def closed(self, timeout: float) -> bool:
        """Wait until all lines have ended; False after `timeout` seconds."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        while self._lines and loop.time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        if self._keeper is not None and self._keeper.get_loop() is loop and not self._lines:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        return not self._lines


def retry_hint() -> int:
    """Milliseconds after which a client told to go may come back; spread, lest all come at once."""
    return int(1000 * jitter(1.75, 5 / 7))


async def _send_quietly(line: Line, message: Message) -> None:
    try:
        await line.send(message)
    except Exception:
        line.drop("gone")


def _server_of_signals() -> Any:
    """The uvicorn server of this process, where there is one.

    It waits for open streams before it tells the app that it shuts down, so that streams, which
    never end, must be told otherwise. Its `should_exit` is public, and its signal handler, a
    bound method, leads to it.
    """
    try:
        handler = signal.getsignal(signal.SIGTERM)
    except ValueError:
        return None
    server = getattr(handler, "__self__", None)
    return server if hasattr(server, "should_exit") else None
