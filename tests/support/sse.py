"""Bodies of server-sent events, made by hand from an API's reference."""

from __future__ import annotations

import json
from typing import Any


def body(*events: dict[str, Any], named: bool = False, done: bool = False) -> bytes:
    """Write events as a stream, with ``event:`` lines where `named`, and ``[DONE]`` at the end."""
    reported = b"".join(
        (f"event: {event['type']}\n" if named else "").encode()
        + b"data: "
        + json.dumps(event, ensure_ascii=False).encode()
        + b"\n\n"
        for event in events
    )
    return reported + (b"data: [DONE]\n\n" if done else b"")


def parts(reported: Any) -> list[tuple[Any, ...]]:
    """The parts of a response, as tuples: kind, text, name and call id where there are any."""
    return [
        tuple(x for x in (part.kind, part.text, part.name, part.call_id) if x is not None)
        for part in reported.parts
    ]
