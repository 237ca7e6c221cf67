"""A connection to one Redis server that runs one pipeline of commands at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

import redis.exceptions as redis_errors

from tokenwire.errors import BackendUnavailable
from tokenwire_adapters._backends.redis.quirks import close_now

__all__ = ["Command", "CommandConnection", "OpenConnection"]

Command: TypeAlias = Sequence[str | bytes | int | float]
OpenConnection: TypeAlias = Callable[[], Awaitable[Any]]
_RETRY_DELAYS = (0.0, 0.05, None)  # seconds before each reconnect; None: no further attempt
_abandoned: list[Any] = []


class CommandConnection:
    """Sends pipelines over a connection that is opened on first use, and reopened when lost.

    :param open_connection: opens a connection of redis-py, ready for use.
    :param timeout: seconds that one reply may take.
    :param on_lost: is called when the connection is lost, or cannot be opened.
    """

    def __init__(
        self, open_connection: OpenConnection, timeout: float, on_lost: Callable[[], None]
    ) -> None:
        self._open_connection = open_connection
        self._timeout = timeout
        self._on_lost = on_lost
        self._connection: Any = None
        self._closed = False
        self._lock = asyncio.Lock()

    async def run(self, commands: Sequence[Command]) -> list[Any]:
        """Send `commands` in one pipeline; return the replies, with server errors among them.

        When the connection is lost, all commands are sent again: every command that is used here
        is idempotent.

        :raises BackendUnavailable: when it is closed, or another pipeline takes too long.
        :raises redis.exceptions.RedisError: when there is no connection.
        """
        if self._lock.locked():
            try:
                async with asyncio.timeout(self._timeout * 2):
                    await self._lock.acquire()
            except TimeoutError:
                raise BackendUnavailable("Redis does not answer in time") from None
        else:
            await self._lock.acquire()
        try:
            for delay in _RETRY_DELAYS:
                if self._closed:
                    raise BackendUnavailable("the backend is closed")
                try:
                    if self._connection is None:
                        self._connection = await self._open_connection()
                        # Replies are timed here: with a timeout of its own, redis-py sends in a
                        # task, a turn of the loop later.
                        self._connection.socket_timeout = None
                    if self._closed:  # while we connected
                        await self.reset()
                        raise BackendUnavailable("the backend is closed")
                    return await self._run_once(self._connection, commands)
                except (redis_errors.ConnectionError, OSError, asyncio.IncompleteReadError) as e:
                    self._on_lost()
                    if delay is None or isinstance(e, redis_errors.AuthenticationError):
                        raise
                await asyncio.sleep(delay)
            raise AssertionError
        finally:
            self._lock.release()

    async def _run_once(self, connection: Any, commands: Sequence[Command]) -> list[Any]:
        replies: list[Any] = []
        now = asyncio.get_running_loop().time
        try:
            async with asyncio.timeout(self._timeout) as limit:
                await connection.send_packed_command(_pack(commands), check_health=False)
                for _ in commands:
                    limit.reschedule(now() + self._timeout)
                    try:
                        replies.append(
                            await connection.read_response(
                                disable_decoding=True, disconnect_on_error=False
                            )
                        )
                    except redis_errors.ResponseError as error:
                        replies.append(error)
        except BaseException as error:
            if self._connection is connection:
                self._connection = None
            await close_now(connection)
            if isinstance(error, TimeoutError):
                raise redis_errors.TimeoutError("no reply in time") from error
            raise
        return replies

    async def reset(self) -> None:
        """Close the connection; the next pipeline opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await close_now(connection)

    async def close(self) -> None:
        """Close the connection for good."""
        self._closed = True
        await self.reset()

    def abandon(self) -> None:
        """In a forked child: drop the parent's connection without closing it."""
        _abandoned.append(self._connection)
        self._connection = None


def _pack(commands: Sequence[Command]) -> list[bytes]:
    """Encode commands as RESP arrays of bulk strings."""
    chunks: list[bytes] = []
    for command in commands:
        chunks.append(b"*%d\r\n" % len(command))
        for argument in command:
            data = argument if isinstance(argument, bytes) else str(argument).encode()
            chunks.append(b"$%d\r\n" % len(data))
            chunks.append(data)
            chunks.append(b"\r\n")
    return [b"".join(chunks)]
