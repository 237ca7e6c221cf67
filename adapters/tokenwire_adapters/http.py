"""HTTP clients: publish what models send, whichever SDK, or none, makes the request.

    import tokenwire_adapters.auto
    tokenwire_adapters.auto.install()

Each instrumentor reads a copy of the bytes that its client receives, where the request is one to a
model, and where no layer above (a wrapped SDK, say) records it already. They are found by the entry
points of the group ``tokenwire.instrumentors``; nothing here needs to be called.
"""

from __future__ import annotations

from tokenwire_adapters._agents.http.httpx import HttpxInstrumentor

__all__ = ["httpx", "httpx2"]

httpx = HttpxInstrumentor("httpx")
"""Records the calls of ``httpx``; see `tokenwire.instrument`."""

httpx2 = HttpxInstrumentor("httpx2")
"""Records the calls of ``httpx2``, on which newer SDKs of OpenAI and Anthropic are built."""
