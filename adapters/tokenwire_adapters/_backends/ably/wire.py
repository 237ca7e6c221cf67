"""What our messages look like on Ably, and how they are read.

A response is told by messages with ``extras.headers.responseId``, as in Ably's token-streaming
documentation. The other headers say where the text belongs, so that a reader can tell a repeat
from a hole (docs/ably.md lists them).
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
    StartEvent,
    ToolResultEvent,
)

__all__ = [
    "MARK",
    "Joiner",
    "Msg",
    "end_headers",
    "end_of",
    "from_ably",
    "new_message",
    "number",
    "part_headers",
    "pieces_of",
    "single_of",
    "single_payload",
    "size_of",
    "split",
    "start_headers",
    "start_of",
    "text_crc",
]

MARK = "tokenwire"
"""The header that tells our messages from others'; its value is the version of this format."""

_ACTIONS = {0: "create", 1: "update", 2: "delete", 4: "summary", 5: "append"}


class Msg(msgspec.Struct, frozen=True, kw_only=True):
    """A message of a channel, in one of its versions.

    :ivar action: ``create``, ``append``, ``update``, ``delete``; in history all but ``delete``
        mean that the data is whole.
    :ivar serial: names the message; `version` its version. Both sort as the channel does.
    :ivar created: when the message was made; `at` when this version was (milliseconds since 1970).
    """

    action: str
    serial: str
    version: str
    created: int
    at: int
    name: str | None
    data: Any
    headers: dict[str, Any]
    client_id: str | None = None
    extras: Any = None

    @property
    def ours(self) -> bool:
        """Whether it is written in the format of this module."""
        return MARK in self.headers


def new_message(**fields: Any) -> Any:
    """Make a message of Ably's client, which has no types of its own worth the name."""
    return Message(**fields)


def from_ably(given: Any, *, whole: bool = False) -> Msg | None:
    """Read what the client gives; None for what is not a message with a serial.

    :param whole: it comes from history: its data is all there is.
    """
    serial = given.serial
    if not isinstance(serial, str) or not 0 < len(serial) <= 200:
        return None
    action = _ACTIONS.get(int(given.action) if given.action is not None else 0)
    if action is None or action == "summary":
        return None
    if whole and action == "append":
        action = "update"
    version = given.version
    version_serial = getattr(version, "serial", None) or serial
    created = given.timestamp if isinstance(given.timestamp, int) else 0
    at = getattr(version, "timestamp", None)
    extras: Any = given.extras
    told = cast("dict[str, Any]", extras) if isinstance(extras, dict) else {}
    headers: Any = told.get("headers")
    return Msg(
        action=action,
        serial=serial,
        version=version_serial,
        created=created,
        at=at if isinstance(at, int) else created,
        name=given.name,
        data=given.data,
        headers=cast("dict[str, Any]", headers) if isinstance(headers, dict) else {},
        client_id=given.client_id,
        extras=extras,
    )


def number(headers: Mapping[str, Any], name: str, *, most: int = 2**53) -> int | None:
    """A header that is a number from 0 on; None where it is not there or is something else."""
    value = headers.get(name)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 16:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        return None
    return value


def text_crc(text: str, before: int = 0) -> int:
    """The checksum of a text, or of a text that goes on."""
    return crc32(text.encode(errors="surrogatepass"), before)


def size_of(*values: Any) -> int:
    """Bytes that values take in a message, counted on the safe side."""
    total = 0
    for value in values:
        if isinstance(value, str):
            total += len(value) if value.isascii() else len(value.encode(errors="surrogatepass"))
        elif value is not None:
            total += len(json.dumps(value, ensure_ascii=False).encode(errors="surrogatepass"))
    return total


def split(text: str, first: int, rest: int) -> Iterator[str]:
    """Cut a text into pieces of at most `first`, then `rest` bytes, never within a code point."""
    room, begin = first, 0
    while begin < len(text):
        end = _fit(text, begin, max(room, 4))
        yield text[begin:end]
        begin, room = end, rest


