"""Clients of real SDKs that read a body from memory: for tests that read thousands of streams."""

from __future__ import annotations

import importlib
from typing import Any

import anthropic
import openai

from tests.support.sdk import TLS

__all__ = ["anthropic_client", "openai_client"]

STREAM = "text/event-stream"


def _http(default: type[Any], body: bytes, content_type: str) -> Any:
    """An HTTP client that answers every request with `body`, of the library that the SDK uses."""
    modules = (kind.__module__.partition(".")[0] for kind in default.__mro__)
    httpx: Any = importlib.import_module(next(name for name in modules if "httpx" in name))

    def answer(request: Any) -> Any:
        headers = {"content-type": content_type}
        return httpx.Response(200, headers=headers, content=body, request=request)

    return httpx.Client(transport=httpx.MockTransport(answer), verify=TLS)


def openai_client(body: bytes, content_type: str = STREAM) -> openai.OpenAI:
    """A client whose every request is answered with `body`."""
    http = _http(openai.DefaultHttpxClient, body, content_type)
    url = "http://provider.test/v1"
    return openai.OpenAI(base_url=url, api_key="x", max_retries=0, http_client=http)


def anthropic_client(body: bytes, content_type: str = STREAM) -> anthropic.Anthropic:
    """A client whose every request is answered with `body`."""
    http = _http(anthropic.DefaultHttpxClient, body, content_type)
    url = "http://provider.test"
    return anthropic.Anthropic(base_url=url, api_key="x", max_retries=0, http_client=http)
