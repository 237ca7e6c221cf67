"""What one event of a `Response` stream is about: which item, and which text of it."""

from __future__ import annotations

import json
from typing import Any

from tokenwire_adapters._agents.values import fields_of, index_of, str_of

__all__ = ["CALL_EVENTS", "TEXTS", "WHOLE", "event_name", "place_of", "same_arguments", "text_of"]

WHOLE = ("text", "refusal", "transcript", "arguments", "input", "code")
"""Where events that end a text or a call's arguments have the whole of it."""

TEXTS = {
    "output_text": ("message", "text", "text", "content_index"),
    "refusal": ("message", "refusal", "refusal", "content_index"),
    "audio.transcript": ("message", "text", "audio", "content_index"),
    "output_audio_transcript": ("message", "text", "audio", "content_index"),
    "reasoning_text": ("reasoning", "reasoning", "content", "content_index"),
    "reasoning_summary_text": ("reasoning", "reasoning", "summary", "summary_index"),
}
"""By the event's name: the kinds of item and part, which text it is, and the field of its place."""

CALL_EVENTS = {
    "function_call_arguments": "function_call",
    "custom_tool_call_input": "custom_tool_call",
    "mcp_call_arguments": "mcp_call",
    "code_interpreter_call_code": "code_interpreter_call",
}


def place_of(event: Any) -> tuple[str, int | None]:
    """The id and the place of the item that an event is about."""
    return (
        str_of(getattr(event, "item_id", None)),
        index_of(getattr(event, "output_index", None)),
    )


def event_name(event: Any) -> str:
    """What an event is about: its type, without the API's name and what happened."""
    name: str = event.type.removeprefix("response.")
    return name.rpartition(".")[0]


def text_of(event: Any) -> tuple[str, str, str, str, Any]:
    """What an event about a text says: the whole of it, of which item it is, and which text."""
    item_kind, kind, sort, place = TEXTS[event_name(event)]
    fields = fields_of(event)
    whole = next((fields[key] for key in WHOLE if str_of(fields.get(key))), "")
    return whole, item_kind, kind, sort, fields.get(place)


def same_arguments(written: str, whole: str) -> bool:
    """Whether two texts of a call's arguments are the same JSON, or the same text."""
    try:
        return bool(json.loads(written) == json.loads(whole))
    except ValueError:
        return written.strip() == whole.strip()
