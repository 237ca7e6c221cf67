"""Protocol messages on the wire: action numbers, flags, and the two encodings.

Spec: protocol.md ("Actions", "Formats", "Data"), TR2 (actions), TR3 (flags), TM5 (message
actions), TP2 (presence actions), RSL4 and RSL6 (how data is encoded).
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from enum import IntEnum, IntFlag
from typing import Any, cast

import msgspec.msgpack

from tokenwire_adapters.testing.ably._errors import AblyError

__all__ = [
    "Action",
    "Data",
    "Flag",
    "MessageAction",
    "PresenceAction",
    "Wire",
    "data_from_wire",
    "data_to_wire",
    "decode",
    "encode",
    "member_to_wire",
]

Wire = dict[str, Any]
Data = str | bytes | None


class Action(IntEnum):
    """The action of a protocol message (TR2)."""

    HEARTBEAT = 0
    ACK = 1
    NACK = 2
    CONNECT = 3
    CONNECTED = 4
    DISCONNECT = 5
    DISCONNECTED = 6
    CLOSE = 7
    CLOSED = 8
    ERROR = 9
    ATTACH = 10
    ATTACHED = 11
    DETACH = 12
    DETACHED = 13
    PRESENCE = 14
    MESSAGE = 15
    SYNC = 16
    AUTH = 17
    OBJECT = 19
    OBJECT_SYNC = 20
    ANNOTATION = 21


class MessageAction(IntEnum):
    """The operation of a message on the one with its serial (TM5)."""

    CREATE = 0
    UPDATE = 1
    DELETE = 2
    META = 3
    SUMMARY = 4
    APPEND = 5


class PresenceAction(IntEnum):
    """The action of a presence message (TP2)."""

    ABSENT = 0
    PRESENT = 1
    ENTER = 2
    LEAVE = 3
    UPDATE = 4


class Flag(IntFlag):
    """Flags of ATTACH and ATTACHED (TR3). From bit 16 on they are channel modes (TB2d)."""

    HAS_PRESENCE = 1 << 0
    HAS_BACKLOG = 1 << 1
    RESUMED = 1 << 2
    PRESENCE = 1 << 16
    PUBLISH = 1 << 17
    SUBSCRIBE = 1 << 18
    PRESENCE_SUBSCRIBE = 1 << 19
    ANNOTATION_PUBLISH = 1 << 21
    ANNOTATION_SUBSCRIBE = 1 << 22
    OBJECT_SUBSCRIBE = 1 << 24
    OBJECT_PUBLISH = 1 << 25


def encode(message: Any, binary: bool) -> str | bytes:
    """Encode a protocol message, or a REST body, for one client."""
    if binary:
        return msgspec.msgpack.encode(message)
    return json.dumps(message, separators=(",", ":"), ensure_ascii=False)


def decode(raw: str | bytes, binary: bool) -> Any:
    """Decode a frame or a REST body.

    :raises AblyError: 40000 if it is not valid JSON or msgpack
    """
    try:
        if binary:
            return msgspec.msgpack.decode(cast("bytes", raw))
        return json.loads(raw)
    except Exception as error:
        raise AblyError(40000, f"unreadable body or frame: {error}") from error


def data_from_wire(message: Mapping[str, Any]) -> tuple[Data, str | None]:
    """Return the data of a message as text or bytes, and the rest of its encoding.

    The transport's own base64 is undone, so that text and bytes are stored as such and can be
    sent to a client of the other encoding (RSL4c, RSL4d; RSL6a1 requires clients to accept it).

    :raises AblyError: 40013 if the data has a type that the protocol does not know
    """
    data, encoding = message.get("data"), message.get("encoding") or None
    if data is None or isinstance(data, bytes):
        return data, encoding
    if isinstance(data, dict | list):
        # Plain REST callers may send JSON itself; it is stored as clients send it.
        return json.dumps(data, separators=(",", ":")), "json"
    if not isinstance(data, str):
        raise AblyError(40013, f"unsupported type of message data: {type(data).__name__}")
    if encoding is not None and encoding.split("/")[-1] == "base64":
        try:
            decoded = base64.b64decode(data)
        except (binascii.Error, ValueError) as error:
            raise AblyError(40013, "message data is not valid base64") from error
        return decoded, encoding.removesuffix("base64").removesuffix("/") or None
    return data, None if encoding in {"utf8", "utf-8"} else encoding


def data_to_wire(data: Data, encoding: str | None, binary: bool) -> Wire:
    """Return the ``data`` and ``encoding`` members for a client of one encoding."""
    wire: Wire = {}
    if data is not None:
        wire["data"] = data
    if encoding:
        wire["encoding"] = encoding
    if isinstance(data, bytes) and not binary:
        wire["data"] = base64.b64encode(data).decode()
        wire["encoding"] = f"{encoding}/base64" if encoding else "base64"
    return wire


def member_to_wire(member: Wire, binary: bool) -> Wire:
    """Return a presence message for a client of one encoding."""
    rest = {key: value for key, value in member.items() if key not in {"data", "encoding"}}
    return rest | data_to_wire(member.get("data"), member.get("encoding"), binary)
