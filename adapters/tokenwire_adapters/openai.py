"""OpenAI's SDK: publish what a client, or one of its streams, receives.

    from openai import OpenAI
    from tokenwire_adapters.openai import wrap

    client = wrap(OpenAI(), channel="chat-42")

Works with ``openai`` 2 and 3, `OpenAI`, `AsyncOpenAI`, their Azure forms and any ``base_url``.
"""

from __future__ import annotations

import re
from typing import Any

from tokenwire.errors import MissingExtra
from tokenwire.instrument import Recorder
from tokenwire_adapters._agents.openai.agent_sessions import AgentSessionRecorder
from tokenwire_adapters._agents.openai.background import follow, responses_recorder
from tokenwire_adapters._agents.openai.chat import ChatRecorder
from tokenwire_adapters._agents.openai.completions import CompletionRecorder
from tokenwire_adapters._agents.openai.responses import ResponsesRecorder
from tokenwire_adapters._agents.stainless.instrumentor import StainlessInstrumentor
from tokenwire_adapters._agents.stainless.targets import (
    Classifier,
    PatchTargets,
    RecorderFactory,
)
from tokenwire_adapters._agents.websockets.managers import patch_managers, release_managers
from tokenwire_adapters._agents.websockets.quirks import connection_managers

try:
    import openai  # noqa: F401  # pyright: ignore[reportUnusedImport]
except ImportError as error:
    raise MissingExtra(
        'the OpenAI adapter needs the SDK: pip install "tokenwire[openai]"'
    ) from error

__all__ = ["instrumentor", "unwrap", "wrap"]


_SESSION_EVENTS = re.compile(r"/agents/sessions/[^/]+/events$")


def _by_request(method: str, url: str) -> RecorderFactory | None:
    path = url.partition("?")[0]
    if method.lower() != "post":
        return AgentSessionRecorder if _SESSION_EVENTS.search(path) else None
    if path.endswith("/chat/completions"):
        return ChatRecorder
    if path.endswith("/completions"):
        return CompletionRecorder
    return responses_recorder if path.endswith("/responses") else None


def _by_item(item: Any) -> type[Recorder] | None:
    if getattr(item, "object", None) == "text_completion":
        return CompletionRecorder
    if getattr(item, "object", None) == "chat.completion.chunk" or isinstance(
        getattr(item, "choices", None), list
    ):
        return ChatRecorder
    kind = getattr(item, "type", None)
    if isinstance(kind, str) and kind.startswith("agent.session."):
        return AgentSessionRecorder
    if isinstance(kind, str) and (kind.startswith("response.") or kind == "error"):
        return ResponsesRecorder
    return None


class OpenAIInstrumentor(StainlessInstrumentor):
    """Records the SDK's requests over HTTP, and the responses on its WebSockets."""

    def patch(self) -> None:
        super().patch()
        patch_managers(self, connection_managers())

    def unpatch(self) -> None:
        super().unpatch()
        release_managers(self)


def _load_targets() -> PatchTargets:
    from openai import _base_client, _legacy_response, _response  # pyright: ignore[reportPrivateUsage]
    from openai._streaming import AsyncStream, Stream
    from openai.lib.streaming.chat import (
        AsyncChatCompletionStream,
        AsyncChatCompletionStreamManager,
        ChatCompletionStream,
        ChatCompletionStreamManager,
    )
    from openai.lib.streaming.responses import (
        AsyncResponseStream,
        AsyncResponseStreamManager,
        ResponseStream,
        ResponseStreamManager,
    )

    return PatchTargets(
        clients=(_base_client.SyncAPIClient, _base_client.AsyncAPIClient),
        streams=(Stream, AsyncStream),
        closers=(
            (ChatCompletionStream, "_response", False),
            (AsyncChatCompletionStream, "_response", True),
            (ResponseStream, "_response", False),
            (AsyncResponseStream, "_response", True),
            (_response.APIResponse, "http_response", False),
            (_response.AsyncAPIResponse, "http_response", True),
        ),
        helpers=(
            ChatCompletionStream,
            AsyncChatCompletionStream,
            ResponseStream,
            AsyncResponseStream,
        ),
        managers=(
            ChatCompletionStreamManager,
            AsyncChatCompletionStreamManager,
            ResponseStreamManager,
            AsyncResponseStreamManager,
        ),
        parsers=(
            (_legacy_response.LegacyAPIResponse, False),
            (_response.APIResponse, False),
            (_response.AsyncAPIResponse, True),
        ),
        end_mark="[DONE]",
    )


instrumentor = OpenAIInstrumentor(
    "openai",
    _load_targets,
    Classifier(by_request=_by_request, by_item=_by_item, by_response=follow),
)
"""Records this SDK's calls; see `tokenwire.instrument`."""

wrap = instrumentor.wrap
unwrap = instrumentor.unwrap
