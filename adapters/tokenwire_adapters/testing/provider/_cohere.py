"""Cohere's chat, version 2, on the wire (Cohere API reference: "Chat API (v2)")."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tokenwire_adapters.testing.provider._frames import Frame, named_event
from tokenwire_adapters.testing.provider._replies import Kind, ModelRequest, Reply, Token
from tokenwire_adapters.testing.provider._requests import read_chat
from tokenwire_adapters.testing.provider._script import Finish

__all__ = ["body", "frames", "read"]

_FINISH: dict[Finish, str] = {
    "stop": "COMPLETE",
    "sequence": "STOP_SEQUENCE",
    "length": "MAX_TOKENS",
    "tool": "TOOL_CALL",
}
_PARTS: dict[Kind, tuple[str, str]] = {
    "text": ("text", "text"),
    "reasoning": ("thinking", "thinking"),
}


def read(body: dict[str, Any], request: ModelRequest) -> ModelRequest:
    """Read a request: its messages and tools are those of Chat Completions."""
    choice = body.get("tool_choice")
    lowered = choice.lower() if isinstance(choice, str) else choice
    stop = body.get("stop_sequences")
    return read_chat(body | {"tool_choice": lowered, "stop": stop}, request)


def frames(request: ModelRequest, replies: tuple[Reply, ...], response_id: str) -> Iterator[Frame]:
    """Write the stream: parts and tool calls start, are filled, and end; then the message ends."""
    reply = replies[0]
    opening: dict[str, Any] = {"message": {"role": "assistant", "content": [], "tool_calls": []}}
    yield named_event({"type": "message-start", "id": response_id, "delta": opening})
    for index, group in enumerate(reply.groups()):
        yield from (
            _tool_call(index, group, reply) if group[0].kind == "tool" else _part(index, group)
        )
    closing = {"finish_reason": _FINISH[reply.finish], "usage": _usage(request, reply)}
    yield named_event({"type": "message-end", "id": response_id, "delta": closing})
    yield Frame(b"data: [DONE]\n\n")


def body(request: ModelRequest, replies: tuple[Reply, ...], response_id: str) -> dict[str, Any]:
    """Write the whole reply, for a request that does not stream."""
    reply = replies[0]
    content = [
        {"type": _PARTS[group[0].kind][0], _PARTS[group[0].kind][1]: _joined(group)}
        for group in reply.groups()
        if group[0].kind != "tool"
    ]
    message: dict[str, Any] = {"role": "assistant", "content": content}
    if reply.calls:
        message["tool_calls"] = [_call(reply, number) for number in range(len(reply.calls))]
    return {
        "id": response_id,
        "finish_reason": _FINISH[reply.finish],
        "message": message,
        "usage": _usage(request, reply),
    }


def _part(index: int, group: list[Token]) -> Iterator[Frame]:
    kind, field = _PARTS[group[0].kind]
    start = {"message": {"content": {"type": kind, field: ""}}}
    yield named_event({"type": "content-start", "index": index, "delta": start})
    for token in group:
        delta = {"message": {"content": {field: token.text}}}
        yield named_event({"type": "content-delta", "index": index, "delta": delta}, 0)
    yield named_event({"type": "content-end", "index": index})


def _tool_call(index: int, group: list[Token], reply: Reply) -> Iterator[Frame]:
    call = _call(reply, group[0].call)
    call["function"] = call["function"] | {"arguments": ""}
    start = {"message": {"tool_calls": call}}
    yield named_event({"type": "tool-call-start", "index": index, "delta": start})
    for token in group:
        delta = {"message": {"tool_calls": {"function": {"arguments": token.text}}}}
        yield named_event({"type": "tool-call-delta", "index": index, "delta": delta}, 0)
    yield named_event({"type": "tool-call-end", "index": index})


def _call(reply: Reply, number: int) -> dict[str, Any]:
    call = reply.calls[number]
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": f"{call.name}_{call.id}", "type": "function", "function": function}


def _joined(group: list[Token]) -> str:
    return "".join(token.text for token in group)


def _usage(request: ModelRequest, reply: Reply) -> dict[str, Any]:
    counts = {"input_tokens": request.input_tokens, "output_tokens": len(reply.tokens)}
    return {"billed_units": counts, "tokens": counts}
