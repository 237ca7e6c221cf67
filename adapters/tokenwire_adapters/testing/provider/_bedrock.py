"""Amazon Bedrock on the wire: Converse, and InvokeModel for Claude (Bedrock API reference).

Streams are binary event streams. InvokeModel's frames carry Anthropic's events, in base64.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from tokenwire_adapters.testing._json import as_list, as_object
from tokenwire_adapters.testing.provider import _messages
from tokenwire_adapters.testing.provider._conversation import (
    Conversation,
    objects,
    offered_tools,
    read_limit,
    read_stops,
    read_tools,
    restrict_tools,
)
from tokenwire_adapters.testing.provider._event_stream import binary_event
from tokenwire_adapters.testing.provider._frames import Frame
from tokenwire_adapters.testing.provider._json import as_text, dumps
from tokenwire_adapters.testing.provider._replies import ModelRequest, Reply, Token, ToolCall

__all__ = ["body", "frames", "invoke_frames", "read"]


def read(body: dict[str, Any], request: ModelRequest) -> ModelRequest:
    """Read a request of Converse."""
    conversation = Conversation()
    for message in objects(body, "messages"):
        blocks = [as_object(block) for block in as_list(message.get("content"))]
        results = [as_object(block["toolResult"]) for block in blocks if "toolResult" in block]
        for result in results:
            for content in map(as_object, as_list(result.get("content"))):
                text = content.get("text")
                conversation.add("tool", text or dumps(content.get("json")))
        for block in blocks:
            if call := as_object(block.get("toolUse")):
                conversation.called.append(as_text(call.get("name")))
        if not results:
            conversation.add(message.get("role"), blocks)
    config = as_object(body.get("toolConfig"))
    specifications = [as_object(as_object(tool).get("toolSpec")) for tool in offered_tools(config)]
    described = [
        {
            "name": specification.get("name"),
            "parameters": as_object(specification.get("inputSchema")).get("json"),
        }
        for specification in specifications
    ]
    choice = as_object(config.get("toolChoice"))
    named = choice.get("tool") or ("any" if "any" in choice else None)
    tools, required = restrict_tools(named, read_tools(described))
    limits = as_object(body.get("inferenceConfig"))
    return replace(
        conversation.added_to(request),
        tools=tools,
        required=required,
        preface=True,
        max_tokens=read_limit(limits, "maxTokens"),
        stop=read_stops(limits.get("stopSequences")),
    )


def frames(request: ModelRequest, replies: tuple[Reply, ...], response_id: str) -> Iterator[Frame]:
    """Write Converse's stream. Blocks of text and reasoning have no event of their start."""
    del response_id
    (reply,) = replies
    yield binary_event("messageStart", {"role": "assistant"})
    for index, group in enumerate(reply.groups()):
        if group[0].kind == "tool":
            call = reply.calls[group[0].call]
            start = {"toolUse": {"toolUseId": f"tooluse_{call.id}", "name": call.name}}
            yield binary_event("contentBlockStart", {"contentBlockIndex": index, "start": start})
        for token in group:
            delta = {"contentBlockIndex": index, "delta": _delta(token)}
            yield binary_event("contentBlockDelta", delta, 0)
        if group[0].kind == "reasoning":
            signature = {"reasoningContent": {"signature": "c2lnbmF0dXJl"}}
            delta = {"contentBlockIndex": index, "delta": signature}
            yield binary_event("contentBlockDelta", delta)
        yield binary_event("contentBlockStop", {"contentBlockIndex": index})
    yield binary_event("messageStop", {"stopReason": _messages.STOP_REASONS[reply.finish]})
    closing = {"usage": _usage(request, reply), "metrics": {"latencyMs": 1}}
    yield binary_event("metadata", closing)


def body(request: ModelRequest, replies: tuple[Reply, ...], response_id: str) -> dict[str, Any]:
    """Write Converse's whole reply, for a request that does not stream."""
    del response_id
    (reply,) = replies
    content = [_block(group, reply) for group in reply.groups()]
    return {
        "output": {"message": {"role": "assistant", "content": content}},
        "stopReason": _messages.STOP_REASONS[reply.finish],
        "usage": _usage(request, reply),
        "metrics": {"latencyMs": 1},
    }


def invoke_frames(
    request: ModelRequest, replies: tuple[Reply, ...], response_id: str
) -> Iterator[Frame]:
    """Write InvokeModel's stream: Anthropic's events, the last one with Bedrock's metrics."""
    (reply,) = replies
    for payload, choice in _messages.events(request, replies, response_id):
        if payload["type"] == "message_stop":
            payload["amazon-bedrock-invocationMetrics"] = {
                "inputTokenCount": request.input_tokens,
                "outputTokenCount": len(reply.tokens),
                "invocationLatency": 1,
                "firstByteLatency": 1,
            }
        encoded = base64.b64encode(dumps(payload).encode()).decode()
        yield binary_event("chunk", {"bytes": encoded, "p": "abcdefgh"}, choice)


def _delta(token: Token) -> dict[str, Any]:
    if token.kind == "text":
        return {"text": token.text}
    if token.kind == "reasoning":
        return {"reasoningContent": {"text": token.text}}
    return {"toolUse": {"input": token.text}}


def _block(group: list[Token], reply: Reply) -> dict[str, Any]:
    kind, number, _ = group[0]
    text = "".join(token.text for token in group)
    if kind == "text":
        return {"text": text}
    if kind == "reasoning":
        return {"reasoningContent": {"reasoningText": {"text": text, "signature": "c2lnbmF0dXJl"}}}
    call = reply.calls[number]
    arguments = ToolCall(call.id, call.name, text).value
    return {"toolUse": {"toolUseId": f"tooluse_{call.id}", "name": call.name, "input": arguments}}


def _usage(request: ModelRequest, reply: Reply) -> dict[str, Any]:
    return {
        "inputTokens": request.input_tokens,
        "outputTokens": len(reply.tokens),
        "totalTokens": request.input_tokens + len(reply.tokens),
    }
