"""The chunks of the AI SDK by which AI Transport's clients get what is no text."""

from __future__ import annotations

from typing import Any, cast

import msgspec
from msgspec import Struct

from tokenwire import approvals
from tokenwire.events import EndEvent, Part, ToolResultEvent
from tokenwire_adapters._ai_sdk_values import media_of, reason_of, source_of
from tokenwire_adapters._backends.ably.wire import byte_size

__all__ = [
    "METADATA",
    "Chunk",
    "approval_chunks",
    "content_chunk",
    "decision_chunk",
    "end_chunks",
    "error_text",
    "fields_of",
    "json_headers",
    "result_chunk",
    "stream_codec",
    "taken_in",
    "waits_for_pages",
    "with_fields",
]

METADATA = "metadata"
"""The kind of the parts that add fields to the metadata of the page's message."""


_MAX_ERROR = 500  # characters
_MAX_METADATA = 16_384  # bytes
_MAX_NAMED = 64  # inputs


class Chunk(Struct, frozen=True):
    """A message of AI Transport that is one chunk.

    :ivar codec: its headers beside its kind.
    :ivar transport: headers of AI Transport's that it has and others do not.
    """

    kind: str
    codec: dict[str, str] = {}
    data: Any = ""
    transport: dict[str, str] = {}


def json_headers(**headers: Any) -> dict[str, str]:
    """Headers that hold JSON."""
    return {name: msgspec.json.encode(value).decode() for name, value in headers.items()}


def content_chunk(tag: str, part: Part) -> Chunk | None:
    """The chunk of a source or a file; None for anything else.

    :param tag: identifies the part.
    """
    if part.kind == "source":
        return _source_chunk(tag, part.data)
    if part.kind == "file" and (media := media_of(part.data)) is not None:
        return Chunk("file", {"mediaType": media[1]}, media[0])
    return None


def _source_chunk(tag: str, data: Any) -> Chunk:
    source = source_of(data)
    codec = {"sourceId": tag}
    if "url" in source:
        title = {"title": source["title"]} if source.get("title") else {}
        return Chunk("source-url", codec | title, source["url"])
    codec["mediaType"] = source.get("media_type", "text/plain")
    codec["title"] = source.get("title") or source.get("filename") or "Source"
    if source.get("filename"):
        codec["filename"] = source["filename"]
    return Chunk("source-document", codec)


def approval_chunks(request: approvals.ApprovalRequest, *, shows_call: bool) -> list[Chunk]:
    """The chunks that ask for approval of a tool call.

    :param shows_call: whether the page's message has the call; else it is shown first.
    """
    call = request.call_id or request.id
    asked = Chunk("tool-approval-request", {"toolCallId": call, "approvalId": request.id})
    if shows_call:
        return [asked]
    given: Any = {} if request.input is None else request.input
    return [Chunk("tool-input", {"toolCallId": call, "toolName": request.tool}, given), asked]


def decision_chunk(request: approvals.ApprovalRequest, result: ToolResultEvent) -> Chunk:
    """What pages are to be told of a decision.

    The agent's own chunk says that it denies. Only an input of a page says that it approves.
    """
    decision = approvals.decision_of(request, result.response_id or "", result.output)
    codec = {"toolCallId": request.call_id or request.id}
    if not decision.approved:
        return Chunk("tool-output-denied", codec)
    codec["approved"] = "true"
    if decision.reason:
        codec["reason"] = decision.reason[:1000]
    return Chunk("tool-approval-response", codec)


def result_chunk(result: ToolResultEvent, data: dict[str, Any]) -> Chunk:
    """The chunk of what a tool answered; `data` is what tokenwire's watchers get."""
    codec = {"toolCallId": result.call_id}
    if result.error is not None:
        return Chunk("tool-output-error", codec, data | {"errorText": result.error})
    return Chunk("tool-output-available", codec, {"output": None} | data)


def stream_codec(part: Part, name: str) -> tuple[str, dict[str, str]]:
    """The id and the codec's headers of the stream with the text of a part.

    :param name: identifies it where the part has no id.
    """
    if part.kind == "tool_call":
        name = part.call_id or name
        codec = {"kind": "tool-input", "toolCallId": name, "toolName": part.name or ""}
        return name, codec | ({"providerExecuted": "true"} if part.provider_executed else {})
    kind = "reasoning" if part.kind == "reasoning" else "text"
    return name, {"kind": kind, "id": name}


def end_chunks(end: EndEvent, metadata: dict[str, Any]) -> list[Chunk]:
    """The last chunks of a response; `metadata` is that of the page's message."""
    headers = json_headers(messageMetadata=metadata)
    if end.state == "complete":
        finish = {"finishReason": reason_of(end.finish_reason), **headers}
        return [Chunk("finish-step"), Chunk("finish", finish)]
    chunks = [Chunk("message-metadata", headers)]
    if end.state == "cancelled":
        chunks.append(Chunk("abort", data=(end.error or "")[:_MAX_ERROR]))
    elif end.state == "failed":
        chunks.append(Chunk("error", data=error_text(end)))
    return chunks


def error_text(end: EndEvent) -> str:
    """What pages are shown of an error."""
    return (end.error or end.state)[:_MAX_ERROR]


def fields_of(data: Any) -> dict[str, Any]:
    """The fields that a part of kind `METADATA` adds."""
    return cast("dict[str, Any]", data) if isinstance(data, dict) else {}


def with_fields(fields: dict[str, Any], added: dict[str, Any]) -> dict[str, Any]:
    """Metadata with more fields; the same where it would be too large for headers."""
    larger = fields | added
    return larger if byte_size(larger) <= _MAX_METADATA else fields


def taken_in(metadata: dict[str, Any]) -> dict[str, str]:
    """The header that names inputs which an agent took in while it answered; else none."""
    ids = metadata.get("inputs")
    if not isinstance(ids, list):
        return {}
    names = [name for name in cast("list[Any]", ids) if isinstance(name, str)]
    return json_headers(**{"steer-codec-message-ids": names[:_MAX_NAMED]}) if names else {}


def waits_for_pages(end: EndEvent, parts: tuple[Part, ...], answered: set[str]) -> bool:
    """Whether a response ends so that somebody else runs its tools.

    :param answered: ids of the calls that have a result.
    """
    return (
        end.state == "complete"
        and reason_of(end.finish_reason) == "tool-calls"
        and any(
            part.kind == "tool_call" and not part.provider_executed and part.call_id not in answered
            for part in parts
        )
    )
