"""Reasons, token counts, sources and files of any provider, in the words of the AI SDK."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

__all__ = ["media_of", "reason_of", "source_of", "usage_of"]

_MAX_COUNT = 2**53 - 1

_REASONS = {
    "stop": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "completed": "stop",
    "complete": "stop",
    "length": "length",
    "max_tokens": "length",
    "max_output_tokens": "length",
    "model_context_window_exceeded": "length",
    "incomplete": "length",
    "content_filter": "content-filter",
    "content-filter": "content-filter",
    "refusal": "content-filter",
    "safety": "content-filter",
    "tool_calls": "tool-calls",
    "tool-calls": "tool-calls",
    "tool_use": "tool-calls",
    "function_call": "tool-calls",
    "failed": "error",
    "error": "error",
}


def reason_of(finish_reason: str | None) -> str:
    """A provider's finish reason in the words of the AI SDK."""
    return _REASONS.get(finish_reason or "stop", "other")


def usage_of(usage: Mapping[str, Any] | None) -> dict[str, int]:
    """Token counts in one shape, whichever provider counted.

    `inputTokens` has all of the input and `outputTokens` all of the output; `cachedInputTokens`,
    `cacheWriteInputTokens` and `reasoningTokens` are parts of these.
    """
    if not usage:
        return {}
    details_in = _mapping(usage.get("input_tokens_details") or usage.get("prompt_tokens_details"))
    details_in = details_in or _mapping(usage.get("input_token_details"))
    details_out = _mapping(
        usage.get("output_tokens_details") or usage.get("completion_tokens_details")
    )
    details_out = details_out or _mapping(usage.get("output_token_details"))
    input_ = _count(usage, "input_tokens", "prompt_tokens")
    read = _count(usage, "cache_read_input_tokens")
    wrote = _count(usage, "cache_creation_input_tokens")
    if input_ is not None:  # Anthropic counts cached tokens separately
        input_ += (read or 0) + (wrote or 0)
    cached = read if read is not None else _count(details_in, "cached_tokens", "cache_read")
    if wrote is None:
        wrote = _count(details_in, "cache_creation")
    output = _count(usage, "output_tokens", "completion_tokens")
    total = _count(usage, "total_tokens")
    if input_ is not None and output is not None:
        total = input_ + output
    counts = {
        "inputTokens": input_,
        "outputTokens": output,
        "totalTokens": total,
        "reasoningTokens": _count(details_out, "reasoning_tokens", "reasoning"),
        "cachedInputTokens": cached,
        "cacheWriteInputTokens": wrote,
    }
    return {name: count for name, count in counts.items() if count is not None}


def _mapping(value: Any) -> Mapping[str, Any]:
    nothing: Mapping[str, Any] = {}
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else nothing


def _count(usage: Mapping[str, Any], *names: str) -> int | None:
    for name in names:
        value = usage.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_COUNT:
            return value
    return None


def source_of(data: Any) -> dict[str, str]:
    """What a source says of itself: `url` (http or https only), `title`, `filename`, `media_type`.

    It understands the citations of OpenAI and Anthropic, and LangChain's.
    """
    outer = _mapping(data)
    kind = outer.get("type")
    inner = _mapping(outer.get(kind) if isinstance(kind, str) else None)
    source: dict[str, str] = {}
    wanted = {
        "url": ("url", "uri", "source"),
        "title": ("title", "document_title", "name"),
        "filename": ("filename", "file_name"),
        "media_type": ("media_type", "mime_type", "mediaType"),
    }
    for name, keys in wanted.items():
        for place in (inner, outer):
            value = next((place[key] for key in keys if isinstance(place.get(key), str)), None)
            if value and name not in source:
                source[name] = value
    if not source.get("url", "").startswith(("http://", "https://")):
        source.pop("url", None)
    return source


def media_of(data: Any) -> tuple[str, str] | None:
    """The address and media type of a file; None where it has no content that a page can show.

    Content in Base64 becomes a ``data:`` URL; of other schemes only http and https are let through.
    """
    outer = _mapping(data)
    kind = outer.get("type")
    inner = _mapping(outer.get(kind) if isinstance(kind, str) else None)
    places = [outer, inner, _mapping(outer.get("source"))]

    def find(*names: str) -> str | None:
        for place in places:
            for name in names:
                value = place.get(name)
                if isinstance(value, str) and value:
                    return value
        return None

    media_type = find("media_type", "mime_type", "mediaType") or "application/octet-stream"
    url = find("url", "uri", "file_uri", "image_url")
    if url is not None and url.startswith(("http://", "https://", "data:")):
        return url, media_type
    content = find("base64", "data", "result", "b64_json")
    if content is not None:
        return f"data:{media_type};base64,{content}", media_type
    return None
