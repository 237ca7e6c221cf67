"""Claude's agent SDK: publish what `query`, or a client, receives from the agent.

    from claude_agent_sdk import ClaudeSDKClient
    from tokenwire_adapters.claude_agent import wrap

    client = wrap(ClaudeSDKClient(options), channel="chat-42")

`tokenwire_adapters.auto` and ``tokenwire run`` record every client, and `query`. Ask for
``include_partial_messages=True`` to see text as it grows; else messages come whole.
"""

from __future__ import annotations

from typing import TypeVar

from tokenwire import Sink
from tokenwire.instrument import Channel, Metadata, Options
from tokenwire_adapters._agents.claude_agent.instrumentor import ClaudeAgentInstrumentor

__all__ = ["instrumentor", "unwrap", "wrap"]

T = TypeVar("T")

instrumentor = ClaudeAgentInstrumentor()
"""Records this SDK's agents; see `tokenwire.instrument`."""


def wrap(
    client: T,
    sink: Sink | None = None,
    *,
    channel: Channel = None,
    run: str | None = None,
    metadata: Metadata | None = None,
) -> T:
    """Publish what a `ClaudeSDKClient` receives: a response for each turn. Returns the same object.

    A watcher's cancel interrupts the turn (``client.interrupt()``); the client's loop goes on.

    :param sink: by default `tokenwire.default_sink`, opened when it is first needed.
    :param channel: a name, or a function that returns one; by default the context's.
    :param run: the agent run; by default the context's, else one for each loop over messages.
    :param metadata: what watchers see beside the provider, the API and the model: a mapping, or a
        function that returns one.
    """
    fields = metadata if callable(metadata) else dict(metadata or {})
    instrumentor.add_client(client, Options(sink, channel, run, fields))
    return client


def unwrap(client: T) -> T:
    """Undo `wrap`."""
    instrumentor.remove_client(client)
    return client
