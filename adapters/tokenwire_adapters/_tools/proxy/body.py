"""The body of a request: whole or as it comes, within bounds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

from httpx import AsyncByteStream
from starlette.types import Receive

from tokenwire_adapters._tools.proxy.errors import ProxyError

__all__ = ["ClientGone", "RequestBody"]


class ClientGone(Exception):
    """The client closed its connection."""


class RequestBody(AsyncByteStream):
    """The body of one request. Iterated, it is read as it comes.

    :param receive: of the ASGI server.
    :param max_size: in bytes.
    :raises ProxyError: when the request says that it is longer than `max_size`.
    """

    def __init__(self, receive: Receive, headers: Mapping[str, str], max_size: int) -> None:
        self._receive = receive
        self._max_size = max_size
        self._size = 0
        self._ended = asyncio.Event()
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length) > max_size:
            raise self._too_large()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while not self._ended.is_set():
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            data: bytes = message.get("body", b"")
            self._size += len(data)
            if self._size > self._max_size:
                raise self._too_large()
            if not message.get("more_body", False):
                self._ended.set()
            if data:
                yield data

    async def read(self) -> bytes:
        """Read all of it.

        :raises ProxyError: when it is too long.
        :raises ClientGone: when the client hangs up.
        """
        return b"".join([data async for data in self])

    async def wait_until_read(self) -> None:
        """Wait until somebody else has read all of it."""
        await self._ended.wait()

    def _too_large(self) -> ProxyError:
        return ProxyError(
            413,
            "request_too_large",
            f"this proxy passes on bodies of at most {self._max_size} bytes (--max-body)",
        )
