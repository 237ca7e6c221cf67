"""Which requests are model calls, and what form their replies have."""

import gzip
import json
from typing import Any

import pytest

from tests.adapters.wires.reading import wire_of
from tokenwire_adapters._agents.wires.recognition import (
    HttpRequest,
    may_be_model_call,
    recognise,
)

CHAT: dict[str, Any] = {"model": "m", "messages": []}
ANTHROPIC: dict[str, Any] = {"anthropic_version": "v", "messages": []}
GEMINI: dict[str, Any] = {"contents": []}
VERTEX = "/v1/projects/p/locations/l/publishers"


@pytest.mark.parametrize(
    ("url", "body", "api", "provider"),
    [
        ("https://api.openai.com/v1/chat/completions", CHAT, "chat.completions", "openai"),
        ("http://h/v1/v1/chat/completions/", CHAT, "chat.completions", "openai"),
        ("/chat/completions", CHAT, "chat.completions", "openai"),
        (
            "/openai/deployments/D/chat/completions?api-version=1",
            CHAT,
            "chat.completions",
            "openai",
        ),
        ("https://api.groq.com/openai/v1/chat/completions", CHAT, "chat.completions", "groq"),
        ("https://api.mistral.ai/v1/chat/completions", CHAT, "chat.completions", "mistral"),
        (
            "https://api.mistral.ai/v1/fim/completions",
            {"prompt": "x"},
            "chat.completions",
            "mistral",
        ),
        (
            "https://router.huggingface.co/v1/chat/completions",
            CHAT,
            "chat.completions",
            "huggingface",
        ),
        ("/models/org/name/v1/chat/completions", CHAT, "chat.completions", "openai"),
        ("/v1/completions", {"prompt": "x"}, "completions", "openai"),
        ("/responses", {"model": "m", "input": "x"}, "responses", "openai"),
        ("/openai/v1/responses?api-version=1", {"input": "x"}, "responses", "openai"),
        ("https://api.anthropic.com/v1/messages?beta=true", CHAT, "messages", "anthropic"),
        ("/messages", CHAT, "messages", "anthropic"),
        ("/v1beta/models/M:streamGenerateContent?alt=sse", GEMINI, "generate_content", "google"),
        ("/models/M:generateContent", GEMINI, "generate_content", "google"),
        (f"{VERTEX}/google/models/M:streamGenerateContent", GEMINI, "generate_content", "google"),
        (f"{VERTEX}/anthropic/models/M:streamRawPredict", ANTHROPIC, "messages", "anthropic"),
        (f"{VERTEX}/anthropic/models/M:rawPredict", ANTHROPIC, "messages", "anthropic"),
        (f"{VERTEX}/mistralai/models/M:rawPredict", CHAT, "chat.completions", "openai"),
        ("/v1beta/interactions", {"input": "x"}, "interactions", "google"),
        ("/model/M/converse", CHAT, "converse", "bedrock"),
        ("/model/a%3Ab%2Fc/converse-stream", CHAT, "converse", "bedrock"),
        ("/model/M/invoke", ANTHROPIC, "messages", "anthropic"),
        ("/model/M/invoke-with-response-stream", ANTHROPIC, "messages", "anthropic"),
        ("https://api.cohere.com/v2/chat", CHAT, "chat", "cohere"),
        ("http://h:11434/api/chat", CHAT, "chat", "ollama"),
        ("/api/generate", {"model": "m", "prompt": "x"}, "generate", "ollama"),
    ],
)
def test_model_calls(url: str, body: dict[str, Any], api: str, provider: str) -> None:
    path = url.partition("://")[2] or url
    assert may_be_model_call("POST", path[path.index("/") :])
    wire, request = wire_of(url, body)
    assert (wire.api, wire.provider) == (api, provider)
    assert request["model"] if "model" in body or "/M" in url else True
    unknown, _ = wire_of(url, None)  # the body is sent in pieces
    assert unknown.api in (api, "messages")


@pytest.mark.parametrize(
    ("method", "url", "body"),
    [
        ("GET", "/v1/chat/completions", CHAT),
        ("POST", "/v1/embeddings", {"model": "m", "input": "x"}),
        ("POST", "/v1/threads/t/messages", {"role": "user", "content": "x"}),
        ("POST", "/v1/messages/count_tokens", CHAT),
        ("POST", "/v1/messages/batches", CHAT),
        ("POST", "/v1/responses/r/cancel", {}),
        ("POST", f"{VERTEX}/anthropic/models/count-tokens:rawPredict", ANTHROPIC),
        ("POST", "/v1beta/models/M:countTokens", GEMINI),
        ("POST", "/v1beta/models/M:embedContent", GEMINI),
        ("POST", "/model/amazon.titan/invoke", {"inputText": "x"}),
        ("POST", "/agents/a/invoke", ANTHROPIC),
        ("POST", "/api/chat", {"id": "x", "messages": []}),
        ("POST", "/v1/chat", CHAT),
        ("POST", "/chat", CHAT),
        ("POST", "/", CHAT),
        ("POST", "", CHAT),
        ("POST", "http://[x/v1/chat/completions", CHAT),
        ("POST", "/model//converse", []),
        ("POST", "/v1/chat/completions", []),
        ("POST", "/v1/chat/completions", {"x": 1}),
    ],
)
def test_other_requests(method: str, url: str, body: Any) -> None:
    request = HttpRequest(method, url, {}, json.dumps(body).encode())
    assert recognise(request) is None


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"--boundary\r\n"])
def test_bodies_that_are_no_json(body: bytes) -> None:
    assert recognise(HttpRequest("POST", "/v1/chat/completions", {}, body)) is None


def test_a_body_that_is_compressed() -> None:
    body = gzip.compress(json.dumps(CHAT).encode())
    headers = {"content-encoding": "gzip"}
    recognised = recognise(HttpRequest("POST", "/v1/chat/completions", headers, body))
    assert recognised is not None
    assert recognised[1]["model"] == "m"
    broken = HttpRequest("POST", "/v1/chat/completions", headers, body[5:])
    assert recognise(broken) is None


@pytest.mark.parametrize(
    ("url", "body", "model"),
    [
        ("/v1beta/models/gemini-3:generateContent", GEMINI, "gemini-3"),
        (f"{VERTEX}/google/models/gemini-3:streamGenerateContent", GEMINI, "gemini-3"),
        (
            "/model/us.anthropic.claude%3A0/converse",
            CHAT | {"model": None},
            "us.anthropic.claude:0",
        ),
        ("/openai/deployments/gpt/chat/completions", {"messages": []}, "gpt"),
        ("/openai/deployments/gpt/chat/completions", CHAT, "m"),
    ],
)
def test_the_model(url: str, body: dict[str, Any], model: str) -> None:
    assert wire_of(url, body)[1]["model"] == model


@pytest.mark.parametrize(
    ("url", "body", "streams"),
    [
        ("/v1/chat/completions", CHAT, False),
        ("/v1/chat/completions", {**CHAT, "stream": True}, True),
        ("/v1/chat/completions", None, None),
        ("/api/chat", CHAT, True),
        ("/api/chat", {**CHAT, "stream": False}, False),
        ("/models/M:generateContent", GEMINI, False),
        ("/models/M:streamGenerateContent", None, True),
        ("/model/M/converse-stream", CHAT, True),
        ("/model/M/invoke", ANTHROPIC, False),
    ],
)
def test_whether_a_stream_is_asked_for(
    url: str, body: dict[str, Any] | None, streams: bool | None
) -> None:
    assert wire_of(url, body)[0].streams is streams
