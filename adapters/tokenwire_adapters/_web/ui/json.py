"""What UI protocols have in common on the wire: JSON, reasons, token counts, sources and files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import msgspec

from tokenwire_adapters._ai_sdk_values import media_of, reason_of, source_of, usage_of

__all__ = [
    "MAX_METADATA",
    "content_text",
    "denial_text",
    "is_json",
    "json_bytes",
    "json_text",
    "list_of",
    "media_of",
    "newest_of",
    "object_of",
    "parsed",
    "reason_of",
    "source_of",
    "usage_of",
]

MAX_METADATA = 32 * 1024
"""How many bytes a field of a run's metadata has at most, about: every watcher is sent them."""

_encode = msgspec.json.Encoder().encode
_DEEP = 200


def object_of(value: Any) -> dict[str, Any]:
    """The JSON object that a value from outside is; an empty one where it is none."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def list_of(value: Any) -> list[Any]:
    """The JSON array that a value from outside is; an empty one where it is none."""
    return cast("list[Any]", value) if isinstance(value, list) else []


def content_text(content: Any) -> str:
    """The text of a message: its content, or, where that has parts, those that are text."""
    if isinstance(content, str):
        return content
    parts = [{"type": "text", "text": p} if isinstance(p, str) else p for p in list_of(content)]
    texts = [object_of(p).get("text") for p in parts if object_of(p).get("type") == "text"]
    return "".join(text for text in texts if isinstance(text, str))


def newest_of(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The newest of these messages that are small enough to be in the metadata of a run."""
    size = 0
    for index in reversed(range(len(messages))):
        size += len(_encode(messages[index]))
        if size > MAX_METADATA:
            return messages[index + 1 :]
    return messages


def json_bytes(value: Any) -> bytes:
    """Encode as JSON that JavaScript clients take.

    Some refuse a message with a key that could change prototypes, and with it the whole stream;
    such keys, which a model may write, are removed.
    """
    data = _encode(value)
    if b"__proto__" in data or b"constructor" in data:
        data = _encode(without_prototype_keys(value))
    return data


def without_prototype_keys(value: Any, depth: int = 0) -> Any:
    """The value without keys that change prototypes, and without what is nested absurdly deep."""
    if depth > _DEEP:
        return None
    if isinstance(value, Mapping):
        items = cast("Mapping[Any, Any]", value).items()
        return {
            key: without_prototype_keys(item, depth + 1)
            for key, item in items
            if key != "__proto__" and not (key == "constructor" and isinstance(item, Mapping))
        }
    if isinstance(value, list | tuple):
        return [without_prototype_keys(item, depth + 1) for item in cast("list[Any]", value)]
    return value


def denial_text(reason: Any) -> str:
    """What is said, in place of a result, of a tool call that a person has denied."""
    return (
        f"The user denied this call{f': {reason}' if isinstance(reason, str) and reason else '.'}"
    )


def json_text(value: Any) -> str:
    """What a tool answered, as text: itself, where it is one."""
    return value if isinstance(value, str) else json_bytes(value).decode()


def parsed(text: str) -> Any:
    """The arguments of a tool call: JSON where they are, else the text as the model wrote it."""
    if not text.strip():
        return {}
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return text


def is_json(text: str) -> bool:
    """Whether the text is whole, as JSON."""
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return False
    return True
