"""Writes frames of ``application/vnd.amazon.eventstream``."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from typing import Any

__all__ = ["FRAMES", "chunk", "event", "frame"]

FRAMES = {"content-type": "application/vnd.amazon.eventstream"}


def frame(headers: dict[str, str], payload: bytes) -> bytes:
    """One frame; all headers are text."""
    head = b"".join(
        struct.pack(">B", len(name))
        + name.encode()
        + struct.pack(">BH", 7, len(value.encode()))
        + value.encode()
        for name, value in headers.items()
    )
    prelude = struct.pack(">II", 16 + len(head) + len(payload), len(head))
    prelude += struct.pack(">I", zlib.crc32(prelude))
    body = prelude + head + payload
    return body + struct.pack(">I", zlib.crc32(body))


def event(kind: str, payload: Any, message_type: str = "event") -> bytes:
    """One event, or exception, with JSON."""
    headers = {
        f":{message_type}-type": kind,
        ":content-type": "application/json",
        ":message-type": message_type,
    }
    return frame(headers, json.dumps(payload).encode())


def chunk(payload: Any) -> bytes:
    """An event of InvokeModelWithResponseStream that carries JSON."""
    carried = base64.b64encode(json.dumps(payload).encode()).decode()
    return event("chunk", {"bytes": carried, "p": "abcdef"})
