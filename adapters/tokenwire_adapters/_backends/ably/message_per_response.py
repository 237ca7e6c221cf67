"""From the events of one response to messages that grow: granularity ``"response"``."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

from tokenwire.backend import Entry
from tokenwire.errors import BackendError, BackendUnavailable, PublishRejected
from tokenwire.events import EndEvent, Event, Part, StartEvent
from tokenwire_adapters._backends.ably.response_writer import RESERVE, Sending, Writer
from tokenwire_adapters._backends.ably.wire import (
    new_message,
    part_headers,
    pieces_of,
    size_of,
    split,
    start_headers,
    text_crc,
)

__all__ = ["ResponseWriter", "Sent"]

_MOST_HEADERS = 16_384


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
    """Granularity ``"response"``: a made for the start and the first text, one a further part.

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
        """The text that is not yet in a made, and the messages it goes to."""
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
        """Add text to a made, making it where it is not there."""
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
            made = new_message(id=sent.message_id, name=sent.name, data=data, extras=extras)
            await sending.pace.wait()
            task: asyncio.Task[Any] = sending.create(channel, made, "publishing a response")
            sent.serial = task
        else:
            made = new_message(serial=serial, name=sent.name, data=text, extras=extras)
            await sending.pace.wait(serial)
            task = sending.append(channel, made, "appending to a response")
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
                made = new_message(id=sent.message_id, name=sent.name, data=text, extras=extras)
                await self._sending.pace.wait()
                sent.serial = self._sending.create(channel, made, "publishing a response again")
                sent.serial.add_done_callback(partial(self._look_at, sent))
                serial = await self._serial(sent)
            sent.suspect = False
            made = new_message(serial=serial, name=sent.name, data=text, extras=extras)
            await self._sending.pace.wait()
            task = self._sending.update(channel, made, "repairing a response")
            sent.last = task
            task.add_done_callback(partial(self._look_at, sent))
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
