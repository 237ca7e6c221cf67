"""As much of HTTP/1.1 (RFC 9112) as the test servers need, with the standard library alone.

It is for loopback: no proxies, no trailers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from http.client import responses
from typing import NamedTuple

__all__ = ["BadHttp", "Head", "read_body", "read_head", "response_head"]


class BadHttp(Exception):
    """The bytes are no request that this server takes. The connection ends after the answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Head(NamedTuple):
    """The head of a request. Header names are in lower case."""

    method: str
    target: str
    version: str
    headers: dict[str, str]
    raw: bytes

    @property
    def keep_alive(self) -> bool:
        """Whether the client may send another request on the same connection."""
        return self.version == "HTTP/1.1" and self.headers.get("connection", "").lower() != "close"


async def read_head(reader: asyncio.StreamReader) -> Head:
    """Read the request line and the headers. Their size is bounded by the reader's limit.

    :raises BadHttp: when they are malformed or too large.
    :raises asyncio.IncompleteReadError: when the client has closed the connection.
    """
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        raise BadHttp(431, "The request's headers are too large.") from None
    first, *lines = raw.decode("latin-1").rstrip("\r\n").split("\r\n")
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
    return Head(method, target, version, headers, raw)


async def read_body(
    reader: asyncio.StreamReader, headers: Mapping[str, str], limit: int, *, chunked: bool
) -> bytes:
    """Read the body that belongs to a head.

    :param limit: bytes.
    :param chunked: whether a body may come in chunks.
    :raises BadHttp: when it is too large, or its length is not known beforehand and must be.
    """
    too_large = BadHttp(413, f"The body is larger than {limit} bytes.")
    if "transfer-encoding" in headers:
        if not chunked or headers["transfer-encoding"].lower() != "chunked":
            raise BadHttp(411, "Send the body with a Content-Length.")
        body = b""
        while size := _size(await reader.readuntil(b"\r\n")):
            if len(body) + size > limit:
                raise too_large
            body += await reader.readexactly(size)
            await reader.readexactly(2)
        await reader.readuntil(b"\r\n")
        return body
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()):
        raise BadHttp(400, "The Content-Length is not a number.")
    if len(length) > 12 or int(length) > limit:
        raise too_large
    return await reader.readexactly(int(length))


def _size(line: bytes) -> int:
    digits = line.partition(b";")[0].strip()
    if not digits or digits.strip(b"0123456789abcdefABCDEF"):
        raise BadHttp(400, "The size of a chunk is not a number.")
    return int(digits, 16)


def response_head(status: int, headers: Mapping[str, str]) -> bytes:
    """The status line and the headers of an answer."""
    first = f"HTTP/1.1 {status} {responses.get(status, '')}"
    lines = [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([first, *lines, "", ""]).encode("latin-1", "replace")
