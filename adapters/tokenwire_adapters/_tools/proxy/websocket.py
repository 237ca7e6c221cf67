"""Passes a WebSocket on, unread."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

from starlette.types import Receive, Scope, Send

from tokenwire_adapters._tools.proxy.errors import ProxyError
from tokenwire_adapters._tools.proxy.headers import request_headers
from tokenwire_adapters._tools.proxy.upstreams import Upstream

__all__ = ["pass_websocket", "refuse_websocket"]

_MAX_SIZE = 64 * 2**20  # bytes of a message of the upstream
_TIMEOUT = 30.0  # seconds for the handshake with the upstream


async def pass_websocket(
    upstream: Upstream, target: bytes, scope: Scope, receive: Receive, send: Send
) -> None:
    """Connect to the upstream, and pass messages on in both directions until either side closes.

    :raises ProxyError: when the upstream cannot be reached.
    """
    from websockets.asyncio.client import connect
    from websockets.exceptions import InvalidStatus, WebSocketException

    scheme = "wss" if upstream.origin.startswith("https:") else "ws"
    headers = [
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, value in request_headers(scope["headers"], upstream.host, 0)
        if name != b"host" and not name.startswith(b"sec-websocket-")
    ]
    await receive()  # its first message: connect
    connecting = connect(
        f"{scheme}://{upstream.host}{target.decode('latin-1')}",
        additional_headers=headers,
        subprotocols=scope.get("subprotocols") or None,
        user_agent_header=None,
        compression=None,
        max_size=_MAX_SIZE,
        open_timeout=_TIMEOUT,
        ping_interval=None,
    )
    try:
        there = await connecting
    except InvalidStatus as error:
        reply = error.response
        raw = [
            (name.encode("latin-1"), value.encode("latin-1"))
            for name, value in reply.headers.raw_items()
        ]
        await _answer(send, reply.status_code, raw, bytes(reply.body or b""))
        return
    except (OSError, TimeoutError, WebSocketException) as error:
        raise ProxyError(
            502,
            "upstream_unreachable",
            f"upstream {upstream.name!r} ({upstream.origin}) cannot be reached:"
            f" {str(error) or type(error).__name__}",
        ) from error
    async with there:
        await send({"type": "websocket.accept", "subprotocol": there.subprotocol})
        up = asyncio.create_task(_pass_up(receive, there))
        down = asyncio.create_task(_pass_down(there, send))
        try:
            await asyncio.wait((up, down), return_when=asyncio.FIRST_COMPLETED)
        finally:
            up.cancel()
            down.cancel()
            await asyncio.wait((up, down))


async def _pass_up(receive: Receive, there: Any) -> None:
    from websockets.exceptions import ConnectionClosed

    while True:
        message: Mapping[str, Any] = await receive()
        if message["type"] == "websocket.disconnect":
            code = message.get("code", 1000)
            await there.close(
                code if code not in (1005, 1006) else 1000, message.get("reason") or ""
            )
            return
        text, data = message.get("text"), message.get("bytes")
        try:
            await there.send(text if text is not None else data)
        except ConnectionClosed:
            return


async def _pass_down(there: Any, send: Send) -> None:
    from websockets.exceptions import ConnectionClosed

    # Iterating ends at a code that says all is well, and raises at any other.
    with contextlib.suppress(ConnectionClosed):
        async for message in there:
            kind = "text" if isinstance(message, str) else "bytes"
            await send({"type": "websocket.send", kind: message})
    code, reason = _code(there.close_code, 1011), there.close_reason or ""
    await send({"type": "websocket.close", "code": code, "reason": reason})


def _code(code: int | None, otherwise: int) -> int:
    """A code that may be sent: those of a connection that closed without one may not."""
    return otherwise if code is None or code in (1005, 1006, 1015) else code


async def refuse_websocket(error: ProxyError, send: Send) -> None:
    """Answer the handshake with an HTTP error."""
    response = error.response()
    await _answer(send, error.status, response.raw_headers, bytes(response.body))


async def _answer(send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    kept = [
        pair for pair in headers if pair[0].lower() not in (b"connection", b"transfer-encoding")
    ]
    await send({"type": "websocket.http.response.start", "status": status, "headers": kept})
    await send({"type": "websocket.http.response.body", "body": body})
