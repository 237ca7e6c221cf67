"""The lines of an export: JSON, one object a line, of which the first says what it is.

A reader passes over lines of a type and fields that it does not know; a format that cannot be
read so has a higher number, which an older reader refuses.
"""

from __future__ import annotations

from typing import ClassVar, Literal, TypeAlias

import msgspec

from tokenwire._version import __version__
from tokenwire.errors import DecodeError
from tokenwire.events import DataEvent, InputEvent, Response, ToolResultEvent

__all__ = ["FORMAT", "EventLine", "HeaderLine", "Line", "ResponseLine", "decode", "encode"]

FORMAT = 1


class HeaderLine(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="tokenwire"):
    """The first line.

    :ivar format: the number of the format.
    :ivar version: the version of tokenwire that wrote it.
    :ivar ts: when, in milliseconds since 1970.
    """

    type: ClassVar[Literal["tokenwire"]] = "tokenwire"
    format: int = FORMAT
    version: str = __version__
    ts: int | None = None


class ResponseLine(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="response"):
    """A response of a channel."""

    type: ClassVar[Literal["response"]] = "response"
    channel: str
    response: Response


class EventLine(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="event"):
    """An event of a channel that is no part of a response: an input, say."""

    type: ClassVar[Literal["event"]] = "event"
    channel: str
    event: DataEvent | InputEvent | ToolResultEvent


class _Type(msgspec.Struct):
    type: str


Line: TypeAlias = HeaderLine | ResponseLine | EventLine

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Line] = msgspec.json.Decoder(Line)
_type_decoder = msgspec.json.Decoder(_Type)
_TYPES = {"tokenwire", "response", "event"}


def encode(line: Line) -> bytes:
    """Encode a line, with its line feed."""
    return _encoder.encode(line) + b"\n"


def decode(line: bytes | str) -> Line | None:
    """Decode a line; None where it is of a type that this version does not know.

    :raises DecodeError: when it is no line of an export.
    """
    try:
        return _decoder.decode(line)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        try:
            known = _type_decoder.decode(line).type in _TYPES
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            known = True
        if known:
            raise DecodeError(f"no line of an export: {error}") from error
        return None
