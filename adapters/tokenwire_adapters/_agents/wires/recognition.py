"""Which requests ask a model for a reply, and in what form that comes.

A request is recognised by its path and its body: paths may have any prefix, ``/v1`` or none or two.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from tokenwire.instrument import Options, Recorder
from tokenwire_adapters._agents.anthropic.messages import MessagesRecorder
from tokenwire_adapters._agents.anthropic.sessions import (
    SessionEventsRecorder,
    ThreadEventsRecorder,
)
from tokenwire_adapters._agents.openai.agent_sessions import AgentSessionRecorder
from tokenwire_adapters._agents.openai.chat import ChatRecorder
from tokenwire_adapters._agents.openai.completions import CompletionRecorder
from tokenwire_adapters._agents.openai.responses import ResponsesRecorder
from tokenwire_adapters._agents.wires.cohere import CohereRecorder
from tokenwire_adapters._agents.wires.content_encoding import ContentDecoder
from tokenwire_adapters._agents.wires.converse import ConverseRecorder
from tokenwire_adapters._agents.wires.errors import UnreadableReply
from tokenwire_adapters._agents.wires.gemini import GeminiRecorder
from tokenwire_adapters._agents.wires.interactions import InteractionsRecorder
from tokenwire_adapters._agents.wires.json_objects import JsonObject, decode
from tokenwire_adapters._agents.wires.ollama import OllamaChatRecorder, OllamaGenerateRecorder

__all__ = ["Framing", "HttpRequest", "Wire", "may_be_model_call", "recognise"]

Framing = Literal["sse", "lines", "array", "frames"]
"""How a stream is cut into messages: server-sent events, lines of JSON, a JSON array that comes in
pieces, or frames of ``application/vnd.amazon.eventstream``."""


_MAX_BODY = 64 * 1024 * 1024
"""Bytes of a request that was compressed."""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request as an HTTP client sends it.

    :ivar url: with or without scheme and host.
    :ivar headers: by lower-case names.
    :ivar body: None where it is not known, since it is sent in pieces, say.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None


@dataclass(frozen=True, slots=True)
class Wire:
    """The form of one reply.

    :ivar provider: who answers, for watchers; by the host where that is known.
    :ivar api: the name of the API.
    :ivar recorder: makes the recorder of the reply, from options and the request's JSON body.
    :ivar framing: of a stream.
    :ivar streams: whether the request asks for a stream; None where it does not say.
    """

    provider: str
    api: str
    recorder: Callable[[Options, Mapping[str, Any]], Recorder]
    framing: Framing = "sse"
    streams: bool | None = None


@dataclass(frozen=True, slots=True)
class _Endpoint:
    """One path of an API.

    :ivar fields: the request's JSON body has one of these.
    :ivar streams: whether the path itself asks for a stream, or its reply is one unless the body
        says otherwise.
    :ivar by_path: whether `streams` holds whatever the body says.
    :ivar method: of HTTP.
    :ivar by_vendor: the path carries the request of any vendor, in the vendor's own form.
    """

    recorder: type[Recorder]
    fields: tuple[str, ...]
    framing: Framing = "sse"
    streams: bool = False
    by_path: bool = False
    by_vendor: bool = False
    method: str = "POST"


_CHAT = _Endpoint(ChatRecorder, ("messages", "prompt"))

_BY_END: dict[str, _Endpoint] = {
    "chat/completions": _CHAT,
    "fim/completions": _CHAT,  # of Mistral, as the next one
    "agents/completions": _CHAT,
    "completions": _Endpoint(CompletionRecorder, ("prompt",)),
    "responses": _Endpoint(ResponsesRecorder, ("model", "input", "prompt", "previous_response_id")),
    "messages": _Endpoint(MessagesRecorder, ("messages",)),
    "interactions": _Endpoint(InteractionsRecorder, ("input",)),
    "v2/chat": _Endpoint(CohereRecorder, ("messages",)),
    "api/chat": _Endpoint(OllamaChatRecorder, ("model",), "lines", streams=True),
    "api/generate": _Endpoint(OllamaGenerateRecorder, ("model",), "lines", streams=True),
}
"""By the last two segments of the path, or the last one."""

_LAST = frozenset(end.rpartition("/")[2] for end in _BY_END)

_BY_VERB: dict[str, _Endpoint] = {
    "generateContent": _Endpoint(GeminiRecorder, ("contents",), by_path=True),
    "streamGenerateContent": _Endpoint(
        GeminiRecorder, ("contents",), "array", streams=True, by_path=True
    ),
    "rawPredict": _Endpoint(MessagesRecorder, ("messages",), by_vendor=True),
    "streamRawPredict": _Endpoint(
        MessagesRecorder, ("messages",), streams=True, by_path=True, by_vendor=True
    ),
}
"""By what follows the colon in the path's last segment."""

_BY_OPERATION: dict[str, _Endpoint] = {
    "converse": _Endpoint(ConverseRecorder, ("messages", "system"), by_path=True),
    "converse-stream": _Endpoint(
        ConverseRecorder, ("messages", "system"), "frames", streams=True, by_path=True
    ),
    "invoke": _Endpoint(MessagesRecorder, ("anthropic_version",), by_path=True),
    "invoke-with-response-stream": _Endpoint(
        MessagesRecorder, ("anthropic_version",), "frames", streams=True, by_path=True
    ),
}
"""By the last segment of paths ``/model/…/OPERATION``."""

