"""The proxy: any program's requests to model providers, passed on and published.

    from tokenwire_adapters.proxy import Proxy

    app = Proxy({"openai": "https://api.openai.com/v1"}, "redis://localhost", channel="chat-42")

An ASGI app, which ``tokenwire proxy`` runs; see docs/proxy.md.
"""

from __future__ import annotations

from tokenwire.errors import MissingExtra

try:
    import httpx
    import starlette
except ImportError as _error:
    raise MissingExtra(f'the proxy needs {_error.name}: pip install "tokenwire[proxy]"') from _error

from tokenwire_adapters._tools.proxy.access import Authorize
from tokenwire_adapters._tools.proxy.app import MAX_BODY, Proxy

__all__ = ["MAX_BODY", "Authorize", "Proxy"]

_ = httpx, starlette