def _fit(text: str, begin: int, room: int) -> int:
    """How far from `begin` the text fits into `room` bytes of UTF-8."""
    end = min(len(text), begin + room)
    while True:
        over = len(text[begin:end].encode(errors="surrogatepass")) - room
        if over <= 0:
            return end
        end -= max(1, (over + 3) // 4)


# -- starts and ends


def start_headers(start: StartEvent) -> dict[str, Any]:
    """What a start says, as one header."""
    told = {"run": start.run, "metadata": start.metadata or None, "startedAt": start.ts}
    return {"start": _dump(told)}


def start_of(headers: Mapping[str, Any], response_id: str, channel: str) -> StartEvent | None:
    """The start that a message tells of, if any."""
    told = _load(headers.get("start"))
    if told is None:
        return None
    run, metadata, ts = told.get("run"), told.get("metadata"), told.get("startedAt")
    return StartEvent(
        response_id=response_id,
        channel=channel,
        run=run if isinstance(run, str) else None,
        metadata=cast("dict[str, Any]", metadata) if isinstance(metadata, dict) else {},
        ts=ts if isinstance(ts, int) else None,
    )


def end_headers(end: EndEvent, extent: Iterable[int]) -> dict[str, Any]:
    """What an end says; `extent` is the length of each part, so that no end comes too early."""
    told = {
        "finishReason": end.finish_reason,
        "usage": end.usage,
        "error": None if end.error is None else end.error[:1000],
        "endedAt": end.ts,
        "extent": list(extent),
    }
    return {"status": end.state, "end": _dump(told)}


def end_of(headers: Mapping[str, Any], response_id: str) -> tuple[EndEvent, list[int]] | None:
    """The end that a message tells of, and the extent it has then."""
    told = _load(headers.get("end"))
    state = headers.get("status")
    if told is None or state not in ("complete", "cancelled", "failed", "abandoned"):
        return None
    reason, usage, error = told.get("finishReason"), told.get("usage"), told.get("error")
    ts, extent = told.get("endedAt"), told.get("extent")
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


def part_headers(part: int, kind: str, name: str | None, call_id: str | None) -> dict[str, Any]:
    """What a message says of the part it belongs to."""
    told: dict[str, Any] = {"part": part, "kind": kind}
    if name is not None:
        told["name"] = name
    if call_id is not None:
        told["callId"] = call_id
    return told


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


# -- events of their own


def single_payload(event: Event) -> dict[str, Any]:
    """The data of a message that carries one event."""
    told = cast("dict[str, Any]", msgspec.to_builtins(event))
    return {name: value for name, value in told.items() if name not in ("cursor", "type")}


def single_of(kind: str, payload: Any, response_id: str | None) -> Event | None:
    """The event that such a message carries; None where it is none of ours."""
    if not isinstance(payload, dict):
        return None
    told = {**cast("dict[str, Any]", payload), "type": kind}
    if response_id is not None:
        told["response_id"] = response_id
    try:
        event: Event = msgspec.convert(told, _Single)
    except msgspec.ValidationError:
        return None
    return event


_Single = CancelEvent | DataEvent | InputEvent | ToolResultEvent


def pieces_of(payload: dict[str, Any], key: str, room: int) -> list[tuple[Any, dict[str, Any]]]:
    """A payload as the data and headers of one message, or of several where it is large."""
    if size_of(payload) <= room:
        return [(payload, {})]
    texts = list(split(_dump(payload), room, room))
    return [
        (text, {"piece": index, "pieces": len(texts), "joined": key})
        for index, text in enumerate(texts)
    ]


class Joiner:
    """Puts payloads together again that came in pieces."""

    def __init__(self, most: int = 64) -> None:
        self._waiting: dict[str, dict[int, str]] = {}
        self._most = most

    def payload(self, msg: Msg) -> Any:
        """The payload of a message, once it is whole; None until then."""
        count = number(msg.headers, "pieces", most=10_000)
        if count is None:
            return msg.data
        index, key = number(msg.headers, "piece"), msg.headers.get("joined")
        if index is None or not isinstance(key, str) or not isinstance(msg.data, str):
            return None
        held = self._waiting.setdefault(key, {})
        held[index] = msg.data
        if len(held) < count:
            while len(self._waiting) > self._most:
                del self._waiting[next(iter(self._waiting))]
            return None
        del self._waiting[key]
        return _load("".join(held[i] for i in sorted(held)))
