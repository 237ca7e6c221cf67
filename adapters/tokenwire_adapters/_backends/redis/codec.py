"""From entries to the jobs of ``write_jobs.lua``, and from what is stored back to events."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import force_setattr

from tokenwire.events import (
    CancelEvent,
    DeltaEvent,
    EndEvent,
    Event,
    InputEvent,
    PartEvent,
    Response,
    SnapshotEvent,
    StartEvent,
    ToolResult,
    ToolResultEvent,
    decode_msgpack,
    decode_msgpack_batch,
    encode_msgpack,
)
from tokenwire.response import Assembler
from tokenwire_adapters._backends.redis.cursors import Place, parse, show

__all__ = [
    "ENTRY",
    "REAP",
    "RENEW",
    "SINGLE",
    "Stored",
    "decode_log",
    "decode_message",
    "encode_events",
    "pack",
    "reaches_producers",
]

ENTRY, SINGLE, REAP, RENEW = 1, 2, 3, 4
_START, _PART, _DELTA, _SNAPSHOT, _END, _RESULT, _CANCEL, _OTHER = range(8)

pack = msgspec.msgpack.Encoder().encode


def encode_events(events: Sequence[Event]) -> tuple[bytes, int, list[list[Any]]]:
    """Encode events as one batch, and tell the script where each is and what it does.

    Positions are those of Lua: the first byte is 1, and the end is included. The batch ends at the
    number that is returned; behind it are the results of tools that snapshots hold, each as an
    event, since the script keeps them apart from the text.
    """
    pieces = [_array_header(len(events))]
    ops: list[list[Any]] = []
    at = len(pieces[0])
    for event in events:
        encoded = encode_msgpack(event)
        first, last = at + 1, at + len(encoded)
        ops.append(_op(event, first, last))
        pieces.append(encoded)
        at = last
    size = at
    for event, op in zip(events, ops, strict=True):
        if isinstance(event, SnapshotEvent):
            for result in event.response.tool_results:
                encoded = _result(event.response.id, result)
                op[5].append([result.call_id, at + 1, at + len(encoded)])
                pieces.append(encoded)
                at += len(encoded)
    return b"".join(pieces), size, ops


def _op(event: Event, first: int, last: int) -> list[Any]:
    if isinstance(event, DeltaEvent):
        # The text comes last in an encoded delta, so what is before it can be used again as the
        # beginning of a longer one.
        text = event.text
        size = len(text) if text.isascii() else len(text.encode())
        head = 1 if size < 32 else 2 if size < 256 else 3 if size < 65536 else 5
        begin = last - size + 1
        where = [begin - head - 1, begin]
        return [_DELTA, first, last, event.part, event.offset, len(text), *where]
    if isinstance(event, StartEvent):
        return [_START, first, last]
    if isinstance(event, PartEvent):
        return [_PART, first, last, event.part]
    if isinstance(event, SnapshotEvent):
        response = event.response
        lengths = [len(part.text) for part in response.parts]
        return [_SNAPSHOT, first, last, response.state, lengths, []]
    if isinstance(event, EndEvent):
        return [_END, first, last, event.state]
    if isinstance(event, ToolResultEvent):
        return [_RESULT, first, last, event.call_id, event.response_id or ""]
    if isinstance(event, CancelEvent):
        return [_CANCEL, first, last, event.response_id]
    return [_OTHER, first, last]


def _result(response_id: str, result: ToolResult) -> bytes:
    return encode_msgpack(
        ToolResultEvent(
            call_id=result.call_id,
            response_id=response_id,
            name=result.name,
            output=result.output,
            error=result.error,
        )
    )


def _array_header(count: int) -> bytes:
    if count < 16:
        return bytes((0x90 | count,))
    return b"\xdd" + struct.pack(">I", count)


def reaches_producers(events: Iterable[Event]) -> bool:
    """Whether producers, who do not hear the rest, are to hear any of these."""
    return any(isinstance(event, CancelEvent | InputEvent) for event in events)


def _numbered(events: list[Event], place: Place, *, one_each: bool) -> list[Event]:
    """Give events the cursors they have, as the first of them is at `place`."""
    ms, seq, index = place
    for event in events:
        force_setattr(event, "cursor", show((ms, seq, index)))
        if one_each:
            seq += 1
        else:
            index += 1
    return events


def decode_message(message: bytes) -> tuple[list[Event] | None, str]:
    """Decode what the script published: the events, and the cursor before them.

    The events are None where they are too large to be published, and must be read from the log.
    """
    first, before, kind, payload = message.split(b" ", 3)
    if not payload:
        return None, before.decode()
    events = decode_msgpack_batch(payload)
    return _numbered(events, parse(first.decode()), one_each=kind == b"t"), before.decode()


def decode_log(entries: Iterable[Any], after: Place) -> list[Event]:
    """Decode what XRANGE gave, without what is up to `after`."""
    found: list[Event] = []
    for entry_id, fields in entries:
        ms, _, seq = entry_id.partition(b"-")
        place = (int(ms), int(seq), 0)
        events = _numbered(decode_msgpack_batch(fields[1]), place, one_each=False)
        if place[:2] == after[:2]:
            events = events[after[2] + 1 :]
        found += events
    return found


class Stored:
    """A response as Redis has it: a hash, and a text that is a batch of events."""

    def __init__(self, raw: Any) -> None:
        response_id, flat, text = raw
        self.id: str = response_id.decode()
        fields = {name.decode(): value for name, value in zip(flat[::2], flat[1::2], strict=True)}
        self._fields: Mapping[str, bytes] = fields
        self._text: bytes = text
        self.ended = fields.get("state") != b"streaming"
        self.last = parse(fields["last"].decode()) if "last" in fields else (0, 0, 0)
        self.first = parse(fields["first"].decode()) if "first" in fields else (0, 0, 0)
        self.number = int(fields.get("number", 0))

    @property
    def whole(self) -> bool:
        """Whether hash and text belong together; not so when one of them was evicted."""
        return "number" in self._fields and len(self._text) == int(self._fields.get("size", -1))

    def response(self, channel: str) -> Response:
        """The response as it stands."""
        fields, text = self._fields, self._text
        if int(fields["run"]) >= 0:  # the last delta is still growing: close it
            at = int(fields["run_at"])
            text = b"".join((text[:at], struct.pack(">I", len(text) - at - 4), text[at + 4 :]))
        header = b"\xdd" + struct.pack(">I", int(fields["records"]))
        assembler = Assembler(self.id)
        for event in decode_msgpack_batch(header + text):
            assembler.apply(event, channel=channel)
        results = [value for name, value in fields.items() if name.startswith("result:")]
        for result in sorted(results, key=lambda value: value[:4]):
            assembler.apply(decode_msgpack(result[4:]))
        return assembler.response
