"""What a channel's messages come to: a log of events that lets every reader be exact.

Messages may come twice, late, as a whole where an addition was expected, or not at all. A `View`
takes them in whatever form, and gives out events of which each follows exactly from those before:
text where it belongs and once, ends only when all the text is there.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, TypeAlias, cast

from tokenwire.events import (
    DeltaEvent,
    EndEvent,
    Event,
    PartEvent,
    Response,
    ToolResultEvent,
)
from tokenwire.response import Assembler, overlap
from tokenwire_adapters._backends.ably.third_party import (
    Foreign,
    foreign_control,
    transport_headers,
)
from tokenwire_adapters._backends.ably.wire import (
    Joiner,
    Msg,
    end_of,
    number,
    single_of,
    start_of,
    text_crc,
)

__all__ = ["Record", "View"]

_Text: TypeAlias = tuple[int, str, int, str]
"""Part, kind, offset and text."""

_MAX_SINGLES = 4096
_MAX_WAITING = 256
_MAX_PART = 10_000


class Record:
    """A response as its messages tell of it.

    :ivar fence: who writes it; messages of others under the same id do not count.
    :ivar first: the serial of its first message, `last` of its latest version.
    :ivar seen_at: its producer's last sign of life, by Ably's clock.
    :ivar missing: the end waits for text.
    """

    __slots__ = (
        "ai",
        "assembler",
        "end",
        "ended_by",
        "fence",
        "first",
        "foreign",
        "head",
        "last",
        "lease",
        "missing",
        "pieces",
        "seen_at",
        "waiting",
        "wrong",
    )

    def __init__(self, response_id: str, fence: str, first: str) -> None:
        self.assembler = Assembler(response_id)
        self.fence = fence
        self.foreign: Foreign | None = None
        self.ai: dict[str, str] = {}  # the headers of its run, in AI Transport's dialect
        self.first = first
        self.head = first
        self.last = first
        self.lease = 15.0
        self.seen_at = 0
        self.pieces: dict[str, tuple[int, int]] = {}  # message: length and checksum of its text
        self.end: tuple[EndEvent, list[int]] | None = None
        self.ended_by: str | None = None
        self.missing = False
        self.wrong: set[str] = set()  # messages whose text is not what it should be
        self.waiting: list[tuple[_Text, Msg, Any]] = []  # text that came before what precedes it

    @property
    def response(self) -> Response:
        """The response as it stands."""
        return self.assembler.response


class View:
    """The responses and single events of one channel.

    :ivar missing: ids of responses that have a hole, to be read again.
    """

    def __init__(self, channel: str) -> None:
        self.channel = channel
        self.records: dict[str, Record] = {}
        self.missing: set[str] = set()
        self._singles: OrderedDict[str, None] = OrderedDict()
        self.inputs: dict[str, str] = {}  # what AI Transport's clients sent: the response to it
        self._joiner = Joiner()
        self._hydrating = False

    def take(self, msg: Msg) -> list[Event]:
        """Take one message; return what it adds, in order."""
        if msg.action == "delete":
            return []
        if not msg.ours:
            return self._foreign(msg)
        response_id = msg.headers.get("responseId")
        kind = msg.headers.get("type")
        if isinstance(kind, str):
            return self._single(msg, kind, response_id if isinstance(response_id, str) else None)
        if isinstance(response_id, str) and 0 < len(response_id) <= 256:
            return self._of_response(msg, response_id)
        return []

    def hydrate(self, messages: Iterable[Msg]) -> list[tuple[Event, str]]:
        """Take messages as history has them; return what they add, each with its version.

        A message stands in history where it was made, but holds what was added later: the head of
        a response, made first, may hold text of a part that comes after another message's.
        """
        found: list[tuple[Event, str]] = []
        known = _without_deleted(sorted(messages, key=lambda msg: msg.serial))
        for msg in known:
            if msg.ours and "start" in msg.headers and "type" not in msg.headers:
                found += [(event, msg.serial) for event in self._begin(msg)]
        self._hydrating = True
        for msg in sorted(known, key=_place):
            found += [(event, msg.version) for event in self.take(msg)]
        self._hydrating = False
        return found

    def _begin(self, msg: Msg) -> list[Event]:
        """Make the record of a response from its first message, without its text."""
        response_id, fence = msg.headers.get("responseId"), msg.headers.get("producer")
        if not isinstance(response_id, str) or not isinstance(fence, str):
            return []
        start = start_of(msg.headers, response_id, self.channel)
        if start is None or response_id in self.records or len(response_id) > 256:
            return []
        record = self.records[response_id] = Record(response_id, fence, msg.serial)
        record.assembler.apply(start, channel=self.channel)
        if msg.name == "ai-run-start":
            record.ai = transport_headers(msg)
        answered = msg.headers.get("input")
        if isinstance(answered, str):
            self.inputs[answered] = response_id
        return [start]

    def forget(self, response_id: str) -> None:
        """Let go of a response."""
        self.records.pop(response_id, None)
        self.missing.discard(response_id)

    # -- others' messages

    def _foreign(self, msg: Msg) -> list[Event]:
        control = foreign_control(msg, self.inputs)
        if control is not None:
            return [control] if self._is_new(msg.serial) else []
        response_id = Foreign.response_id(msg)
        if response_id is None:
            return []
        record = self.records.get(response_id)
        if record is None:
            record = self.records[response_id] = Record(response_id, "", msg.serial)
            record.lease = math.inf
            record.foreign = Foreign(record.assembler)
        if record.foreign is None:
            return []
        record.last = max(record.last, msg.version)
        record.seen_at = max(record.seen_at, msg.at)
        events = record.foreign.events(msg, self.channel, past=self._hydrating)
        return [event for event in events if record.assembler.apply(event, channel=self.channel)]

    def _is_new(self, name: str) -> bool:
        """Whether this is the first time that `name` comes."""
        if name in self._singles:
            return False
        self._singles[name] = None
        while len(self._singles) > _MAX_SINGLES:
            self._singles.popitem(last=False)
        return True

    # -- single events

    def _single(self, msg: Msg, kind: str, response_id: str | None) -> list[Event]:
        if msg.action != "create" and msg.serial in self._singles:
            return []
        payload = self._joiner.payload(msg)
        event = None if payload is None else single_of(kind, payload, response_id)
        if event is None:
            return []
        key = msg.headers.get("key")
        new = self._is_new(msg.serial)
        if not (self._is_new(f"key {key}") if isinstance(key, str) and new else new):
            return []
        record = None if event.response_id is None else self.records.get(event.response_id)
        if record is not None and isinstance(event, ToolResultEvent):
            record.last = max(record.last, msg.version)
            if not record.assembler.apply(event):
                return []
        return [event]

    # -- responses

    def _of_response(self, msg: Msg, response_id: str) -> list[Event]:
        headers, fence = msg.headers, msg.headers.get("producer")
        if not isinstance(fence, str):
            return []
        record, events = self.records.get(response_id), list[Event]()
        if record is None:
            events += self._begin(msg)
            record = self.records.get(response_id)
            if record is None:
                self.missing.add(response_id)
                return []
        if record.fence != fence:
            return events
        record.missing = False
        record.last = max(record.last, msg.version)
        record.seen_at = max(record.seen_at, msg.at)
        lease = number(headers, "lease", most=86_400_000)  # milliseconds
        if lease is not None:
            record.lease = lease / 1000
        if record.assembler.ended:
            return events
        if "layout" in headers:
            self._whole(record, msg, events)
        elif "part" in headers:
            self._piece(record, msg, events)
        end = end_of(headers, response_id)
        if end is not None:
            record.end = end
            record.ended_by = msg.version
        # Whoever ended it for its dead producer saw what history has: there is no more to come.
        self._finish(record, events, force=msg.name == "end" and self._hydrating)
        if record.missing or record.waiting or record.wrong:
            self.missing.add(response_id)
        else:
            self.missing.discard(response_id)
        return events

    def _finish(self, record: Record, events: list[Event], *, force: bool) -> None:
        """End the response, if its end was told of and all before it is there."""
        if record.end is None or record.assembler.ended:
            return
        end, extent = record.end
        assembler = record.assembler
        lengths = [assembler.part_length(part) for part in range(assembler.parts)]
        there = len(lengths) >= len(extent) and all(
            have >= want for have, want in zip(lengths, extent, strict=False)
        )
        record.missing = not there
        if (there or force) and assembler.apply(end):
            record.missing = False
            record.waiting.clear()
            record.wrong.clear()
            events.append(end)

    def _piece(self, record: Record, msg: Msg, events: list[Event]) -> None:
        """Take a message that holds text of one part."""
        headers = msg.headers
        part, base = number(headers, "part", most=_MAX_PART), number(headers, "offset")
        length, crc = number(headers, "length"), number(headers, "crc")
        kind = headers.get("kind")
        if part is None or base is None or not isinstance(kind, str):
            return
        payload: Any = None
        if headers.get("payload"):
            payload = self._joiner.payload(msg)
            if headers["payload"] == "raw":
                payload = {"data": msg.data}
            if not isinstance(payload, dict):
                return
            text, offset = "", 0
        else:
            text = msg.data if isinstance(msg.data, str) else ""
            length = len(text) if length is None else length
            offset = base + length - len(text)
            if msg.action != "append":
                if len(text) != length or (crc is not None and text_crc(text) != crc):
                    record.wrong.add(msg.serial)
                    return
            elif not self._follows(record, msg.serial, text, length, crc):
                record.wrong.add(msg.serial)
                return
            record.wrong.discard(msg.serial)
            if crc is not None:
                record.pieces[msg.serial] = (length, crc)
        self._add(record, (part, kind, offset, text), msg, payload, events)

    def _follows(
        self, record: Record, serial: str, text: str, length: int, crc: int | None
    ) -> bool:
        """Whether an addition fits to what is known of its message."""
        known = record.pieces.get(serial)
        if known is None or crc is None:
            return False
        have, checksum = known
        new = overlap(have, length - len(text), text)
        return new is not None and (not new or text_crc(new, checksum) == crc)

    def _whole(self, record: Record, msg: Msg, events: list[Event]) -> None:
        """Take a message that holds the text of several parts, one after the other."""
        layout, text = msg.headers.get("layout"), msg.data
        if not isinstance(layout, str) or not isinstance(text, str):
            return
        at = 0
        for item in layout.split(","):
            part, _, length = item.partition(":")
            if not (part.isdigit() and length.isdigit()):
                return
            piece = text[at : at + int(length)]
            at += int(length)
            self._add(record, (int(part), "text", 0, piece), msg, None, events)

    def _add(
        self, record: Record, piece: _Text, msg: Msg, payload: Any, events: list[Event]
    ) -> None:
        """Add text to a part, or keep it until what precedes it is there.

        Appends that Ably holds for its rollup window arrive after messages published later.
        """
        if not self._fits(record, piece):
            record.waiting.append((piece, msg, payload))
            del record.waiting[:-_MAX_WAITING]
            return
        self._put(record, piece, msg, payload, events)
        again = bool(record.waiting)
        while again:
            again = False
            for kept in list(record.waiting):
                if self._fits(record, kept[0]):
                    record.waiting.remove(kept)
                    self._put(record, *kept, events)
                    again = True

    def _fits(self, record: Record, piece: _Text) -> bool:
        part, _, offset, text = piece
        assembler = record.assembler
        have = assembler.part_length(part)
        return part <= assembler.parts and overlap(have, offset, text) is not None

    def _put(
        self, record: Record, piece: _Text, msg: Msg, payload: Any, events: list[Event]
    ) -> None:
        part, kind, offset, text = piece
        assembler, headers = record.assembler, msg.headers
        name, call_id = headers.get("name"), headers.get("callId")
        told = cast("dict[str, Any]", payload) if isinstance(payload, dict) else {}
        data = told.get("data")
        if part == assembler.parts and not (name is None and call_id is None and data is None):
            opened = PartEvent(
                response_id=assembler.id,
                part=part,
                kind=kind,
                name=name if isinstance(name, str) else None,
                call_id=call_id if isinstance(call_id, str) else None,
                data=data,
            )
            assembler.apply(opened)
            events.append(opened)
        have = assembler.part_length(part)
        new = overlap(have, offset, text)
        if new:
            delta = DeltaEvent(
                response_id=assembler.id,
                part=part,
                kind=kind,
                offset=have,
                text=new,
                ts=msg.at,
            )
            assembler.apply(delta)
            events.append(delta)


def _without_deleted(messages: list[Msg]) -> list[Msg]:
    """Leave out what was deleted, and responses whose first message was."""
    gone = {
        msg.headers.get("responseId")
        for msg in messages
        if msg.action == "delete" and "start" in msg.headers
    }
    return [
        msg
        for msg in messages
        if msg.action != "delete" and not (gone and msg.headers.get("responseId") in gone)
    ]


def _place(msg: Msg) -> tuple[Any, ...]:
    headers = msg.headers
    if "type" in headers or "responseId" not in headers:
        return (1, False, 0, 0, msg.serial)
    part = number(headers, "part")
    place = -1 if part is None else part
    return (0, msg.name == "end", place, number(headers, "offset") or 0, msg.serial)
