"""The `websockets` package: publish the responses of OpenAI's APIs that come on a WebSocket.

For agents that open such a connection themselves, as the OpenAI Agents SDK does. It has no
``wrap``: `tokenwire_adapters.auto` and ``tokenwire run`` start it. Connections of OpenAI's own SDK
belong to `tokenwire_adapters.openai`.
"""

from __future__ import annotations

from tokenwire_adapters._agents.websockets.listener import instrumentor

__all__ = ["instrumentor"]
