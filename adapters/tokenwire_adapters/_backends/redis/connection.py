"""One connection to one server, used for one pipeline at a time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

import redis.exceptions as theirs

from tokenwire.errors import BackendUnavailable

__all__ = ["Command", "Connect", "Wire", "drop"]

Command: TypeAlias = Sequence[str | bytes | int | float]
Connect: TypeAlias = Callable[[], Awaitable[Any]]
_PAUSES = (0.0, 0.05, None)  # seconds before a lost connection is tried again, and the last try
_left_behind: list[Any] = []


class Wire:
    """Sends pipelines over a connection that it opens when it needs it, and opens again.

    :param connect: opens a connection (of redis-py), ready for use.
    :param timeout: seconds that one reply may take.
    """

    def __init__(self, connect: Connect, timeout: float) -> None:
        self._connect = connect
        self._timeout = timeout
        self._connection: Any = None
        self._closed = False
        self._lock = asyncio.Lock()

    async def run(self, commands: Sequence[Command]) -> list[Any]:
        """Send `commands` at once; return the replies, errors of the server among them.

        A connection that is lost is opened again, and the commands are sent again: nothing we
        send does harm when it arrives twice.

        :raises Exception: what redis-py raises when there is no connection.
        """
        try:
            async with asyncio.timeout(self._timeout * 2):
                await self._lock.acquire()
        except TimeoutError:
            raise BackendUnavailable("Redis does not answer in time") from None
        try:
            for pause in _PAUSES:
                if self._closed:
                    raise BackendUnavailable("the backend is closed")
                try:
                    if self._connection is None:
                        self._connection = await self._connect()
                    if self._closed:  # while we connected
                        await self.renew()
                        raise BackendUnavailable("the backend is closed")
                    return await self._once(self._connection, commands)
                except (theirs.ConnectionError, OSError, asyncio.IncompleteReadError) as error:
                    if pause is None or isinstance(error, theirs.AuthenticationError):
                        raise
                await asyncio.sleep(pause)
            raise AssertionError
        finally:
            self._lock.release()

    async def _once(self, connection: Any, commands: Sequence[Command]) -> list[Any]:
        try:
            await connection.send_packed_command(_packed(commands), check_health=False)
            replies: list[Any] = []
            for _ in commands:
                try:
                    replies.append(
                        await connection.read_response(
                            disable_decoding=True, disconnect_on_error=False
                        )
                    )
                except theirs.ResponseError as error:
                    replies.append(error)
        except BaseException:
            if self._connection is connection:
                self._connection = None
            await drop(connection)
            raise
        return replies

    async def renew(self) -> None:
        """Let go of the connection; the next use opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await drop(connection)

    async def close(self) -> None:
        """Let go of the connection for good."""
        self._closed = True
        await self.renew()

    def abandon(self) -> None:
        """Leave a connection to the parent process: neither use nor close it."""
        _left_behind.append(self._connection)
        self._connection = None


async def drop(connection: Any) -> None:
    """Close a connection, whatever state it is in, without waiting for the other side."""
    writer = getattr(connection, "_writer", None)
    with contextlib.suppress(Exception):
        await connection.disconnect(nowait=True)
    if writer is not None:  # TLS would else wait for the server's farewell
        writer.transport.abort()
        await asyncio.sleep(0)


def _packed(commands: Sequence[Command]) -> list[bytes]:
    """Commands in the wire's format (RESP: arrays of bulk strings)."""
    chunks: list[bytes] = []
    for command in commands:
        chunks.append(b"*%d\r\n" % len(command))
        for part in command:
            data = part if isinstance(part, bytes) else str(part).encode()
            chunks.append(b"$%d\r\n" % len(data))
            chunks.append(data)
            chunks.append(b"\r\n")
    return [b"".join(chunks)]
