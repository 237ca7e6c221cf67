"""Ollama's ``/api/chat`` and ``/api/generate`` on the wire (Ollama API reference): JSON lines."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from tokenwire_adapters.testing._json import as_object
from tokenwire_adapters.testing.provider._conversation import (
    Conversation,
    offered_tools,
    read_chat_messages,
    read_limit,
    read_stops,
    read_tools,
)
from tokenwire_adapters.testing.provider._frames import Frame, line
from tokenwire_adapters.testing.provider._json import BadRequest
from tokenwire_adapters.testing.provider._replies import ModelRequest, Reply, Token
from tokenwire_adapters.testing.provider._script import Finish

__all__ = ["answer_about_models", "body", "frames", "read_chat_request", "read_generate_request"]

_FINISH: dict[Finish, str] = {
    "stop": "stop",
    "sequence": "stop",
    "length": "length",
    "tool": "stop",
}


def read_chat_request(body: dict[str, Any], request: ModelRequest) -> ModelRequest:
    """Read a request for ``/api/chat``."""
    conversation = read_chat_messages(body)
    offered = (as_object(as_object(tool).get("function")) for tool in offered_tools(body))
    options = as_object(body.get("options"))
    schema = body.get("format")
    return replace(
        conversation.added_to(request),
        tools=read_tools(offered),
        reasoning=request.reasoning or bool(body.get("think")),
        max_tokens=_limit(options),
        stop=read_stops(options.get("stop")),
        output_schema=as_object(schema) if isinstance(schema, dict) else None,
    )


def read_generate_request(body: dict[str, Any], request: ModelRequest) -> ModelRequest:
    """Read a request for ``/api/generate``."""
    conversation = Conversation()
    conversation.add("user", body.get("prompt"))
    options = as_object(body.get("options"))
    return replace(
        conversation.added_to(request),
        reasoning=request.reasoning or bool(body.get("think")),
        max_tokens=_limit(options),
        stop=read_stops(options.get("stop")),
    )


def frames(request: ModelRequest, replies: tuple[Reply, ...], response_id: str) -> Iterator[Frame]:
    """Write the stream: a line for each token, whole tool calls, and a line that ends it."""
    del response_id  # Ollama's replies have none
    (reply,) = replies
    for group in reply.groups():
        pieces = [group] if group[0].kind == "tool" else [[token] for token in group]
        for piece in pieces:
            yield line(_line(request) | _content(request, reply, piece), 0, len(piece))
    yield line(_line(request) | _content(request, reply, []) | _end(request, reply))


def body(request: ModelRequest, replies: tuple[Reply, ...], response_id: str) -> dict[str, Any]:
    """Write the whole reply, for a request that does not stream."""
    del response_id
    (reply,) = replies
    content = _content(request, reply, list(reply.tokens))
    return _line(request) | content | _end(request, reply)


def answer_about_models(path: str, models: Iterable[str]) -> dict[str, Any]:
    """Answer what clients ask beside replies: the version, the models, one of them.

    :raises BadRequest: the path is none of these.
    """
    details = {"format": "gguf", "family": "local", "parameter_size": "1B"}
    match path:
        case "/api/version":
            return {"version": "0.12.0"}
        case "/api/tags" | "/api/ps":
            return {
                "models": [{"name": name, "model": name, "details": details} for name in models]
            }
        case "/api/show":
            capabilities = ["completion", "tools", "thinking"]
            return {"details": details, "model_info": {}, "capabilities": capabilities}
        case _:
            raise BadRequest(f"Unknown request URL: {path}", status=404)


def _limit(options: dict[str, Any]) -> int | None:
    # -1 and -2 mean no limit.
    limit = options.get("num_predict")
    return None if isinstance(limit, int) and limit < 0 else read_limit(options, "num_predict")


def _line(request: ModelRequest) -> dict[str, Any]:
    now = time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime())
    return {"model": request.model, "created_at": now, "done": False}


def _content(request: ModelRequest, reply: Reply, tokens: list[Token]) -> dict[str, Any]:
    text = "".join(token.text for token in tokens if token.kind == "text")
    thinking = "".join(token.text for token in tokens if token.kind == "reasoning")
    extra: dict[str, Any] = {"thinking": thinking} if thinking else {}
    if request.api == "ollama-generate":
        return {"response": text} | extra
    numbers = dict.fromkeys(token.call for token in tokens if token.kind == "tool")
    if numbers:
        extra["tool_calls"] = [
            {
                "id": f"call_{reply.calls[number].id}",
                "function": {
                    "index": number,
                    "name": reply.calls[number].name,
                    "arguments": reply.calls[number].value,
                },
            }
            for number in numbers
        ]
    return {"message": {"role": "assistant", "content": text} | extra}


def _end(request: ModelRequest, reply: Reply) -> dict[str, Any]:
    return {
        "done": True,
        "done_reason": _FINISH[reply.finish],
        "total_duration": 1_000_000,
        "load_duration": 1_000,
        "prompt_eval_count": request.input_tokens,
        "prompt_eval_duration": 1_000,
        "eval_count": len(reply.tokens),
        "eval_duration": 1_000,
    }
