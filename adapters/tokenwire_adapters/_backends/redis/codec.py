"""Encodes entries for the Lua scripts, and decodes stored data into events and responses."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec
from msgspec.structs import force_setattr

from tokenwire.errors import DecodeError
from tokenwire.events import (
    ENDED,
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
    decode_msgpack_each,
    encode_msgpack,
)
from tokenwire.response import Assembler
from tokenwire_adapters._backends.redis.cursors import (
    Position,
    format_cursor,
    log_of,
    parse_cursor,
    with_log,
)

__all__ = [
    "ENTRY",
    "REAP",
    "RENEW",
    "SINGLE",
    "Skip",
    "StoredResponse",
    "concerns_producers",
    "decode_log",
    "decode_message",
    "encode_events",
    "pack",
    "pack_text",
]

ENTRY, SINGLE, REAP, RENEW = 1, 2, 3, 4
_START, _PART, _DELTA, _SNAPSHOT, _END, _RESULT, _CANCEL, _OTHER = range(8)

Skip: TypeAlias = Callable[[object], None]
"""Is told, by an error, of something that is skipped since it cannot be read."""

pack = msgspec.msgpack.Encoder().encode


def pack_text(text: bytes) -> msgspec.Raw:
    """Bytes as a string of msgpack, whatever they are; Lua knows no other."""
    return msgspec.Raw(b"\xdb" + struct.pack(">I", len(text)) + text)


def encode_events(events: Sequence[Event]) -> tuple[bytes, int, list[list[Any]]]:
    """Encode events as one batch, with one operation of the write script for each event.

    Byte positions in the operations are those of Lua: the first byte is 1, and the end is
    included. After the batch come the tool results of snapshots, each encoded as an event, since
    the script stores them apart from the text.

    :return: the bytes, the length of the batch in them, and the operations.
    """
    chunks = [_array_header(len(events))]
    ops: list[list[Any]] = []
    end = len(chunks[0])
    for event in events:
        encoded = encode_msgpack(event)
        first, last = end + 1, end + len(encoded)
        ops.append(_op(event, first, last))
        chunks.append(encoded)
        end = last
    size = end
    for event, op in zip(events, ops, strict=True):
        if isinstance(event, SnapshotEvent):
            for result in event.response.tool_results:
                encoded = _encode_result(event.response.id, result)
                op[5].append([result.call_id, end + 1, end + len(encoded)])
                chunks.append(encoded)
                end += len(encoded)
    return b"".join(chunks), size, ops


def _op(event: Event, first: int, last: int) -> list[Any]:
    if isinstance(event, DeltaEvent):
        # The text comes last in an encoded delta, so the script can reuse the bytes before it
        # for a longer delta.
        text = event.text
        size = len(text) if text.isascii() else len(text.encode())
        header = 1 if size < 32 else 2 if size < 256 else 3 if size < 65536 else 5
        begin = last - size + 1
        positions = [begin - header - 1, begin]
        return [_DELTA, first, last, event.part, event.offset, len(text), *positions]
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


def _encode_result(response_id: str, result: ToolResult) -> bytes:
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


def concerns_producers(events: Iterable[Event]) -> bool:
    """Whether any event is a cancel or an input, which producers subscribe to."""
    return any(isinstance(event, CancelEvent | InputEvent) for event in events)


def _readable(
    payload: bytes, first: Position, log: str, skip: Skip, *, entry_each: bool = False
) -> list[Event]:
    """Decode a batch, and give the events consecutive cursors; what is no event is skipped.

    :param entry_each: each event is a stream entry of its own, rather than all in one.
    """
    ms, seq, index = first
    events: list[Event] = []
    try:
        decoded = decode_msgpack_each(payload)
    except DecodeError as error:
        skip(error)
        return events
    for event in decoded:
        if isinstance(event, DecodeError):
            skip(event)
        else:
            force_setattr(event, "cursor", format_cursor((ms, seq, index), log))
            events.append(event)
        if entry_each:
            seq += 1
        else:
            index += 1
    return events


def decode_message(message: bytes, skip: Skip) -> tuple[list[Event] | None, str]:
    """Decode a pub/sub message into its events and the cursor before them.

    The events are None where they are too large for a message, and must be read from the log.

    :param skip: is told of what is no event.
    :raises ValueError: when it is no message of this package.
    """
    head, before, kind, payload = message.split(b" ", 3)
    first = head.decode()
    log = log_of(first) or ""
    position = parse_cursor(first)
    if parse_cursor(before.decode()) >= position or kind not in (b"r", b"t"):
        raise ValueError("its events do not come after those before them")
    cursor = with_log(before.decode(), log)
    if not payload:
        return None, cursor
    return _readable(payload, position, log, skip, entry_each=kind == b"t"), cursor


def decode_log(entries: Iterable[Any], after: Position, log: str, skip: Skip) -> list[Event]:
    """Decode entries of an XRANGE reply into events, without those up to `after`.

    :param skip: is told of what is no event.
    """
    decoded: list[Event] = []
    for entry_id, fields in entries:
        ms, _, seq = entry_id.partition(b"-")
        events = _readable(fields[1], (int(ms), int(seq), 0), log, skip)
        if (int(ms), int(seq)) == after[:2]:
            events = [event for event in events if parse_cursor(event.cursor or "") > after]
        decoded += events
    return decoded


class StoredResponse:
    """A response as Redis stores it: a hash of fields, and a string with a batch of events.

    :ivar first: the position of its first event, `last` of its last.
    :raises ValueError: when the data is damaged.
    """

    def __init__(self, reply: Any) -> None:
        response_id, flat, text = reply
        self.id: str = response_id.decode()
        pairs = zip(flat[::2], flat[1::2], strict=True)
        fields = {name.decode(errors="replace"): value for name, value in pairs}
        self._fields: Mapping[str, bytes] = fields
        self._text: bytes = text
        state = fields.get("state", b"").decode()
        if state != "streaming" and state not in ENDED:
            raise ValueError(f"unknown state {state[:32]!a}")
        self.ended = state != "streaming"
        self.last = parse_cursor(fields["last"].decode()) if "last" in fields else (0, 0, 0)
        self.first = parse_cursor(fields["first"].decode()) if "first" in fields else (0, 0, 0)

    @property
    def is_intact(self) -> bool:
        """Whether hash and string fit together; not so when one of them was evicted."""
        return "number" in self._fields and len(self._text) == int(self._fields.get("size", -1))

    def response(self, channel: str, skip: Skip) -> Response:
        """Fold the stored events into the response.

        :param skip: is told of tool results that are none.
        :raises DecodeError, GapError, LookupError, ValueError: when the data is damaged.
        """
        fields, text = self._fields, self._text
        if int(fields["run"]) >= 0:  # the last delta still grows: write its length
            at = int(fields["run_at"])
            text = b"".join((text[:at], struct.pack(">I", len(text) - at - 4), text[at + 4 :]))
        header = b"\xdd" + struct.pack(">I", int(fields["records"]))
        assembler = Assembler(self.id)
        for event in decode_msgpack_batch(header + text):
            assembler.apply(event, channel=channel)
        results = [value for name, value in fields.items() if name.startswith("result:")]
        for result in sorted(results, key=lambda value: value[:4]):
            try:
                assembler.apply(decode_msgpack(result[4:]))
            except DecodeError as error:
                skip(error)
        return assembler.response
