"""A model provider to run offline: the APIs of OpenAI and Anthropic on loopback, canned prose.

Demos, examples and tests point a real SDK at it, so that everything but the model is real::

    async with Provider(pace=40) as provider:
        client = AsyncOpenAI(base_url=provider.base_url, api_key="unused")

It needs the standard library alone.
"""

from __future__ import annotations

from tokenwire_adapters.testing.provider._http import Limits
from tokenwire_adapters.testing.provider._record import Counters, RequestRecord
from tokenwire_adapters.testing.provider._server import MODELS, Provider
from tokenwire_adapters.testing.provider._thread import serve_in_thread

__all__ = ["MODELS", "Counters", "Limits", "Provider", "RequestRecord", "serve_in_thread"]
