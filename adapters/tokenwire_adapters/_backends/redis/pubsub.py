"""A pub/sub connection to one server, shared by all subscriptions, that reconnects when lost."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Protocol, cast

import redis.exceptions as redis_errors
from msgspec import Struct

from tokenwire._clock import Backoff
from tokenwire_adapters._backends.redis.connection import OpenConnection
from tokenwire_adapters._backends.redis.errors import is_stale, translate
from tokenwire_adapters._backends.redis.quirks import close_now

__all__ = ["Listener", "PubSub"]

logger = logging.getLogger("tokenwire")
_NAMES_PER_COMMAND = 500
_abandoned: list[Any] = []


class Listener(Protocol):
    """Receives what is published under one pub/sub name."""

    def on_message(self, message: bytes) -> None:
        """Receive a message."""
        ...

    def on_gap(self) -> None:
        """Messages may have been missed."""
        ...


class _Topic(Struct, eq=False):
    """The subscription to one name: its listeners, and whether the server has confirmed it."""

    listeners: list[Listener] = []
    waiters: list[asyncio.Future[None]] = []
    confirmed: bool = False
    was_confirmed: bool = False  # at some time, so that a new confirmation ends a gap


class PubSub:
    """Subscribes to names on one server.

    :param open_connection: opens a connection without a read timeout.
    :param health: seconds of silence after which the server is pinged; after as many again the
        connection counts as lost.
    :param timeout: seconds that a subscription may take.
    :param on_moved: called when a name may belong to another server now.
    :param where: the server, for logs and errors.
    :ivar sharded: whether to use sharded pub/sub (on a Cluster).
    """

    def __init__(
        self,
        open_connection: OpenConnection,
        *,
        health: float,
        timeout: float,
        on_moved: Callable[[], None],
        where: str,
    ) -> None:
        self._open_connection = open_connection
        self._health = health
        self._timeout = timeout
        self._on_moved = on_moved
        self._where = where
        self._topics: dict[str, _Topic] = {}
        self._unsubscribing: Counter[str] = Counter()
        self._connection: Any = None
        self._task: asyncio.Task[None] | None = None
        self._send_lock = asyncio.Lock()
        self._last_read = 0.0
        self._down = False
        self._problem: Exception | None = None
        self.sharded = False

    # -- subscriptions

    async def add(self, name: str, listener: Listener) -> None:
        """Subscribe to `name`, and wait until the server has confirmed it.

        :raises BackendUnavailable: when that takes too long.
        """
        topic = self._topics.get(name)
        new = topic is None
        if topic is None:
            topic = self._topics[name] = _Topic()
        topic.listeners.append(listener)
        if topic.confirmed:
            return
        confirmed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        topic.waiters.append(confirmed)
        try:
            async with asyncio.timeout(self._timeout):
                if self._task is None:
                    self._task = asyncio.create_task(self._run())
                elif new and self._connection is not None:
                    with contextlib.suppress(redis_errors.RedisError, OSError):
                        await self._subscribe([name])
                await confirmed
        except TimeoutError:
            await self.remove(name, listener)
            problem = self._problem or TimeoutError()
            raise translate(problem, self._where) from None
        except BaseException:
            await self.remove(name, listener)
            raise

    async def remove(self, name: str, listener: Listener) -> None:
        """Remove a listener, and unsubscribe when it was the last one. Idempotent."""
        topic = self._topics.get(name)
        if topic is None or listener not in topic.listeners:
            return
        topic.listeners.remove(listener)
        if topic.listeners:
            return
        del self._topics[name]
        if self._connection is not None:
            self._unsubscribing[name] += 1
            with contextlib.suppress(Exception):
                async with asyncio.timeout(self._timeout):
                    await self._send("SUNSUBSCRIBE" if self.sharded else "UNSUBSCRIBE", name)

    def is_confirmed(self, name: str) -> bool:
        """Whether the server has confirmed the subscription to `name`."""
        topic = self._topics.get(name)
        return topic is not None and topic.confirmed

    async def _subscribe(self, names: Iterable[str]) -> None:
        names = list(names)
        if self.sharded:  # the names in one SSUBSCRIBE would have to share a slot
            for name in names:
                await self._send("SSUBSCRIBE", name)
            return
        for begin in range(0, len(names), _NAMES_PER_COMMAND):
            await self._send("SUBSCRIBE", *names[begin : begin + _NAMES_PER_COMMAND])

    async def _send(self, *command: str) -> None:
        async with self._send_lock:
            if self._connection is not None:
                await self._connection.send_command(*command, check_health=False)

    # -- the connection

    async def _run(self) -> None:
        backoff = Backoff(0.05, 2.0)
        while True:
            pinger: asyncio.Task[None] | None = None
            try:
                connection = await self._open_connection()
                self._connection = connection
                self._last_read = asyncio.get_running_loop().time()
                self._unsubscribing.clear()
                pinger = asyncio.create_task(self._ping(connection))
                await self._subscribe(self._topics)
                while True:
                    self._dispatch(await self._read(connection))
                    backoff.reset()
            except asyncio.CancelledError:
                raise
            except Exception as error:
                self._on_lost(error)
            finally:
                if pinger is not None:
                    pinger.cancel()
                connection, self._connection = self._connection, None
                if connection is not None:
                    await close_now(connection)
            await asyncio.sleep(backoff.next())

    async def _read(self, connection: Any) -> Any:
        """Wait for the next reply; None for an error about a name that is served elsewhere."""
        try:
            return await connection.read_response(disable_decoding=True, disconnect_on_error=False)
        except redis_errors.ResponseError as error:
            if not is_stale(error):
                raise
            self._on_moved()
            return None
        finally:
            self._last_read = asyncio.get_running_loop().time()

    def _on_lost(self, error: Exception) -> None:
        self._problem = error
        for topic in self._topics.values():
            topic.confirmed = False
        if is_stale(error) or isinstance(
            error, redis_errors.ConnectionError | OSError | TimeoutError
        ):
            self._on_moved()
        if not self._down:
            self._down = True
            problem = translate(error, self._where)
            logger.warning("tokenwire: lost the live connection, retrying: %s", problem)

    async def _ping(self, connection: Any) -> None:
        """Ping the server when it is silent; close the connection when it does not answer."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._health / 2)
            silence = loop.time() - self._last_read
            if silence > self._health * 1.5:
                await close_now(connection)
                return
            if silence > self._health / 2:
                with contextlib.suppress(Exception):
                    async with asyncio.timeout(self._health / 2):
                        await self._send("PING")

    def _dispatch(self, reply: Any) -> None:
        fields = cast("list[Any]", reply) if isinstance(reply, list) else []
        if len(fields) < 3:  # PONG
            return
        kind, name, message = fields[0], fields[1].decode(), fields[2]
        topic = self._topics.get(name)
        if kind in (b"message", b"smessage"):
            if topic is not None:
                for listener in tuple(topic.listeners):
                    try:
                        listener.on_message(message)
                    except Exception:  # must not cost the connection, which others share
                        logger.exception("tokenwire: a message of %r failed", name)
        elif kind in (b"subscribe", b"ssubscribe"):
            if topic is not None:
                self._confirm(topic)
        elif kind in (b"unsubscribe", b"sunsubscribe"):
            if self._unsubscribing[name] > 1:
                self._unsubscribing[name] -= 1
            elif self._unsubscribing[name]:
                del self._unsubscribing[name]
            elif topic is not None:  # the server did it by itself: the slot has moved
                topic.confirmed = False
                self._on_moved()

    def _confirm(self, topic: _Topic) -> None:
        if self._down:
            self._down = False
            self._problem = None
            logger.warning("tokenwire: the live connection is back (%s)", self._where)
        topic.confirmed = True
        waiters, topic.waiters = topic.waiters, []
        for future in waiters:
            if not future.done():
                future.set_result(None)
        if topic.was_confirmed:
            for listener in tuple(topic.listeners):
                listener.on_gap()
        topic.was_confirmed = True

    async def close(self) -> None:
        """Stop; nothing is delivered afterwards."""
        self._topics.clear()
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def abandon(self) -> None:
        """In a forked child: drop the parent's connection without closing it."""
        _abandoned.append((self._connection, self._task))
        self._connection = self._task = None
        self._topics = {}
