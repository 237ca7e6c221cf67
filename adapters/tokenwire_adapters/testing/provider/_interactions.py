"""Gemini's Interactions API on the wire (Gemini API reference: "Interactions")."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from tokenwire_adapters.testing._json import as_list, as_object
from tokenwire_adapters.testing.provider._conversation import (
    Conversation,
    offered_tools,
    read_limit,
    read_tools,
    text_of,
)
from tokenwire_adapters.testing.provider._frames import Frame, event
from tokenwire_adapters.testing.provider._json import BadRequest, as_text
from tokenwire_adapters.testing.provider._replies import ModelRequest, Reply, Token, ToolCall
from tokenwire_adapters.testing.provider._script import Finish

__all__ = ["body", "frames", "read"]

_STATUS: dict[Finish, str] = {
    "stop": "completed",
    "sequence": "completed",
    "length": "incomplete",
    "tool": "requires_action",
}


def read(body: dict[str, Any], request: ModelRequest) -> ModelRequest:
    """Read a request."""
    conversation = Conversation()
    items = body.get("input")
    if not items:
        raise BadRequest("Missing required parameter: 'input'.", param="input")
    if isinstance(items, str):
        conversation.add("user", items)
    for entry in as_list(items):
        item = as_object(entry)
        if item.get("type") == "function_call":
            conversation.called.append(as_text(item.get("name")))
        elif item.get("type") == "function_result":
            result = item.get("result")
            conversation.add("tool", result if isinstance(result, str) else text_of(result))
        elif item.get("type") in ("text", "user_input"):
            conversation.add("user", item.get("text") or item.get("content"))
        else:
            conversation.add(item.get("role"), item.get("content"))
    config = as_object(body.get("generation_config"))
    return replace(
        conversation.added_to(request),
        tools=read_tools(map(as_object, offered_tools(body))),
        reasoning=request.reasoning or bool(config.get("thinking_summaries")),
        max_tokens=read_limit(config, "max_output_tokens"),
    )


def frames(request: ModelRequest, replies: tuple[Reply, ...], response_id: str) -> Iterator[Frame]:
    """Write the stream: every step starts, is filled, and stops; then the interaction ends."""
    (reply,) = replies
    opening = _interaction(request, response_id, "in_progress")
    yield event({"event_type": "interaction.created", "interaction": opening})
    for index, group in enumerate(reply.groups()):
        step = _step(group, reply, empty=True)
        yield event({"event_type": "step.start", "index": index, "step": step})
        for token in group:
            yield event(
                {"event_type": "step.delta", "index": index, "delta": _delta(token)}, choice=0
            )
        yield event({"event_type": "step.stop", "index": index})
    closing = _interaction(request, response_id, _STATUS[reply.finish], reply)
    if reply.finish == "tool":
        yield event(
            {
                "event_type": "interaction.status_update",
                "interaction_id": response_id,
                "status": "requires_action",
            }
        )
    yield event({"event_type": "interaction.completed", "interaction": closing})
    yield Frame(b"data: [DONE]\n\n")


def body(request: ModelRequest, replies: tuple[Reply, ...], response_id: str) -> dict[str, Any]:
    """Write the whole interaction, for a request that does not stream."""
    (reply,) = replies
    steps = [_step(group, reply, empty=False) for group in reply.groups()]
    return _interaction(request, response_id, _STATUS[reply.finish], reply) | {"steps": steps}


def _delta(token: Token) -> dict[str, Any]:
    if token.kind == "text":
        return {"type": "text", "text": token.text}
    if token.kind == "reasoning":
        return {"type": "thought_summary", "content": {"type": "text", "text": token.text}}
    return {"type": "arguments_delta", "arguments": token.text}


def _step(group: list[Token], reply: Reply, *, empty: bool) -> dict[str, Any]:
    kind, number, _ = group[0]
    text = "" if empty else "".join(token.text for token in group)
    parts = [] if empty else [{"type": "text", "text": text}]
    if kind == "text":
        return {"type": "model_output", "content": parts}
    if kind == "reasoning":
        return {"type": "thought", "summary": parts}
    call = reply.calls[number]
    arguments = ToolCall(call.id, call.name, text).value
    return {
        "type": "function_call",
        "id": f"call_{call.id}",
        "name": call.name,
        "arguments": arguments,
    }


def _interaction(
    request: ModelRequest, response_id: str, status: str, reply: Reply | None = None
) -> dict[str, Any]:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    interaction: dict[str, Any] = {
        "id": response_id,
        "object": "interaction",
        "model": request.model,
        "status": status,
        "created": now,
        "updated": now,
    }
    if reply is not None:
        output = len(reply.tokens) - reply.reasoning_tokens
        interaction["usage"] = {
            "total_input_tokens": request.input_tokens,
            "total_output_tokens": output,
            "total_thought_tokens": reply.reasoning_tokens,
            "total_tokens": request.input_tokens + output + reply.reasoning_tokens,
        }
    return interaction
