"""The APIs that the provider speaks: how each reads a request, and writes a reply."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from tokenwire_adapters.testing._json import as_object
from tokenwire_adapters.testing.provider import (
    _bedrock,
    _chat,
    _cohere,
    _gemini,
    _interactions,
    _messages,
    _mistral,
    _ollama,
    _requests,
    _responses,
)
from tokenwire_adapters.testing.provider._conversation import reasons
from tokenwire_adapters.testing.provider._errors import error_body
from tokenwire_adapters.testing.provider._frames import Frame
from tokenwire_adapters.testing.provider._json import BadRequest, as_text, dumps
from tokenwire_adapters.testing.provider._replies import Api, ModelRequest, Reply
from tokenwire_adapters.testing.provider._routes import Route
from tokenwire_adapters.testing.provider._script import ScriptedError

__all__ = ["WIRES", "Wire", "content_type", "error_piece", "read_request"]

_Replies = tuple[Reply, ...]


class Wire(NamedTuple):
    """One API."""

    read: Callable[[dict[str, Any], ModelRequest], ModelRequest]
    """Adds what a request's body says; raises `BadRequest` for a field that cannot be."""
    frames: Callable[[ModelRequest, _Replies, str], Iterator[Frame]]
    body: Callable[[ModelRequest, _Replies, str], dict[str, Any]]
    id_prefix: str
    content_type: str = "text/event-stream; charset=utf-8"
    """The type of a stream."""


_JSON_LINES = "application/x-ndjson"
_BINARY = "application/vnd.amazon.eventstream"

WIRES: dict[Api, Wire] = {
    "chat": Wire(_requests.read_chat, _chat.frames, _chat.body, "chatcmpl-"),
    "responses": Wire(_requests.read_responses, _responses.frames, _responses.body, "resp_"),
    "messages": Wire(_requests.read_messages, _messages.frames, _messages.body, "msg_"),
    "gemini": Wire(_gemini.read, _gemini.frames, _gemini.body, ""),
    "interactions": Wire(_interactions.read, _interactions.frames, _interactions.body, "v1_"),
    "mistral": Wire(_requests.read_chat, _mistral.frames, _mistral.body, ""),
    "cohere": Wire(_cohere.read, _cohere.frames, _cohere.body, ""),
    "ollama": Wire(_ollama.read_chat_request, _ollama.frames, _ollama.body, "", _JSON_LINES),
    "ollama-generate": Wire(
        _ollama.read_generate_request, _ollama.frames, _ollama.body, "", _JSON_LINES
    ),
    "converse": Wire(_bedrock.read, _bedrock.frames, _bedrock.body, "", _BINARY),
    "invoke": Wire(
        _requests.read_messages, _bedrock.invoke_frames, _messages.body, "msg_", _BINARY
    ),
}


def read_request(route: Route, value: Any) -> ModelRequest:
    """Read a request body that was parsed from JSON.

    :raises BadRequest: a field is missing or has the wrong type.
    """
    if not isinstance(value, dict):
        raise BadRequest("The body must be a JSON object.")
    body = as_object(value)
    model = as_text(body.get("model") if route.model is None else route.model)
    if not model:
        raise BadRequest("Missing required parameter: 'model'.", param="model")
    stream: Any = route.stream
    if stream is None:
        stream = body.get("stream")
    if stream is None:
        stream = route.stream_by_default
    if not isinstance(stream, bool):
        raise BadRequest("'stream' must be a boolean.", param="stream")
    request = ModelRequest(
        route.api, model, stream=stream, reasoning=reasons(model), dialect=route.dialect
    )
    return WIRES[route.api].read(body, request)


def error_piece(request: ModelRequest, error: ScriptedError) -> bytes | None:
    """An error midway in a stream, as the API writes it; None where only the connection is cut."""
    body: Any = error_body(request.api, error.status, error.message, None)
    kind = WIRES[request.api].content_type
    if kind == _BINARY:
        return None
    if kind == _JSON_LINES:
        return dumps(body).encode() + b"\n"
    if request.api == "responses":
        body = {"type": "error", **body["error"], "sequence_number": 0}
    name = b"event: error\n" if request.api in ("messages", "responses", "interactions") else b""
    return name + b"data: " + dumps(body).encode() + b"\n\n"


def content_type(request: ModelRequest) -> str:
    """The content type of the stream that answers a request."""
    array = request.api == "gemini" and request.dialect == "array"
    return "application/json; charset=utf-8" if array else WIRES[request.api].content_type
