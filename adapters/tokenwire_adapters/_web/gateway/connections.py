"""Open connections, which are event streams and WebSockets, and the tasks that monitor them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Literal, TypeAlias

from tokenwire._clock import jitter
from tokenwire_adapters._web.gateway.asgi import Message, Send
from tokenwire_adapters._web.gateway.auth import Caller
from tokenwire_adapters._web.gateway.limits import Counts, Limits
from tokenwire_adapters._web.gateway.problems import Problem
from tokenwire_adapters._web.gateway.quirks import ServerExit

if TYPE_CHECKING:
    from tokenwire_adapters._web.gateway.service import Service

__all__ = ["ClientGone", "Connection", "Connections", "Reason", "retry_hint"]

logger = logging.getLogger("tokenwire.gateway")

Reason: TypeAlias = Literal["gone", "slow", "expired", "bye", "idle", "unauthorized", "flood"]
"""Why a connection was dropped."""

_MONITOR_INTERVAL = 0.5  # seconds


class ClientGone(Exception):
    """The client has disconnected: nothing more can be sent."""


class Connection:
    """One open event stream or WebSocket. Created and run by the task that serves it.

    :param service: of the routes that serve it: their limits and access rules apply to it.
    :param kind: ``sse`` or ``ws``.
    :ivar reason: why it was dropped; None while it is open, and after an ordinary end.
    """

    def __init__(self, service: Service, caller: Caller, send: Send, kind: str) -> None:
        self.service = service
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
        """Send one message at a time, from any task.

        :raises ClientGone: when the client has disconnected.
        """
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
                raise ClientGone from error
            finally:
                self.sending_since = None
                self.sent_at = self.loop.time()

    def drop(self, reason: Reason) -> None:
        """End the connection: cancel the task that serves it. The first reason counts."""
        if self.reason is None and not self._over and self._task is not None:
            self.reason = reason
            self._task.cancel()

    @contextmanager
    def serving(self) -> Generator[None, None, None]:
        """Run the body until it ends, or until `drop` cancels it (and only it)."""
        try:
            yield
        except ClientGone:
            pass
        except asyncio.CancelledError:
            if self.reason is None or self._task is None:
                raise
            self._task.uncancel()
        finally:
            self._over = True

    def check(self, now: float) -> None:
        """Apply the timeouts of this kind of connection; called at least twice a second."""

    def keep_alive(self) -> Message | None:
        """The message to send when nothing was sent for `Limits.keep_alive` seconds."""
        return None


class Connections:
    """The open connections of a gateway and of the routes that share its service.

    :ivar opened: how many were opened, by kind.
    :ivar dropped: how many were dropped, by reason.
    """

    def __init__(self) -> None:
        self._open: set[Connection] = set()
        self._clients = Counts()
        self._principals = Counts()
        self._monitors: dict[asyncio.AbstractEventLoop, asyncio.Task[None]] = {}
        self._sends: set[asyncio.Task[None]] = set()
        self.opened: dict[str, int] = {"sse": 0, "ws": 0}
        self.dropped: dict[str, int] = {}

    def __iter__(self) -> Iterator[Connection]:
        return iter(list(self._open))

    def __len__(self) -> int:
        return len(self._open)

    @contextmanager
    def admitted(self, caller: Caller, limits: Limits) -> Generator[None, None, None]:
        """Count a connection, from before it is opened until it is closed.

        :raises Problem: ``unavailable`` or ``rate_limited`` when there are too many.
        """
        if not self._clients.add("all", limits.connections):
            raise Problem("unavailable", "the gateway has all the connections it takes")
        try:
            if not self._clients.add(f"c:{caller.client}", limits.connections_per_client):
                raise Problem("rate_limited", "too many connections from this address")
            try:
                with self.principal_admitted(caller, limits):
                    yield
            finally:
                self._clients.remove(f"c:{caller.client}")
        finally:
            self._clients.remove("all")

    @contextmanager
    def principal_admitted(self, caller: Caller, limits: Limits) -> Generator[None, None, None]:
        """Count a connection of the caller's principal, where that is known."""
        principal = caller.principal
        if principal is None:
            yield
            return
        if not self._principals.add(principal, limits.connections_per_principal):
            raise Problem("rate_limited", "too many connections of this principal")
        try:
            yield
        finally:
            self._principals.remove(principal)

    @contextmanager
    def registered(self, connection: Connection) -> Generator[None, None, None]:
        """Monitor `connection` while the body runs."""
        self._open.add(connection)
        self.opened[connection.kind] = self.opened.get(connection.kind, 0) + 1
        loop = connection.loop
        monitor = self._monitors.get(loop)
        if monitor is None or monitor.done():
            self._monitors = {known: t for known, t in self._monitors.items() if not t.done()}
            self._monitors[loop] = asyncio.create_task(
                self._monitor(loop), name="tokenwire-gateway-monitor"
            )
        try:
            yield
        finally:
            self._open.discard(connection)
            if connection.reason is not None:
                self.dropped[connection.reason] = self.dropped.get(connection.reason, 0) + 1

    def _of_loop(self, loop: asyncio.AbstractEventLoop) -> list[Connection]:
        return [connection for connection in self if connection.loop is loop]

    async def _monitor(self, loop: asyncio.AbstractEventLoop) -> None:
        """Check the connections of this loop at least twice a second, while there are any."""
        server = ServerExit()
        while connections := self._of_loop(loop):
            await asyncio.sleep(min(map(_interval, connections)))
            if server.requested:
                for connection in connections:
                    connection.service.close()
            try:
                for connection in self._of_loop(loop):
                    self._check(connection)
            except Exception:
                logger.exception("tokenwire gateway: checking the connections failed")

    def _check(self, connection: Connection) -> None:
        service, now = connection.service, connection.loop.time()
        since = connection.sending_since
        if since is not None and now - since > service.limits.send_timeout:
            connection.drop("slow")
        elif service.guard.expired(connection.caller):
            connection.drop("expired")
        else:
            if since is None and now - connection.sent_at >= service.limits.keep_alive:
                message = connection.keep_alive()
                if message is not None:
                    task = asyncio.create_task(_send_or_drop(connection, message))
                    self._sends.add(task)
                    task.add_done_callback(self._sends.discard)
            connection.check(now)

    async def wait_closed(self, connections: list[Connection], timeout: float) -> bool:
        """Wait until these have ended; False after `timeout` seconds."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        while not self._open.isdisjoint(connections) and loop.time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        monitor = self._monitors.get(loop)
        if monitor is not None and not self._of_loop(loop):
            monitor.cancel()
            await asyncio.gather(monitor, return_exceptions=True)
        return self._open.isdisjoint(connections)


def drop_all(connections: list[Connection], reason: Reason) -> None:
    """Drop connections, whichever thread's event loop serves them."""
    try:
        running = asyncio.get_running_loop()
    except RuntimeError:
        running = None
    for connection in connections:
        if connection.loop is running:
            connection.drop(reason)
        else:
            with suppress(RuntimeError):  # its loop is closed
                connection.loop.call_soon_threadsafe(connection.drop, reason)


def retry_hint() -> int:
    """Milliseconds after which a dropped client may reconnect, spread at random."""
    return int(1000 * jitter(1.75, 5 / 7))


def _interval(connection: Connection) -> float:
    limits = connection.service.limits
    return min(_MONITOR_INTERVAL, limits.keep_alive / 2, limits.send_timeout / 2)


async def _send_or_drop(connection: Connection, message: Message) -> None:
    try:
        await connection.send(message)
    except Exception:
        connection.drop("gone")
