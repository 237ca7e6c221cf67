"""The event that most of a stream consists of, a piece of text, decoded some times faster.

It becomes a small object with the fields that recorders read. Whatever is not exactly of its form
is refused by the decoder and read as any JSON: these classes list what may be in it, and nothing
that a recorder would have to look at.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import msgspec

__all__ = ["USUAL_EVENTS"]


class _ChatDelta(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    content: str
    role: str | None = None
    refusal: None = None
    reasoning: None = None
    reasoning_content: None = None
    tool_calls: None = None
    function_call: None = None
    audio: None = None

    model_extra: ClassVar[None] = None


class _ChatChoice(msgspec.Struct, gc=False):
    index: int
    delta: _ChatDelta
    finish_reason: None = None


class _ChatChunk(msgspec.Struct, gc=False):
    choices: list[_ChatChoice]
    usage: None = None
    error: None = None
    citations: None = None
    type: None = None

    model_extra: ClassVar[None] = None


class _OutputTextDelta(msgspec.Struct, gc=False):
    type: Literal["response.output_text.delta"]
    delta: str
    item_id: str
    output_index: int
    content_index: int
    error: None = None


class _TextDelta(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    type: Literal["text_delta"]
    text: str


class _BlockDelta(msgspec.Struct, gc=False):
    type: Literal["content_block_delta"]
    index: int
    delta: _TextDelta
    error: None = None


USUAL_EVENTS: dict[str, tuple[bytes, msgspec.json.Decoder[Any]]] = {
    "chat.completions": (b"", msgspec.json.Decoder(_ChatChunk)),
    "responses": (
        b"event: response.output_text.delta",
        msgspec.json.Decoder(_OutputTextDelta),
    ),
    "messages": (b"event: content_block_delta", msgspec.json.Decoder(_BlockDelta)),
}
"""By the name of the API: the line before the event's data, with most servers; its decoder."""
