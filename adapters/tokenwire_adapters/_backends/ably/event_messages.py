"""The messages that carry an event of its own: a cancel, an input, a tool result, data."""

from __future__ import annotations

import hashlib
from typing import Any

from tokenwire.errors import PublishRejected
from tokenwire.events import Event
from tokenwire_adapters._backends.ably.wire import MARK, new_message, pieces_of, single_payload

__all__ = ["single_messages"]


def single_messages(event: Event, key: str, room: int) -> list[Any]:
    """The made, or messages, that carry an event of its own.

    :raises PublishRejected: when it is beyond all measure.
    """
    digest = hashlib.sha256(key.encode()).hexdigest()[:32]
    payload = single_payload(event)
    response_id = payload.pop("response_id", None)
    pieces = pieces_of(payload, digest, room)
    if len(pieces) > 1000:
        raise PublishRejected(f"a {event.type} event of {len(pieces)} messages is too large")
    messages: list[Any] = []
    for index, (data, more) in enumerate(pieces):
        headers: dict[str, Any] = {MARK: 1, "type": event.type, "key": digest, **more}
        if response_id is not None:
            headers["responseId"] = response_id
        messages.append(
            new_message(
                id=f"{digest}-{index}", name=event.type, data=data, extras={"headers": headers}
            )
        )
    return messages
