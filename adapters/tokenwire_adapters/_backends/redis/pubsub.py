"""One pub/sub connection, however many channels are listened to, through whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Protocol, cast

import redis.exceptions as theirs

from tokenwire._clock import Backoff
from tokenwire_adapters._backends.redis.connection import Connect, drop
from tokenwire_adapters._backends.redis.errors import is_stale, translate

__all__ = ["Listener", "Live"]

logger = logging.getLogger("tokenwire")
_TOGETHER = 500  # names in one SUBSCRIBE
_left_behind: list[Any] = []


class Listener(Protocol):
    """Who listens to a name."""

    def heard(self, message: bytes) -> None:
        """Take a message."""
        ...

    def missed(self) -> None:
        """Learn that messages may have been missed."""
        ...


class _Topic:
    """A name that somebody listens to."""

    __slots__ = ("confirmed", "listeners", "stood", "waiting")

    def __init__(self) -> None:
        self.listeners: list[Listener] = []
        self.waiting: list[asyncio.Future[None]] = []
        self.confirmed = False
        self.stood = False  # it was confirmed at some time, so a new confirmation ends a gap


class Live:
    """Subscribes to names on one server.

    :param connect: opens a connection without a timeout for reading.
    :param health: seconds of silence after which the server is asked for a sign of life; after
        as many again the connection counts as lost.
    :param timeout: seconds that a subscription may take.
    :param moved: called when the server says that a name belongs to another one.
    """

    def __init__(
        self,
        connect: Connect,
        *,
        health: float,
        timeout: float,
        moved: Callable[[], None],
        where: str,
    ) -> None:
        self._connect = connect
        self._health = health
        self._timeout = timeout
        self._moved = moved
        self._where = where
        self._topics: dict[str, _Topic] = {}
        self._leaving: Counter[str] = Counter()
        self._connection: Any = None
        self._task: asyncio.Task[None] | None = None
        self._sending = asyncio.Lock()
        self._heard_at = 0.0
        self._down = False
        self._problem: Exception | None = None
        self.sharded = False

    # -- listening and leaving

    async def add(self, name: str, listener: Listener) -> None:
        """Listen to `name`; when this returns, nothing of it is missed unawares.

        :raises BackendUnavailable: when that takes too long.
        """
        topic = self._topics.get(name)
        new = topic is None
        if topic is None:
            topic = self._topics[name] = _Topic()
        topic.listeners.append(listener)
        if topic.confirmed:
            return
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        topic.waiting.append(waiting)
        try:
            async with asyncio.timeout(self._timeout):
                if self._task is None:
                    self._task = asyncio.create_task(self._run())
                elif new and self._connection is not None:
                    with contextlib.suppress(theirs.RedisError, OSError):
                        await self._subscribe([name])
                await waiting
        except TimeoutError:
            await self.remove(name, listener)
            problem = self._problem or TimeoutError()
            raise translate(problem, self._where) from None
        except BaseException:
            await self.remove(name, listener)
            raise

    async def remove(self, name: str, listener: Listener) -> None:
        """Listen no longer. Idempotent."""
        topic = self._topics.get(name)
        if topic is None or listener not in topic.listeners:
            return
        topic.listeners.remove(listener)
        if topic.listeners:
            return
        del self._topics[name]
        if self._connection is not None:
            self._leaving[name] += 1
            with contextlib.suppress(Exception):
                async with asyncio.timeout(self._timeout):
                    await self._send("SUNSUBSCRIBE" if self.sharded else "UNSUBSCRIBE", name)

    def stands(self, name: str) -> bool:
        """Whether the server has confirmed that it sends us `name`."""
        topic = self._topics.get(name)
        return topic is not None and topic.confirmed

    async def _subscribe(self, names: Iterable[str]) -> None:
        names = list(names)
        if self.sharded:  # the names of one command would have to share a slot
            for name in names:
                await self._send("SSUBSCRIBE", name)
            return
        for begin in range(0, len(names), _TOGETHER):
            await self._send("SUBSCRIBE", *names[begin : begin + _TOGETHER])

    async def _send(self, *command: str) -> None:
        async with self._sending:
            if self._connection is not None:
                await self._connection.send_command(*command, check_health=False)

    # -- the connection

    async def _run(self) -> None:
        backoff = Backoff(0.05, 2.0)
        while True:
            pinging: asyncio.Task[None] | None = None
            try:
                connection = await self._connect()
                self._connection = connection
                self._heard_at = asyncio.get_running_loop().time()
                self._leaving.clear()
                pinging = asyncio.create_task(self._ping(connection))
                await self._subscribe(self._topics)
                while True:
                    self._take(await self._read(connection))
                    backoff.reset()
            except asyncio.CancelledError:
                raise
            except Exception as error:
                self._lost(error)
            finally:
                if pinging is not None:
                    pinging.cancel()
                connection, self._connection = self._connection, None
                if connection is not None:
                    await drop(connection)
            await asyncio.sleep(backoff.next())

    async def _read(self, connection: Any) -> Any:
        """Wait for what comes next; None for an error about a name that is not served here."""
        try:
            return await connection.read_response(disable_decoding=True, disconnect_on_error=False)
        except theirs.ResponseError as error:
            if not is_stale(error):
                raise
            self._moved()
            return None
        finally:
            self._heard_at = asyncio.get_running_loop().time()

    def _lost(self, error: Exception) -> None:
        self._problem = error
        for topic in self._topics.values():
            topic.confirmed = False
        if is_stale(error) or isinstance(error, theirs.ConnectionError | OSError | TimeoutError):
            self._moved()
        if not self._down:
            self._down = True
            problem = translate(error, self._where)
            logger.warning("tokenwire: lost the live connection, retrying: %s", problem)

    async def _ping(self, connection: Any) -> None:
        """Ask for a sign of life; cut the connection when there is none."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._health / 2)
            silence = loop.time() - self._heard_at
            if silence > self._health * 1.5:
                await drop(connection)
                return
            if silence > self._health / 2:
                with contextlib.suppress(Exception):
                    async with asyncio.timeout(self._health / 2):
                        await self._send("PING")

    def _take(self, reply: Any) -> None:
        words = cast("list[Any]", reply) if isinstance(reply, list) else []
        if len(words) < 3:  # a pong
            return
        kind, name, message = words[0], words[1].decode(), words[2]
        topic = self._topics.get(name)
        if kind in (b"message", b"smessage"):
            if topic is not None:
                for listener in tuple(topic.listeners):
                    listener.heard(message)
        elif kind in (b"subscribe", b"ssubscribe"):
            if topic is not None:
                self._confirmed(topic)
        elif kind in (b"unsubscribe", b"sunsubscribe"):
            if self._leaving[name] > 1:
                self._leaving[name] -= 1
            elif self._leaving[name]:
                del self._leaving[name]
            elif topic is not None:  # its slot has moved
                topic.confirmed = False
                self._moved()

    def _confirmed(self, topic: _Topic) -> None:
        if self._down:
            self._down = False
            self._problem = None
            logger.warning("tokenwire: the live connection stands again (%s)", self._where)
        topic.confirmed = True
        waiting, topic.waiting = topic.waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)
        if topic.stood:
            for listener in tuple(topic.listeners):
                listener.missed()
        topic.stood = True

    async def close(self) -> None:
        """Stop; nothing is delivered afterwards."""
        self._topics.clear()
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def abandon(self) -> None:
        """Leave the connection to the parent process."""
        _left_behind.append((self._connection, self._task))
        self._connection = self._task = None
        self._topics = {}
