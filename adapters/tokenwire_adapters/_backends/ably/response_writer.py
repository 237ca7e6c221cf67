"""The base of the classes that publish one response as messages, and the operations they use."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Sequence
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
from tokenwire_adapters._backends.ably.connections import RealtimeConnection
from tokenwire_adapters._backends.ably.cursors import format_cursor
from tokenwire_adapters._backends.ably.event_messages import event_messages
from tokenwire_adapters._backends.ably.options import Settings
from tokenwire_adapters._backends.ably.rate_limit import RateLimiter
from tokenwire_adapters._backends.ably.wire import FORMAT_HEADER, byte_size, end_headers

__all__ = ["HEADER_RESERVE", "MessageSender", "ResponseWriter"]

HEADER_RESERVE = 2048  # bytes of a message, for headers that are added later
_HEARTBEAT_RETRIES = (0.05, 0.2, 0.5, 1.0)  # seconds between attempts
_MAX_ERROR = 200  # characters of an end's texts, where its headers are too large


class MessageSender:
    """The operations on messages that all writers of a connection share, and its rate limit.

    Each begins an operation and returns its task; `what` says what it does, for errors.
    """

    def __init__(
        self, connection: RealtimeConnection, settings: Settings, limiter: RateLimiter
    ) -> None:
        self.connection = connection
        self.settings = settings
        self.limiter = limiter

    @property
    def max_text(self) -> int:
        """How many bytes of text a message of a response may have."""
        return self.settings.max_message - 2 * HEADER_RESERVE

    @property
    def max_event(self) -> int:
        """How many bytes of data a message of a single event may have."""
        return self.settings.max_message - 4096

    def create(self, channel: Any, message: Any, what: str) -> asyncio.Task[str]:
        """Publish a message; the task returns its serial."""

        async def publish() -> str:
            result = await channel.publish(message)
            serials = result.serials
            if not serials or not isinstance(serials[0], str):
                raise BackendUnavailable(f"Ably gave no serial ({what})")
            return str(serials[0])

        return self.connection.submit(publish, what)

    def create_all(self, channel: Any, messages: list[Any], what: str) -> asyncio.Task[str | None]:
        """Publish several messages at once; the task returns the serial of the first."""

        async def publish() -> str | None:
            result = await channel.publish(messages)
            serials = result.serials
            return serials[0] if serials else None

        return self.connection.submit(publish, what)

    def append(self, channel: Any, message: Any, what: str) -> asyncio.Task[Any]:
        """Append to a message; the task returns the new version's serial, if Ably gives it."""
        return self._change(channel.append_message, message, what)

    def update(self, channel: Any, message: Any, what: str) -> asyncio.Task[Any]:
        """Replace a message's data; the task returns the new version's serial, if Ably gives it."""
        return self._change(channel.update_message, message, what)

    def _change(
        self, change: Callable[[Any], Awaitable[Any]], message: Any, what: str
    ) -> asyncio.Task[Any]:
        async def run() -> Any:
            return (await change(message)).version_serial

        return self.connection.submit(run, what)


