"""What turns the events of one response into messages, whatever they look like."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from msgspec.structs import replace

from tokenwire.backend import Entry
from tokenwire.errors import BackendError, BackendUnavailable, Fenced, GapError, PublishRejected
from tokenwire.events import (
    DeltaEvent,
    EndEvent,
    Event,
    SnapshotEvent,
    StartEvent,
    State,
    ToolResultEvent,
)
from tokenwire.response import Assembler, overlap
from tokenwire_adapters._backends.ably.connections import Link
from tokenwire_adapters._backends.ably.cursors import show
from tokenwire_adapters._backends.ably.event_messages import single_messages
from tokenwire_adapters._backends.ably.options import Settings
from tokenwire_adapters._backends.ably.rate_limit import Pace
from tokenwire_adapters._backends.ably.wire import (
    MARK,
    end_headers,
    size_of,
)

__all__ = ["RESERVE", "Sending", "Writer"]

_BEATS = (0.05, 0.2, 0.5, 1.0)  # seconds between tries to give a sign of life
RESERVE = 2048  # bytes of a made for headers that come later
_MOST_HEADERS = 16_384


class Sending:
    """What all writers of a connection share: the operations, and their pace."""

    def __init__(self, link: Link, settings: Settings, pace: Pace) -> None:
        self.link = link
        self.settings = settings
        self.pace = pace

    def create(self, channel: Any, made: Any, what: str) -> asyncio.Task[str]:
        """Publish a message; the task gives its serial."""

        async def publish() -> str:
            result = await channel.publish(made)
            serials = result.serials
            if not serials or not isinstance(serials[0], str):
                raise BackendUnavailable(f"Ably gave no serial ({what})")
            return str(serials[0])

        return self.link.post(publish, what)

    def create_all(self, channel: Any, messages: list[Any], what: str) -> asyncio.Task[str | None]:
        """Publish several messages at once; the task gives the serial of the first."""

        async def publish() -> str | None:
            result = await channel.publish(messages)
            serials = result.serials
            return serials[0] if serials else None

        return self.link.post(publish, what)

    def append(self, channel: Any, made: Any, what: str) -> asyncio.Task[Any]:
        """Append to a message; the task gives the version, where Ably tells it."""

        async def publish() -> Any:
            return (await channel.append_message(made)).version_serial

        return self.link.post(publish, what)

    def update(self, channel: Any, made: Any, what: str) -> asyncio.Task[Any]:
        """Replace a made."""

        async def publish() -> Any:
            return (await channel.update_message(made)).version_serial

        return self.link.post(publish, what)


class Writer(ABC):
    """One response on its way to Ably.

    :ivar first: the serial of its first made, once known.
    :ivar fenced: why it must not be written any more.
    :ivar alive_at: when Ably last took something of it (monotonic).
    """

    def __init__(self, entry: Entry, sending: Sending) -> None:
        self.channel = entry.channel
        self.id = entry.response_id or ""
        self.fence = entry.fence or ""
        self.lease = entry.lease
        self.first: str | None = None
        self.cursor: str | None = None
        self.fenced: Fenced | None = None
        self.alive_at = 0.0
        self.assembler = Assembler(self.id)
        self.run: str | None = None
        self._sending = sending
        self._gate = asyncio.Lock()
        self._taken = -1  # the highest `seq` that was folded in
        self._ended = False  # the end is with Ably
        self._told: set[str] = set()  # calls whose results are with Ably, or on their way

    @property
    def done(self) -> bool:
        """Whether the response's end is with Ably."""
        return self._ended

    @property
    def state(self) -> State | None:
        """Where the response stands, as far as Ably knows."""
        return self.assembler.state if self._ended else "streaming"

    async def publish(self, entry: Entry, sent: Callable[[], None]) -> None:
        """Send an entry, after those before it; return when Ably has all of it.

        :param sent: called when all of it is on its way.
        :raises BackendError: when it does not have all of it, or that is not known.
        """
        async with self._gate:
            if self.fenced is not None:
                raise self.fenced
            again = entry.seq <= self._taken
            if not again and self._ended:
                raise Fenced(f"response {self.id!r} has ended")
            new = [] if again else self._fold(entry)
            tasks = await self._send(entry, new, again=again)
        sent()
        await self._settle(tasks)
        if self.assembler.ended and isinstance(entry.events[-1], EndEvent):
            self._ended = True

    def _fold(self, entry: Entry) -> list[Event]:
        """Fold an entry in; return what of it is new."""
        try:
            self.assembler.check(entry.events)
            new: list[Event] = []
            for event in entry.events:
                new += self._fold_one(event)
        except GapError as error:
            raise PublishRejected(str(error)) from None
        self._taken = entry.seq
        return new

    def _fold_one(self, event: Event) -> list[Event]:
        if isinstance(event, StartEvent):
            self.run = event.run
        have = self.assembler.part_length(event.part) if isinstance(event, DeltaEvent) else 0
        if not self.assembler.apply(event, channel=self.channel):
            # A recovery tells again what is known here, since Ably may not have it.
            return [event] if isinstance(event, StartEvent | SnapshotEvent | EndEvent) else []
        if isinstance(event, DeltaEvent) and event.offset < have:
            new = overlap(have, event.offset, event.text) or ""
            return [replace(event, offset=have, text=new)]
        return [event]

    @abstractmethod
    async def _send(
        self, entry: Entry, new: Sequence[Event], *, again: bool
    ) -> list[asyncio.Task[Any]]:
        """Begin the operations for what is new; the gate is held."""

    async def _settle(self, tasks: Iterable[asyncio.Task[Any]]) -> None:
        """Wait for answers; raise the worst of them."""
        worst: BackendError | None = None
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, BackendError):
                if worst is None or isinstance(result, PublishRejected):
                    worst = result
            elif isinstance(result, BaseException):
                raise result
            else:
                self._took(result)
        if worst is not None:
            raise worst

    def _took(self, version: object) -> None:
        self.alive_at = time.monotonic()
        if isinstance(version, str) and (
            self.cursor is None or show((version, 0, 0)) > self.cursor
        ):
            self.cursor = show((version, 0, 0))

    def _headers(self) -> dict[str, Any]:
        """What every message of the response says."""
        told: dict[str, Any] = {
            MARK: 1,
            "responseId": self.id,
            "producer": self.fence,
            "status": "streaming",
            "lease": int(self.lease * 1000),
        }
        if self.run is not None:
            told["run"] = self.run
        return told

    def _extent(self) -> list[int]:
        return [self.assembler.part_length(part) for part in range(self.assembler.parts)]

    def _end_headers(self, end: EndEvent) -> dict[str, Any]:
        told = end_headers(end, self._extent())
        if size_of(told) > RESERVE - 256:  # usage of a provider that tells far too much
            slim = EndEvent(
                response_id=end.response_id,
                state=end.state,
                finish_reason=None if end.finish_reason is None else end.finish_reason[:200],
                error=None if end.error is None else end.error[:200],
                ts=end.ts,
            )
            told = end_headers(slim, self._extent())
        return told

    async def beat(self, ttl: float) -> None:
        """Give a sign of life; try again where Ably does not take it."""
        begun = time.monotonic()
        for pause in _BEATS:
            if await self._beat(ttl) or time.monotonic() - begun + pause > ttl / 4:
                return
            await asyncio.sleep(pause)

    @abstractmethod
    async def _beat(self, ttl: float) -> bool:
        """Give a sign of life, once; False where that went wrong."""

    def _new_results(self) -> list[ToolResultEvent]:
        """Tool results that Ably does not have yet."""
        if self.assembler.state is None:
            return []
        return [
            ToolResultEvent(
                response_id=self.id,
                call_id=result.call_id,
                run=self.run,
                name=result.name,
                output=result.output,
                error=result.error,
            )
            for result in self.assembler.response.tool_results
            if result.call_id not in self._told
        ]

    async def _results(
        self, channel: Any, results: Iterable[ToolResultEvent]
    ) -> list[asyncio.Task[Any]]:
        tasks: list[asyncio.Task[Any]] = []
        room = self._sending.settings.max_message - 4096
        for result in results:
            key = f"{self.fence}-result-{result.call_id}"
            for made in self._result_messages(result, key, room):
                await self._sending.pace.wait()
                task = self._sending.create(channel, made, "publishing a tool result")
                task.add_done_callback(partial(self._told_of, result.call_id))
                tasks.append(task)
            self._told.add(result.call_id)
        return tasks

    def _result_messages(self, result: ToolResultEvent, key: str, room: int) -> list[Any]:
        return single_messages(result, key, room)

    def _told_of(self, call_id: str, task: asyncio.Task[Any]) -> None:
        if task.cancelled() or task.exception() is not None:
            self._told.discard(call_id)
