"""What a channel holds: pages of Ably's history, and what they come to."""

from __future__ import annotations

import base64
import json
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any
from urllib.parse import quote, urlencode

from ably.http.paginatedresult import PaginatedResult
from ably.types.message import Message

from tokenwire.errors import InvalidCursor
from tokenwire_adapters._backends.ably.connections import Rest
from tokenwire_adapters._backends.ably.wire import Msg, from_ably

__all__ = ["History", "decode_token", "encode_token"]

_PAGE = 1000


class History:
    """Reads history backwards, as far as it is needed."""

    def __init__(self, rest: Rest, reach: int) -> None:
        self._rest = rest
        self._reach = reach

    async def read(
        self,
        channel: str,
        *,
        page: int = _PAGE,
        since: int | None = None,
        end: int | None = None,
        attached: str | None = None,
        enough: Any = None,
    ) -> list[Msg]:
        """Messages, newest first, in their latest version.

        :param since: not beyond this time, in milliseconds since 1970; `end` likewise, later ones.
        :param attached: only what was there when a channel was attached, by its channel serial.
        :param enough: is asked after each page whether what was read will do.
        """
        params: dict[str, Any] = {"limit": min(page, self._reach, _PAGE)}
        if end is not None:
            params["end"] = end
        if attached is not None:
            params["from_serial"] = attached
        path = f"/channels/{quote(channel, safe=':')}/messages?{urlencode(params)}"

        async def first(client: Any) -> Any:
            query: Any = getattr(PaginatedResult, "paginated_query")  # noqa: B009 - it has no types
            return await query(client.http, url=path, response_processor=_decode)

        what = f"reading the history of {channel!r}"
        result = await self._rest.ask(first, what)
        found: list[Msg] = []
        while result is not None:
            found += [msg for msg in (from_ably(m, whole=True) for m in result.items) if msg]
            oldest = found[-1].created if found else 0
            if (
                len(found) >= self._reach
                or (since is not None and oldest < since)
                or (enough is not None and enough(found))
            ):
                break
            this = result
            result = await self._rest.ask(_after(this), what)
        return found

    async def as_of(self, channel: str, messages: Iterable[Msg]) -> list[Msg]:
        """Put messages back to where they were when their response was ended for its producer.

        A producer that was taken for dead may have written on; that does not count.
        """
        known = list(messages)
        ends: dict[Any, str] = {}
        for msg in known:
            if msg.ours and msg.name == "end":
                response_id = msg.headers.get("responseId")
                ends[response_id] = min(msg.serial, ends.get(response_id, msg.serial))
        if not ends:
            return known
        kept: list[Msg] = []
        for msg in known:
            end = ends.get(msg.headers.get("responseId")) if msg.ours else None
            if end is None or msg.version <= end or "type" in msg.headers:
                kept.append(msg)
            elif msg.serial < end:
                kept += await self._version(channel, msg, end)
        return kept

    async def _version(self, channel: str, msg: Msg, end: str) -> list[Msg]:
        async def first(client: Any) -> Any:
            return await client.channels.get(channel).get_message_versions(msg.serial)

        what = f"reading the versions of a message of {channel!r}"
        result = await self._rest.ask(first, what)
        best: Msg | None = None
        while result is not None:
            for message in result.items:
                version = from_ably(message, whole=True)
                if version is not None and version.version <= end:
                    best = version if best is None or version.version > best.version else best
            if best is not None:
                break
            this = result
            result = await self._rest.ask(_after(this), what)
        return [] if best is None else [best]


def _decode(response: Any) -> Sequence[Any]:
    decode: Any = getattr(Message, "from_encoded_array")  # noqa: B009 - it has no types
    found: Sequence[Any] = decode(response.to_native())
    return found


def encode_token(first: str, newest: int) -> str:
    """A page token: the first message of the oldest response shown, and where to read on from."""
    return base64.urlsafe_b64encode(json.dumps([first, newest]).encode()).decode().rstrip("=")


def decode_token(token: str) -> tuple[str, int]:
    """Read a page token.

    :raises InvalidCursor: when it is none.
    """
    try:
        value: Any = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        first, newest = value
        if isinstance(first, str) and isinstance(newest, int) and newest >= 0:
            return first, newest
    except (ValueError, TypeError, RecursionError):
        pass
    raise InvalidCursor(f"not a page token: {token[:64]!a}")


def _after(page: Any) -> Callable[[Any], Awaitable[Any]]:
    """A request for the page that follows."""

    def ask(_: Any) -> Awaitable[Any]:
        following: Awaitable[Any] = page.next()
        return following

    return ask
