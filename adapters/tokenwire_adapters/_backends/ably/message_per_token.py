"""From the events of one response to a message a token: granularity ``"token"``."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

from tokenwire.backend import Entry
from tokenwire.errors import BackendError, RateLimited
from tokenwire.events import (
    DeltaEvent,
    EndEvent,
    Event,
    PartEvent,
    SnapshotEvent,
    StartEvent,
)
from tokenwire_adapters._backends.ably.response_writer import RESERVE, Sending, Writer
from tokenwire_adapters._backends.ably.wire import (
    new_message,
    part_headers,
    pieces_of,
    size_of,
    split,
    start_headers,
)

__all__ = ["TokenWriter"]

_MOST_AT_ONCE = 16  # messages in one frame
_COMPLETE = "response-complete"


class TokenWriter(Writer):
    """Each token is a message ``token``; after a failure the whole text comes again.

    The messages of an entry have ids made of its number, so that Ably takes an entry once that is
    sent twice (within two minutes; after that, readers drop the repeat by its offsets).
    """

    def __init__(self, entry: Entry, sending: Sending) -> None:
        super().__init__(entry, sending)
        self._beginning: dict[str, Any] = {}  # what the start says
        self._start: dict[str, Any] = {}  # the same, until a message has said so
        self._kept: dict[int, list[list[Any]]] = {}  # by entry: the frames that Ably lacks
        self._refused: dict[int, list[Any]] = {}  # by identity: those that a rate limit refused
        self._rejoined = 0
        self._beats = 0

    async def _send(
        self, entry: Entry, new: Sequence[Event], *, again: bool
    ) -> list[asyncio.Task[Any]]:
        channel = await self._sending.link.channel(self.channel)
        self.lease = entry.lease
        ends = isinstance(entry.events[-1], EndEvent)
        batches = self._kept.get(entry.seq)
        if batches is None:
            if again:
                return []  # all of it is there
            if any(isinstance(event, SnapshotEvent) for event in entry.events):
                self._kept.clear()  # it takes the place of what was lost
                self._refused.clear()
            batches = self._kept[entry.seq] = self._batches(self._messages(entry, new), ends)
        else:
            batches = self._kept[entry.seq] = self._joined(batches, entry.seq, ends)
        tasks = await self._results(channel, self._new_results())
        if ends and batches and (tasks or len(batches) > 1):
            # Readers stop listening to what has ended: all before it must be there.
            for batch in batches[:-1]:
                tasks.append(await self._post(channel, batch, entry.seq))
            last = batches[-1]
            await self._settle(tasks)
            return [await self._post(channel, last, entry.seq)]
        for batch in list(batches):
            tasks.append(await self._post(channel, batch, entry.seq))
        return tasks

    def _batches(self, messages: Sequence[Any], ends: bool) -> list[list[Any]]:
        """Messages in frames; an end has one to itself."""
        if ends and len(messages) > 1:
            return [*_batches(messages[:-1], self._room), [messages[-1]]]
        return _batches(messages, self._room)

    async def _post(self, channel: Any, batch: list[Any], seq: int) -> asyncio.Task[Any]:
        await self._sending.pace.wait(count=len(batch))
        if len(batch) > 1:
            base = batch[0].id
            for index, made in enumerate(batch):
                made.id = f"{base}:{index}" if ":" not in base else made.id
        self._refused.pop(id(batch), None)
        task = self._sending.create_all(channel, batch, "publishing tokens")
        task.add_done_callback(self._first_serial)
        task.add_done_callback(partial(self._answered, batch, seq))
        return task

    def _answered(self, batch: list[Any], seq: int, task: asyncio.Task[Any]) -> None:
        """Forget what is with Ably, and note what surely is not."""
        if task.cancelled():
            return
        error = task.exception()
        if isinstance(error, RateLimited):
            self._refused[id(batch)] = batch
        elif error is None and seq in self._kept:
            left = [other for other in self._kept[seq] if other is not batch]
            self._kept[seq] = left
            if not left:
                del self._kept[seq]

    def _joined(self, batches: list[list[Any]], seq: int, ends: bool) -> list[list[Any]]:
        """What is to be sent again. Where a rate limit refused it, fewer and longer messages.

        As many as before would be refused again. Only what was surely refused is joined: the rest
        has to keep its ids, by which Ably takes it once.
        """
        if not self._refused:
            return batches
        found: list[list[Any]] = []
        waiting: list[Any] = []
        for number, batch in enumerate(batches):
            end = ends and number == len(batches) - 1
            if self._refused.pop(id(batch), None) is not None and not end:
                waiting += batch
                continue
            found += _batches(self._fewer(waiting, seq), self._room)
            found.append(batch)
            waiting = []
        return found + _batches(self._fewer(waiting, seq), self._room)

    def _fewer(self, messages: Sequence[Any], seq: int) -> list[Any]:
        """Join the tokens that follow one another in a part."""
        found: list[Any] = []
        for made in messages:
            last = found[-1] if found else None
            data, extras = made.data, made.extras
            if last is not None and _follows(last, made, self._room):
                headers = last.extras["headers"]
                headers = headers | {"length": headers["length"] + len(made.data)}
                data, extras = last.data + made.data, {"headers": headers}
                found.pop()
            self._rejoined += 1
            key = f"{self.fence}-{seq}-again-{self._rejoined}"
            found.append(new_message(id=key, name=made.name, data=data, extras=extras))
        return found

    def _first_serial(self, task: asyncio.Task[Any]) -> None:
        if self.first is None and not task.cancelled() and task.exception() is None:
            self.first = task.result()

    # -- messages

    def _messages(self, entry: Entry, new: Sequence[Event]) -> list[Any]:
        found: list[Any] = []
        deltas = sum(isinstance(event, DeltaEvent) for event in new)
        room = self._sending.pace.room
        # Behind a rate limit tokens are joined, so that they are late rather than lost.
        joined = max(1, -(-deltas // max(1, room))) if deltas > room else 1
        waiting: list[DeltaEvent] = []

        def flush() -> None:
            if waiting:
                first = waiting[0]
                text = "".join(delta.text for delta in waiting)
                found.extend(self._token(first.part, first.kind, first.offset, text))
                waiting.clear()

        for event in new:
            if isinstance(event, DeltaEvent):
                if waiting and (waiting[0].part != event.part or len(waiting) >= joined):
                    flush()
                waiting.append(event)
                continue
            flush()
            if isinstance(event, StartEvent):
                self._beginning = self._start = start_headers(event)
                if self._sending.settings.markers or size_of(self._start) > RESERVE // 2:
                    found.append(self._opening())
            elif isinstance(event, PartEvent):
                found += self._part_messages(event.part)
            elif isinstance(event, SnapshotEvent):
                found += self._whole()
        flush()
        last = entry.events[-1]
        if isinstance(last, EndEvent) and last in new:
            name = "stop" if self._sending.settings.markers else "token"
            found.append(self._message(name, "", self._end_headers(last)))
        for index, made in enumerate(found):
            made.id = f"{self.fence}-{entry.seq}-{index}"
        return found

    def _opening(self) -> Any:
        """The message that says what the response is."""
        self._start = self._beginning
        return self._message("start" if self._sending.settings.markers else "token", "")

    def _message(self, name: str, data: Any, more: dict[str, Any] | None = None) -> Any:
        headers = self._headers() | (more or {})
        if self._start:
            # The first message says what the response is; a name of its own is not needed.
            headers |= self._start
            self._start = {}
        return new_message(name=name, data=data, extras={"headers": headers})

    def _token(self, part: int, kind: str, offset: int, text: str) -> list[Any]:
        found: list[Any] = []
        for piece in split(text, self._room, self._room):
            found.append(self._piece("token" if kind == "text" else kind, part, offset, piece))
            offset += len(piece)
        return found

    def _piece(self, name: str, part: int, offset: int, text: str) -> Any:
        known = self.assembler.response.parts[part]
        more = part_headers(part, known.kind, known.name, known.call_id)
        return self._message(name, text, more | {"offset": offset, "length": len(text)})

    def _part_messages(self, index: int) -> list[Any]:
        """What tells that a part begins which is more than its text."""
        part = self.assembler.response.parts[index]
        if part.data is None:
            return [self._piece(part.kind, index, 0, "")]
        more = part_headers(index, part.kind, part.name, part.call_id) | {"offset": 0}
        key = f"{self.fence}-data-{index}"
        return [
            self._message(part.kind, data, more | {"payload": 1} | pieces)
            for data, pieces in pieces_of({"data": part.data}, key, self._room)
        ]

    def _whole(self) -> list[Any]:
        """All there is so far: ``response-complete`` with the text, and the other parts.

        A page as documented replaces the text it has by the data of ``response-complete``, and
        goes on adding tokens: what does not fit follows as such.
        """
        parts = self.assembler.response.parts
        found: list[Any] = [self._opening()]  # the first may be what was lost
        texts = [(i, p.text) for i, p in enumerate(parts) if p.kind == "text"]
        others = [
            i for i, p in enumerate(parts) if p.kind != "text" or p.name or p.data is not None
        ]
        for index in others:
            part = parts[index]
            if part.data is not None or not part.text:
                found += self._part_messages(index)
            if part.kind != "text":
                found += self._token(index, part.kind, 0, part.text)
        layout: list[str] = []
        fits: list[str] = []
        rest: list[Any] = []
        room = self._room - 512
        for index, text in texts:
            pieces = list(split(text, room, self._room)) if room >= 4 else []
            first = pieces[0] if pieces else ""
            room = room - size_of(first) if len(first) == len(text) else 0
            if first:
                layout.append(f"{index}:{len(first)}")
                fits.append(first)
            if len(first) < len(text):
                rest += self._token(index, "text", len(first), text[len(first) :])
        found.append(self._message(_COMPLETE, "".join(fits), {"layout": ",".join(layout)}))
        return found + rest

    @property
    def _room(self) -> int:
        return self._sending.settings.max_message - 2 * RESERVE

    async def _beat(self, ttl: float) -> bool:
        self.lease = ttl
        async with self._gate:
            if self._ended or self.first is None:
                return True
            self._beats += 1
            made = self._message("heartbeat", "")
            made.id = f"{self.fence}-beat-{self._beats}"
            try:
                channel = await self._sending.link.channel(self.channel)
                task = await self._post(channel, [made], -1)
            except BackendError:
                return False
        try:
            self._took(await task)
        except BackendError:
            return False
        return True


def _follows(last: Any, made: Any, room: int) -> bool:
    """Whether a token goes on where another ends, and both fit into one message."""
    before, after = last.extras["headers"], made.extras["headers"]
    return (
        "length" in before
        and "length" in after
        and "start" not in after
        and (last.name, before["part"]) == (made.name, after["part"])
        and before["offset"] + before["length"] == after["offset"]
        and size_of(last.data, made.data) <= room
    )


def _batches(messages: Sequence[Any], room: int) -> list[list[Any]]:
    """Messages in frames that are neither too many nor too large."""
    found: list[list[Any]] = []
    size = 0
    for made in messages:
        own = size_of(made.data, made.extras, made.name)
        if not found or len(found[-1]) >= _MOST_AT_ONCE or size + own > room:
            found.append([])
            size = 0
        found[-1].append(made)
        size += own
    return found
