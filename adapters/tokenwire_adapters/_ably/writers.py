"""From the events of one response to messages that grow: granularity ``"response"``."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

from ably.types.message import Message
from msgspec.structs import replace

from tokenwire.backend import Entry
from tokenwire.errors import BackendError, BackendUnavailable, Fenced, GapError, PublishRejected
from tokenwire.events import (
    DeltaEvent,
    EndEvent,
    Event,
    Part,
    StartEvent,
    State,
    ToolResultEvent,
)
from tokenwire.response import Assembler
from tokenwire_adapters._ably.cursors import show
from tokenwire_adapters._ably.links import Link
from tokenwire_adapters._ably.options import Settings
from tokenwire_adapters._ably.pacing import Pace
from tokenwire_adapters._ably.singles import single_messages
from tokenwire_adapters._ably.wire import (
    MARK,
    end_headers,
    part_headers,
    pieces_of,
    size_of,
    split,
    start_headers,
    text_crc,
)

__all__ = ["RESERVE", "ResponseWriter", "Sending", "Sent", "Writer"]

_BEATS = (0.05, 0.2, 0.5, 1.0)  # seconds between tries to give a sign of life
RESERVE = 2048  # bytes of a message for headers that come later
_MOST_HEADERS = 16_384


class Sending:
    """What all writers of a connection share: the operations, and their pace."""

    def __init__(self, link: Link, settings: Settings, pace: Pace) -> None:
        self.link = link
        self.settings = settings
        self.pace = pace

    def create(self, channel: Any, message: Message, what: str) -> asyncio.Task[str]:
        """Publish a message; the task gives its serial."""

        async def publish() -> str:
            result = await channel.publish(message)
            serials = result.serials
            if not serials or not isinstance(serials[0], str):
                raise BackendUnavailable(f"Ably gave no serial ({what})")
            return str(serials[0])

        return self.link.post(publish, what)

    def create_all(
        self, channel: Any, messages: list[Message], what: str
    ) -> asyncio.Task[str | None]:
        """Publish several messages at once; the task gives the serial of the first."""

        async def publish() -> str | None:
            result = await channel.publish(messages)
            serials = result.serials
            return serials[0] if serials else None

        return self.link.post(publish, what)

    def append(self, channel: Any, message: Message, what: str) -> asyncio.Task[Any]:
        """Append to a message; the task gives the version, where Ably tells it."""

        async def publish() -> Any:
            return (await channel.append_message(message)).version_serial

        return self.link.post(publish, what)

    def update(self, channel: Any, message: Message, what: str) -> asyncio.Task[Any]:
        """Replace a message."""

        async def publish() -> Any:
            return (await channel.update_message(message)).version_serial

        return self.link.post(publish, what)


class Writer(ABC):
    """One response on its way to Ably.

    :ivar first: the serial of its first message, once known.
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

    async def publish(self, entry: Entry) -> None:
        """Send an entry, after those before it; return when Ably has all of it.

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
            return []
        if isinstance(event, DeltaEvent) and event.offset < have:
            return [replace(event, offset=have, text=event.text[have - event.offset :])]
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
            for message in self._result_messages(result, key, room):
                await self._sending.pace.wait()
                task = self._sending.create(channel, message, "publishing a tool result")
                task.add_done_callback(lambda done, of=result.call_id: self._told_of(of, done))
                tasks.append(task)
            self._told.add(result.call_id)
        return tasks

    def _result_messages(self, result: ToolResultEvent, key: str, room: int) -> list[Message]:
        return single_messages(result, key, room)

    def _told_of(self, call_id: str, task: asyncio.Task[Any]) -> None:
        if task.cancelled() or task.exception() is not None:
            self._told.discard(call_id)


class Sent:
    """One message of a response.

    :ivar base: where its text begins in its part; `length` and `size` (bytes) are what it has.
    :ivar suspect: what Ably has of it may be wrong: it is to be replaced as a whole.
    """

    __slots__ = (
        "base",
        "closed",
        "crc",
        "extras",
        "last",
        "length",
        "message_id",
        "name",
        "part",
        "payload",
        "serial",
        "size",
        "suspect",
    )

    def __init__(self, message_id: str, name: str, part: int | None, base: int) -> None:
        self.message_id = message_id
        self.name = name
        self.part = part
        self.base = base
        self.length = 0
        self.size = 0
        self.crc = 0
        self.serial: asyncio.Task[str] | None = None
        self.payload: tuple[Any, dict[str, Any]] | None = None
        self.suspect = False
        self.closed = False  # takes no more text
        self.extras: dict[str, Any] | None = None  # where they are always the same
        self.last: asyncio.Task[Any] | None = None  # the operation begun last


class ResponseWriter(Writer):
    """Granularity ``"response"``: a message for the start and the first text, one a further part.

    Text grows by appends. What fails makes its message suspect, and the next entry (the sink sends
    a snapshot) replaces it by an update with the whole text.
    """

    head_takes_text = True

    def __init__(self, entry: Entry, sending: Sending) -> None:
        super().__init__(entry, sending)
        self._sent: list[Sent] = []
        self._head = Sent("", "response", None, 0)
        self._start: dict[str, Any] = {}

    async def _send(
        self,
        entry: Entry,
        new: Sequence[Event],  # noqa: ARG002 - what is sent is what Ably does not have
        *,
        again: bool,  # noqa: ARG002
    ) -> list[asyncio.Task[Any]]:
        channel = await self._sending.link.channel(self.channel)
        self.lease = entry.lease
        if not self._sent:
            self._begin(entry)
        tasks: list[asyncio.Task[Any]] = []
        if any(sent.suspect for sent in self._sent):
            tasks += await self._repair(channel)
        return await self._go_on(channel, entry, tasks)

    async def _go_on(
        self, channel: Any, entry: Entry, tasks: list[asyncio.Task[Any]]
    ) -> list[asyncio.Task[Any]]:
        """Send what Ably does not have yet."""
        results = self._new_results()
        end = entry.events[-1] if isinstance(entry.events[-1], EndEvent) else None
        if end is not None and (self._ended or not self.assembler.ended):
            end = None
        work = self._plan()
        alone = end is not None and not results and not tasks and len(work) <= 1
        if alone and (not work or work[0][0] is self._head):
            # One operation holds all there is left: the text and the end with it.
            assert end is not None
            tasks.append(await self._write(channel, self._head, work[0][1] if work else "", end))
            return tasks
        for sent, text in work:
            tasks.append(await self._write(channel, sent, text, None))
        tasks += await self._results(channel, results)
        if end is not None:
            # Pages stop listening to what has ended: all before it must be there.
            await self._settle(tasks)
            tasks = [await self._write(channel, self._head, "", end)]
        return tasks

    def _begin(self, entry: Entry) -> None:
        start = entry.events[0]
        assert isinstance(start, StartEvent)
        self._start = start_headers(start)
        if size_of(self._start) > _MOST_HEADERS:
            raise PublishRejected(
                "the metadata of a response is too large for Ably: 16 KiB at most"
            )
        self._head.message_id = f"{self.fence}-0"
        self._sent.append(self._head)

    # -- what is to be written

    def _plan(self) -> list[tuple[Sent, str]]:
        """The text that is not yet in a message, and the messages it goes to."""
        work: list[tuple[Sent, str]] = []
        if self._head.serial is None and self.assembler.parts:
            if not self.head_takes_text or self._first_kind() != "text":
                work.append((self._head, ""))
        elif self._head.serial is None:
            work.append((self._head, ""))
        work += [(s, "") for s in self._sent if s.payload is not None and s.serial is None]
        covered: dict[int, int] = {}
        last: dict[int, Sent] = {}
        for sent in self._sent:
            if sent.part is not None:
                covered[sent.part] = sent.base + sent.length
                last[sent.part] = sent
        for part in range(self.assembler.parts):
            have = covered.get(part, 0)
            if part in last and have >= self.assembler.part_length(part):
                continue
            work += self._plan_part(part, have, last.get(part))
        return work

    def _first_kind(self) -> str:
        part = self._part(0)
        bare = part.name is None and part.call_id is None and part.data is None
        return part.kind if bare else ""

    def _part(self, index: int) -> Part:
        return self.assembler.response.parts[index]

    def _plan_part(self, index: int, have: int, last: Sent | None) -> list[tuple[Sent, str]]:
        part = self._part(index)
        work: list[tuple[Sent, str]] = []
        if last is None:
            bare = part.name is None and part.call_id is None and part.data is None
            if self.head_takes_text and part.kind == "text" and bare and self._head.part is None:
                last = self._head
                last.part = index
            else:
                if part.data is not None:
                    work += self._payload(index, part)
                    if not part.text:
                        return work
                last = self._new(index, part.kind, 0)
        text = part.text[have:]
        room = self._room - last.size - (size_of(self._start) if last is self._head else 0)
        if last.closed:
            room = 0
        pieces = (
            list(split(text, room, self._room))
            if room >= 4
            else ["", *split(text, self._room, self._room)]
        )
        for number, piece in enumerate(pieces or [""]):
            if number:
                assert last is not None
                last.closed = True
                last = self._new(index, part.kind, have)
            if piece or last.serial is None:
                work.append((last, piece))
            have += len(piece)
        return work

    def _new(self, part: int, kind: str, base: int) -> Sent:
        name = "response" if kind == "text" else kind
        sent = Sent(f"{self.fence}-{len(self._sent)}", name, part, base)
        self._sent.append(sent)
        return sent

    def _payload(self, index: int, part: Part) -> list[tuple[Sent, str]]:
        """Messages that carry the data of a part."""
        key = f"{self.fence}-data-{index}"
        work: list[tuple[Sent, str]] = []
        for data, more in pieces_of({"data": part.data}, key, self._room):
            sent = self._new(index, part.kind, 0)
            sent.payload = (data, {"payload": 1, **more})
            sent.closed = True
            work.append((sent, ""))
        return work

    @property
    def _room(self) -> int:
        return self._sending.settings.max_message - 2 * RESERVE

    # -- writing

    def _message_headers(self, sent: Sent, end: EndEvent | None) -> dict[str, Any]:
        told = self._headers()
        if sent is self._head:
            told |= self._start
        if sent.part is not None:
            part = self._part(sent.part)
            told |= part_headers(sent.part, part.kind, part.name, part.call_id)
            told |= {"offset": sent.base}
            if sent.payload is not None:
                told |= sent.payload[1]
            else:
                told |= {"length": sent.length, "crc": sent.crc}
        if end is not None:
            told |= self._end_headers(end)
        return told

    def _extras(self, sent: Sent, end: EndEvent | None) -> dict[str, Any]:
        return {"headers": self._message_headers(sent, end)}

    async def _write(
        self, channel: Any, sent: Sent, text: str, end: EndEvent | None
    ) -> asyncio.Task[Any]:
        """Add text to a message, making it where it is not there."""
        if sent.serial is not None:
            serial = await self._serial(sent)
        else:
            serial = None
        sent.length += len(text)
        sent.size += size_of(text)
        sent.crc = text_crc(text, sent.crc)
        extras = self._extras(sent, end)
        sending = self._sending
        if serial is None:
            data = text if sent.payload is None else sent.payload[0]
            message = Message(id=sent.message_id, name=sent.name, data=data, extras=extras)
            await sending.pace.wait()
            task: asyncio.Task[Any] = sending.create(channel, message, "publishing a response")
            sent.serial = task
        else:
            message = Message(serial=serial, name=sent.name, data=text, extras=extras)
            await sending.pace.wait(serial)
            task = sending.append(channel, message, "appending to a response")
        task.add_done_callback(lambda done: self._look_at(sent, done))
        sent.last = task
        return task

    async def _serial(self, sent: Sent) -> str:
        """The serial of a message that was published.

        :raises BackendUnavailable: when it was not: the response is to be repaired.
        """
        assert sent.serial is not None
        await asyncio.wait([sent.serial])
        if sent.serial.cancelled() or sent.serial.exception() is not None:
            sent.suspect = True
            raise BackendUnavailable("an earlier message of the response was not published")
        return sent.serial.result()

    def _look_at(self, sent: Sent, task: asyncio.Task[Any]) -> None:
        if task.cancelled() or task.exception() is not None:
            sent.suspect = True
        elif sent is self._head and sent.serial is task and self.first is None:
            self.first = task.result()

    async def _repair(self, channel: Any) -> list[asyncio.Task[Any]]:
        """Replace every message that may be wrong by one that is right."""
        tasks: list[asyncio.Task[Any]] = []
        for sent in self._sent:
            if not sent.suspect:
                continue
            sent.suspect = False
            text: Any = ""
            if sent.payload is not None:
                text = sent.payload[0]
            elif sent.part is not None:
                text = self._part(sent.part).text[sent.base : sent.base + sent.length]
            end = None  # it is sent again by itself, after all is right
            extras = self._extras(sent, end)
            try:
                serial = None if sent.serial is None else await self._serial(sent)
            except BackendUnavailable:
                serial = None
            if serial is None:
                # The id makes Ably take it once, if it came after all; but perhaps without
                # what was added since: it is updated as well.
                message = Message(id=sent.message_id, name=sent.name, data=text, extras=extras)
                await self._sending.pace.wait()
                sent.serial = self._sending.create(channel, message, "publishing a response again")
                sent.serial.add_done_callback(lambda done, sent=sent: self._look_at(sent, done))
                serial = await self._serial(sent)
            sent.suspect = False
            message = Message(serial=serial, name=sent.name, data=text, extras=extras)
            await self._sending.pace.wait()
            task = self._sending.update(channel, message, "repairing a response")
            sent.last = task
            task.add_done_callback(lambda done, sent=sent: self._look_at(sent, done))
            tasks.append(task)
        return tasks

    async def _beat(self, ttl: float) -> bool:
        self.lease = ttl
        async with self._gate:
            if self._head.serial is None or self._ended or self._head.suspect:
                return True
            try:
                channel = await self._sending.link.channel(self.channel)
                task = await self._write(channel, self._head, "", None)
            except BackendError:
                return False
        try:
            self._took(await task)
        except BackendError:
            self._head.suspect = True
            return False
        return True
