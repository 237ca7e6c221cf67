"""What clients of AG-UI before 1.0 take, such as CopilotKit's and assistant-ui's 0.0.59.

A client of 1.0 declares its version in the input. One that declares none parses strictly: an
outcome that it does not know, or a field of one, fails the whole run at the client.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

__all__ = ["downgraded", "outcome_before_1", "upgraded"]

_MEDIA = ("image", "audio", "video")
_UNKNOWN_TYPE = "application/octet-stream"


def outcome_before_1(outcome: dict[str, Any]) -> dict[str, Any]:
    """The fields of ``RUN_FINISHED`` that say what `outcome` does, for a client before 1.0."""
    kind = outcome["type"]
    if kind == "success":
        # assistant-ui takes a success for the end also where a tool of the page is to be run.
        return {} if "pendingToolCallIds" in outcome else {"outcome": {"type": "success"}}
    if kind == "interrupt":
        return {"outcome": outcome}
    return {"result": {"outcome": kind}}  # no outcome that it knows says this


# -- what it sends


def upgraded(body: dict[str, Any]) -> dict[str, Any]:
    """An input with media parts of 1.0 in place of ``binary`` ones."""
    messages: Any = body.get("messages")
    if not isinstance(messages, list):
        return body
    return {**body, "messages": [_upgraded_message(m) for m in cast("list[Any]", messages)]}


def _upgraded_message(message: Any) -> Any:
    content: Any = cast("dict[str, Any]", message).get("content") if _is_object(message) else None
    if not isinstance(content, list):
        return message
    parts = [_upgraded_part(part) for part in cast("list[Any]", content)]
    return {**cast("dict[str, Any]", message), "content": parts}


def _upgraded_part(part: Any) -> Any:
    if not _is_object(part) or part.get("type") != "binary":
        return part
    media_type = part.get("mimeType")
    if not isinstance(media_type, str):
        return part
    for field, kind in (("data", "data"), ("url", "url"), ("id", "file")):
        if isinstance(part.get(field), str) and part[field]:
            source = {"type": kind, "value": part[field], "mimeType": media_type}
            break
    else:
        return part
    family = media_type.partition("/")[0]
    media: dict[str, Any] = {"type": family if family in _MEDIA else "document", "source": source}
    if isinstance(part.get("filename"), str):
        media["metadata"] = {"filename": part["filename"]}
    return media


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


# -- what it is sent


def downgraded(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Messages with nothing that a client before 1.0 refuses."""
    return [_downgraded_message(message) for message in messages]


def _downgraded_message(message: dict[str, Any]) -> dict[str, Any]:
    content: Any = message.get("content")
    if not isinstance(content, list):
        return message
    parts = cast("list[dict[str, Any]]", content)
    if message.get("role") == "user":
        return {**message, "content": [_downgraded_part(part) for part in parts]}
    text = "".join(part["text"] for part in parts if part.get("type") == "text")
    return {**message, "content": text}


def _downgraded_part(part: dict[str, Any]) -> dict[str, Any]:
    source: Any = part.get("source")
    if not isinstance(source, dict) or cast("dict[str, Any]", source).get("type") != "file":
        return part
    handle = cast("dict[str, Any]", source)
    media_type = handle.get("mimeType") or _UNKNOWN_TYPE
    return {"type": "binary", "mimeType": media_type, "id": handle["value"]}
