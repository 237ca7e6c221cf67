"""Chat Completions on the wire (OpenAI API reference: the chat completion object and its chunk).

Reasoning travels in ``reasoning_content``, as DeepSeek and the servers that follow it send it, or
in ``reasoning``, as Groq, Together and those behind Hugging Face send it (`ModelRequest.dialect`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

from tokenwire_adapters.testing.provider._frames import Frame, event
from tokenwire_adapters.testing.provider._replies import ModelRequest, Reply, Token, ToolCall
from tokenwire_adapters.testing.provider._script import Finish

__all__ = ["FINISH", "body", "frames", "token_counts"]

FINISH: dict[Finish, str] = {
    "stop": "stop",
    "sequence": "stop",
    "length": "length",
    "tool": "tool_calls",
}
_REASONING = "reasoning_content"


def frames(request: ModelRequest, replies: tuple[Reply, ...], response_id: str) -> Iterator[Frame]:
    """Write the stream: choices take turns, token by token."""
    created = int(time.time())

    def chunk(choices: list[dict[str, Any]], paced: int | None = None, **extra: Any) -> Frame:
        payload: dict[str, Any] = {
            "id": response_id,
            "object": "chat.completion.chunk",
            "created": created,
            "model": request.model,
            "system_fingerprint": "fp_tokenwire",
            "choices": choices,
        }
        if request.include_usage:
            payload["usage"] = None
        return event(payload | extra, paced)

    def choice(index: int, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}

    for index in range(len(replies)):
        yield chunk([choice(index, {"role": "assistant", "content": "", "refusal": None})])
    started: set[tuple[int, int]] = set()
    for turn in zip_longest(*(reply.tokens for reply in replies)):
        for index, token in enumerate(turn):
            if token is None:
                continue
            if token.kind == "tool" and (index, token.call) not in started:
                started.add((index, token.call))
                call = _call(replies[index].calls[token.call]._replace(arguments=""))
                yield chunk([choice(index, {"tool_calls": [{"index": token.call} | call]})])
            yield chunk([choice(index, _delta(token, request.dialect))], index)
    for index, reply in enumerate(replies):
        yield chunk([choice(index, {}, FINISH[reply.finish])])
    if request.include_usage:
        yield chunk([], usage=_usage(request, replies))
    yield Frame(b"data: [DONE]\n\n")


def body(request: ModelRequest, replies: tuple[Reply, ...], response_id: str) -> dict[str, Any]:
    """Write the whole completion, for a request that does not stream."""
    return {
        "id": response_id,
        "object": "chat.completion",
        "created": int(time.time()),
        "model": request.model,
        "system_fingerprint": "fp_tokenwire",
        "choices": [
            {
                "index": index,
                "message": _message(reply, request.dialect),
                "logprobs": None,
                "finish_reason": FINISH[reply.finish],
            }
            for index, reply in enumerate(replies)
        ],
        "usage": _usage(request, replies),
    }


def _delta(token: Token, reasoning_field: str) -> dict[str, Any]:
    if token.kind == "text":
        return {"content": token.text}
    if token.kind == "reasoning":
        return {reasoning_field or _REASONING: token.text}
    return {"tool_calls": [{"index": token.call, "function": {"arguments": token.text}}]}


def _message(reply: Reply, reasoning_field: str) -> dict[str, Any]:
    message: dict[str, Any] = {
        "role": "assistant",
        "content": None if reply.calls and not reply.text else reply.text,
        "refusal": None,
    }
    if reply.reasoning:
        message[reasoning_field or _REASONING] = reply.reasoning
    if reply.calls:
        message["tool_calls"] = [_call(call) for call in reply.calls]
    return message


def _call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": f"call_{call.id}", "type": "function", "function": function}


def token_counts(request: ModelRequest, replies: tuple[Reply, ...]) -> dict[str, Any]:
    """The counts that ``usage`` has in every dialect of this API."""
    output_tokens = sum(len(reply.tokens) for reply in replies)
    return {
        "prompt_tokens": request.input_tokens,
        "completion_tokens": output_tokens,
        "total_tokens": request.input_tokens + output_tokens,
    }


def _usage(request: ModelRequest, replies: tuple[Reply, ...]) -> dict[str, Any]:
    return token_counts(request, replies) | {
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": sum(reply.reasoning_tokens for reply in replies),
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
