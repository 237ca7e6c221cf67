"""Bedrock with boto3, whose event streams come over urllib3."""

from __future__ import annotations

import json
import struct
import zlib
from typing import Any

from tests.adapters.http.clients import listening
from tests.support.needs import needs
from tests.support.replay import Replay, Reply
from tests.support.sdk import responses
from tokenwire import Sink

needs("boto3")

import boto3

USAGE = {"inputTokens": 1, "outputTokens": 2, "totalTokens": 3}
EVENTS: list[tuple[str, dict[str, Any]]] = [
    ("messageStart", {"role": "assistant"}),
    ("contentBlockDelta", {"delta": {"text": "Guten "}, "contentBlockIndex": 0}),
    ("contentBlockDelta", {"delta": {"text": "Tag"}, "contentBlockIndex": 0}),
    ("contentBlockStop", {"contentBlockIndex": 0}),
    ("messageStop", {"stopReason": "end_turn"}),
    ("metadata", {"usage": USAGE, "metrics": {"latencyMs": 1}}),
]


def frame(kind: str, payload: dict[str, Any]) -> bytes:
    """A message of ``application/vnd.amazon.eventstream``."""
    headers = b""
    for name, value in ((":event-type", kind), (":message-type", "event")):
        headers += bytes([len(name)]) + name.encode() + b"\x07"
        headers += struct.pack(">H", len(value)) + value.encode()
    body = json.dumps(payload).encode()
    prelude = struct.pack(">II", 16 + len(headers) + len(body), len(headers))
    message = prelude + struct.pack(">I", zlib.crc32(prelude)) + headers + body
    return message + struct.pack(">I", zlib.crc32(message))


def test_converse_stream(sink: Sink) -> None:
    sent = b"".join(frame(kind, payload) for kind, payload in EVENTS)
    headers = {"content-type": "application/vnd.amazon.eventstream"}
    with Replay(Reply(sent, headers=headers, cuts=1)) as replay, listening(sink, "urllib3"):
        client = boto3.client(
            "bedrock-runtime",
            region_name="us-east-1",
            aws_access_key_id="unused",
            aws_secret_access_key="unused",
            endpoint_url=replay.root_url,
        )
        messages = [{"role": "user", "content": [{"text": "hi"}]}]
        reply = client.converse_stream(modelId="anthropic.claude", messages=messages)
        received = [next(iter(event.items())) for event in reply["stream"]]
        client.close()
    assert received == EVENTS
    (response,) = responses(sink, "c")
    assert (response.text, response.state, response.usage) == ("Guten Tag", "complete", USAGE)
    assert response.finish_reason == "end_turn"
    assert response.metadata["model"] == "anthropic.claude"
