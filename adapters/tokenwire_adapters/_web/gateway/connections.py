"""Open event streams and sockets, and the task that monitors them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from typing import Literal, Protocol, Self, TypeAlias

from tokenwire._clock import jitter
from tokenwire_adapters._web.gateway.asgi import Message, Receive, Send
from tokenwire_adapters._web.gateway.auth import Caller, Guard
from tokenwire_adapters._web.gateway.limits import Counts, Limits
from tokenwire_adapters._web.gateway.problems import Problem
from tokenwire_adapters._web.gateway.quirks import reset, stop_checks, transport_of

__all__ = [
    "Admission",
    "Connection",
    "Connections",
    "Disconnected",
    "Monitored",
    "Owner",
    "Reason",
    "flushed",
    "retry_hint",
]

logger = logging.getLogger("tokenwire.gateway")

_TURNS = 10

Reason: TypeAlias = Literal["gone", "slow", "expired", "bye", "idle", "unauthorized", "flood"]
"""Why a connection was dropped."""


class Disconnected(Exception):
    """The client has disconnected; there is nobody to send to."""


class Owner(Protocol):
    """The service that a connection belongs to."""

    limits: Limits
    guard: Guard

    def close(self) -> None:
        """Take no more connections, and drop those that are open."""


class Monitored(Protocol):
    """An open event stream or socket, as it is listed and monitored.

    :ivar reason: why it was dropped; None while it was not.
    :ivar sending_since: since when its client has not taken what was sent; None where it has.
    """

    owner: Owner
    caller: Caller
    kind: str
    reason: Reason | None
    loop: asyncio.AbstractEventLoop
    sending_since: float | None

    def drop(self, reason: Reason) -> None:
        """End it. The first reason counts. Called on its loop."""

    def drop_soon(self, reason: Reason) -> None:
        """`drop`, from any thread."""

    def monitor(self, now: float) -> None:
        """Keep it alive, expire it, drop it where it is slow. Called at least twice a second."""


class Connection:
    """One open event stream or socket. Created and run by the task that serves it.

    :ivar reason: why it was dropped; None while it was not.
    :ivar sending_since: when the send under way began (the loop's time); None when none is.
    """

    def __init__(
        self, owner: Owner, caller: Caller, receive: Receive, send: Send, kind: str
    ) -> None:
        self.owner = owner
        self.caller = caller
        self.kind = kind
        self.reason: Reason | None = None
        self.loop = asyncio.get_running_loop()
        self.opened_at = self.sent_at = self.loop.time()
        self.sending_since: float | None = None
        self._receive = receive
        self._send = send
        self._lock = asyncio.Lock()
        self._task = asyncio.current_task()
        self._cancelled: asyncio.CancelledError | None = None
        self._keeping_alive: asyncio.Task[None] | None = None
        self._over = False

    async def send(self, message: Message) -> None:
        """Send, one message at a time, whoever calls.

        :raises Disconnected: when the client has disconnected.
        """
        async with self._lock:
            self.sending_since = self.loop.time()
            try:
                await self._send(message)
            except (OSError, RuntimeError) as error:
                # ASGI servers raise an OSError once the client has disconnected; uvicorn a
                # RuntimeError where it has closed a socket whose peer answered no ping.
                if isinstance(error, RuntimeError) and self.kind != "ws":
                    raise
                if asyncio.current_task() is self._task:
                    self.reason = self.reason or "gone"
                else:
                    self.drop("gone")
                raise Disconnected from error
            finally:
                self.sending_since = None
                self.sent_at = self.loop.time()

    def drop(self, reason: Reason) -> None:
        """End the connection: interrupt the task that serves it. The first reason counts."""
        if self.reason is None and not self._over and self._task is not None:
            self.reason = reason
            self._task.cancel()

    def drop_soon(self, reason: Reason) -> None:
        """`drop`, from any thread."""
        with suppress(RuntimeError):  # the loop is closed, and the connection with it
            self.loop.call_soon_threadsafe(self.drop, reason)

    @contextmanager
    def serving(self) -> Generator[None, None, None]:
        """Run the body until it ends, or until `drop` ends it (and only it).

        Where the server or the app cancels the task, the client is told to reconnect, and
        `raise_cancellation` goes on with it.
        """
        try:
            yield
        except Disconnected:
            pass
        except asyncio.CancelledError as error:
            if self.reason is None:
                self.reason, self._cancelled = "bye", error
            elif self._task is not None:
                self._task.uncancel()
        finally:
            self._over = True

    async def raise_cancellation(self) -> None:
        """Raise the cancellation that ended `serving`, if one did."""
        if self._cancelled is not None:
            for _ in range(_TURNS):  # of the loop, in which the server writes what it was given
                await asyncio.sleep(0)
            raise self._cancelled

    async def flushed(self, timeout: float) -> None:
        """Wait until the client has been sent everything; reset the connection after `timeout`.

        A server that is left to close it waits for ever for a client that does not read.
        """
        if self.caller.http_version in ("1.0", "1.1"):  # others share a transport among streams
            await flushed(self._receive, self._send, timeout=timeout)

    async def reset(self) -> bool:
        """Close now, and drop what the client has not read; False where that cannot be done."""
        if self.caller.http_version not in ("1.0", "1.1"):
            return False
        return await flushed(self._receive, self._send, timeout=None)

    def monitor(self, now: float) -> None:
        """Keep it alive, expire it, drop it where it is slow. Called at least twice a second."""
        limits, since = self.owner.limits, self.sending_since
        if since is not None and now - since > limits.send_timeout:
            self.drop("slow")
        elif self.owner.guard.expired(self.caller):
            self.drop("expired")
        else:
            if since is None and now - self.sent_at >= limits.keep_alive:
                message = self.keep_alive()
                if message is not None:
                    self._keeping_alive = asyncio.create_task(_send_or_drop(self, message))
            self.check(now)

    def check(self, now: float) -> None:
        """Check what is special to this kind of connection."""

    def keep_alive(self) -> Message | None:
        """What to send when nothing was sent for a while."""
        return None


class Admission:
    """A connection that was counted, until this is closed."""

    __slots__ = ("_client_keys", "_clients", "_principal", "_principals")

    def __init__(self, clients: Counts, principals: Counts) -> None:
        self._clients = clients
        self._principals = principals
        self._client_keys: tuple[str, ...] = ()
        self._principal: str | None = None

    def add_client(self, key: str, limit: int) -> bool:
        """Count it for an address; False where that has `limit` already."""
        added = self._clients.add(key, limit)
        if added:
            self._client_keys += (key,)
        return added

    def add_principal(self, caller: Caller, limits: Limits) -> None:
        """Count it for its principal, if that is known. :raises Problem: ``rate_limited``."""
        principal = caller.principal
        if principal is None:
            return
        if not self._principals.add(principal, limits.connections_per_principal):
            raise Problem("rate_limited", "too many connections of this principal")
        self._principal = principal

    def hand_over(self) -> Admission:
        """Another admission that counts the connection in place of this one."""
        other = Admission(self._clients, self._principals)
        other._client_keys, self._client_keys = self._client_keys, ()
        other._principal, self._principal = self._principal, None
        return other

    def close(self) -> None:
        """Count it no more. Idempotent."""
        keys, self._client_keys = self._client_keys, ()
        for key in keys:
            self._clients.remove(key)
        principal, self._principal = self._principal, None
        if principal is not None:
            self._principals.remove(principal)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class Connections:
    """All open connections of a sink's gateways and routes in this process."""

    def __init__(self) -> None:
        self._connections: set[Monitored] = set()
        self._clients = Counts()
        self._principals = Counts()
        self._monitors: dict[asyncio.AbstractEventLoop, asyncio.Task[None]] = {}
        self.opened: dict[str, int] = {"sse": 0, "ws": 0}
        self.dropped: dict[str, int] = {}

    def __iter__(self) -> Iterator[Monitored]:
        return iter(list(self._connections))

    def __len__(self) -> int:
        return len(self._connections)

    def _on(self, loop: asyncio.AbstractEventLoop) -> list[Monitored]:
        return [connection for connection in self if connection.loop is loop]

    def of(self, owner: Owner) -> list[Monitored]:
        """The connections of one service."""
        return [connection for connection in self if connection.owner is owner]

    def admitted(self, caller: Caller, limits: Limits) -> Admission:
        """Count a connection, from before it is opened until the admission is closed.

        :raises Problem: ``unavailable`` or ``rate_limited`` when there are too many.
        """
        admission = Admission(self._clients, self._principals)
        try:
            if not admission.add_client("all", limits.connections):
                raise Problem("unavailable", "the gateway has all the connections it takes")
            if not admission.add_client(f"c:{caller.client}", limits.connections_per_client):
                raise Problem("rate_limited", "too many connections from this address")
            admission.add_principal(caller, limits)
        except BaseException:
            admission.close()
            raise
        return admission

    def principal_admitted(self, caller: Caller, limits: Limits) -> Admission:
        """Count a connection of a principal, where the caller is known to be one.

        :raises Problem: ``rate_limited`` when there are too many.
        """
        admission = Admission(self._clients, self._principals)
        admission.add_principal(caller, limits)
        return admission

    @contextmanager
    def monitored(self, connection: Connection) -> Generator[None, None, None]:
        """List and monitor a connection while the body runs."""
        self._connections.add(connection)
        self.opened[connection.kind] = self.opened.get(connection.kind, 0) + 1
        monitor = self._monitors.get(connection.loop)
        if monitor is None or monitor.done():
            monitor = asyncio.create_task(self._monitor(), name="tokenwire-gateway-monitor")
            self._monitors[connection.loop] = monitor
        try:
            yield
        finally:
            self.ended(connection)

    def replace(self, connection: Monitored, other: Monitored) -> None:
        """List `other`, which goes on with what `connection` was."""
        self._connections.discard(connection)
        self._connections.add(other)

    def ended(self, connection: Monitored) -> None:
        """List a connection no more; idempotent."""
        if connection in self._connections:
            self._connections.remove(connection)
            if connection.reason is not None:
                self.dropped[connection.reason] = self.dropped.get(connection.reason, 0) + 1

    async def _monitor(self) -> None:
        """Keep the connections of this loop alive, expire them, drop the slow and the idle."""
        loop = asyncio.get_running_loop()
        checks = stop_checks()
        try:
            while owners := {id(c.owner): c.owner for c in self._on(loop)}:
                limits = [owner.limits for owner in owners.values()]
                await asyncio.sleep(
                    min(0.5, *(min(one.keep_alive, one.send_timeout) / 2 for one in limits))
                )
                connections = self._on(loop)  # some ended meanwhile, and others came
                if checks and all(stopping() for stopping in checks):
                    for owner in {id(c.owner): c.owner for c in connections}.values():
                        owner.close()
                for connection in connections:
                    try:
                        connection.monitor(loop.time())
                    except Exception:
                        logger.exception("tokenwire gateway: checking a connection failed")
        finally:
            if self._monitors.get(loop) is asyncio.current_task():
                del self._monitors[loop]

    async def closed(self, owner: Owner, timeout: float) -> bool:
        """Wait until all connections of a service have ended; False after `timeout` seconds."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        while self.of(owner) and loop.time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        monitor = self._monitors.get(loop)
        if monitor is not None and not self._on(loop):
            monitor.cancel()
            await asyncio.gather(monitor, return_exceptions=True)
        return not self.of(owner)


async def flushed(receive: Receive, send: Send, *, timeout: float | None) -> bool:
    """Wait until a server has sent what it was given; reset its connection after `timeout` seconds.

    :param timeout: None to reset it without a look.
    :return: False where the connection cannot be found, and is the server's to close.
    """
    transport = transport_of(receive, send)
    if transport is None:
        return False
    loop = asyncio.get_running_loop()
    deadline = loop.time() + (timeout or 0)
    while timeout is None or transport.get_write_buffer_size():
        if loop.time() >= deadline:
            reset(transport)
            await asyncio.sleep(0)  # the server learns of it
            break
        await asyncio.sleep(0.01)
    return True


def retry_hint() -> int:
    """Milliseconds after which a dropped client may reconnect, spread by jitter."""
    return int(1000 * jitter(1.75, 5 / 7))


async def _send_or_drop(connection: Connection, message: Message) -> None:
    try:
        await connection.send(message)
    except Exception:
        connection.drop("gone")