class ResponseWriter(ABC):
    """Publishes one response.

    :ivar first: the serial of its first message, once known.
    :ivar cursor: the cursor of its last acknowledged change.
    :ivar fenced: why it must not be written any more; None while it may.
    :ivar last_accepted: when Ably last acknowledged something (`time.monotonic`).
    :ivar done: whether Ably has acknowledged the response's end.
    """

    def __init__(self, entry: Entry, sender: MessageSender) -> None:
        self.channel = entry.channel
        self.id = entry.response_id or ""
        self.fence = entry.fence or ""
        self.lease = entry.lease
        self.first: str | None = None
        self.cursor: str | None = None
        self.fenced: Fenced | None = None
        self.last_accepted = 0.0
        self.done = False
        self.assembler = Assembler(self.id)
        self.run: str | None = None
        self._sender = sender
        self._lock = asyncio.Lock()
        self._last_seq = -1
        self._sent_results: set[str] = set()  # call ids of tool results that were or are being sent

    @property
    def state(self) -> State | None:
        """The response's state, as far as Ably knows it."""
        return self.assembler.state if self.done else "streaming"

    async def publish(self, entry: Entry, on_sent: Callable[[], None]) -> None:
        """Publish an entry after those before it; return when Ably has acknowledged all of it.

        :param on_sent: called when all of it has been sent.
        :raises BackendError: when Ably did not take all of it, or that is not known.
        """
        async with self._lock:
            if self.fenced is not None:
                raise self.fenced
            retry = entry.seq <= self._last_seq
            if not retry and self.done:
                raise Fenced(f"response {self.id!r} has ended")
            new = [] if retry else self._apply(entry)
            tasks = await self._send(entry, new, retry=retry)
        on_sent()
        await self._wait_for(tasks)
        if self.assembler.ended and isinstance(entry.events[-1], EndEvent):
            self.done = True

    def _apply(self, entry: Entry) -> list[Event]:
        """Apply an entry to the response; return what is new of it."""
        try:
            self.assembler.check(entry.events)
            new: list[Event] = []
            for event in entry.events:
                new += self._apply_event(event)
        except GapError as error:
            raise PublishRejected(str(error)) from None
        self._last_seq = entry.seq
        return new

    def _apply_event(self, event: Event) -> list[Event]:
        if isinstance(event, StartEvent):
            self.run = event.run
        have = self.assembler.part_length(event.part) if isinstance(event, DeltaEvent) else 0
        if not self.assembler.apply(event, channel=self.channel):
            # A recovery repeats what is known here, since Ably may not have it.
            return [event] if isinstance(event, StartEvent | SnapshotEvent | EndEvent) else []
        if isinstance(event, DeltaEvent) and event.offset < have:
            new = overlap(have, event.offset, event.text) or ""
            return [replace(event, offset=have, text=new)]
        return [event]

    @abstractmethod
    async def _send(
        self, entry: Entry, new: Sequence[Event], *, retry: bool
    ) -> list[asyncio.Task[Any]]:
        """Begin the operations for what is new; called with the lock held."""

    async def _wait_for(self, tasks: Iterable[asyncio.Task[Any]]) -> None:
        """Wait for operations; raise an error that is permanent, else any."""
        worst: BackendError | None = None
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, BackendError):
                if worst is None or isinstance(result, PublishRejected):
                    worst = result
            elif isinstance(result, BaseException):
                raise result
            else:
                self._on_accepted(result)
        if worst is not None:
            raise worst

    def _on_accepted(self, version: object) -> None:
        self.last_accepted = time.monotonic()
        if isinstance(version, str):
            cursor = format_cursor((version, 0, 0))
            if self.cursor is None or cursor > self.cursor:
                self.cursor = cursor

    # -- headers

    def _headers(self) -> dict[str, Any]:
        """The headers of every message of the response."""
        headers: dict[str, Any] = {
            FORMAT_HEADER: 1,
            "responseId": self.id,
            "producer": self.fence,
            "status": "streaming",
            "lease": int(self.lease * 1000),
        }
        if self.run is not None:
            headers["run"] = self.run
        return headers

    def _end_headers(self, end: EndEvent) -> dict[str, Any]:
        extent = [self.assembler.part_length(part) for part in range(self.assembler.parts)]
        headers = end_headers(end, extent)
        if byte_size(headers) > HEADER_RESERVE - 256:  # of a provider with too many usage fields
            short = EndEvent(
                response_id=end.response_id,
                state=end.state,
                finish_reason=end.finish_reason and end.finish_reason[:_MAX_ERROR],
                error=end.error and end.error[:_MAX_ERROR],
                ts=end.ts,
            )
            headers = end_headers(short, extent)
        return headers

    # -- heartbeats

    async def send_heartbeat(self, ttl: float) -> None:
        """Send a message that keeps the response alive, with a few retries.

        :param ttl: the lease, in seconds.
        """
        self.lease = ttl
        begun = time.monotonic()
        for pause in _HEARTBEAT_RETRIES:
            if await self._try_heartbeat() or time.monotonic() - begun + pause > ttl / 4:
                return
            await asyncio.sleep(pause)

    async def _try_heartbeat(self) -> bool:
        try:
            async with self._lock:
                task = None if self.done else await self._begin_heartbeat()
            if task is not None:
                self._on_accepted(await task)
        except BackendError:
            return False
        return True

    @abstractmethod
    async def _begin_heartbeat(self) -> asyncio.Task[Any] | None:
        """Begin to send a heartbeat, with the lock held; None where none is needed."""

    # -- tool results

    def _new_results(self) -> list[ToolResultEvent]:
        """Tool results of the response that were not sent yet."""
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
            if result.call_id not in self._sent_results
        ]

    async def _send_results(
        self, channel: Any, results: Iterable[ToolResultEvent]
    ) -> list[asyncio.Task[Any]]:
        tasks: list[asyncio.Task[Any]] = []
        for result in results:
            for message in self.result_messages(result, f"{self.fence}-result-{result.call_id}"):
                await self._sender.limiter.wait()
                task = self._sender.create(channel, message, "publishing a tool result")
                task.add_done_callback(partial(self._on_result_sent, result.call_id))
                tasks.append(task)
            self._sent_results.add(result.call_id)
        return tasks

    def result_messages(self, result: ToolResultEvent, key: str) -> list[Any]:
        """The messages of a tool result; `key` identifies it, so that Ably stores it once."""
        return event_messages(result, key, self._sender.max_event)

    def _on_result_sent(self, call_id: str, task: asyncio.Task[Any]) -> None:
        if task.cancelled() or task.exception() is not None:
            self._sent_results.discard(call_id)
