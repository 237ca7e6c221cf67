"""Frames of ``application/vnd.amazon.eventstream``, cut at any byte.

https://smithy.io/2.0/aws/amazon-eventstream.html
"""

from __future__ import annotations

import base64
import binascii
import json
import struct
import zlib
from collections.abc import Iterator
from typing import Any

from tokenwire_adapters._agents.values import fields_of, str_of
from tokenwire_adapters._agents.wires.errors import ProviderError, UnreadableReply
from tokenwire_adapters._agents.wires.json_objects import decode

__all__ = ["FrameReader"]

_MAX_FRAME = 32 * 1024 * 1024
_PRELUDE = struct.Struct(">III")  # length of the frame, length of its headers, their checksum
_SIZES = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
"""Bytes of a header's value, by its type; types 6 and 7 have a length."""


class FrameReader:
    """Splits an event stream into events: pairs of a type and JSON.

    An event of Converse becomes an object with one key, its type. An event of type ``chunk``
    becomes the vendor's own JSON that it carries.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[str, bytes]]:
        """The events that are complete with `data`.

        :raises UnreadableReply: for a frame that is damaged or too large.
        :raises ProviderError: for a frame that reports an error.
        """
        buffer = self._buffer
        buffer += data
        while len(buffer) >= _PRELUDE.size:
            length, header_length, checksum = _PRELUDE.unpack_from(buffer)
            if zlib.crc32(buffer[:8]) != checksum or length < header_length + 16:
                raise UnreadableReply("a frame of the stream is damaged")
            if length > _MAX_FRAME:
                raise UnreadableReply("a frame of the stream is too large to be read")
            if len(buffer) < length:
                return
            frame = bytes(buffer[:length])
            del buffer[:length]
            if zlib.crc32(frame[:-4]) != int.from_bytes(frame[-4:]):
                raise UnreadableReply("a frame of the stream is damaged")
            headers_end = _PRELUDE.size + header_length
            event = _event(_headers(frame[_PRELUDE.size : headers_end]), frame[headers_end:-4])
            if event is not None:
                yield event

    def flush(self) -> Iterator[tuple[str, bytes]]:
        """A frame that is cut is none."""
        return iter(())


def _headers(data: bytes) -> dict[str, str]:
    """The headers whose values are text."""
    headers: dict[str, str] = {}
    position = 0
    try:
        while position < len(data):
            name_end = position + 1 + data[position]
            name, kind = data[position + 1 : name_end].decode(), data[name_end]
            position = name_end + 1
            if kind in (6, 7):
                size = int.from_bytes(data[position : position + 2])
                position += 2
            else:
                size = _SIZES[kind]
            if kind == 7:
                headers[name] = data[position : position + size].decode()
            position += size
    except (IndexError, KeyError, UnicodeDecodeError):
        raise UnreadableReply("a frame of the stream has damaged headers") from None
    return headers


def _event(headers: dict[str, str], payload: bytes) -> tuple[str, bytes] | None:
    kind = headers.get(":message-type")
    if kind == "error":
        raise ProviderError(headers.get(":error-message") or headers.get(":error-code"))
    if kind == "exception":
        raise ProviderError(_said(payload) or headers.get(":exception-type"))
    name = headers.get(":event-type", "")
    if name == "chunk":
        return "", _carried(payload)
    if kind != "event" or name == "initial-response":
        return None
    return name, b"{%b:%b}" % (json.dumps(name).encode(), payload or b"{}")


def _said(payload: bytes) -> Any:
    """What an exception says; its message may begin with a capital."""
    try:
        fields = fields_of(decode(payload))
    except ValueError:
        return payload.decode("utf-8", "replace")
    return fields.get("message") or fields.get("Message") or fields.get("originalMessage")


def _carried(payload: bytes) -> bytes:
    """The JSON in an event of type ``chunk``."""
    try:
        return base64.b64decode(str_of(fields_of(decode(payload)).get("bytes")))
    except (ValueError, binascii.Error):
        raise UnreadableReply("an event of the stream is damaged") from None
