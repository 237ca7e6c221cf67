"""Publishes a response as one message per token: granularity ``"token"``."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

from tokenwire.backend import Entry
from tokenwire.errors import RateLimited
from tokenwire.events import DeltaEvent, EndEvent, Event, Part, PartEvent, SnapshotEvent, StartEvent
from tokenwire_adapters._backends.ably.response_writer import (
    HEADER_RESERVE,
    MessageSender,
    ResponseWriter,
)
from tokenwire_adapters._backends.ably.wire import (
    byte_size,
    new_message,
    part_headers,
    split_payload,
    split_text,
    start_headers,
)

__all__ = ["PerTokenWriter"]

_MAX_BATCH = 16  # messages that are published at once


class PerTokenWriter(ResponseWriter):
    """Publishes a message ``token`` for each delta, and after a failure all text again.

    The ids of messages are derived from the entry's sequence number, so that Ably ignores an entry
    that is sent again (for two minutes; after that, readers drop the repeat by its offsets).
    """

    def __init__(self, entry: Entry, sender: MessageSender) -> None:
        super().__init__(entry, sender)
        self._start: dict[str, Any] = {}  # the headers with the start event
        self._unsent_start: dict[str, Any] = {}  # the same, until a message has them
        self._unacknowledged: dict[int, list[list[Any]]] = {}  # by entry: batches of messages
        self._rate_limited: dict[int, list[Any]] = {}  # by identity: batches that were refused
        self._rejoined = 0  # counts messages, for ids
        self._heartbeats = 0  # likewise

    async def _send(
        self, entry: Entry, new: Sequence[Event], *, retry: bool
    ) -> list[asyncio.Task[Any]]:
        channel = await self._sender.connection.channel(self.channel)
        self.lease = entry.lease
        ends = isinstance(entry.events[-1], EndEvent)
        batches = self._unacknowledged.get(entry.seq)
        if batches is None:
            if retry:
                return []  # Ably has all of it
            if any(isinstance(event, SnapshotEvent) for event in entry.events):
                self._unacknowledged.clear()  # the snapshot replaces what was lost
                self._rate_limited.clear()
            batches = self._batches(self._messages(entry, new), ends)
        else:
            batches = self._shortened(batches, entry.seq, ends)
        self._unacknowledged[entry.seq] = batches
        tasks = await self._send_results(channel, self._new_results())
        if ends and batches and (tasks or len(batches) > 1):
            # Readers stop reading a response that has ended: Ably must have all before it.
            *earlier, last = batches
            for batch in earlier:
                tasks.append(await self._publish(channel, batch, entry.seq))
            await self._wait_for(tasks)
            return [await self._publish(channel, last, entry.seq)]
        for batch in list(batches):
            tasks.append(await self._publish(channel, batch, entry.seq))
        return tasks

    def _batches(self, messages: Sequence[Any], ends: bool) -> list[list[Any]]:
        """Group messages into batches; an end has a batch of its own."""
        max_text = self._sender.max_text
        if ends and len(messages) > 1:
            return [*_group(messages[:-1], max_text), [messages[-1]]]
        return _group(messages, max_text)

    async def _publish(self, channel: Any, batch: list[Any], seq: int) -> asyncio.Task[Any]:
        await self._sender.limiter.wait(count=len(batch))
        if len(batch) > 1:
            base = batch[0].id
            for index, message in enumerate(batch):
                message.id = f"{base}:{index}" if ":" not in base else message.id
        self._rate_limited.pop(id(batch), None)
        task = self._sender.create_all(channel, batch, "publishing tokens")
        task.add_done_callback(partial(self._on_done, batch, seq))
        return task

    def _on_done(self, batch: list[Any], seq: int, task: asyncio.Task[Any]) -> None:
        """Forget a batch that Ably has, and remember one that it refused."""
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            self.first = self.first or task.result()
        if isinstance(error, RateLimited):
            self._rate_limited[id(batch)] = batch
        elif error is None and seq in self._unacknowledged:
            batches = self._unacknowledged[seq]
            self._unacknowledged[seq] = [other for other in batches if other is not batch]
            if not self._unacknowledged[seq]:
                del self._unacknowledged[seq]

    def _shortened(self, batches: list[list[Any]], seq: int, ends: bool) -> list[list[Any]]:
        """Batches to send again, with tokens joined where a rate limit refused them.

        As many messages as before would be refused again. Only batches that were surely refused
        are changed: the others keep their ids, so that Ably takes them once.
        """
        if not self._rate_limited:
            return batches
        max_text = self._sender.max_text
        shortened: list[list[Any]] = []
        refused: list[Any] = []
        for number, batch in enumerate(batches):
            end = ends and number == len(batches) - 1
            if self._rate_limited.pop(id(batch), None) is not None and not end:
                refused += batch
                continue
            shortened += _group(self._join(refused, seq), max_text)
            shortened.append(batch)
            refused = []
        return shortened + _group(self._join(refused, seq), max_text)

    def _join(self, messages: Sequence[Any], seq: int) -> list[Any]:
        """Join consecutive tokens of a part into longer messages."""
        joined: list[Any] = []
        for message in messages:
            last = joined[-1] if joined else None
            data, extras = message.data, message.extras
            if last is not None and _can_join(last, message, self._sender.max_text):
                headers = last.extras["headers"]
                headers = headers | {"length": headers["length"] + len(message.data)}
                data, extras = last.data + message.data, {"headers": headers}
                joined.pop()
            self._rejoined += 1
            key = f"{self.fence}-{seq}-again-{self._rejoined}"
            joined.append(new_message(id=key, name=message.name, data=data, extras=extras))
        return joined

    # -- messages

    def _messages(self, entry: Entry, new: Sequence[Event]) -> list[Any]:
        """Encode the new events of an entry."""
        messages: list[Any] = []
        count = sum(isinstance(event, DeltaEvent) for event in new)
        available = self._sender.limiter.available
        # Near the rate limit tokens are joined, so that they are late rather than refused.
        per_message = max(1, -(-count // max(1, available))) if count > available else 1
        deltas: list[DeltaEvent] = []

        def flush() -> None:
            if deltas:
                first = deltas[0]
                text = "".join(delta.text for delta in deltas)
                messages.extend(self._text_messages(first.part, first.kind, first.offset, text))
                deltas.clear()

        for event in new:
            if isinstance(event, DeltaEvent):
                if deltas and (deltas[0].part != event.part or len(deltas) >= per_message):
                    flush()
                deltas.append(event)
                continue
            flush()
            if isinstance(event, StartEvent):
                self._start = self._unsent_start = start_headers(event)
                large = byte_size(self._start) > HEADER_RESERVE // 2
                if self._sender.settings.markers or large:
                    messages.append(self._start_message())
            elif isinstance(event, PartEvent):
                messages += self._part_messages(event.part)
            elif isinstance(event, SnapshotEvent):
                messages += self._snapshot_messages()
        flush()
        last = entry.events[-1]
        if isinstance(last, EndEvent) and last in new:
            name = "stop" if self._sender.settings.markers else "token"
            messages.append(self._message(name, "", self._end_headers(last)))
        for index, message in enumerate(messages):
            message.id = f"{self.fence}-{entry.seq}-{index}"
        return messages

    def _start_message(self) -> Any:
        """A message with the start event and no text."""
        self._unsent_start = self._start
        return self._message("start" if self._sender.settings.markers else "token", "", {})

    def _message(self, name: str, data: Any, headers: dict[str, Any]) -> Any:
        """A message of the response; the first one has the start event in its headers."""
        headers = self._headers() | headers | self._unsent_start
        self._unsent_start = {}
        return new_message(name=name, data=data, extras={"headers": headers})

    def _text_messages(self, part: int, kind: str, offset: int, text: str) -> list[Any]:
        """One message with text, or several where it is too long."""
        name = "token" if kind == "text" else kind
        messages: list[Any] = []
        for piece in split_text(text, self._sender.max_text, self._sender.max_text):
            messages.append(self._text_message(name, part, offset, piece))
            offset += len(piece)
        return messages

    def _text_message(self, name: str, part: int, offset: int, text: str) -> Any:
        headers = part_headers(part, self._parts[part])
        return self._message(name, text, headers | {"offset": offset, "length": len(text)})

    @property
    def _parts(self) -> Sequence[Part]:
        return self.assembler.response.parts

    def _part_messages(self, index: int) -> list[Any]:
        """Messages with what a part has besides text: a name, a call id or data."""
        part = self._parts[index]
        if part.data is None:
            return [self._text_message(part.kind, index, 0, "")]
        headers = part_headers(index, part) | {"offset": 0, "payload": 1}
        pieces = split_payload(
            {"data": part.data}, f"{self.fence}-data-{index}", self._sender.max_text
        )
        return [self._message(part.kind, data, headers | piece) for data, piece in pieces]

    def _snapshot_messages(self) -> list[Any]:
        """The whole response so far: ``response-complete`` with its text, and the other parts.

        A page that follows Ably's documentation replaces its text by the data of
        ``response-complete``, and appends later tokens: text that does not fit follows as tokens.
        """
        messages: list[Any] = [self._start_message()]  # the first one may be what was lost
        texts = [(i, p.text) for i, p in enumerate(self._parts) if p.kind == "text"]
        for index, part in enumerate(self._parts):
            if part.kind == "text" and not part.name and part.data is None:
                continue
            if part.data is not None or not part.text:
                messages += self._part_messages(index)
            if part.kind != "text":
                messages += self._text_messages(index, part.kind, 0, part.text)
        layout: list[str] = []
        included: list[str] = []
        rest: list[Any] = []
        room = self._sender.max_text - 512
        for index, text in texts:
            first = next(split_text(text, room, room), "") if room >= 4 else ""
            room = room - byte_size(first) if len(first) == len(text) else 0
            if first:
                layout.append(f"{index}:{len(first)}")
                included.append(first)
            if len(first) < len(text):
                rest += self._text_messages(index, "text", len(first), text[len(first) :])
        headers = {"layout": ",".join(layout)}
        messages.append(self._message("response-complete", "".join(included), headers))
        return messages + rest

    async def _begin_heartbeat(self) -> asyncio.Task[Any] | None:
        if self.first is None:
            return None
        self._heartbeats += 1
        message = self._message("heartbeat", "", {})
        message.id = f"{self.fence}-beat-{self._heartbeats}"
        channel = await self._sender.connection.channel(self.channel)
        return await self._publish(channel, [message], -1)


def _can_join(last: Any, message: Any, max_text: int) -> bool:
    """Whether a token begins where the last one ends, and both fit into one message."""
    before, after = last.extras["headers"], message.extras["headers"]
    return (
        "length" in before
        and "length" in after
        and "start" not in after
        and (last.name, before["part"]) == (message.name, after["part"])
        and before["offset"] + before["length"] == after["offset"]
        and byte_size(last.data, message.data) <= max_text
    )


def _group(messages: Sequence[Any], max_size: int) -> list[list[Any]]:
    """Group messages into batches of at most 16, and of at most `max_size` bytes."""
    batches: list[list[Any]] = []
    size = 0
    for message in messages:
        message_size = byte_size(message.data, message.extras, message.name)
        if not batches or len(batches[-1]) >= _MAX_BATCH or size + message_size > max_size:
            batches.append([])
            size = 0
        batches[-1].append(message)
        size += message_size
    return batches
