"""Anthropic's SDK: publish what a client, or one of its streams, receives.

    from anthropic import Anthropic
    from tokenwire_adapters.anthropic import wrap

    client = wrap(Anthropic(), channel="chat-42")

Works with ``messages`` and ``beta.messages``, sync and async, ``create`` and ``stream``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from tokenwire import Sink
from tokenwire.errors import MissingExtra
from tokenwire.instrument import Channel, OnCancel, Options, Recorder
from tokenwire_adapters._agents.anthropic.messages import MessagesRecorder
from tokenwire_adapters._agents.stainless.instrumentor import StainlessInstrumentor
from tokenwire_adapters._agents.stainless.targets import Classifier, PatchTargets

try:
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
except ImportError as error:
    raise MissingExtra(
        'the Anthropic adapter needs the SDK: pip install "tokenwire[anthropic]"'
    ) from error

__all__ = ["instrumentor", "unwrap", "wrap"]

T = TypeVar("T")


def _by_request(method: str, url: str) -> type[Recorder] | None:
    if method.lower() == "post" and url.partition("?")[0].endswith("/messages"):
        return MessagesRecorder
    return None


def _by_item(item: Any) -> type[Recorder] | None:
    return MessagesRecorder if getattr(item, "type", None) == "message_start" else None


instrumentor = StainlessInstrumentor(
    "anthropic",
    PatchTargets(
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
    ),
    Classifier(by_request=_by_request, by_item=_by_item),
)
"""Records this SDK's calls; see `tokenwire.instrument`."""


def wrap(
    client_or_stream: T,
    sink: Sink | None = None,
    *,
    channel: Channel = None,
    run: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    on_cancel: OnCancel = "end",
) -> T:
    """Publish what a client's calls, or one stream, receive. Returns the same object.

    Wrapping a client concerns that client and the copies made of it (``with_options``), no other.
    Wrapping it again replaces the arguments. A stream that is recorded already, since its client
    is wrapped, stays as it is.

    :param client_or_stream: a client (sync or async; also for Bedrock, Vertex and the like), what
        ``create(stream=True)`` returned, or what ``messages.stream()`` gave.
    :param sink: by default `tokenwire.default_sink`, opened when it is first needed.
    :param channel: a name, or a function that returns one at each call; by default the context's.
    :param run: the agent run; by default the context's, else a run for each call.
    :param metadata: what watchers see beside the provider, the API and the model.
    :param on_cancel: what the consumer's loop meets when a watcher cancels: its ``"end"``, or
        `tokenwire.ResponseCancelled` (``"raise"``).
    :raises TypeError: when it is neither a client nor a stream of this SDK.
    :raises ValueError: for another `on_cancel`.
    """
    options = Options(sink, channel, run, dict(metadata or {}), on_cancel)
    instrumentor.wrap(client_or_stream, options)
    return client_or_stream


def unwrap(client: T) -> T:
    """Undo `wrap` of a client. Its streams under way are published to their end."""
    instrumentor.remove_client(client)
    return client
