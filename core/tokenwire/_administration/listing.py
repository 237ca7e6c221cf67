"""The channels of a backend, page by page."""

from __future__ import annotations

from collections import deque
from typing import Self

from tokenwire._runtime import Runtime
from tokenwire.backend import ChannelInfo

__all__ = ["Channels", "all_channels"]

_PAGE = 100


class _Pages:
    """Reads pages of channels, and leaves out those that were on a page before."""

    def __init__(self, runtime: Runtime, prefix: str) -> None:
        self._runtime = runtime
        self._prefix = prefix
        self._after: str | None = None
        self._names: set[str] = set()
        self.done = False

    async def read(self) -> list[ChannelInfo]:
        page = await self._runtime.backend.list_channels(
            prefix=self._prefix, limit=_PAGE, after=self._after
        )
        self._after = page.next
        self.done = page.next is None
        new = [channel for channel in page.items if channel.name not in self._names]
        self._names.update(channel.name for channel in new)
        return new


async def all_channels(runtime: Runtime) -> list[str]:
    """The names of all channels."""
    pages = _Pages(runtime, "")
    names: list[str] = []
    while not pages.done:
        names += [channel.name for channel in await pages.read()]
    return names


class Channels:
    """The channels of a backend, for ``async for`` on any loop or ``for`` on any thread.

    Get one from `Sink.list_channels`. It is read page by page, once.
    """

    def __init__(self, runtime: Runtime, prefix: str) -> None:
        self._io = runtime.io
        self._pages = _Pages(runtime, prefix)
        self._ready: deque[ChannelInfo] = deque()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ChannelInfo:
        while not self._ready and not self._pages.done:
            self._ready.extend(await self._io.arun(self._pages.read()))
        if not self._ready:
            raise StopAsyncIteration
        return self._ready.popleft()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> ChannelInfo:
        while not self._ready and not self._pages.done:
            self._ready.extend(self._io.run(self._pages.read()))
        if not self._ready:
            raise StopIteration
        return self._ready.popleft()
