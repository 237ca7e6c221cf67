"""Requests and answers of the REST interface and of the control port."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

from tokenwire_adapters.testing._http import BadHttp, read_body, read_head, response_head

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
    body: bytes
    keep_alive: bool

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
    headers: dict[str, str] = field(default_factory=dict[str, str])

    def dump(self, request: Request) -> bytes:
        """Return the bytes to send. Browsers on other origins may read everything.

        Ably's client in a browser asks with credentials, for which there is no wildcard.
        """
        headers = {
            "Content-Type": self.content_type,
            "Content-Length": str(len(self.body)),
            "Access-Control-Allow-Origin": request.headers.get("origin", "*"),
            "Access-Control-Allow-Credentials": "true",
            "Vary": "Origin",
            "Access-Control-Allow-Methods": "GET, POST, PATCH, PUT, DELETE, OPTIONS",
            "Access-Control-Allow-Headers": request.headers.get(
                "access-control-request-headers", "Authorization"
            ),
            "Access-Control-Expose-Headers": "Link, X-Ably-Errorcode, X-Ably-Errormessage",
            **self.headers,
        }
        return response_head(self.status, headers) + self.body


async def read_request(reader: asyncio.StreamReader) -> Request | None:
    """Read one request; None when the client has closed or sends something else."""
    try:
        head = await read_head(reader)
        body = await read_body(reader, head.headers, _BODY_LIMIT, chunked=True)
        url = urlsplit(head.target)
    except (asyncio.IncompleteReadError, ConnectionError, BadHttp, ValueError):
        return None
    return Request(
        method=head.method,
        path=url.path,
        parts=[unquote(part) for part in url.path.strip("/").split("/")],
        query=dict(parse_qsl(url.query, keep_blank_values=True)),
        headers=head.headers,
        head=head.raw,
        body=body,
        keep_alive=head.keep_alive,
    )
