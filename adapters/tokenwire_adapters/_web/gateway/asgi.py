"""Reading and writing raw ASGI messages."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, TypeAlias, cast
from urllib.parse import parse_qsl

import msgspec

from tokenwire_adapters._web.gateway.limits import Limits
from tokenwire_adapters._web.gateway.problems import Problem

__all__ = [
    "NOSNIFF",
    "Headers",
    "Message",
    "Receive",
    "Request",
    "Scope",
    "Send",
    "header_of",
    "read_json",
    "read_object",
    "send_response",
    "serve_lifespan",
    "split_path",
    "unstored",
]

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Headers: TypeAlias = Iterable[tuple[bytes, bytes]]

NOSNIFF = (b"x-content-type-options", b"nosniff")
"""The header that keeps browsers from guessing another content type."""

_MAX_SEGMENTS = 64
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")


class Request:
    """An HTTP request or WebSocket handshake, checked and decoded.

    :ivar scope: of ASGI.
    :ivar root: the path of the mount point, decoded; empty at the top.
    :ivar segments: the path under the mount point, split at ``/``, then decoded once.
    :ivar query: the parameters; none may come twice.
    :ivar client: the address of the client, as the server knows it; empty where it does not.
    """

    __slots__ = ("_headers", "client", "query", "root", "scope", "segments")

    def __init__(self, scope: Scope, limits: Limits) -> None:
        self.scope = scope
        address = scope.get("client")
        self.client: str = str(address[0]) if address else ""
        self._headers: list[tuple[bytes, bytes]] = list(scope.get("headers", ()))
        self._check_sizes(limits)
        self.root, self.segments = split_path(scope)
        self.query = _query(scope.get("query_string", b""))

    def _check_sizes(self, limits: Limits) -> None:
        path: bytes = self.scope.get("raw_path") or self.scope["path"].encode()
        if len(path) + len(self.scope.get("query_string", b"")) > limits.url_bytes:
            raise Problem("too_large", f"the URL is over {limits.url_bytes} bytes", status=414)
        if sum(len(k) + len(v) for k, v in self._headers) > limits.header_bytes:
            raise Problem(
                "too_large", f"the headers are over {limits.header_bytes} bytes", status=431
            )

    @property
    def method(self) -> str:
        """The HTTP method."""
        return str(self.scope.get("method", "GET"))

    def header(self, name: bytes) -> str | None:
        """A header that may come once; the first one where it comes more often."""
        return header_of(self.scope, name)

    def parameter(self, name: str, limit: int = 512) -> str | None:
        """A query parameter; None where it is not there or empty.

        :raises Problem: when it is longer than `limit`.
        """
        value = self.query.get(name)
        if value is not None and len(value) > limit:
            raise Problem("bad_request", f"the parameter {name} is over {limit} characters")
        return value or None


def header_of(scope: Scope, name: bytes) -> str | None:
    """A header of a scope; the first one where it comes more often."""
    for key, value in scope.get("headers", ()):
        if key == name:
            return str(value.decode("latin-1"))
    return None


def _query(raw: bytes) -> dict[str, str]:
    try:
        pairs = parse_qsl(
            raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=32
        )
    except ValueError as error:
        raise Problem("bad_request", "the query is not well-formed") from error
    query: dict[str, str] = {}
    for name, value in pairs:
        if name in query:
            raise Problem("bad_request", f"the parameter {name[:64]!a} comes twice")
        query[name] = value
    return query


def split_path(scope: Scope) -> tuple[str, tuple[str, ...]]:
    """Split a path: the mount point, and the segments under it, each decoded exactly once.

    Only the raw path distinguishes ``a%2Fb``, one segment, from ``a/b``, two.

    :raises Problem: when it is not well-formed percent-encoded UTF-8.
    """
    root: str = scope.get("root_path", "").rstrip("/")
    path: str = scope["path"]
    # Some frameworks remove the mount point from the path, others leave it there as the root.
    under = path[len(root) :] if path.startswith(f"{root}/") else path
    raw: bytes | None = scope.get("raw_path")
    if raw is not None:
        if raw.count(b"/") > _MAX_SEGMENTS:
            raise Problem("not_found", "there is no such route")
        decoded = [_decode(segment) for segment in raw.partition(b"?")[0].split(b"/")]
        for begin in range(1, len(decoded)):
            if "/".join(decoded[begin:]).strip("/") == under.strip("/"):
                mount = "/".join(decoded[:begin])
                mount = mount if mount.startswith(root) else root + mount
                return mount, tuple(decoded[begin:])
    return root, tuple(under.removeprefix("/").split("/"))  # no raw path: names have no slash


def _decode(segment: bytes) -> str:
    if _BAD_ESCAPE.search(segment):
        raise Problem("bad_request", "the path has a broken percent-encoding")
    try:
        return _ESCAPE.sub(lambda match: bytes((int(match[1], 16),)), segment).decode()
    except UnicodeDecodeError as error:
        raise Problem("bad_request", "the path is not UTF-8") from error


def unstored(content_type: bytes) -> list[tuple[bytes, bytes]]:
    """The headers of a whole response that must not be stored, nor taken for another type."""
    return [(b"content-type", content_type), (b"cache-control", b"no-store"), NOSNIFF]


async def send_response(
    send: Send, status: int, body: bytes = b"", *, headers: Headers = (), head: bool = False
) -> None:
    """Send a whole response."""
    length = [] if status == 204 else [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *length]})
    await send({"type": "http.response.body", "body": b"" if head else body})


async def serve_lifespan(
    receive: Receive,
    send: Send,
    startup: Callable[[], Awaitable[object]],
    shutdown: Callable[[], Awaitable[object]],
) -> None:
    """Answer the lifespan protocol; calls `startup` and `shutdown` when the server does so."""
    while True:
        kind = (await receive())["type"]
        if kind == "lifespan.startup":
            await startup()
        if kind == "lifespan.shutdown":
            await shutdown()
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return


def _at_most(digits: str, most: int) -> bool:
    """Whether text is a number up to `most`; a number of very many digits is not read as one."""
    return digits.isascii() and digits.isdecimal() and len(digits) <= 20 and int(digits) <= most


async def read_json(request: Request, receive: Receive, limits: Limits) -> Any:
    """Read a JSON body; None where there is none.

    :raises Problem: ``too_large``, ``timeout``, ``unsupported_media_type`` or ``bad_request``.
    """
    length = request.header(b"content-length")
    if length is not None and not _at_most(length, limits.input_bytes):
        raise Problem("too_large", f"the body is over {limits.input_bytes} bytes")
    body = bytearray()
    try:
        async with asyncio.timeout(limits.body_timeout):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Problem("bad_request", "the client went away")
                body += message.get("body", b"")
                if len(body) > limits.input_bytes:
                    raise Problem("too_large", f"the body is over {limits.input_bytes} bytes")
                if not message.get("more_body", False):
                    break
    except TimeoutError as error:
        raise Problem("timeout", "the body did not arrive in time") from error
    if not body:
        return None
    kind = (request.header(b"content-type") or "").partition(";")[0].strip().lower()
    # Anything else could be sent by a form of another site, without a preflight.
    if kind != "application/json":
        raise Problem("unsupported_media_type", "the body must be application/json")
    try:
        return msgspec.json.decode(bytes(body))
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise Problem("bad_request", f"the body is not JSON: {error}"[:300]) from error


async def read_object(request: Request, receive: Receive, limits: Limits) -> dict[str, Any]:
    """Read the JSON object of a body; empty where there is none.

    :raises Problem: ``invalid`` where it is no object, and as `read_json` does.
    """
    body = await read_json(request, receive, limits)
    if body is not None and not isinstance(body, dict):
        raise Problem("invalid", "the body must be an object")
    return cast("dict[str, Any]", body or {})
