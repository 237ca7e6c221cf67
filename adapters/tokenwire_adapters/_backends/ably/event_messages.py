"""Encodes an event that belongs to no response's text as messages of its own."""

from __future__ import annotations

import hashlib
from typing import Any

from tokenwire.errors import PublishRejected
from tokenwire.events import Event
from tokenwire_adapters._backends.ably.wire import (
    FORMAT_HEADER,
    encode_event,
    new_message,
    split_payload,
)

__all__ = ["event_messages"]

_MAX_MESSAGES = 1000


def event_messages(event: Event, key: str, max_bytes: int) -> list[Any]:
    """Encode a cancel, input, tool result or data event as one message, or several if it is large.

    :param key: identifies the event, so that Ably stores a repeat once.
    :param max_bytes: the most data that one message may have.
    :raises PublishRejected: when it would be more than 1000 messages.
    """
    digest = hashlib.sha256(key.encode()).hexdigest()[:32]
    payload = encode_event(event)
    response_id = payload.pop("response_id", None)
    pieces = split_payload(payload, digest, max_bytes)
    if len(pieces) > _MAX_MESSAGES:
        raise PublishRejected(f"a {event.type} event of {len(pieces)} messages is too large")
    messages: list[Any] = []
    for index, (data, piece_headers) in enumerate(pieces):
        headers = {FORMAT_HEADER: 1, "type": event.type, "key": digest, **piece_headers}
        if response_id is not None:
            headers["responseId"] = response_id
        extras = {"headers": headers}
        messages.append(
            new_message(id=f"{digest}-{index}", name=event.type, data=data, extras=extras)
        )
    return messages
