"""What clients of AG-UI before 1.0 take, such as CopilotKit's and assistant-ui's 0.0.59.

A client of 1.0 declares its version in the input. One that declares none parses strictly: an
outcome that it does not know, or a field of one, fails the whole run at the client.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tokenwire_adapters._web.ui.json import content_text, list_of, object_of

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
    if not isinstance(body.get("messages"), list):
        return body
    return {**body, "messages": [_upgraded_message(m) for m in list_of(body["messages"])]}


def _upgraded_message(message: Any) -> Any:
    content: Any = object_of(message).get("content")
    if not isinstance(content, list):
        return message
    return {**message, "content": [_upgraded_part(part) for part in list_of(content)]}


def _upgraded_part(part: Any) -> Any:
    if object_of(part).get("type") != "binary":
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


# -- what it is sent


def downgraded(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Messages with nothing that a client before 1.0 refuses."""
    return [_downgraded_message(message) for message in messages]


def _downgraded_message(message: dict[str, Any]) -> dict[str, Any]:
    content: Any = message.get("content")
    if not isinstance(content, list):
        return message
    if message.get("role") == "user":
        return {**message, "content": [_downgraded_part(part) for part in list_of(content)]}
    return {**message, "content": content_text(content)}


def _downgraded_part(part: dict[str, Any]) -> dict[str, Any]:
    source = object_of(part.get("source"))
    if source.get("type") != "file":
        return part
    media_type = source.get("mimeType") or _UNKNOWN_TYPE
    return {"type": "binary", "mimeType": media_type, "id": source["value"]}
