"""Reads a channel's history from Ably, page by page."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from functools import partial
from typing import Any
from urllib.parse import quote, urlencode

from tokenwire.errors import InvalidCursor
from tokenwire_adapters._backends.ably.connections import RestClient
from tokenwire_adapters._backends.ably.quirks import message_page
from tokenwire_adapters._backends.ably.wire import ChannelMessage, from_ably

__all__ = ["History", "decode_page_token", "encode_page_token"]

_MAX_PAGE = 1000


class History:
    """Reads history, newest messages first.

    :param reach: how many messages are read at most.
    """

    def __init__(self, rest: RestClient, reach: int) -> None:
        self._rest = rest
        self._reach = reach

    async def read(
        self,
        channel: str,
        *,
        page: int = _MAX_PAGE,
        since: int | None = None,
        end: int | None = None,
        attach_serial: str | None = None,
        enough: Callable[[list[ChannelMessage]], bool] | None = None,
    ) -> list[ChannelMessage]:
        """Read messages in their latest version, newest first.

        :param page: how many messages to read per request.
        :param since: stop at this time, in milliseconds since 1970.
        :param end: only messages up to this time, in milliseconds since 1970.
        :param attach_serial: only messages before a channel was attached with this serial.
        :param enough: called after each page; true stops reading.
        """
        params: dict[str, Any] = {"limit": min(page, self._reach, _MAX_PAGE)}
        if end is not None:
            params["end"] = end
        if attach_serial is not None:
            params["from_serial"] = attach_serial
        path = f"/channels/{quote(channel, safe=':')}/messages?{urlencode(params)}"
        messages: list[ChannelMessage] = []
        async for items in self._pages(
            lambda client: message_page(client, path), f"reading the history of {channel!r}"
        ):
            messages += items
            oldest = messages[-1].created if messages else 0
            if (
                len(messages) >= self._reach
                or (since is not None and oldest < since)
                or (enough is not None and enough(messages))
            ):
                break
        return messages

    async def _pages(
        self, first: Callable[[Any], Awaitable[Any]], what: str
    ) -> AsyncIterator[list[ChannelMessage]]:
        """Yield the messages of each page; `first` requests the first page."""
        page = await self._rest.request(first, what)
        while page is not None:
            messages = (from_ably(message, from_history=True) for message in page.items)
            yield [message for message in messages if message is not None]
            page = await self._rest.request(partial(_next_page, page), what)

    async def drop_late_writes(
        self, channel: str, messages: Iterable[ChannelMessage]
    ) -> list[ChannelMessage]:
        """Leave out what a producer wrote after its response was ended for it as abandoned.

        Messages that it changed afterwards are replaced by their versions from before.
        """
        present = list(messages)
        ends: dict[Any, str] = {}
        for msg in present:
            if msg.is_native and msg.name == "end":
                response_id = msg.headers.get("responseId")
                ends[response_id] = min(msg.serial, ends.get(response_id, msg.serial))
        if not ends:
            return present
        kept: list[ChannelMessage] = []
        for msg in present:
            end = ends.get(msg.headers.get("responseId")) if msg.is_native else None
            if end is None or msg.version <= end or "type" in msg.headers:
                kept.append(msg)
            elif msg.serial < end:
                version = await self._version_before(channel, msg, end)
                if version is not None:
                    kept.append(version)
        return kept

    async def _version_before(
        self, channel: str, msg: ChannelMessage, end: str
    ) -> ChannelMessage | None:
        """The last version of a message that is not later than `end`."""
        async for versions in self._pages(
            lambda client: client.channels.get(channel).get_message_versions(msg.serial),
            f"reading the versions of a message of {channel!r}",
        ):
            before = [version for version in versions if version.version <= end]
            if before:
                return max(before, key=lambda version: version.version)
        return None


def encode_page_token(first: str, newest: int) -> str:
    """A page token: the first message of the oldest response shown, and where to read on from."""
    return base64.urlsafe_b64encode(json.dumps([first, newest]).encode()).decode().rstrip("=")


def decode_page_token(token: str) -> tuple[str, int]:
    """Parse a page token.

    :raises InvalidCursor: when it is malformed.
    """
    try:
        value: Any = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        first, newest = value
        if isinstance(first, str) and isinstance(newest, int) and newest >= 0:
            return first, newest
    except (ValueError, TypeError, RecursionError):
        pass
    raise InvalidCursor(f"not a page token: {token[:64]!a}")


async def _next_page(page: Any, _client: Any) -> Any:
    return await page.next()
