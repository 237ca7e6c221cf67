"""Gemini's ``generateContent`` on the wire (Gemini API reference: "Generating content").

A stream is server-sent events, or, without ``alt=sse``, one JSON array that comes in pieces. A
function call is whole; every chunk has the totals of usage so far.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from tokenwire_adapters.testing._json import as_list, as_object
from tokenwire_adapters.testing.provider._conversation import (
    ANY_OBJECT,
    Conversation,
    objects,
    offered_tools,
    read_count,
    read_limit,
    read_stops,
    read_tools,
    restrict_tools,
)
from tokenwire_adapters.testing.provider._frames import Frame
from tokenwire_adapters.testing.provider._json import as_text, dumps
from tokenwire_adapters.testing.provider._replies import ModelRequest, Reply, Token, ToolCall
from tokenwire_adapters.testing.provider._script import Finish

__all__ = ["body", "describe_model", "frames", "read"]


def describe_model(name: str) -> dict[str, Any]:
    """What ``models.get`` says of a model (Gemini API reference: "Models")."""
    return {
        "name": f"models/{name}",
        "version": "1",
        "displayName": name,
        "inputTokenLimit": 1_048_576,
        "outputTokenLimit": 65_536,
        "supportedGenerationMethods": ["generateContent"],
    }


_FINISH: dict[Finish, str] = {
    "stop": "STOP",
    "sequence": "STOP",
    "length": "MAX_TOKENS",
    "tool": "STOP",
}
_MODES = {"ANY": "required", "NONE": "none"}
_MAX_DEPTH = 12


def read(body: dict[str, Any], request: ModelRequest) -> ModelRequest:
    """Read a request."""
    conversation = Conversation()
    for content in objects(body, "contents"):
        parts = [as_object(part) for part in as_list(content.get("parts"))]
        results = [
            as_object(part["functionResponse"]) for part in parts if "functionResponse" in part
        ]
        for result in results:
            conversation.add("tool", dumps(result.get("response")))
        for part in parts:
            if call := as_object(part.get("functionCall")):
                conversation.called.append(as_text(call.get("name")))
        if not results:
            conversation.add(content.get("role", "user"), parts)
    declared = [
        _lower_types(as_object(declaration), 0)
        for tool in offered_tools(body)
        for declaration in as_list(as_object(tool).get("functionDeclarations"))
    ]
    calling = as_object(as_object(body.get("toolConfig")).get("functionCallingConfig"))
    tools, required = restrict_tools(_MODES.get(calling.get("mode", "")), read_tools(declared))
    config = as_object(body.get("generationConfig"))
    return replace(
        conversation.added_to(request),
        n=read_count(config, "candidateCount", default=1, most=8),
        tools=tools,
        required=required,
        reasoning=request.reasoning
        or as_object(config.get("thinkingConfig")).get("includeThoughts") is True,
        max_tokens=read_limit(config, "maxOutputTokens"),
        stop=read_stops(config.get("stopSequences")),
        output_schema=_schema(config),
    )


def frames(request: ModelRequest, replies: tuple[Reply, ...], response_id: str) -> Iterator[Frame]:
    """Write the stream: candidates take turns, token by token; calls come whole."""
    first = True

    def chunk(candidate: dict[str, Any], choice: int | None = None, tokens: int = 1) -> Frame:
        nonlocal first
        text = dumps(_response(request, response_id, [candidate], written))
        opening, first = ("[" if first else ",\r\n"), False
        framed = opening + text if request.dialect == "array" else f"data: {text}\r\n\r\n"
        return Frame(framed.encode(), choice, tokens)

    written: list[Token] = []
    for index, reply in enumerate(replies):
        for group in reply.groups():
            pieces = [group] if group[0].kind == "tool" else [[token] for token in group]
            for piece in pieces:
                written += piece
                yield chunk(_candidate(index, [_part(piece, reply)]), index, len(piece))
    for index, reply in enumerate(replies):
        yield chunk(_candidate(index, [{"text": ""}], reply.finish))
    if request.dialect == "array":
        yield Frame(b"]\r\n")


def body(request: ModelRequest, replies: tuple[Reply, ...], response_id: str) -> dict[str, Any]:
    """Write the whole response, for a request that does not stream."""
    candidates = [
        _candidate(index, [_part(group, reply) for group in reply.groups()], reply.finish)
        for index, reply in enumerate(replies)
    ]
    written = [token for reply in replies for token in reply.tokens]
    return _response(request, response_id, candidates, written)


def _candidate(
    index: int, parts: list[dict[str, Any]], finish: Finish | None = None
) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": index}
    if finish is not None:
        candidate["finishReason"] = _FINISH[finish]
    return candidate


def _part(tokens: list[Token], reply: Reply) -> dict[str, Any]:
    kind, number, _ = tokens[0]
    text = "".join(token.text for token in tokens)
    if kind == "tool":
        call = reply.calls[number]
        arguments = ToolCall(call.id, call.name, text).value
        return {"functionCall": {"name": call.name, "args": arguments, "id": f"call_{call.id}"}}
    return {"text": text, "thought": True} if kind == "reasoning" else {"text": text}


def _response(
    request: ModelRequest, response_id: str, candidates: list[dict[str, Any]], written: list[Token]
) -> dict[str, Any]:
    thoughts = sum(token.kind == "reasoning" for token in written)
    usage: dict[str, Any] = {
        "promptTokenCount": request.input_tokens,
        "candidatesTokenCount": len(written) - thoughts,
        "totalTokenCount": request.input_tokens + len(written),
    }
    if thoughts:
        usage["thoughtsTokenCount"] = thoughts
    return {
        "candidates": candidates,
        "usageMetadata": usage,
        "modelVersion": request.model,
        "responseId": response_id,
    }


def _schema(config: dict[str, Any]) -> dict[str, Any] | None:
    if config.get("responseMimeType") != "application/json":
        return None
    schema = config.get("responseJsonSchema") or config.get("responseSchema")
    return _lower_types(as_object(schema), 0) if schema else ANY_OBJECT


def _lower_types(schema: dict[str, Any], depth: int) -> dict[str, Any]:
    """Turn ``"type": "OBJECT"``, as Gemini writes it, into JSON Schema's ``"object"``."""
    if depth > _MAX_DEPTH:
        return {}
    lowered: dict[str, Any] = {}
    for name, value in schema.items():
        if name == "type" and isinstance(value, str):
            lowered[name] = value.lower()
        else:
            lowered[name] = (
                _lower_types(as_object(value), depth + 1) if isinstance(value, dict) else value
            )
    return lowered
