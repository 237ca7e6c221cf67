"""The vocabulary: the events of a channel, and the responses that they add up to.

Every event is a small frozen `msgspec.Struct` of one union, tagged by its `type`.
Offsets and lengths are in code points, times in milliseconds since 1970 (UTC).
Unknown fields are ignored and unknown types arrive as `UnknownEvent`, so that older readers
survive newer writers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, ClassVar, Literal, TypeAlias, cast, get_args

import msgspec

from tokenwire._parts import ENDED, Part, Response, State, ToolResult
from tokenwire._values import plain
from tokenwire.errors import DecodeError

__all__ = [
    "ENDED",
    "VERSION",
    "CancelEvent",
    "DataEvent",
    "DeltaEvent",
    "EndEvent",
    "Event",
    "InputEvent",
    "Part",
    "PartEvent",
    "Response",
    "SnapshotEvent",
    "StartEvent",
    "State",
    "ToolResult",
    "ToolResultEvent",
    "UnknownEvent",
    "check_event",
    "decode_json",
    "decode_msgpack",
    "decode_msgpack_batch",
    "decode_msgpack_each",
    "encode_json",
    "encode_msgpack",
    "encode_msgpack_batch",
    "ends_response",
    "plain",
]

VERSION = 1
"""The version of this vocabulary; it rises when an old reader would misread a new event."""

Index: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
"""The number of a part, or a place in a text."""


class _Base(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type"):
    """What all events share.

    :ivar cursor: the event's position in its channel, set by the backend.
    :ivar ts: when it was published, in milliseconds since 1970.
    :ivar v: the version of the vocabulary that it was written in.
    """

    cursor: str | None = None
    ts: int | None = None
    v: int = VERSION


class StartEvent(_Base, frozen=True, kw_only=True, tag="start"):
    """A response begins."""

    type: ClassVar[Literal["start"]] = "start"
    response_id: str
    channel: str = ""
    run: str | None = None
    metadata: dict[str, Any] = {}


class PartEvent(_Base, frozen=True, kw_only=True, tag="part"):
    """Part number `part` of a response begins (and, without text to follow, is all there)."""

    type: ClassVar[Literal["part"]] = "part"
    response_id: str
    part: Index
    kind: str
    name: str | None = None
    call_id: str | None = None
    data: Any = None
    provider_executed: bool = False


class DeltaEvent(_Base, frozen=True, kw_only=True, tag="delta"):
    """`text` belongs at `offset` (code points) of part number `part`.

    The first delta of a part creates it where no `part` event did.
    """

    type: ClassVar[Literal["delta"]] = "delta"
    response_id: str
    part: Index
    kind: str
    offset: Index
    text: str


class SnapshotEvent(_Base, frozen=True, kw_only=True, tag="snapshot"):
    """A whole response, as it is at this cursor; it replaces what a watcher has of it."""

    type: ClassVar[Literal["snapshot"]] = "snapshot"
    response: Response

    @property
    def response_id(self) -> str:
        """The id of the response."""
        return self.response.id


class EndEvent(_Base, frozen=True, kw_only=True, tag="end"):
    """A response has ended, once and for all."""

    type: ClassVar[Literal["end"]] = "end"
    response_id: str
    state: State
    finish_reason: str | None = None
    usage: dict[str, Any] | None = None
    error: str | None = None


class ToolResultEvent(_Base, frozen=True, kw_only=True, tag="tool_result"):
    """A tool answered. `response_id` names the response that called it, where that is known."""

    type: ClassVar[Literal["tool_result"]] = "tool_result"
    call_id: str
    response_id: str | None = None
    run: str | None = None
    name: str | None = None
    output: Any = None
    error: str | None = None


class DataEvent(_Base, frozen=True, kw_only=True, tag="data"):
    """Anything else that an agent wants its watchers to know.

    :ivar transient: it is about the moment: of no use to those who come later.
    """

    type: ClassVar[Literal["data"]] = "data"
    name: str
    data: Any = None
    id: str | None = None
    response_id: str | None = None
    run: str | None = None
    transient: bool = False


class CancelEvent(_Base, frozen=True, kw_only=True, tag="cancel"):
    """A watcher asked for a response to stop."""

    type: ClassVar[Literal["cancel"]] = "cancel"
    response_id: str
    reason: str | None = None
    id: str | None = None


class InputEvent(_Base, frozen=True, kw_only=True, tag="input"):
    """A message from a watcher to the agent."""

    type: ClassVar[Literal["input"]] = "input"
    name: str
    data: Any = None
    id: str | None = None
    sender: str | None = None
    response_id: ClassVar[None] = None


class UnknownEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event of a type that this version does not know. `raw` is all of it."""

    type: str
    raw: dict[str, Any]
    cursor: str | None = None
    ts: int | None = None
    response_id: str | None = None


KnownEvent: TypeAlias = (
    StartEvent
    | PartEvent
    | DeltaEvent
    | SnapshotEvent
    | EndEvent
    | ToolResultEvent
    | DataEvent
    | CancelEvent
    | InputEvent
)
Event: TypeAlias = KnownEvent | UnknownEvent
"""One thing that happened in a channel."""

