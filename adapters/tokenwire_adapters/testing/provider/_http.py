"""One client's connection: read a bounded request, answer with JSON, or stream events."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Mapping
from typing import Any, NamedTuple

from tokenwire_adapters.testing._http import BadHttp, read_body, read_head, response_head
from tokenwire_adapters.testing.provider._json import dumps

__all__ = ["BadHttp", "ClientGone", "Connection", "Limits", "Request"]


class Limits(NamedTuple):
    """Bounds of one request."""

    head: int = 32 * 1024
    """Bytes of the request line and headers."""
    body: int = 8 * 1024 * 1024
    """Bytes of the body."""
    seconds: float = 60.0
    """Seconds for a whole request to arrive, or for the next one on an idle connection."""


class ClientGone(Exception):
    """The client closed the connection."""


class Request(NamedTuple):
    """A request, read whole. Header names are in lower case."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes
    keep_alive: bool


class _Reader(asyncio.StreamReader):
    """A reader that notices at once when the client closes, even while nobody reads."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit=limit)
        self.closed = asyncio.Event()

    def feed_eof(self) -> None:
        super().feed_eof()
        self.closed.set()

    def set_exception(self, exc: Exception) -> None:
        super().set_exception(exc)
        self.closed.set()


class Connection:
    """One client's connection, and the request on it that is being answered."""

    def __init__(self, reader: _Reader, writer: asyncio.StreamWriter, limits: Limits) -> None:
        self._reader = reader
        self._writer = writer
        self._limits = limits
        self._keep_alive = False
        self._chunked = False  # the client understands a reply in chunks (HTTP/1.1)

    @staticmethod
    def reader(limits: Limits) -> _Reader:
        """Make the reader that a new connection needs."""
        return _Reader(limits.head)

    async def read(self) -> Request | None:
        """Read the next request; None when the client has closed or sends nothing more.

        :raises BadHttp: it is malformed, or larger than the limits.
        """
        self._keep_alive = self._chunked = False
        try:
            async with asyncio.timeout(self._limits.seconds):
                head = await read_head(self._reader)
                if head.headers.get("expect", "").lower() == "100-continue":
                    self._writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                body = await read_body(self._reader, head.headers, self._limits.body, chunked=False)
        except (TimeoutError, ConnectionError, asyncio.IncompleteReadError):
            return None
        self._keep_alive, self._chunked = head.keep_alive, head.version == "HTTP/1.1"
        path, _, query = head.target.partition("?")
        return Request(head.method, path, query, head.headers, body, head.keep_alive)

    async def answer(
        self, status: int, value: Any, headers: Mapping[str, str] | None = None
    ) -> None:
        """Answer with a JSON body: a value, or bytes that hold one."""
        body = value if isinstance(value, bytes) else dumps(value).encode()
        content = {"content-type": "application/json", "content-length": str(len(body))}
        await self._send(self._head(status, {**content, **(headers or {})}) + body)

    async def start_stream(self, content_type: str) -> None:
        """Begin a reply that comes in pieces."""
        headers = {"content-type": content_type, "cache-control": "no-cache"}
        if self._chunked:
            headers["transfer-encoding"] = "chunked"
        await self._send(self._head(200, headers))

    async def send(self, data: bytes) -> None:
        """Send bytes of a stream."""
        if self._chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        await self._send(data)

    async def end_stream(self) -> None:
        """Say that the stream is whole."""
        if self._chunked:
            await self._send(b"0\r\n\r\n")

    async def pause(self, seconds: float) -> None:
        """Wait, or raise as soon as the client closes.

        :raises ClientGone: the client closed the connection.
        """
        if seconds <= 0:
            await asyncio.sleep(0)  # a stream without pace must not keep the loop to itself
        elif not self._reader.closed.is_set():
            try:
                async with asyncio.timeout(seconds):
                    await self._reader.closed.wait()
            except TimeoutError:
                return
        if self._reader.closed.is_set():
            raise ClientGone

    async def _send(self, data: bytes) -> None:
        if self._reader.closed.is_set():
            raise ClientGone
        try:
            self._writer.write(data)
            await self._writer.drain()
        except ConnectionError:
            raise ClientGone from None

    async def abort(self) -> None:
        """Drop the connection at once."""
        self._writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()

    async def close(self) -> None:
        """Close the connection after what is written has gone out."""
        self._writer.close()
        try:
            async with asyncio.timeout(5):
                await self._writer.wait_closed()
        except (TimeoutError, ConnectionError):
            await self.abort()

    def _head(self, status: int, headers: Mapping[str, str]) -> bytes:
        request_id = "req_" + secrets.token_hex(12)
        common = {
            "server": "tokenwire-local-provider",
            "x-request-id": request_id,
            "request-id": request_id,
            "connection": "keep-alive" if self._keep_alive else "close",
        }
        return response_head(status, {**common, **headers})
