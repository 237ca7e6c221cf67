"""The format of tokenwire's messages on Ably: encoding and decoding.

The messages of a response have ``extras.headers.responseId``, as in Ably's token-streaming
documentation. The other headers say where the text belongs, so that a reader can distinguish a
repeat from a gap (docs/ably.md lists them).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast
from zlib import crc32

import msgspec
from ably.types.message import Message

from tokenwire.events import (
    CancelEvent,
    DataEvent,
    EndEvent,
    Event,
    InputEvent,
    Part,
    StartEvent,
    ToolResultEvent,
)

__all__ = [
    "FORMAT_HEADER",
    "ChannelMessage",
    "PayloadJoiner",
    "byte_size",
    "decode_event",
    "encode_event",
    "end_headers",
    "from_ably",
    "int_header",
    "new_message",
    "parse_end",
    "parse_start",
    "part_headers",
    "split_payload",
    "split_text",
    "start_headers",
    "text_crc",
]

FORMAT_HEADER = "tokenwire"
"""The header that all messages of this format have; its value is the format's version."""

_MAX_INCOMPLETE = 64  # payloads
_ACTIONS = {0: "create", 1: "update", 2: "delete", 4: "summary", 5: "append"}


class ChannelMessage(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a message of a channel.

    :ivar action: ``create``, ``append``, ``update`` or ``delete``; data is complete except with
        ``append``, which history does not have.
    :ivar serial: identifies the message; `version` identifies the version. Both sort in the order
        of the channel's log.
    :ivar created: when the message was published, in milliseconds since 1970; `updated`: when
        this version was.
    """

    action: str
    serial: str
    version: str
    created: int
    updated: int
    name: str | None
    data: Any
    headers: dict[str, Any]
    client_id: str | None = None
    extras: Any = None

    @property
    def is_native(self) -> bool:
        """Whether it is written in this module's format."""
        return FORMAT_HEADER in self.headers


def new_message(**fields: Any) -> Any:
    """A message of ably-python, whose class has no types."""
    return Message(**fields)


def from_ably(message: Any, *, from_history: bool = False) -> ChannelMessage | None:
    """Convert a message of ably-python; None for a summary, or one without a serial.

    :param from_history: its data is complete, even if its action is ``append``.
    """
    serial = message.serial
    if not isinstance(serial, str) or not 0 < len(serial) <= 200:
        return None
    number: object = 0 if message.action is None else message.action
    action = _ACTIONS.get(int(number)) if isinstance(number, int) else None
    if action is None or action == "summary":
        return None
    if from_history and action == "append":
        action = "update"
    version = message.version
    version_serial = getattr(version, "serial", None) or serial
    if not isinstance(version_serial, str):
        return None
    created = message.timestamp if isinstance(message.timestamp, int) else 0
    updated = getattr(version, "timestamp", None)
    extras: Any = message.extras
    headers = cast("dict[str, Any]", extras).get("headers") if isinstance(extras, dict) else None
    if not isinstance(headers, dict):
        headers = {}
    if not isinstance(cast("dict[str, Any]", headers).get("responseId", ""), str):
        return None  # it names no response
    return ChannelMessage(
        action=action,
        serial=serial,
        version=version_serial,
        created=created,
        updated=updated if isinstance(updated, int) else created,
        name=message.name if isinstance(message.name, str) else None,
        data=message.data,
        headers=cast("dict[str, Any]", headers),
        client_id=message.client_id,
        extras=extras,
    )


def int_header(headers: Mapping[str, Any], name: str, *, maximum: int = 2**53) -> int | None:
    """A header's value as an integer from 0 to `maximum`; None where it is not one."""
    value = headers.get(name)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 16:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= maximum:
        return None
    return value


def text_crc(text: str, before: int = 0) -> int:
    """The CRC-32 of a text, continuing from the checksum of the text before it."""
    return crc32(text.encode(errors="surrogatepass"), before)


def byte_size(*values: Any) -> int:
    """An upper bound of the bytes that values take in a message."""
    total = 0
    for value in values:
        if isinstance(value, str):
            total += len(value) if value.isascii() else len(value.encode(errors="surrogatepass"))
        elif value is not None:
            total += len(json.dumps(value, ensure_ascii=False).encode(errors="surrogatepass"))
    return total


def split_text(text: str, first: int, rest: int) -> Iterator[str]:
    """Split a text into pieces of at most `first`, then `rest` bytes of UTF-8."""
    max_bytes, begin = first, 0
    while begin < len(text):
        end = _fit(text, begin, max(max_bytes, 4))  # a code point takes up to 4 bytes
        yield text[begin:end]
        begin, max_bytes = end, rest


def _fit(text: str, begin: int, max_bytes: int) -> int:
    """The end of the longest piece from `begin` that takes at most `max_bytes` of UTF-8."""
    end = min(len(text), begin + max_bytes)
    while True:
        excess = len(text[begin:end].encode(errors="surrogatepass")) - max_bytes
        if excess <= 0:
            return end
        end -= max(1, (excess + 3) // 4)


# -- starts and ends


def start_headers(start: StartEvent) -> dict[str, Any]:
    """Encode a start event as one header."""
    fields = {"run": start.run, "metadata": start.metadata or None, "startedAt": start.ts}
    return {"start": _dump(fields)}


def parse_start(headers: Mapping[str, Any], response_id: str, channel: str) -> StartEvent | None:
    """Decode the start event in a message's headers, if there is one."""
    fields = _load(headers.get("start"))
    if fields is None:
        return None
    run, metadata, ts = fields.get("run"), fields.get("metadata"), fields.get("startedAt")
    return StartEvent(
        response_id=response_id,
        channel=channel,
        run=run if isinstance(run, str) else None,
        metadata=cast("dict[str, Any]", metadata) if isinstance(metadata, dict) else {},
        ts=ts if isinstance(ts, int) else None,
    )


def end_headers(end: EndEvent, extent: Iterable[int]) -> dict[str, Any]:
    """Encode an end event as two headers.

    :param extent: the length of each part, so that readers know when they have all the text.
    """
    fields = {
        "finishReason": end.finish_reason,
        "usage": end.usage,
        "error": None if end.error is None else end.error[:1000],
        "endedAt": end.ts,
        "extent": list(extent),
    }
    return {"status": end.state, "end": _dump(fields)}


def parse_end(headers: Mapping[str, Any], response_id: str) -> tuple[EndEvent, list[int]] | None:
    """Decode the end event in a message's headers, if there is one, and the length of each part."""
    fields = _load(headers.get("end"))
    state = headers.get("status")
    if fields is None or state not in ("complete", "cancelled", "failed", "abandoned"):
        return None
    reason, usage, error = fields.get("finishReason"), fields.get("usage"), fields.get("error")
    ts, extent = fields.get("endedAt"), fields.get("extent")
    lengths = cast("list[Any]", extent) if isinstance(extent, list) else []
    end = EndEvent(
        response_id=response_id,
        state=state,
        finish_reason=reason if isinstance(reason, str) else None,
        usage=cast("dict[str, Any]", usage) if isinstance(usage, dict) else None,
        error=error if isinstance(error, str) else None,
        ts=ts if isinstance(ts, int) else None,
    )
    return end, [n for n in lengths if isinstance(n, int)]


def part_headers(index: int, part: Part) -> dict[str, Any]:
    """The headers of a message with text or data of a part."""
    headers: dict[str, Any] = {"part": index, "kind": part.kind}
    if part.name is not None:
        headers["name"] = part.name
    if part.call_id is not None:
        headers["callId"] = part.call_id
    if part.provider_executed:
        headers["providerExecuted"] = True
    return headers


def _dump(value: dict[str, Any]) -> str:
    return json.dumps(
        {name: item for name, item in value.items() if item is not None},
        ensure_ascii=False,
        separators=(",", ":"),
    )


def _load(text: Any) -> dict[str, Any] | None:
    if not isinstance(text, str):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


# -- single events and payloads

_SingleEvent = CancelEvent | DataEvent | InputEvent | ToolResultEvent


def encode_event(event: Event) -> dict[str, Any]:
    """The data of a message that carries one event."""
    fields = cast("dict[str, Any]", msgspec.to_builtins(event))
    return {name: value for name, value in fields.items() if name not in ("cursor", "type")}


def decode_event(kind: str, payload: Any, response_id: str | None) -> Event | None:
    """Decode the event that a message carries; None where it is not valid."""
    if not isinstance(payload, dict):
        return None
    fields = {**cast("dict[str, Any]", payload), "type": kind}
    if response_id is not None:
        fields["response_id"] = response_id
    try:
        event: Event = msgspec.convert(fields, _SingleEvent)
    except msgspec.ValidationError:
        return None
    return event


def split_payload(
    payload: dict[str, Any], key: str, max_bytes: int
) -> list[tuple[Any, dict[str, Any]]]:
    """Split a payload into the data and headers of one message, or of several if it is large.

    :param key: identifies the payload, for `PayloadJoiner`.
    """
    if byte_size(payload) <= max_bytes:
        return [(payload, {})]
    texts = list(split_text(_dump(payload), max_bytes, max_bytes))
    return [
        (text, {"piece": index, "pieces": len(texts), "joined": key})
        for index, text in enumerate(texts)
    ]


class PayloadJoiner:
    """Joins payloads that were split over several messages; the oldest incomplete are dropped."""

    def __init__(self) -> None:
        self._incomplete: dict[str, dict[int, str]] = {}

    def payload(self, msg: ChannelMessage) -> Any:
        """The payload that a message completes; None while pieces are missing."""
        count = int_header(msg.headers, "pieces", maximum=10_000)
        if count is None:
            return msg.data
        index, key = int_header(msg.headers, "piece"), msg.headers.get("joined")
        if index is None or not isinstance(key, str) or not isinstance(msg.data, str):
            return None
        pieces = self._incomplete.setdefault(key, {})
        pieces[index] = msg.data
        if len(pieces) < count:
            while len(self._incomplete) > _MAX_INCOMPLETE:
                del self._incomplete[next(iter(self._incomplete))]
            return None
        del self._incomplete[key]
        return _load("".join(pieces[i] for i in sorted(pieces)))
