"""`StainlessRecorder`: what the recorders of OpenAI's and Anthropic's APIs have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from tokenwire.instrument import Recorder
from tokenwire_adapters._agents.stainless.quirks import error_usage

__all__ = ["StainlessRecorder", "error_message", "to_json"]


class StainlessRecorder(Recorder):
    """Reads Pydantic models and `APIError`, as SDKs that Stainless generates have them."""

    def error_message(self, error: BaseException) -> str | None:
        return error_message(error)

    def error_usage(self, error: BaseException) -> dict[str, Any] | None:
        return error_usage(error)


def to_json(value: Any) -> Any:
    """What an SDK's object was made of: only what the provider sent, nothing that a class added."""
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        return dump(mode="json", by_alias=True, exclude_unset=True, warnings=False)
    return value


def error_message(error: BaseException) -> str | None:
    """The provider's own words in an SDK's error, where there are any."""
    body: Any = getattr(error, "body", None)
    if isinstance(body, Mapping):
        body = cast("Mapping[str, Any]", body)
        inner = body.get("error", body)
        message = (
            cast("Mapping[str, Any]", inner).get("message") if isinstance(inner, Mapping) else inner
        )
        if isinstance(message, str) and message:
            return message
    return None