_KNOWN_TYPES = frozenset(cls.type for cls in get_args(KnownEvent))
_json_encoder = msgspec.json.Encoder()
_json_decoder: msgspec.json.Decoder[KnownEvent] = msgspec.json.Decoder(KnownEvent)
_msgpack_encoder = msgspec.msgpack.Encoder()
_msgpack_decoder: msgspec.msgpack.Decoder[KnownEvent] = msgspec.msgpack.Decoder(KnownEvent)
_batch_decoder: msgspec.msgpack.Decoder[list[KnownEvent]] = msgspec.msgpack.Decoder(
    list[KnownEvent]
)


_REFUSALS = (msgspec.DecodeError, UnicodeError, RecursionError, ValueError, TypeError)
"""What the decoders of msgspec raise for bytes from outside."""


def ends_response(event: Event) -> bool:
    """Whether the response of an event has ended with it, or before it."""
    return isinstance(event, EndEvent) or (
        isinstance(event, SnapshotEvent) and event.response.ended
    )


def encode_json(event: Event) -> bytes:
    """Encode one event as JSON (UTF-8, one line)."""
    return _json_encoder.encode(_encodable(event))


def encode_msgpack(event: Event) -> bytes:
    """Encode one event as msgpack."""
    return _msgpack_encoder.encode(_encodable(event))


def encode_msgpack_batch(events: Sequence[Event]) -> bytes:
    """Encode several events as one msgpack array."""
    return _msgpack_encoder.encode([_encodable(event) for event in events])


def check_event(event: Event) -> None:
    """Check that every reader can decode an event that was made here.

    :raises ValueError, TypeError, OverflowError: when one could not.
    """
    if type(event) is not DeltaEvent:
        decode_msgpack(encode_msgpack(event))
    elif not (
        type(event.text) is type(event.kind) is type(event.response_id) is str
        and type(event.part) is type(event.offset) is int
        and event.part >= 0 <= event.offset
    ):
        raise ValueError("a delta has text, and places from 0 on")


def decode_json(data: bytes | str) -> Event:
    """Decode one event.

    :raises DecodeError: when `data` is not JSON or not an event.
    """
    try:
        return _json_decoder.decode(data)
    except _REFUSALS as error:
        return _from_future(msgspec.json.decode, data, error)


def decode_msgpack(data: bytes) -> Event:
    """Decode one event.

    :raises DecodeError: when `data` is not msgpack or not an event.
    """
    try:
        return _msgpack_decoder.decode(data)
    except _REFUSALS as error:
        return _from_future(msgspec.msgpack.decode, data, error)


def decode_msgpack_batch(data: bytes) -> list[Event]:
    """Decode a msgpack array of events.

    :raises DecodeError: when `data` is not such an array.
    """
    try:
        return list(_batch_decoder.decode(data))
    except _REFUSALS:
        decoded: list[Event] = []
        for event in decode_msgpack_each(data):
            if isinstance(event, DecodeError):
                raise event from None
            decoded.append(event)
        return decoded


def decode_msgpack_each(data: bytes) -> list[Event | DecodeError]:
    """Decode a msgpack array of events, with an error in the place of what is no event.

    :raises DecodeError: when `data` is not an array.
    """
    try:
        return list(_batch_decoder.decode(data))
    except _REFUSALS as error:
        try:
            raws: Any = msgspec.msgpack.decode(data)
        except _REFUSALS:
            raise DecodeError(f"not a batch of events: {error}") from error
        if not isinstance(raws, list):
            raise DecodeError(f"not a batch of events: {error}") from error
        return [_event_or_error(raw) for raw in cast("list[Any]", raws)]


def _from_future(parse: Callable[[Any], Any], data: bytes | str, error: Exception) -> Event:
    """Decode an event of a type from the future, where `error` says that it is none of today."""
    try:
        return _unknown(parse(data), error)
    except _REFUSALS:
        raise DecodeError(f"not an event: {error}") from error


def _encodable(event: Event) -> Any:
    if not isinstance(event, UnknownEvent):
        return event
    return {**event.raw, "cursor": event.cursor} if event.cursor else event.raw


def _event_or_error(raw: Any) -> Event | DecodeError:
    try:
        event: Event = msgspec.convert(raw, KnownEvent)
        return event
    except _REFUSALS as error:
        try:
            return _unknown(raw, error)
        except DecodeError as refused:
            return refused


def _unknown(raw: Any, error: Exception) -> UnknownEvent:
    """Take `raw` as an event of a type from the future, or raise `DecodeError`."""
    fields: dict[str, Any] = cast("dict[str, Any]", raw) if isinstance(raw, dict) else {}
    type_ = fields.get("type")
    if not isinstance(type_, str) or type_ in _KNOWN_TYPES:
        raise DecodeError(f"not an event: {error}") from error
    cursor, ts, response_id = (fields.get(name) for name in ("cursor", "ts", "response_id"))
    return UnknownEvent(
        type=type_,
        raw=fields,
        cursor=cursor if isinstance(cursor, str) else None,
        ts=ts if isinstance(ts, int) else None,
        response_id=response_id if isinstance(response_id, str) else None,
    )
