"""AWS's binary event stream (``application/vnd.amazon.eventstream``), as Bedrock sends it."""

from __future__ import annotations

import struct
import zlib
from typing import Any

from tokenwire_adapters.testing.provider._frames import Frame
from tokenwire_adapters.testing.provider._json import dumps

__all__ = ["binary_event", "encode_message"]

_STRING = 7  # the type of a header's value


def binary_event(name: str, payload: dict[str, Any], choice: int | None = None) -> Frame:
    """Make one event of a stream."""
    headers = {":event-type": name, ":content-type": "application/json", ":message-type": "event"}
    return Frame(encode_message(headers, dumps(payload).encode()), choice)


def encode_message(headers: dict[str, str], payload: bytes) -> bytes:
    """Frame a message: lengths, their CRC-32, headers, the payload, the CRC-32 of it all."""
    encoded = b"".join(_header(name, value) for name, value in headers.items())
    total = 12 + len(encoded) + len(payload) + 4
    prelude = struct.pack(">II", total, len(encoded))
    message = prelude + struct.pack(">I", zlib.crc32(prelude)) + encoded + payload
    return message + struct.pack(">I", zlib.crc32(message))


def _header(name: str, value: str) -> bytes:
    key, text = name.encode(), value.encode()
    return struct.pack(">B", len(key)) + key + struct.pack(">BH", _STRING, len(text)) + text
