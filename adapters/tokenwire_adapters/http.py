"""HTTP clients: publish what models send, whichever SDK, or none, makes the request.

    import tokenwire_adapters.auto
    tokenwire_adapters.auto.install()

Each instrumentor reads a copy of the bytes that its client receives, where the request is one to a
model, and where no layer above (a wrapped SDK, say) records it already. They are found by the entry
points of the group ``tokenwire.instrumentors``; nothing here needs to be called.
"""

from __future__ import annotations

from tokenwire_adapters._agents.http.aiohttp import AiohttpInstrumentor
from tokenwire_adapters._agents.http.httpx import HttpxInstrumentor
from tokenwire_adapters._agents.http.urllib3 import Urllib3Instrumentor

__all__ = ["aiohttp", "httpx", "httpx2", "urllib3"]

httpx = HttpxInstrumentor("httpx")
"""Records the calls of ``httpx``; see `tokenwire.instrument`."""

httpx2 = HttpxInstrumentor("httpx2")
"""Records the calls of ``httpx2``, on which newer SDKs of OpenAI and Anthropic are built."""

urllib3 = Urllib3Instrumentor("urllib3")
"""Records the calls of ``urllib3``, and of ``requests`` and ``botocore``, which send by it."""

aiohttp = AiohttpInstrumentor("aiohttp")
"""Records the calls of ``aiohttp``'s client; see `tokenwire.instrument`."""
