"""As much of HTTP/1.1 as clients of the REST interface use."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import parse_qsl, unquote, urlsplit

__all__ = ["Request", "Response", "read_request"]

_BODY_LIMIT = 16 * 1024 * 1024


@dataclass
class Request:
    """A request with its body."""

    method: str
    path: str
    parts: list[str]  # of the path, unquoted one by one: a channel's name may hold a slash
    query: dict[str, str]
    headers: dict[str, str]  # names in lower case
    head: bytes
    body: bytes = b""

    @property
    def is_websocket(self) -> bool:
        """Whether this is the opening handshake of a WebSocket."""
        return self.headers.get("upgrade", "").lower() == "websocket"


@dataclass
class Response:
    """An answer."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)

    def dump(self) -> bytes:
        """Return the bytes to send. Browsers on other origins may read everything."""
        headers = {
            "Content-Type": self.content_type,
            "Content-Length": str(len(self.body)),
            "Access-Control-Allow-Origin": "*",
            "Access-Control-Allow-Methods": "GET, POST, PATCH, PUT, DELETE, OPTIONS",
            "Access-Control-Allow-Headers": "*, Authorization",
            "Access-Control-Expose-Headers": "Link, X-Ably-Errorcode, X-Ably-Errormessage",
            **self.headers,
        }
        reason = HTTPStatus(self.status).phrase
        lines = [f"HTTP/1.1 {self.status} {reason}", *(f"{k}: {v}" for k, v in headers.items())]
        return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace") + self.body


async def read_request(reader: asyncio.StreamReader) -> Request | None:
    """Read one request, or None when the client has gone or sends something else."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        method, target, _ = lines[0].split(" ", 2)
        headers = {}
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            if colon:
                headers[name.strip().lower()] = value.strip()
        url = urlsplit(target)
        request = Request(
            method=method,
            path=url.path,
            parts=[unquote(part) for part in url.path.strip("/").split("/")],
            query=dict(parse_qsl(url.query, keep_blank_values=True)),
            headers=headers,
            head=head,
        )
        request.body = await _read_body(reader, headers)
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError, ValueError):
        return None
    return request


async def _read_body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if "chunked" in headers.get("transfer-encoding", "").lower():
        chunks: list[bytes] = []
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            if size > _BODY_LIMIT:
                raise ValueError("body too large")
            chunks.append(await reader.readexactly(size))
            await reader.readexactly(2)
        await reader.readuntil(b"\r\n")
        return b"".join(chunks)
    size = int(headers.get("content-length", 0))
    if not 0 <= size <= _BODY_LIMIT:
        raise ValueError("body too large")
    return await reader.readexactly(size)
