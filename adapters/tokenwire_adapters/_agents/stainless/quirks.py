"""What relies on private parts of the SDKs that Stainless generates.

Read against openai 2.54 and 3.52, and anthropic 2.11 and 2.14; ``_streaming.py`` of each, and
https://github.com/openai/openai-python/blob/main/src/openai/_streaming.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

__all__ = [
    "EVENTS",
    "client_of",
    "error_usage",
    "json_body_of",
    "own_stream",
    "replace_iterator",
    "request_of",
    "server_of",
    "whole_body",
]

EVENTS = "_iter_events"
"""The method by which a stream reads server-sent events, before it makes chunks of them."""


def own_stream(helper: Any) -> Any:
    """The SDK's stream under the helper that ``.stream()`` gives; other things as they are."""
    return getattr(helper, "_raw_stream", helper)


def client_of(stream: Any) -> Any:
    """The client that made a stream."""
    return stream._client


def replace_iterator(stream: Any, wrapper: Any) -> None:
    """Replace the iterator that a stream reads by what `wrapper` makes of it."""
    stream._iterator = wrapper(stream._iterator)


def request_of(response: Any) -> Any:
    """The request of an HTTP response; None where there is none.

    httpx's property raises then (``Response.request``, httpx 0.28).
    """
    return getattr(response, "_request", None)


def json_body_of(request: Any) -> dict[str, Any] | None:
    """The JSON object in the body of a request of httpx or httpx2; None where there is none.

    A body that was sent in pieces is not kept: httpx's property raises `RequestNotRead` (0.28).
    """
    try:
        body: Any = json.loads(request.content)
    except (RuntimeError, ValueError):
        return None
    return cast("dict[str, Any]", body) if isinstance(body, dict) else None


def server_of(url: Any) -> str:
    """Host and port of a URL of httpx or httpx2."""
    return f"{url.host}:{url.port}"


def error_usage(error: BaseException) -> dict[str, Any] | None:
    """Token counts in the event that carried a provider's error.

    `APIError.body` has only the ``error`` of that event, and the SDK raises before it hands the
    event over. So it is read from the frame of ``Stream.__stream__`` that raised.
    """
    trace = error.__traceback__
    while trace is not None:
        frame = trace.tb_frame
        if frame.f_code.co_name == "__stream__":
            data = frame.f_locals.get("data")
            if isinstance(data, Mapping):
                usage = cast("Mapping[str, Any]", data).get("usage")
                return cast("dict[str, Any]", usage) if isinstance(usage, dict) else None
        trace = trace.tb_next
    return None


def whole_body(error: BaseException) -> Any:
    """The body of the HTTP response that an `APIStatusError` is about; None where it has none.

    `APIError.body` has only the ``error`` of it, where it has one.
    """
    try:
        return getattr(error, "response").json()  # noqa: B009 - other errors have none
    except Exception:  # no JSON, or a stream
        return None
