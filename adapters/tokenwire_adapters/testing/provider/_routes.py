"""Which API a request is for: by its path alone, with whatever prefixes clients put before it."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import parse_qs, unquote

from tokenwire_adapters.testing.provider._replies import Api

__all__ = ["Route", "find_route"]


class Route(NamedTuple):
    """Where a request goes, and what its path says of it."""

    api: Api
    model: str | None = None
    """The model, where the path names it."""
    stream: bool | None = None
    """Whether the reply streams, where the path says so."""
    stream_by_default: bool = False
    """Whether a request streams that does not say so."""
    dialect: str = ""


# Any number of /v1, so that one base URL serves SDKs that add it and SDKs that do not; and the
# path that Azure's client uses.
_OPENAI = re.compile(
    r"(?:/v1)*(?:/openai(?:/v1)?(?:/deployments/[^/]+)?)?"
    r"/(?P<name>chat/completions|responses|messages)"
)
# Servers whose API has the paths of OpenAI's, and a difference: a base URL with their name.
_NAMED = re.compile(
    r"/(?P<server>groq|together|huggingface|mistral)"
    r"(?:/openai)?(?:/v1)*(?:/models/.+)?(?:/v1)?/chat/completions"
)
_GEMINI = re.compile(
    r"(?:/v1|/v1beta|/v1beta1)*(?:/projects/[^/]+/locations/[^/]+)?(?:/publishers/google)?"
    r"/models/(?P<model>[^:]+):(?P<verb>streamGenerateContent|generateContent)"
)
_INTERACTIONS = re.compile(
    r"(?:/v1|/v1beta|/v1beta1)*(?:/projects/[^/]+/locations/[^/]+)?/interactions"
)
_BEDROCK = re.compile(
    r"/model/(?P<model>[^/]+)"
    r"/(?P<verb>converse-stream|converse|invoke-with-response-stream|invoke)"
)
_OPENAI_APIS: dict[str, Api] = {
    "chat/completions": "chat",
    "responses": "responses",
    "messages": "messages",
}
_BEDROCK_APIS: dict[str, tuple[Api, bool]] = {
    "converse-stream": ("converse", True),
    "converse": ("converse", False),
    "invoke-with-response-stream": ("invoke", True),
    "invoke": ("invoke", False),
}
_FIXED = {
    "/v2/chat": Route("cohere"),
    "/api/chat": Route("ollama", stream_by_default=True),
    "/api/generate": Route("ollama-generate", stream_by_default=True),
}


def find_route(path: str, query: str) -> Route | None:
    """Find the API of a request for a reply.

    :returns: None when the path is none of such a request.
    """
    if match := _OPENAI.fullmatch(path):
        return Route(_OPENAI_APIS[match["name"]])
    if match := _NAMED.fullmatch(path):
        return (
            Route("mistral") if match["server"] == "mistral" else Route("chat", dialect="reasoning")
        )
    if match := _GEMINI.fullmatch(path):
        stream = match["verb"] == "streamGenerateContent"
        dialect = "array" if stream and parse_qs(query).get("alt") != ["sse"] else ""
        return Route("gemini", unquote(match["model"]), stream, dialect=dialect)
    if _INTERACTIONS.fullmatch(path):
        return Route("interactions")
    if match := _BEDROCK.fullmatch(path):
        api, stream = _BEDROCK_APIS[match["verb"]]
        return Route(api, unquote(match["model"]), stream)
    return _FIXED.get(path)
