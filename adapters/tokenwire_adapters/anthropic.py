"""Anthropic's SDK: publish what a client, or one of its streams, receives.

    from anthropic import Anthropic
    from tokenwire_adapters.anthropic import wrap

    client = wrap(Anthropic(), channel="chat-42")

Works with ``messages`` and ``beta.messages``, sync and async, ``create`` and ``stream``.
"""

from __future__ import annotations

import re
from typing import Any

from tokenwire.errors import MissingExtra
from tokenwire.instrument import Recorder
from tokenwire_adapters._agents.anthropic.messages import MessagesRecorder
from tokenwire_adapters._agents.anthropic.sessions import (
    SessionEventsRecorder,
    ThreadEventsRecorder,
)
from tokenwire_adapters._agents.stainless.instrumentor import StainlessInstrumentor
from tokenwire_adapters._agents.stainless.targets import Classifier, PatchTargets

try:
    import anthropic  # noqa: F401  # pyright: ignore[reportUnusedImport]
except ImportError as error:
    raise MissingExtra(
        'the Anthropic adapter needs the SDK: pip install "tokenwire[anthropic]"'
    ) from error

__all__ = ["instrumentor", "unwrap", "wrap"]


_SESSION_EVENTS = re.compile(r"/sessions/[^/]+/events/stream$")
_THREAD_EVENTS = re.compile(r"/sessions/[^/]+/threads/[^/]+/stream$")
_SESSION_KINDS = ("session.", "agent.", "span.", "event_start", "user.")


def _by_request(method: str, url: str) -> type[Recorder] | None:
    path = url.partition("?")[0]
    if method.lower() == "post":
        return MessagesRecorder if path.endswith("/messages") else None
    if _THREAD_EVENTS.search(path):
        return ThreadEventsRecorder
    return SessionEventsRecorder if _SESSION_EVENTS.search(path) else None


def _by_item(item: Any) -> type[Recorder] | None:
    kind = getattr(item, "type", None)
    if isinstance(kind, str) and kind.startswith(_SESSION_KINDS):
        return SessionEventsRecorder
    return MessagesRecorder if kind == "message_start" else None


def _load_targets() -> PatchTargets:
    from anthropic import _base_client, _response  # pyright: ignore[reportPrivateUsage]
    from anthropic._streaming import AsyncStream, Stream
    from anthropic.lib.streaming import (
        AsyncMessageStream,
        AsyncMessageStreamManager,
        BetaAsyncMessageStream,
        BetaAsyncMessageStreamManager,
        BetaMessageStream,
        BetaMessageStreamManager,
        MessageStream,
        MessageStreamManager,
    )

    return PatchTargets(
        clients=(_base_client.SyncAPIClient, _base_client.AsyncAPIClient),
        streams=(Stream, AsyncStream),
        closers=(
            (_response.APIResponse, "http_response", False),
            (_response.AsyncAPIResponse, "http_response", True),
        ),
        helpers=(MessageStream, AsyncMessageStream, BetaMessageStream, BetaAsyncMessageStream),
        managers=(
            MessageStreamManager,
            AsyncMessageStreamManager,
            BetaMessageStreamManager,
            BetaAsyncMessageStreamManager,
        ),
        parsers=((_response.APIResponse, False), (_response.AsyncAPIResponse, True)),
    )


instrumentor = StainlessInstrumentor(
    "anthropic",
    _load_targets,
    Classifier(by_request=_by_request, by_item=_by_item),
)
"""Records this SDK's calls; see `tokenwire.instrument`."""

wrap = instrumentor.wrap
unwrap = instrumentor.unwrap
