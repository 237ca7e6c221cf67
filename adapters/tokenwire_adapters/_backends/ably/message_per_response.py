"""Publishes a response as messages that grow by appends: granularity ``"response"``."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

from msgspec import Struct

from tokenwire.backend import Entry
from tokenwire.errors import BackendUnavailable, PublishRejected
from tokenwire.events import EndEvent, Event, Part, StartEvent
from tokenwire_adapters._backends.ably.response_writer import MessageSender, ResponseWriter
from tokenwire_adapters._backends.ably.wire import (
    byte_size,
    new_message,
    part_headers,
    split_payload,
    split_text,
    start_headers,
    text_crc,
)

__all__ = ["PerResponseWriter", "SentMessage"]

_MAX_START_HEADERS = 16_384  # bytes


class SentMessage(Struct, eq=False):
    """One message of a response, and what Ably has of it.

    :ivar part: the index of the part that its text belongs to; None where it has no text.
    :ivar base: where its text begins in its part; `length` (code points), `size` (bytes) and `crc`
        are those of its text so far.
    :ivar serial: the task that publishes it and returns its serial; None before.
    :ivar last: the last operation on it.
    :ivar payload: data and headers, for a message without text.
    :ivar extras: its extras, where they never change.
    :ivar suspect: whether an operation failed, so that Ably may not have all of it.
    :ivar closed: whether it takes no more text.
    """

    message_id: str
    name: str
    part: int | None
    base: int
    length: int = 0
    size: int = 0
    crc: int = 0
    serial: asyncio.Task[str] | None = None
    last: asyncio.Task[Any] | None = None
    payload: tuple[Any, dict[str, Any]] | None = None
    extras: dict[str, Any] | None = None
    suspect: bool = False
    closed: bool = False


class PerResponseWriter(ResponseWriter):
    """Publishes a message with the start and the first text, and one for each further part.

    Text grows by appends. A message with a failed operation is suspect: with the next entry (the
    sink then sends a snapshot) an update replaces all its text.
    """

    first_message_has_text = True

    def __init__(self, entry: Entry, sender: MessageSender) -> None:
        super().__init__(entry, sender)
        self._sent: list[SentMessage] = []
        self._head = SentMessage("", "response", None, 0)  # the first message
        self._start: dict[str, Any] = {}

    async def _send(
        self,
        entry: Entry,
        new: Sequence[Event],  # noqa: ARG002 - all that Ably does not have is sent
        *,
        retry: bool,  # noqa: ARG002
    ) -> list[asyncio.Task[Any]]:
        channel = await self._sender.connection.channel(self.channel)
        self.lease = entry.lease
        if not self._sent:
            self._begin(entry)
        tasks: list[asyncio.Task[Any]] = []
        if any(sent.suspect for sent in self._sent):
            tasks += await self._repair(channel)
        return await self._send_missing(channel, entry, tasks)

    async def _send_missing(
        self, channel: Any, entry: Entry, tasks: list[asyncio.Task[Any]]
    ) -> list[asyncio.Task[Any]]:
        """Send what Ably does not have yet; return all tasks that are to be waited for."""
        results = self._new_results()
        end = self._end_to_send(entry)
        work = self._plan()
        combined = end is not None and not results and not tasks and len(work) <= 1
        if combined and (not work or work[0][0] is self._head):
            # One operation sends all there is: the text and the end.
            return [await self._write(channel, self._head, work[0][1] if work else "", end)]
        for sent, text in work:
            tasks.append(await self._write(channel, sent, text, None))
        tasks += await self._send_results(channel, results)
        if end is not None:
            # Pages stop reading a response that has ended: Ably must have all before it.
            await self._wait_for(tasks)
            tasks = [await self._write(channel, self._head, "", end)]
        return tasks

    def _end_to_send(self, entry: Entry) -> EndEvent | None:
        """The end of the response, if the entry has it and Ably does not."""
        end = entry.events[-1]
        if isinstance(end, EndEvent) and self.assembler.ended and not self.done:
            return end
        return None

    def _begin(self, entry: Entry) -> None:
        start = entry.events[0]
        assert isinstance(start, StartEvent)
        self._start = start_headers(start)
        if byte_size(self._start) > _MAX_START_HEADERS:
            raise PublishRejected(
                "the metadata of a response is too large for Ably: 16 KiB at most"
            )
        self._head.message_id = f"{self.fence}-0"
        self._sent.append(self._head)

    # -- what is to be sent

    def _plan(self) -> list[tuple[SentMessage, str]]:
        """The messages that are to be published or appended to, each with its text."""
        work: list[tuple[SentMessage, str]] = []
        if self._head.serial is None and not (
            self.assembler.parts and self.first_message_has_text and _is_plain_text(self._part(0))
        ):
            work.append((self._head, ""))
        work += [(s, "") for s in self._sent if s.payload is not None and s.serial is None]
        covered: dict[int, int] = {}
        last: dict[int, SentMessage] = {}
        for sent in self._sent:
            if sent.part is not None:
                covered[sent.part] = sent.base + sent.length
                last[sent.part] = sent
        for part in range(self._parts_to_send()):
            have = covered.get(part, 0)
            if part in last and have >= self.assembler.part_length(part):
                continue
            work += self._plan_part(part, have, last.get(part))
        return work

    def _parts_to_send(self) -> int:
        """How many parts may be sent now."""
        return self.assembler.parts

    def _part(self, index: int) -> Part:
        return self.assembler.response.parts[index]

    def _plan_part(
        self, index: int, have: int, last: SentMessage | None
    ) -> list[tuple[SentMessage, str]]:
        """The messages for a part's text after its first `have` code points.

        :param last: the part's last message so far.
        """
        part = self._part(index)
        work: list[tuple[SentMessage, str]] = []
        if last is None:
            if self.first_message_has_text and self._head.part is None and _is_plain_text(part):
                last = self._head
                last.part = index
            else:
                if part.data is not None:
                    work += self._add_payload(index, part)
                    if not part.text:
                        return work
                last = self._add_message(index, part.kind, 0)
        text = part.text[have:]
        max_text = self._sender.max_text
        room = max_text - last.size - (byte_size(self._start) if last is self._head else 0)
        if last.closed:
            room = 0
        pieces = (
            list(split_text(text, room, max_text))
            if room >= 4
            else ["", *split_text(text, max_text, max_text)]
        )
        for number, piece in enumerate(pieces or [""]):
            if number:
                last.closed = True
                last = self._add_message(index, part.kind, have)
            if piece or last.serial is None:
                work.append((last, piece))
            have += len(piece)
        return work

    def _new_message(self, name: str, part: int | None = None, base: int = 0) -> SentMessage:
        sent = SentMessage(f"{self.fence}-{len(self._sent)}", name, part, base)
        self._sent.append(sent)
        return sent

    def _add_message(self, part: int, kind: str, base: int) -> SentMessage:
        return self._new_message("response" if kind == "text" else kind, part, base)

    def _add_payload(self, index: int, part: Part) -> list[tuple[SentMessage, str]]:
        """Add the messages that carry the data of a part."""
        key = f"{self.fence}-data-{index}"
        work: list[tuple[SentMessage, str]] = []
        for data, headers in split_payload({"data": part.data}, key, self._sender.max_text):
            sent = self._add_message(index, part.kind, 0)
            sent.payload = (data, {"payload": 1, **headers})
            sent.closed = True
            work.append((sent, ""))
        return work

    # -- sending

    def _extras(self, sent: SentMessage, end: EndEvent | None) -> dict[str, Any]:
        headers = self._headers()
        if sent is self._head:
            headers |= self._start
        if sent.part is not None:
            headers |= part_headers(sent.part, self._part(sent.part))
            headers |= {"offset": sent.base}
            if sent.payload is not None:
                headers |= sent.payload[1]
            else:
                headers |= {"length": sent.length, "crc": sent.crc}
        if end is not None:
            headers |= self._end_headers(end)
        return {"headers": headers}

    async def _write(
        self, channel: Any, sent: SentMessage, text: str, end: EndEvent | None
    ) -> asyncio.Task[Any]:
        """Append text to a message, or publish it with the text."""
        serial = None if sent.serial is None else await self._serial(sent)
        sent.length += len(text)
        sent.size += byte_size(text)
        sent.crc = text_crc(text, sent.crc)
        extras = self._extras(sent, end)
        sender = self._sender
        if serial is None:
            data = text if sent.payload is None else sent.payload[0]
            message = new_message(id=sent.message_id, name=sent.name, data=data, extras=extras)
            await sender.limiter.wait()
            task: asyncio.Task[Any] = sender.create(channel, message, "publishing a response")
            sent.serial = task
        else:
            message = new_message(serial=serial, name=sent.name, data=text, extras=extras)
            await sender.limiter.wait(serial)
            task = sender.append(channel, message, "appending to a response")
        task.add_done_callback(partial(self._on_done, sent))
        sent.last = task
        return task

    async def _serial(self, sent: SentMessage) -> str:
        """Wait until a message is published, and return its serial.

        :raises BackendUnavailable: when publishing failed: the response is to be repaired.
        """
        assert sent.serial is not None
        await asyncio.wait([sent.serial])
        if sent.serial.cancelled() or sent.serial.exception() is not None:
            sent.suspect = True
            raise BackendUnavailable("an earlier message of the response was not published")
        return sent.serial.result()

    def _on_done(self, sent: SentMessage, task: asyncio.Task[Any]) -> None:
        if task.cancelled() or task.exception() is not None:
            sent.suspect = True
        elif sent is self._head and sent.serial is task and self.first is None:
            self.first = task.result()

    async def _repair(self, channel: Any) -> list[asyncio.Task[Any]]:
        """Replace the data of every suspect message."""
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
            extras = self._extras(sent, None)  # an end is sent again once all is repaired
            try:
                serial = None if sent.serial is None else await self._serial(sent)
            except BackendUnavailable:
                serial = None
            if serial is None:
                # If Ably did take it, it ignores the same id: it has the old text, which the
                # update replaces.
                message = new_message(id=sent.message_id, name=sent.name, data=text, extras=extras)
                await self._sender.limiter.wait()
                sent.serial = self._sender.create(channel, message, "publishing a response again")
                sent.serial.add_done_callback(partial(self._on_done, sent))
                serial = await self._serial(sent)
            sent.suspect = False
            message = new_message(serial=serial, name=sent.name, data=text, extras=extras)
            await self._sender.limiter.wait()
            task = self._sender.update(channel, message, "repairing a response")
            sent.last = task
            task.add_done_callback(partial(self._on_done, sent))
            tasks.append(task)
        return tasks

    async def _begin_heartbeat(self) -> asyncio.Task[Any] | None:
        if self._head.serial is None:
            return None
        channel = await self._sender.connection.channel(self.channel)
        if self._head.suspect:  # else one failure would end all heartbeats until the next entry
            await self._repair(channel)
            return self._head.last
        return await self._write(channel, self._head, "", None)


def _is_plain_text(part: Part) -> bool:
    return (part.kind, part.name, part.call_id, part.data) == ("text", None, None, None)
