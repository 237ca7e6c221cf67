"""Reads what a provider sent without trusting its type: servers differ, and SDKs do not validate.

Each function takes any value that JSON can hold, or an SDK's object, and raises nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from tokenwire._text import joined
from tokenwire.events import plain

__all__ = [
    "MAX_FILE",
    "arguments_of",
    "dict_of",
    "dicts_of",
    "fields_of",
    "file_content",
    "index_of",
    "join_text",
    "list_of",
    "name_of",
    "provider_message",
    "str_of",
    "to_json",
    "with_type",
]

MAX_FILE = 4 * 2**20
"""How much of a file is published: more, in characters of Base64, is left out."""

_MAX_DEPTH = 6
"""How deep an error's message is looked for."""

_ERROR_KEYS = ("error", "message", "detail", "msg", "errors", "error_message", "description")


def str_of(value: Any) -> str:
    """The value, where it is text; else empty text."""
    return value if isinstance(value, str) else ""


def name_of(value: Any) -> str:
    """The value, where it is text, without halves of characters; else empty text."""
    return str_of(plain(value)) if isinstance(value, str) else ""


def index_of(value: Any) -> int | None:
    """The value, where it is a whole number or text that spells one; else None."""
    if type(value) is int:
        return value
    if isinstance(value, str) and value.isdecimal() and len(value) < 10:
        return int(value)
    return None


def list_of(value: Any) -> list[Any]:
    """The items of a list; nothing where it is none."""
    return list(cast("Any", value)) if isinstance(value, list | tuple) else []


def dict_of(value: Any) -> dict[str, Any]:
    """The value, where it is a dictionary; else an empty one."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def dicts_of(value: Any) -> list[dict[str, Any]]:
    """The items of a list that are dictionaries."""
    return [item for item in list_of(value) if isinstance(item, dict)]


def fields_of(value: Any) -> Mapping[str, Any]:
    """The fields of a mapping or of a Pydantic model, one level deep; empty for anything else."""
    if isinstance(value, Mapping):
        return cast("Mapping[str, Any]", value)
    if not callable(getattr(value, "model_dump", None)):
        return {}
    extra: Any = getattr(value, "model_extra", None)
    fields = cast("dict[str, Any]", vars(value))
    return {**fields, **extra} if extra else fields


def to_json(value: Any) -> Any:
    """What an SDK's object was made of: only what the provider sent, nothing that a class added.

    What JSON cannot hold is replaced: it is not the program's, so no strict sink is to refuse it.
    """
    dump = getattr(value, "model_dump", None)
    if not callable(dump):
        return plain(value)
    try:
        return plain(dump(mode="json", by_alias=True, exclude_unset=True, warnings=False))
    except Exception:  # what a server sent in the place of text, say
        sent: Any = getattr(value, "model_fields_set", ())
        return {name: to_json(item) for name, item in fields_of(value).items() if name in sent}


def with_type(event: Any, name: str) -> Any:
    """A copy of an event, be it a Pydantic model or a mapping, whose ``type`` is `name`."""
    copy = getattr(event, "model_copy", None)
    if callable(copy):
        return copy(update={"type": name})
    return type(event)({**event, "type": name})


def join_text(pieces: list[str]) -> str:
    """The text in pieces, of which one may have half a character and the next the other half."""
    text, half = joined("".join(pieces))
    return text + half


def file_content(base64: Any) -> dict[str, str]:
    """The content of a file for the data of its part, in Base64; empty where it is too large."""
    is_small = isinstance(base64, str) and 0 < len(base64) <= MAX_FILE
    return {"base64": base64} if is_small else {}


def arguments_of(value: Any) -> str:
    """A tool call's arguments as text: as it is, or the JSON of what is no text; None is empty."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    data = to_json(value)
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"), default=str)


def provider_message(value: Any) -> str | None:
    """The message in what a provider sent as an error: text, or nested in objects and lists."""
    return _message(value, 0)


def _message(value: Any, depth: int) -> str | None:
    if isinstance(value, str):
        return value if value.strip() else None
    if depth >= _MAX_DEPTH:
        return None
    fields = fields_of(value)
    # Beside a message, `error` is often no more than the name of the status.
    is_name = isinstance(fields.get("error"), str) and isinstance(fields.get("message"), str)
    keys = _ERROR_KEYS[1:] if is_name else _ERROR_KEYS
    for candidate in list_of(value) or [fields[key] for key in keys if key in fields]:
        message = _message(candidate, depth + 1)
        if message is not None:
            return message
    return None