_AGENT_EVENTS = _Endpoint(AgentSessionRecorder, (), streams=True, by_path=True, method="GET")
_SESSION_EVENTS = _Endpoint(SessionEventsRecorder, (), streams=True, by_path=True, method="GET")
_THREAD_EVENTS = _Endpoint(ThreadEventsRecorder, (), streams=True, by_path=True, method="GET")

_PROVIDERS = {
    "api.mistral.ai": "mistral",
    "api.groq.com": "groq",
    "api.together.xyz": "together",
    "api.together.ai": "together",
    "api.deepseek.com": "deepseek",
    "api.x.ai": "xai",
    "api.perplexity.ai": "perplexity",
    "api.fireworks.ai": "fireworks",
    "api.cerebras.ai": "cerebras",
    "api.cohere.com": "cohere",
    "api.cohere.ai": "cohere",
    "openrouter.ai": "openrouter",
    "router.huggingface.co": "huggingface",
    "api-inference.huggingface.co": "huggingface",
    "generativelanguage.googleapis.com": "google",
}
"""Who answers, by host, for APIs that many providers speak."""


def may_be_model_call(method: str, path: str) -> bool:
    """Whether a request may ask a model for a reply; a cheap test, for every request.

    :param path: with or without a query.
    """
    method = method.upper()
    if method not in ("POST", "GET"):
        return False
    endpoint = _endpoint(path.partition("?")[0])
    return endpoint is not None and endpoint.method == method


def recognise(request: HttpRequest) -> tuple[Wire, Mapping[str, Any]] | None:
    """The form of the reply that a request asks for, and the request's JSON body.

    :returns: None where it asks no model, as far as is known.
    """
    try:
        url = urlsplit(request.url)
    except ValueError:  # a host in brackets that is no address
        return None
    endpoint = _endpoint(url.path)
    if endpoint is None or endpoint.method != request.method.upper():
        return None
    body: dict[str, Any] = {}
    if endpoint.method != "GET" and request.body is not None:
        decoded = _decoded(request.body, request.headers.get("content-encoding", ""))
        if not isinstance(decoded, JsonObject):
            return None
        body = decoded
        if not any(name in body for name in endpoint.fields):
            return None
        if endpoint.by_vendor and not _is_anthropic(url.path, body):
            endpoint = replace(_CHAT, streams=endpoint.streams, by_path=endpoint.by_path)
    model = _model_in(url.path)
    if model and not isinstance(body.get("model"), str):
        body = {**body, "model": model}
    return _wire(endpoint, url.hostname or "", body), body


def _decoded(body: bytes, encoding: str) -> Any:
    """The JSON of a request; None where it cannot be read."""
    try:
        if encoding:
            pieces: list[bytes] = []
            size = 0
            for piece in ContentDecoder(encoding).feed(body):
                size += len(piece)
                if size > _MAX_BODY:
                    return None
                pieces.append(piece)
            body = b"".join(pieces)
        return decode(body)
    except (ValueError, UnreadableReply):
        return None


def _endpoint(path: str) -> _Endpoint | None:
    before, _, last = path.rstrip("/").rpartition("/")
    if last in _LAST:
        above = before[before.rfind("/") + 1 :]
        return _BY_END.get(f"{above}/{last}") or _BY_END.get(last)
    if last in ("events", "stream"):
        return _events(path.split("/"))
    model, colon, verb = last.rpartition(":")
    if colon:
        return _BY_VERB.get(verb) if model != "count-tokens" else None
    endpoint = _BY_OPERATION.get(last)
    if endpoint is not None and before.rpartition("/")[0].endswith("/model"):
        return endpoint
    return None


def _events(segments: list[str]) -> _Endpoint | None:
    """The event stream of a session that a path names."""
    match [segment for segment in segments if segment]:
        case [*_, "agents", "sessions", _, "events"]:
            return _AGENT_EVENTS
        case [*_, "sessions", _, "events", "stream"]:
            return _SESSION_EVENTS
        case [*_, "sessions", _, "threads", _, "stream"]:
            return _THREAD_EVENTS
        case _:
            return None


def _is_anthropic(path: str, body: Mapping[str, Any]) -> bool:
    """Whether a request of Vertex AI is for a model of Anthropic; others speak Chat Completions."""
    return "anthropic_version" in body or "/anthropic/" in path


def _wire(endpoint: _Endpoint, host: str, body: Mapping[str, Any]) -> Wire:
    recorder = endpoint.recorder
    provider = _PROVIDERS.get(host, recorder.provider)
    asked = body.get("stream")
    if endpoint.by_path or (body and asked is None):
        streams: bool | None = endpoint.streams
    else:
        streams = bool(asked) if body else None
    return Wire(
        provider=provider,
        api=recorder.api,
        recorder=functools.partial(_recorder, recorder, provider),
        framing=endpoint.framing,
        streams=streams,
    )


def _recorder(
    kind: type[Recorder], provider: str, options: Options, request: Mapping[str, Any]
) -> Recorder:
    recorder = kind(options, request)
    recorder.provider = provider
    return recorder


def _model_in(path: str) -> str:
    """The model that a path names; empty where it names none."""
    segments = path.rstrip("/").split("/")
    last = segments[-1]
    if ":" in last:
        return unquote(last.rpartition(":")[0])
    if len(segments) > 2 and segments[-3] == "model":
        return unquote(segments[-2])
    if "deployments" in segments[:-1]:  # of Azure OpenAI
        return unquote(segments[segments.index("deployments") + 1])
    return ""
