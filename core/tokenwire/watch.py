"""`Watch`: what happened, then what happens, without a gap or a repeat between them."""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from typing import Self

from msgspec.structs import replace

from tokenwire._public import PublicDir
from tokenwire._reading.reader import ChannelReader
from tokenwire._reading.resume import ResumePoint
from tokenwire._reading.ring import Item
from tokenwire.backend import Backend, ReplayFrom
from tokenwire.errors import SinkClosed
from tokenwire.events import Event

__all__ = ["ChannelReader", "Item", "ResumePoint", "Watch", "parse_rewind", "parse_start"]

_REWIND = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)(ms|s|m|h|d)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_rewind(rewind: str | int) -> ReplayFrom:
    """Parse ``"30s"``, ``"2m"`` (also ms, h, d), a count (``50`` or ``"50"``) or ``"all"``.

    :raises ValueError: when it is none of these.
    """
    if isinstance(rewind, bool) or not isinstance(rewind, str | int):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValueError("rewind must be a duration such as '2m', a count, or 'all'")
    if isinstance(rewind, int) or (rewind.isascii() and rewind.isdecimal()):
        count = int(rewind) if len(str(rewind)) <= 9 else -1
        if not 0 <= count <= 1_000_000:
            raise ValueError("rewind: the count must be from 0 to 1000000")
        return ReplayFrom(count=count)
    if rewind == "all":
        return ReplayFrom(all=True)
    match = _REWIND.fullmatch(rewind) if rewind.isascii() else None
    if match is None:
        raise ValueError(
            f"rewind must be a duration such as '30s' or '2m', a count, or 'all',"
            f" not {rewind[:64]!r}"
        )
    seconds = float(match[1]) * _UNITS[match[2]]
    return ReplayFrom(since=int((time.time() - seconds) * 1000))


def parse_start(
    backend: Backend, after: str | None, rewind: str | int | None, response_id: str | None
) -> tuple[ReplayFrom, bool]:
    """Check where a reader wants to start.

    :return: that, and whether `after` is midway in a replay (see `ResumePoint`).
    :raises InvalidCursor, ValueError: for arguments that cannot be, alone or together.
    """
    if after is None:
        start = ReplayFrom() if rewind is None else parse_rewind(rewind)
        return replace(start, response_id=response_id), False
    if rewind is not None:
        raise ValueError("give after= or rewind=, not both")
    point = ResumePoint.parse(after)
    backend.order(point.cursor)  # raises InvalidCursor if malformed
    return ReplayFrom(after=point.cursor, response_id=response_id), point.midway


class Watch(PublicDir):
    """The events of a channel, for ``async for`` on any loop or ``for`` on any thread.

    Begin with `Sink.watch`. One watch is for one reader. It goes on until it is closed, its sink
    is, or, when it watches one response, that response has ended.

    :ivar channel: the channel's name.
    :ivar cursor: of the last event given out; give it to `after` to go on from there elsewhere.
    """

    def __init__(self, reader: ChannelReader) -> None:
        self.channel = reader.channel
        self.cursor = reader.cursor
        self._reader = reader
        self._ready: deque[Item] = deque()

    @property
    def conflated(self) -> int:
        """How often this watcher fell so far behind that it was given a summary."""
        return self._reader.conflated

    @property
    def reset(self) -> bool:
        """Whether `after` was no longer retained (the log was trimmed, or is another one).

        What is given first are then snapshots of what is still there. Known once the watch is
        open.
        """
        return self._reader.reset

    def _next_ready(self) -> Event | None:
        ready = self._ready
        if not ready:
            return None
        event = ready.popleft().event
        self.cursor = event.cursor or self.cursor
        return event

    # -- for `async for`

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        while (event := self._next_ready()) is None:
            try:
                self._ready.extend(await self._reader.abatch())
            except SinkClosed:
                raise StopAsyncIteration from None
            if not self._ready:
                raise StopAsyncIteration
        return event

    async def aopen(self) -> Self:
        """Join now rather than at the first event; what is published from here on is seen.

        :raises InvalidCursor: when `after` is not a cursor of this channel.
        :raises BackendUnavailable: when the backend cannot be read.
        """
        await self._reader.aopen()
        return self

    async def aclose(self) -> None:
        """Stop watching. Idempotent; an iteration under way ends."""
        self.close()

    async def __aenter__(self) -> Self:
        return await self.aopen()

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    # -- for `for`

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        while (event := self._next_ready()) is None:
            try:
                self._ready.extend(self._reader.batch())
            except SinkClosed:
                raise StopIteration from None
            if not self._ready:
                raise StopIteration
        return event

    def open(self) -> Self:
        """Do what `aopen` does, blocking."""
        self._reader.open()
        return self

    def close(self) -> None:
        """Stop watching. Idempotent, from any thread; an iteration under way ends."""
        self._ready = deque()
        self._reader.close()

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(self, *exc: object) -> None:
        self.close()
