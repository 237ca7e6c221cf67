"""From the events of one response to a message a token: granularity ``"token"``."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

from tokenwire.backend import Entry
from tokenwire.errors import BackendError
from tokenwire.events import (
    DeltaEvent,
    EndEvent,
    Event,
    PartEvent,
    SnapshotEvent,
    StartEvent,
)
from tokenwire_adapters._ably.wire import (
    new_message,
    part_headers,
    pieces_of,
    size_of,
    split,
    start_headers,
)
from tokenwire_adapters._ably.writers import RESERVE, Sending, Writer

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
        self._kept: dict[int, list[Any]] = {}
        self._beats = 0

    async def _send(
        self, entry: Entry, new: Sequence[Event], *, again: bool
    ) -> list[asyncio.Task[Any]]:
        channel = await self._sending.link.channel(self.channel)
        self.lease = entry.lease
        messages = self._kept.get(entry.seq)
        if messages is None:
            if again:
                return []  # all of it is there
            messages = self._kept[entry.seq] = self._messages(entry, new)
        results = await self._results(channel, self._new_results())
        end: list[Any] = []
        if messages and isinstance(entry.events[-1], EndEvent) and (results or len(messages) > 1):
            # Readers stop listening to what has ended: all before it must be there.
            messages, end = messages[:-1], messages[-1:]
        tasks: list[asyncio.Task[Any]] = list(results)
        tasks += [await self._post(channel, batch) for batch in _batches(messages, self._room)]
        if end:
            await self._settle(tasks)
            tasks = [await self._post(channel, end)]
        for task in tasks:
            task.add_done_callback(partial(self._done, entry.seq, tasks))
        return tasks

    def _done(self, seq: int, tasks: list[asyncio.Task[Any]], _: asyncio.Task[Any]) -> None:
        """Forget the messages of an entry that is with Ably as a whole."""
        if all(t.done() and not t.cancelled() and t.exception() is None for t in tasks):
            self._kept.pop(seq, None)

    async def _post(self, channel: Any, batch: list[Any]) -> asyncio.Task[Any]:
        await self._sending.pace.wait(count=len(batch))
        if len(batch) > 1:
            base = batch[0].id
            for index, made in enumerate(batch):
                made.id = f"{base}:{index}" if ":" not in base else made.id
        task = self._sending.create_all(channel, batch, "publishing tokens")
        task.add_done_callback(self._first_serial)
        return task

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
                task = await self._post(channel, [made])
            except BackendError:
                return False
        try:
            self._took(await task)
        except BackendError:
            return False
        return True


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
