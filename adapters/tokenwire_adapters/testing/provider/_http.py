"""As much of HTTP/1.1 (RFC 9112) as a provider needs: read a bounded request, answer, stream.

It is for loopback: no TLS, no proxies, no request bodies in chunks.
"""

from __future__ import annotations

import asyncio
import contextlib
from http import HTTPStatus
from typing import NamedTuple

__all__ = ["BadHttp", "ClientGone", "Connection", "Limits", "Request"]


class Limits(NamedTuple):
    """Bounds of one request."""

    head: int = 32 * 1024
    """Bytes of the request line and headers."""
    body: int = 8 * 1024 * 1024
    """Bytes of the body."""
    seconds: float = 60.0
    """Seconds for a whole request to arrive, or for the next one on an idle connection."""


class BadHttp(Exception):
    """The bytes are no request that this server takes. The connection ends after the answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class ClientGone(Exception):
    """The client closed the connection."""


class Request(NamedTuple):
    """A request, read whole. Header names are in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    keep_alive: bool
    chunked: bool
    """The client understands a reply in chunks (HTTP/1.1)."""


class _Reader(asyncio.StreamReader):
    """A reader that says at once when the client closes, though nobody is reading."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit=limit)
        self.gone = asyncio.Event()

    def feed_eof(self) -> None:
        super().feed_eof()
        self.gone.set()

    def set_exception(self, exc: Exception) -> None:
        super().set_exception(exc)
        self.gone.set()


class Connection:
    """One client's connection."""

    def __init__(self, reader: _Reader, writer: asyncio.StreamWriter, limits: Limits) -> None:
        self._reader = reader
        self._writer = writer
        self._limits = limits

    @staticmethod
    def reader(limits: Limits) -> _Reader:
        """Make the reader that a new connection needs."""
        return _Reader(limits.head)

    async def read(self) -> Request | None:
        """Read the next request; None when the client has closed or says nothing more.

        :raises BadHttp: it is malformed, or larger than the limits.
        """
        try:
            async with asyncio.timeout(self._limits.seconds):
                return await self._read()
        except (TimeoutError, ConnectionError, asyncio.IncompleteReadError):
            return None

    async def _read(self) -> Request:
        try:
            head = await self._reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            raise BadHttp(431, "The request's headers are too large.") from None
        first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
        match first.split(" "):
            case [method, target, "HTTP/1.1" | "HTTP/1.0" as version]:
                pass
            case _:
                raise BadHttp(400, "This is not an HTTP/1.1 request.")
        headers: dict[str, str] = {}
        for line in lines:
            name, colon, value = line.partition(":")
            if not colon or not name or name != name.strip():
                raise BadHttp(400, "A header of the request is malformed.")
            headers[name.lower()] = value.strip()
        body = await self._read_body(headers)
        wish = headers.get("connection", "").lower()
        chunked = version == "HTTP/1.1"
        return Request(
            method, target.partition("?")[0], headers, body, chunked and wish != "close", chunked
        )

    async def _read_body(self, headers: dict[str, str]) -> bytes:
        if "transfer-encoding" in headers:
            raise BadHttp(411, "Send the body with a Content-Length.")
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit()):
            raise BadHttp(400, "The Content-Length is not a number.")
        if len(length) > 12 or int(length) > self._limits.body:
            raise BadHttp(413, f"The body is larger than {self._limits.body} bytes.")
        if headers.get("expect", "").lower() == "100-continue":
            self._writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return await self._reader.readexactly(int(length))

    async def answer(
        self, status: int, body: bytes, request_id: str, *, keep_alive: bool = False
    ) -> None:
        """Answer with a JSON body."""
        head = _head(
            status,
            "content-type: application/json",
            f"content-length: {len(body)}",
            *_common(request_id, keep_alive),
        )
        await self._send(head + body)

    async def start_stream(self, request: Request, request_id: str) -> None:
        """Begin a reply of server-sent events."""
        head = _head(
            200,
            "content-type: text/event-stream; charset=utf-8",
            "cache-control: no-cache",
            *(["transfer-encoding: chunked"] if request.chunked else []),
            *_common(request_id, request.keep_alive),
        )
        await self._send(head)

    async def send(self, request: Request, data: bytes) -> None:
        """Send bytes of a stream. An empty ``data`` ends it."""
        if request.chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        await self._send(data)

    async def pause(self, seconds: float) -> None:
        """Wait, or raise as soon as the client closes.

        :raises ClientGone: the client closed the connection.
        """
        if seconds <= 0:
            await asyncio.sleep(0)  # a stream without pace must not keep the loop to itself
        elif not self._reader.gone.is_set():
            try:
                async with asyncio.timeout(seconds):
                    await self._reader.gone.wait()
            except TimeoutError:
                return
        if self._reader.gone.is_set():
            raise ClientGone

    async def _send(self, data: bytes) -> None:
        if self._reader.gone.is_set():
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


def _common(request_id: str, keep_alive: bool) -> tuple[str, ...]:
    return (
        f"x-request-id: {request_id}",
        f"request-id: {request_id}",
        f"connection: {'keep-alive' if keep_alive else 'close'}",
    )


def _head(status: int, *lines: str) -> bytes:
    first = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"
    return "\r\n".join((first, "server: tokenwire-local-provider", *lines, "", "")).encode()
