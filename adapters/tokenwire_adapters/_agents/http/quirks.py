"""What depends on the inside of HTTP clients."""

from __future__ import annotations

from typing import Any

__all__ = [
    "AIOHTTP_SEND",
    "HTTPX_SEND",
    "URLLIB3_SEND",
    "buffered",
    "chunk_is_last",
    "request_body",
]

HTTPX_SEND = "_send_single_request"
"""The method of httpx 0.28 and httpx2 2.16 that sends one request, with no redirect or second
authentication, and gives a reply of which nothing is read: ``httpx/_client.py``."""

URLLIB3_SEND = "_make_request"
"""Likewise of urllib3 2.8's ``HTTPConnectionPool``; ``urlopen`` calls itself for each retry."""

AIOHTTP_SEND = "send"
"""Likewise of aiohttp 3.14's ``ClientRequest``, with a reply of which nothing has come yet."""


def chunk_is_last(response: Any) -> bool:
    """Whether the chunk that urllib3 2.8's ``HTTPResponse`` has begun to read is the empty one."""
    return bool(response.chunk_left == 0)


def buffered(reader: Any) -> list[bytes]:
    """What a ``StreamReader`` of aiohttp 3.14 holds that nobody has read yet."""
    return list(reader._buffer)


def request_body(request: Any) -> bytes | None:
    """The body of a ``ClientRequest`` of aiohttp 3.14, where it is bytes."""
    body: Any = request.body
    value: Any = getattr(body, "_value", body)  # of a BytesPayload
    return bytes(value) if isinstance(value, bytes | bytearray) else None
