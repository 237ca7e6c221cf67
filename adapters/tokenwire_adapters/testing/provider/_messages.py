"""Anthropic Messages on the wire (API reference: "Messages" and "Streaming messages")."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from typing import Any

from tokenwire_adapters.testing.provider._frames import Frame, named_event
from tokenwire_adapters.testing.provider._replies import Kind, ModelRequest, Reply, Token, ToolCall
from tokenwire_adapters.testing.provider._script import Finish

__all__ = ["STOP_REASONS", "body", "events", "frames"]

STOP_REASONS: dict[Finish, str] = {
    "stop": "end_turn",
    "sequence": "stop_sequence",
    "length": "max_tokens",
    "tool": "tool_use",
}
_DELTA: dict[Kind, tuple[str, str]] = {
    "text": ("text_delta", "text"),
    "reasoning": ("thinking_delta", "thinking"),
    "tool": ("input_json_delta", "partial_json"),
}


def frames(request: ModelRequest, replies: tuple[Reply, ...], response_id: str) -> Iterator[Frame]:
    """Write the stream: every content block starts, is filled, and stops; then the message ends."""
    for payload, choice in events(request, replies, response_id):
        yield named_event(payload, choice)


def events(
    request: ModelRequest, replies: tuple[Reply, ...], response_id: str
) -> Iterator[tuple[dict[str, Any], int | None]]:
    """The payloads of the stream's events, each with the choice whose next token it carries."""
    (reply,) = replies
    message = _message(request, response_id, content=[], written=1)
    yield {"type": "message_start", "message": message}, None
    for index, group in enumerate(reply.groups()):
        kind = group[0].kind
        block = _block(group, reply, empty=True)
        yield {"type": "content_block_start", "index": index, "content_block": block}, None
        if index == 0:
            yield {"type": "ping"}, None
        name, field = _DELTA[kind]
        for token in group:
            yield _delta(index, {"type": name, field: token.text}), 0
        if kind == "reasoning":
            delta = {"type": "signature_delta", "signature": _signature(reply.reasoning)}
            yield _delta(index, delta), None
        yield {"type": "content_block_stop", "index": index}, None
    yield (
        {
            "type": "message_delta",
            "delta": {"stop_reason": STOP_REASONS[reply.finish], "stop_sequence": reply.stopped_by},
            "usage": {"output_tokens": len(reply.tokens)},
        },
        None,
    )
    yield {"type": "message_stop"}, None


def body(request: ModelRequest, replies: tuple[Reply, ...], response_id: str) -> dict[str, Any]:
    """Write the whole message, for a request that does not stream."""
    (reply,) = replies
    content = [_block(group, reply, empty=False) for group in reply.groups()]
    message = _message(request, response_id, content=content, written=len(reply.tokens))
    return message | {"stop_reason": STOP_REASONS[reply.finish], "stop_sequence": reply.stopped_by}


def _delta(index: int, delta: dict[str, Any]) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": delta}


def _block(group: list[Token], reply: Reply, *, empty: bool) -> dict[str, Any]:
    kind, number, _ = group[0]
    text = "" if empty else "".join(token.text for token in group)
    if kind == "text":
        return {"type": "text", "text": text}
    if kind == "reasoning":
        signature = "" if empty else _signature(reply.reasoning)
        return {"type": "thinking", "thinking": text, "signature": signature}
    call = reply.calls[number]
    arguments = ToolCall(call.id, call.name, text).value  # cut short by max_tokens, perhaps
    return {"type": "tool_use", "id": f"toolu_{call.id}", "name": call.name, "input": arguments}


def _signature(thinking: str) -> str:
    return base64.b64encode(hashlib.sha512(thinking.encode()).digest()).decode()


def _message(
    request: ModelRequest, response_id: str, *, content: list[dict[str, Any]], written: int
) -> dict[str, Any]:
    return {
        "id": response_id,
        "type": "message",
        "role": "assistant",
        "model": request.model,
        "content": content,
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {
            "input_tokens": request.input_tokens,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": written,
            "service_tier": "standard",
        },
    }
