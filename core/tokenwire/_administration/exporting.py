"""Exports channels as JSON lines."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from typing import Self

from tokenwire._administration.lines import EventLine, HeaderLine, Line, ResponseLine, encode
from tokenwire._administration.listing import all_channels
from tokenwire._clock import now_ms
from tokenwire._runtime import Runtime
from tokenwire.backend import ReplayFrom
from tokenwire.errors import GapError
from tokenwire.events import DataEvent, Event, InputEvent, ToolResultEvent, ends_response
from tokenwire.response import Assembler

__all__ = ["Export"]


async def _export_channel(runtime: Runtime, channel: str) -> AsyncIterator[list[Line]]:
    """Yield the lines of a channel, in the order of its log, a piece of the replay at a time.

    What is streaming comes last, as far as it has come.
    """
    await runtime.producer.own_writes(channel)
    responses: dict[str, Assembler] = {}
    start: ReplayFrom | None = ReplayFrom(all=True)
    while start is not None:
        replay = await runtime.backend.replay(channel, start)
        lines = [line for event in replay.events for line in _fold(channel, event, responses)]
        yield lines
        start = replay.next
    yield [
        ResponseLine(channel=channel, response=assembler.response)
        for assembler in responses.values()
    ]


def _fold(channel: str, event: Event, responses: dict[str, Assembler]) -> list[Line]:
    """Fold an event into `responses`; return the line that it completes, if any.

    Cancels are left out: they are requests to producers that run.
    """
    response_id = event.response_id
    if response_id is not None:
        assembler = responses.setdefault(response_id, Assembler(response_id))
        try:
            changed = assembler.apply(event, channel=channel)
        except GapError:  # its beginning is retained no longer
            changed = False
        if assembler.state is None:
            del responses[response_id]
        elif ends_response(event):
            del responses[response_id]
            return [ResponseLine(channel=channel, response=assembler.response)]
        elif changed:
            return []
    if isinstance(event, DataEvent | InputEvent | ToolResultEvent):
        return [EventLine(channel=channel, event=event)]
    return []


class Export:
    """The lines of an export, as bytes, for ``async for`` on any loop or ``for`` on any thread.

    Get one from `Sink.export_channels`. It is read from the backend piece by piece, once.
    """

    def __init__(self, runtime: Runtime, channels: list[str] | None) -> None:
        self._io = runtime.io
        self._lines = self._read(runtime, channels)
        self._ready: deque[Line] = deque()
        self._done = False

    async def _read(
        self, runtime: Runtime, channels: list[str] | None
    ) -> AsyncIterator[list[Line]]:
        runtime.producer.check_open()
        yield [HeaderLine(ts=now_ms())]
        for channel in await all_channels(runtime) if channels is None else channels:
            async for lines in _export_channel(runtime, channel):
                yield lines

    async def _next_piece(self) -> None:
        try:
            self._ready.extend(await anext(self._lines))
        except StopAsyncIteration:
            self._done = True

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        while not self._ready and not self._done:
            await self._io.arun(self._next_piece())
        if not self._ready:
            raise StopAsyncIteration
        return encode(self._ready.popleft())

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        while not self._ready and not self._done:
            self._io.run(self._next_piece())
        if not self._ready:
            raise StopIteration
        return encode(self._ready.popleft())
