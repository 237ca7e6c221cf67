"""Mistral's chat on the wire (Mistral API reference: "Chat Completion").

Requests are those of Chat Completions. What differs in replies: content is a list of typed parts
while the model thinks and a string afterwards, and tool calls come whole.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from tokenwire_adapters.testing.provider._chat import FINISH, token_counts
from tokenwire_adapters.testing.provider._frames import Frame, event
from tokenwire_adapters.testing.provider._replies import ModelRequest, Reply, Token

__all__ = ["body", "frames"]


def frames(request: ModelRequest, replies: tuple[Reply, ...], response_id: str) -> Iterator[Frame]:
    """Write the stream, one choice after the other; usage is in the last chunk."""
    created = int(time.time())

    def chunk(
        index: int,
        delta: dict[str, Any],
        finish: str | None = None,
        usage: dict[str, Any] | None = None,
        tokens: int = 0,
    ) -> Frame:
        choice = {"index": index, "delta": delta, "finish_reason": finish}
        payload = {
            "id": response_id,
            "object": "chat.completion.chunk",
            "created": created,
            "model": request.model,
            "choices": [choice],
        }
        extra = {} if usage is None else {"usage": usage}
        return event(payload | extra, index if tokens else None, tokens)

    for index, reply in enumerate(replies):
        yield chunk(index, {"role": "assistant", "content": ""})
        for group in reply.groups():
            if group[0].kind == "tool":
                call = _call(reply, group[0].call)
                yield chunk(index, {"content": "", "tool_calls": [call]}, tokens=len(group))
                continue
            for token in group:
                yield chunk(index, {"content": _content(token)}, tokens=1)
    for index, reply in enumerate(replies):
        last = index == len(replies) - 1
        usage = token_counts(request, replies) if last else None
        yield chunk(index, {"content": ""}, FINISH[reply.finish], usage)
    yield Frame(b"data: [DONE]\n\n")


def body(request: ModelRequest, replies: tuple[Reply, ...], response_id: str) -> dict[str, Any]:
    """Write the whole completion, for a request that does not stream."""
    return {
        "id": response_id,
        "object": "chat.completion",
        "created": int(time.time()),
        "model": request.model,
        "choices": [
            {"index": index, "message": _message(reply), "finish_reason": FINISH[reply.finish]}
            for index, reply in enumerate(replies)
        ],
        "usage": token_counts(request, replies),
    }


def _content(token: Token) -> str | list[dict[str, Any]]:
    return [_thinking(token.text)] if token.kind == "reasoning" else token.text


def _thinking(text: str) -> dict[str, Any]:
    return {"type": "thinking", "thinking": [{"type": "text", "text": text}]}


def _call(reply: Reply, number: int) -> dict[str, Any]:
    call = reply.calls[number]
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id[:9], "type": "function", "function": function, "index": number}


def _message(reply: Reply) -> dict[str, Any]:
    content: str | list[dict[str, Any]] = reply.text
    if reply.reasoning:
        content = [_thinking(reply.reasoning), {"type": "text", "text": reply.text}]
    message: dict[str, Any] = {"role": "assistant", "content": content, "tool_calls": None}
    if reply.calls:
        message["tool_calls"] = [_call(reply, number) for number in range(len(reply.calls))]
    return message
